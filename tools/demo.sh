# SPDX-License-Identifier: MIT
# ./dev demo [--full]
set -euo pipefail
. tools/say.sh
. tools/packages.sh
. tools/compile.sh
. tools/venv.sh

need "to build and run the demo" $packages_build $packages_lua $packages_python $packages_clients
headline "Building"
compile build-demo -DTDL_BUILD_EXAMPLES=ON
venv_package
exec .venv/bin/python tools/demo.py --build build-demo "$@"
