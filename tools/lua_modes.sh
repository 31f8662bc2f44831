# SPDX-License-Identifier: MIT
# ./dev lua-modes [FILE…]: the Lua tests again, with the compiler off, with the compiler
# overeager, with the garbage collector strained, with injected short
# reads and retries, and under OpenResty's LuaJIT. Some minutes.
set -uo pipefail
. tools/say.sh
. tools/packages.sh
. tools/compile.sh
. tools/lua_clients.sh

need "for the Lua tests" $packages_build $packages_core_tests $packages_lua $packages_lua_clients || exit
compile_default && lua_clients_ready || die "the build failed"
[ $# -gt 0 ] || set -- tests/lua
export TDL_BUILD=$PWD/build
failed=0
mode() { # NAME COMMAND…
    headline "Lua tests: $1"
    shift
    timeout --foreground 900 "$@" || failed=$((failed + 1))
}
mode "without the compiler" env TREADLE_LUAJIT=-joff tests/lua/run "$@"
mode "with an overeager compiler" env TREADLE_LUAJIT="-Ohotloop=1 -Ohotexit=1" tests/lua/run "$@"
mode "with a strained collector" tests/lua/run --helper=tests/lua/strain.lua "$@"
mode "with short reads and retries" env TDL_FAULT=seed=7,short=0.3,eagain=0.05,eintr=0.1 tests/lua/run --exclude-pattern=fault_spec --filter-out="passes descriptors" "$@"
if command -v apt-get >/dev/null && unpacked .dev/luajit2 usr/bin/luajit luajit2; then
    mode "under OpenResty's LuaJIT" env TREADLE_LUAJIT_BIN="$PWD/.dev/luajit2/usr/bin/luajit" \
        PATH="$PWD/.dev/luajit2/usr/bin:$PATH" tests/lua/run "$@"
fi
say "$failed modes failed"
[ "$failed" -eq 0 ]
