# SPDX-License-Identifier: MIT
# ./dev test [PART…]: what each part is, and the order they run in.
set -uo pipefail # no -e: a part that fails is counted, and the next one runs
. tools/say.sh
. tools/packages.sh
. tools/compile.sh
. tools/aarch64.sh
. tools/venv.sh
. tools/lua_clients.sh
. tools/tally.sh

# Some tests open thousands of descriptors; a shell's default is 1,024.
ulimit -Sn 20000 2>/dev/null || ulimit -Sn "$(ulimit -Hn)"

all="c model asan tsan clang aarch64 lua ffi lint docs python install demo"
# In the foreground, so that Ctrl-C reaches the tests.
limit="timeout --foreground --kill-after=10 600"

# One build serves several parts; when it fails each of them does. A part runs
# in a subshell, so that the outcome is kept in a file.
outcome=$(mktemp)
trap 'rm -f "$outcome"' EXIT
built_default() {
    if [ ! -s "$outcome" ]; then
        if compile_default; then echo yes >"$outcome"; else echo no >"$outcome"; fi
    fi
    [ "$(cat "$outcome")" = yes ]
}

run_ctest() { $limit ctest --test-dir "$@" --output-on-failure --no-tests=error --timeout 120; }

c_default() { built_default && run_ctest build -j"$(nproc)"; }

c_sanitized() { # DIRECTORY COMPILER SANITIZERS
    # A debug build: the assertions count too.
    compile "$1" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER="$2" -DTDL_SANITIZE="$3" -DTDL_WERROR=ON -DTDL_BUILD_TESTS=ON || return
    export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
    # The sanitizers of these compilers do not know all layouts that a newer
    # kernel randomises to; without randomisation they always do.
    $limit setarch "$(uname -m)" -R \
        ctest --test-dir "$1" --output-on-failure --no-tests=error --timeout 240 -j"$(nproc)"
}

compile_clang() {
    compile build-clang -DCMAKE_C_COMPILER=clang -DTDL_WERROR=ON \
        -DTDL_BUILD_TESTS=ON -DTDL_BUILD_EXAMPLES=ON -DTDL_BUILD_BENCH=ON
}

model_tests() { compile_model && run_ctest build-model -L model -j"$(nproc)"; }

aarch64_tests() { aarch64_ready && aarch64_compile && run_ctest build-aarch64 -j2; }
lua_tests()     { built_default && lua_clients_ready && TDL_BUILD=$PWD/build $limit tests/lua/run; }
python_tests()  { venv_ready && PYTHON=$base_python $limit tests/python/run -n "$(nproc)" --dist worksteal; } # they mostly wait
ffi_fresh()     { "$base_python" ffi/gen_lua_cdef.py --check && say "  the generated declarations are fresh"; }
lua_lint()      { luacheck --no-color bindings/lua examples/lua tests/lua bench; }
lua_docs()      { "$base_python" tools/lua_docs.py .dev/lua-docs; }
install_tests() { built_default && venv_ready && $limit .venv/bin/python -m pytest -p no:cacheprovider -v tests/install; }
demo_tests()    { built_default && venv_package && $limit .venv/bin/python -m pytest -p no:cacheprovider -v tests/demo; }

run_part() {
    case $1 in
        c)       part "C tests"                           ctest  c_default ;;
        model)   part "Model checking"                    ctest  model_tests ;;
        asan)    part "C tests under ASan and UBSan"      ctest  c_sanitized build-asan gcc address,undefined ;;
        tsan)    part "C tests under clang's TSan"        ctest  c_sanitized build-tsan clang thread ;;
        clang)   part "Everything compiles with clang"    check  compile_clang ;;
        aarch64) part "C tests on aarch64, emulated"      ctest  aarch64_tests ;;
        lua)     part "Lua tests"                         busted lua_tests ;;
        ffi)     part "Generated declarations"            check  ffi_fresh ;;
        lint)    part "luacheck"                          check  lua_lint ;;
        docs)    part "Lua reference by LDoc"             check  lua_docs ;;
        python)  part "Python tests"                      pytest python_tests ;;
        install) part "Installation tests"                pytest install_tests ;;
        demo)    part "Example servers under load"        pytest demo_tests ;;
        *)       die "no such part: $1 (there are: $all)" ;;
    esac
}

for name in "$@"; do
    case " $all " in *" $name "*) ;; *) die "no such part: $name (there are: $all)" ;; esac
done

need "for the tests" $packages_build $packages_core_tests $packages_sanitizers $packages_aarch64 $packages_lua $packages_lua_clients $packages_python $packages_python_testsuite $packages_real $packages_clients \
    || die "the packages could not be installed"
for name in ${*:-$all}; do
    run_part "$name"
done
tally
