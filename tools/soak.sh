# SPDX-License-Identifier: MIT
# ./dev soak [NAME [NUMBER]]: long runs under hard conditions, all of them or one, with
# each of the pollers' back ends (or that of TDL_NETPOLL), and a table.
set -uo pipefail # no -e: all are run, and counted
. tools/say.sh
. tools/packages.sh
. tools/compile.sh
. tools/tally.sh

need "to build" $packages_build $packages_core_tests || die "the packages could not be installed"
compile_default || exit
soak() { TDL_NETPOLL=$1 build/tests/soak/soak "${@:2}"; }
if [ $# -gt 0 ]; then names=$1; else names="connections cuts signals big"; fi
for back in ${TDL_NETPOLL:-epoll uring uv}; do
    for name in $names; do
        part "$name, $back" check soak "$back" "$name" "${@:2}"
    done
done
tally
