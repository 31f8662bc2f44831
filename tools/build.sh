# SPDX-License-Identifier: MIT
# ./dev build
set -euo pipefail
. tools/say.sh
. tools/packages.sh
. tools/compile.sh

need "to build" $packages_build $packages_core_tests
headline "Building"
compile_default
say "  libraries: build/libtreadle.so.0, build/libtreadle.a; examples: build/examples/"
