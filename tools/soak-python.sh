# SPDX-License-Identifier: MIT
# ./dev soak-python [SECONDS]: real programs on the Python loop, 5 minutes, with
# cancellations and timeouts in between. ./dev soak-python interrupts [ROUNDS]: a program
# that gets Ctrl-C at a random moment, 300 times.
set -euo pipefail
. tools/say.sh
. tools/packages.sh
need "for the programs and their servers" $packages_build $packages_python $packages_real
venv=$(PYTHON=${TDL_PYTHON:-/usr/bin/python3} tests/python/environment)
if [ "${1:-}" = interrupts ]; then
    shift
    exec "$venv/bin/python" tests/python/real/interrupts.py "$@"
fi
exec "$venv/bin/python" tests/python/real/soak.py "$@"
