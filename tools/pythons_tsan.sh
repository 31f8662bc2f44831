# SPDX-License-Identifier: MIT
# Sourced by pythons.sh, for "tsan": a free-threaded Python, the core and the extension under
# ThreadSanitizer, and the tests in which several threads meet. A report is a failure; those of CPython's own
# races are left out by its list (Tools/tsan) and by tests/python/tsan.supp, with reasons.

tsan_tests="test_threads test_loop_threads test_procs test_shared test_workers test_sync test_cond_sema test_rwmutex test_group test_collect test_watchdog"

tsan_python_ready() {
    [ -x "$sid/usr/bin/ninja" ] && [ -x "$sid/usr/bin/llvm-symbolizer" ] && [ -x "$sid/usr/bin/clang" ] ||
        quietly "what ThreadSanitizer needs, in .dev/sid" in_sid "apt-get $valid update &&
            apt-get install -y --no-install-recommends clang llvm libclang-rt-dev cmake ninja-build"
    [ ! -e "$sid/opt/python-tsan/ready" ] || return 0
    cpython_source_ready
    quietly "building a free-threaded Python under ThreadSanitizer" in_sid "rm -rf /usr/src/python/tsan /opt/python-tsan
        mkdir -p /usr/src/python/tsan && cd /usr/src/python/tsan && export TSAN_OPTIONS=report_bugs=0 &&
        ../src/configure -q --disable-gil --with-thread-sanitizer --disable-test-modules --prefix=/opt/python-tsan \
            CC=clang CFLAGS='-O1 -g -fno-omit-frame-pointer' &&
        make -s -j$(nproc) && make -s install && cp ../src/Tools/tsan/*.txt /opt/python-tsan/ && touch /opt/python-tsan/ready"
}

# The core by cmake, as for the C tests under ThreadSanitizer; the extension with Python's own flags. No report
# of pip's and setuptools's runs is asked for.
tsan_treadle_ready() {
    quietly "building core and extension" in_sid "export TSAN_OPTIONS=report_bugs=0
        cmake -S . -B build-tsan-python -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=clang \
            -DTDL_SANITIZE=thread && cmake --build build-tsan-python --target treadle || exit
        [ -x .venv/sid/tsan/bin/pip ] || /opt/python-tsan/bin/python3 -m venv .venv/sid/tsan || exit
        .venv/sid/tsan/bin/python -c 'import pytest, msgpack, setuptools' ||
            .venv/sid/tsan/bin/python -m pip install --disable-pip-version-check pytest msgpack setuptools || exit
        TREADLE_LIBDIR=build-tsan-python CC=clang LDSHARED='clang -shared -fsanitize=thread' \
            .venv/sid/tsan/bin/python setup.py -q build --build-base build-tsan-python/extension \
            --build-lib build-tsan-python/python"
}

# tsan_run ARGUMENT…: of Python's, in words that the shell divides.
tsan_run() {
    in_sid "cat /opt/python-tsan/suppressions_free_threading.txt tests/python/tsan.supp >build-tsan-python/suppressions
        PYTHONPATH=build-tsan-python/python TDL_TEST_LIMIT=300 TSAN_OPTIONS='suppressions=build-tsan-python/suppressions history_size=4 \
exitcode=0 log_path=build-tsan-python/report' .venv/sid/tsan/bin/python $*"
}

# Left out: a deadlock of all is not reported there, since the sanitizer's own thread might, for all the core
# knows, still wake somebody (core/sched/deadlock.c). Sub-interpreters write one of CPython's globals, without a lock,
# as each starts to run (run_eval_code_obj), and take longer for their imports than the test waits for an answer.
tsan_check() {
    local status=0 files
    rm -f build-tsan-python/report.*
    files=$(printf 'tests/python/%s.py ' $tsan_tests)
    tsan_run "-m pytest -p no:cacheprovider -p no:asyncio -q --deselect tests/python/test_shared.py::test_sub_interpreters \
--deselect tests/python/test_procs.py::test_a_deadlock_of_all_is_reported $files" || status=1
    tsan_run tests/python/meddle.py 60 || status=1
    if compgen -G "build-tsan-python/report.*" >/dev/null; then
        say "ThreadSanitizer's reports:"
        cat build-tsan-python/report.*
        status=1
    else
        say "ThreadSanitizer reports nothing."
    fi
    return "$status"
}
