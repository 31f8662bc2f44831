# SPDX-License-Identifier: MIT
# ./dev portable: the core as other systems have it (-DTDL_PORTABLE=ON: libuv alone
# polls, POSIX alone is used), its tests and the sweep of faults.
set -euo pipefail
. tools/say.sh
. tools/packages.sh
. tools/compile.sh

need "to build" $packages_build $packages_core_tests || die "the packages could not be installed"
ulimit -Sn 20000 2>/dev/null || ulimit -Sn "$(ulimit -Hn)"
compile build-portable -DTDL_PORTABLE=ON -DTDL_BUILD_TESTS=ON -DTDL_WERROR=ON
exec ctest --test-dir build-portable -L 'core|faults' --output-on-failure --no-tests=error -j"$(nproc)"
