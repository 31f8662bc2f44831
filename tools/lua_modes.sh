# SPDX-License-Identifier: MIT
# ./dev lua-modes [INTERPRETER…] [FILE…]: the Lua tests under Debian's LuaJIT, OpenResty's and the newest
# of LuaJIT's own (debian, openresty, upstream), each as it is, with the compiler off, with the compiler overeager,
# with the garbage collector strained, and with injected short reads and retries. Some ten minutes.
set -uo pipefail
. tools/say.sh
. tools/packages.sh
. tools/compile.sh
. tools/lua_clients.sh
. tools/tally.sh

interpreters=""
while :; do
    case ${1:-} in debian | openresty | upstream) interpreters+=" $1"; shift ;; *) break ;; esac
done
[ $# -gt 0 ] || set -- tests/lua

need "for the Lua tests" $packages_build $packages_core_tests $packages_lua $packages_lua_clients python3 python3-pip || exit
compile_default && lua_clients_ready || die "the build failed"
export TDL_BUILD=$PWD/build

mode() { # NAME COMMAND…
    part "$1" busted timeout --foreground 900 "${@:2}"
}
modes() { # NAME FILE…
    local name=$1
    shift
    mode "$name" tests/lua/run "$@"
    mode "$name, without the compiler" env TREADLE_LUAJIT=-joff tests/lua/run "$@"
    mode "$name, with an overeager compiler" env TREADLE_LUAJIT="-Ohotloop=1 -Ohotexit=1" tests/lua/run "$@"
    mode "$name, with a strained collector" tests/lua/run --helper=tests/lua/strain.lua "$@"
    # Left out: descriptors that go with bytes which come in pieces; and who is idle, where an injected "not ready" counts as a request.
    mode "$name, with short reads and retries" env TDL_FAULT=seed=7,short=0.3,eagain=0.05,eintr=0.1 \
        tests/lua/run --exclude-pattern=fault_spec --filter-out=passes.descriptors --filter-out=who.is.idle "$@"
}

plain_path=$PATH
for name in ${interpreters:-debian openresty upstream}; do
    place=""
    case $name in
        openresty) command -v apt-get >/dev/null && unpacked .dev/luajit2 usr/bin/luajit luajit2 && place=$PWD/.dev/luajit2/usr/bin ;;
        upstream)  luajit_upstream_ready && place=$PWD/.dev/luajit-upstream/wrapped ;;
        *)         place=/usr/bin ;;
    esac
    [ -n "$place" ] || { say "LuaJIT ($name) could not be had: left out"; continue; }
    export TREADLE_LUAJIT_BIN=$place/luajit PATH=$place:$plain_path
    modes "$("$place/luajit" -v | cut -d' ' -f1-2) ($name)" "$@"
done
tally
