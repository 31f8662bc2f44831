# SPDX-License-Identifier: MIT
# ./dev check-python [dev|asan|debug|refs|memory] [ARGUMENT…]: the Python tests in Python's
# development mode with asyncio's debug mode; with core and extension under AddressSanitizer; under
# Debian's debug build of Python, whose assertions look at each call (debug). And a little of
# everything: under that build no reference may be left (refs), and with allocations that fail, one
# at a time (memory: each; a few minutes with --every 7, as it is where no part is named).
# Arguments go to pytest, tests/python/refs.py or tests/python/nomemory.py.
set -euo pipefail
. tools/say.sh
. tools/packages.sh
. tools/compile.sh

which="dev asan debug refs memory"
case ${1:-} in dev | asan | debug | refs | memory) which=$1; shift ;; esac
need "for the Python tests" $packages_build $packages_python $packages_python_testsuite $packages_real
venv=$(PYTHON=${TDL_PYTHON:-/usr/bin/python3} tests/python/environment)
python=$PWD/$venv/bin/python
pytest="-m pytest -p no:cacheprovider -p no:asyncio -q"

status=0
case " $which " in *" dev "*)
    headline "Python tests with -X dev and PYTHONASYNCIODEBUG=1"
    PYTHONASYNCIODEBUG=1 "$python" -X dev $pytest "$@" || status=1
esac
case " $which " in *" asan "*)
    headline "Python tests under AddressSanitizer"
    compile build-asan-python -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=gcc -DTDL_SANITIZE=address
    place=$PWD/build-asan-python/python
    quietly "building the extension" env TREADLE_LIBDIR="$PWD/build-asan-python" CC=gcc \
        CFLAGS="-fsanitize=address -O1 -g" LDFLAGS="-fsanitize=address" \
        "$python" -m pip install --disable-pip-version-check --no-build-isolation --no-deps --upgrade --target "$place" .
    # Python leaks on purpose at its end; programs that the tests start are checked as well, and curl and
    # PostgreSQL hang at their start with the sanitizer's library loaded before theirs.
    PYTHONPATH=$place PYTHONMALLOC=malloc LD_PRELOAD=$(gcc -print-file-name=libasan.so) \
        ASAN_OPTIONS=detect_leaks=0:handle_segv=0:abort_on_error=1 \
        setarch "$(uname -m)" -R "$python" $pytest --deselect tests/python/test_leaks.py --ignore tests/python/test_types.py \
        --deselect tests/python/real/test_real.py::test_postgres --deselect tests/python/test_tls.py::test_real_clients "$@" || status=1
esac
case " $which " in *" debug "* | *" refs "*)
    need "for the debug build" $packages_python_debug
    debug=$PWD/$(PYTHON=/usr/bin/python3-dbg TDL_REAL=no tests/python/environment)/bin/python
esac
case " $which " in *" debug "*)
    headline "Python tests under Debian's debug build of Python"
    # The programs of tests/python/real have no packages for it.
    "$debug" $pytest --ignore tests/python/real "$@" || status=1
    headline "The interpreter ends while things are alive"
    "$debug" tests/python/shutdown.py || status=1
esac
case " $which " in *" refs "*)
    headline "References, round by round"
    [ "$which" = refs ] || set --
    "$debug" tests/python/refs.py "$@" || status=1
    headline "A collection at each call" # not in the debug build: 3.11's collector asserts in frames that are profiled
    "$python" tests/python/refs.py --collect || status=1
esac
case " $which " in *" memory "*)
    headline "Allocations that fail"
    [ "$which" = memory ] || set -- --every 7
    "$python" tests/python/nomemory.py "$@" || status=1
esac
exit $status
