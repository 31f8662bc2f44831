# SPDX-License-Identifier: MIT
# ./dev soak [NAME [NUMBER]]: long runs under hard conditions, all of them or one.
set -euo pipefail
. tools/say.sh
. tools/packages.sh
. tools/compile.sh

need "to build" $packages_build $packages_core_tests || die "the packages could not be installed"
compile_default
[ $# -gt 0 ] && exec build/tests/soak/soak "$@"
failed=0
for name in connections cuts signals big; do
    build/tests/soak/soak "$name" || failed=1
done
exit $failed
