# SPDX-License-Identifier: MIT
# ./dev stress [PAIRS [SEED]]: the long hunt for lost wake-ups.
set -euo pipefail
. tools/say.sh
. tools/packages.sh
. tools/compile.sh

need "to build" $packages_build $packages_core_tests || die "the packages could not be installed"
compile_default
ulimit -Sn "$(ulimit -Hn)"
exec build/tests/stress/stress_park "${1:-100000000}" ${2:+"$2"}
