# SPDX-License-Identifier: MIT
# ./dev bench [NAME…] [--reps N] [--seconds S] [--hosts] [--instructions]
# ./dev bench lua [NAME…] [--reps N] [--seconds S]
# ./dev bench python [NAME…] [--reps N] [--seconds S] [--instructions]
set -euo pipefail
. tools/say.sh
. tools/packages.sh
. tools/compile.sh
. tools/venv.sh
. tools/lua_clients.sh

if [ "${1:-}" = python ]; then # asyncio's loops side by side
    shift
    case " $* " in
        *" --help "* | *" -h "*) exec python3 bench/python/run.py --load - --help ;;
    esac
    need "to build and to count" $packages_build $packages_python valgrind openssl
    compile build-bench -DTDL_BUILD_BENCH=ON
    venv_package
    venv_peers
    headline "Measuring: treadle $(git describe --always 2>/dev/null || echo) beside asyncio and $venv_peers, $(nproc) processors"
    exec .venv/bin/python bench/python/run.py --load build-bench/load/echo_load "$@"
fi

if [ "${1:-}" = lua ]; then # beside other ways to serve from Lua
    shift
    case " $* " in
        *" --help "* | *" -h "*) exec python3 bench/lua/run.py --build - --help ;;
    esac
    need "to build, and to compare with" $packages_build python3 luajit lua-messagepack lua-luv lua-cqueues lua-http wrk curl
    openresty_ready || say "OpenResty is left out"
    ulimit -Sn 20000 2>/dev/null || ulimit -Sn "$(ulimit -Hn)"
    compile build-bench -DTDL_BUILD_BENCH=ON
    headline "Measuring: treadle $(git describe --always 2>/dev/null || echo) in LuaJIT, $(nproc) processors"
    exec python3 bench/lua/run.py --build build-bench "$@"
fi

find_go() {
    command -v go || { [ -x /usr/local/go/bin/go ] && echo /usr/local/go/bin/go; }
}

case " $* " in
    *" --help "* | *" -h "*) exec python3 bench/run.py --build - --go - --help ;;
esac
need "to build the benchmarks" $packages_build python3
find_go >/dev/null || need "to compare with" golang-go
go=$(find_go) || die "no Go compiler was found"
need "to count what needs no clock" strace valgrind
need "for HTTP" wrk nginx-light
case " $* " in
    *" --hosts "*) need "for the Lua and Python programs" $packages_lua $packages_python; venv_package ;;
esac

headline "Building"
compile build-bench -DTDL_BUILD_BENCH=ON
mkdir -p build-bench/go
quietly "building the Go programs" bash -c "cd bench/go && GOTOOLCHAIN=local \"\$0\" build -o ../../build-bench/go/bench ." "$go"

headline "Measuring: treadle $(git describe --always 2>/dev/null || echo) beside $("$go" version | cut -d' ' -f3-), $(nproc) processors"
exec python3 bench/run.py --build build-bench --go build-bench/go/bench "$@"
