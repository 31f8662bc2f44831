# SPDX-License-Identifier: MIT
# ./dev hostile [LANGUAGE…] [--seconds S]: hostile clients for the example servers.
set -euo pipefail
. tools/say.sh
. tools/packages.sh
. tools/compile.sh
. tools/venv.sh

need "to build, and as clients" $packages_build $packages_core_tests $packages_lua $packages_python $packages_clients
compile_default
case " $* " in *" Python "*) venv_package; exec .venv/bin/python tools/hostile.py "$@" ;; esac
exec python3 tools/hostile.py "$@"
