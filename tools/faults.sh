# SPDX-License-Identifier: MIT
# ./dev faults [--calls N] [--every K] [--call NAME] [--scenario NAME]: every error of every
# system call, one at a time, on one processor and on two, by each poller back end.
set -euo pipefail
. tools/say.sh
. tools/packages.sh
. tools/compile.sh

need "to build" $packages_build $packages_core_tests || die "the packages could not be installed"
compile_default
failed=0
for way in epoll uring uv; do
    for procs in 1 2; do
        headline "TDL_NETPOLL=$way, TDL_MAXPROCS=$procs"
        TDL_NETPOLL=$way TDL_MAXPROCS=$procs build/tests/faults/sweep "$@" || failed=1
    done
done
exit $failed
