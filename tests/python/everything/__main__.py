# SPDX-License-Identifier: MIT
"""Each once in each kind of loop, or those that are named: PYTHONPATH=tests/python python -m everything."""

import sys

from . import SCENARIOS, WHOLE, in_guest, in_loop, in_run

for name in sys.argv[1:] or [*SCENARIOS, *WHOLE]:
    print(name, flush=True)
    for how in (in_loop, in_run, in_guest):
        how(name)
