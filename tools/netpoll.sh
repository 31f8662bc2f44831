# SPDX-License-Identifier: MIT
# ./dev netpoll [PART…]: the tests of the network on the pollers' other back ends, by parts.
#   c       the C tests on io_uring and libuv, on one, two and four processors
#   lua     Lua's suite on each
#   python  Python's suite on each
#   tsan    the C tests on both, on two processors, under ThreadSanitizer: libuv is built with it, too
set -uo pipefail # no -e: all are run, and counted
. tools/say.sh
. tools/packages.sh
. tools/compile.sh
. tools/sources.sh
. tools/venv.sh
. tools/tally.sh

all="c lua python tsan"
for name in "$@"; do
    case " $all " in *" $name "*) ;; *) die "no such part: $name (there are: $all)" ;; esac
done

ulimit -Sn 20000 2>/dev/null || ulimit -Sn "$(ulimit -Hn)"
limit="timeout --foreground --kill-after=10 2400"

core_tests()   { compile_default && $limit ctest --test-dir build -C netpoll -L netpoll --output-on-failure --no-tests=error -j"$(nproc)"; }
lua_tests()    { compile_default && TDL_NETPOLL=$1 TDL_BUILD=$PWD/build $limit tests/lua/run; }
python_tests() { venv_ready && TDL_NETPOLL=$1 PYTHON=$base_python $limit tests/python/run -v; }

# libuv as the sanitizer can follow it. Not in uv__io_poll, which sets errno: a thread has one, but in
# the sanitizer's eyes each goroutine that runs on it is another thread.
uv_with_tsan() {
    local dir=$PWD/.dev/tsan
    mkdir -p "$dir"
    echo 'fun:uv__io_poll' >"$dir/ignored"
    cmake -S .dev/sources/libuv1 -B "$dir/build" -G Ninja -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug -DBUILD_TESTING=OFF \
        -DLIBUV_BUILD_TESTS=OFF -DCMAKE_C_FLAGS="-fsanitize=thread -O1 -fsanitize-ignorelist=$dir/ignored" \
        -DCMAKE_INSTALL_PREFIX="$dir" -DCMAKE_INSTALL_LIBDIR=lib &&
        cmake --build "$dir/build" && cmake --install "$dir/build" && touch "$dir/ready"
}

tsan_tests() {
    need "for ThreadSanitizer" $packages_sanitizers && source_ready libuv1 || return
    [ -e .dev/tsan/ready ] || quietly "building libuv with ThreadSanitizer" uv_with_tsan || return
    compile build-tsan-uv -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_COMPILER=clang -DTDL_SANITIZE=thread -DTDL_UV_TSAN=ON -DTDL_WERROR=ON \
        -DTDL_BUILD_TESTS=ON -DTDL_UV_INCLUDE="$PWD/.dev/tsan/include" -DTDL_UV_LIBRARY="$PWD/.dev/tsan/lib/libuv.so" &&
        $limit setarch "$(uname -m)" -R ctest --test-dir build-tsan-uv -C netpoll -L netpoll -R '/p2$' \
            --output-on-failure --no-tests=error --timeout 240 -j"$(nproc)"
}

need "for the tests" $packages_build $packages_core_tests $packages_lua $packages_python $packages_clients \
    || die "the packages could not be installed"
for name in ${*:-$all}; do
    case $name in
        c)      part "C tests with io_uring and libuv" ctest core_tests ;;
        lua)    for back in uring uv; do part "Lua tests with TDL_NETPOLL=$back" busted lua_tests $back; done ;;
        python) for back in uring uv; do part "Python tests with TDL_NETPOLL=$back" pytest python_tests $back; done ;;
        tsan)   part "C tests with both under TSan" ctest tsan_tests ;;
    esac
done
tally
