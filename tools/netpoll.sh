# SPDX-License-Identifier: MIT
# ./dev netpoll: the tests of the network on the pollers' other back ends.
set -uo pipefail # no -e: all are run, and counted
. tools/say.sh
. tools/packages.sh
. tools/compile.sh
. tools/venv.sh
. tools/tally.sh

ulimit -Sn 20000 2>/dev/null || ulimit -Sn "$(ulimit -Hn)"
limit="timeout --foreground --kill-after=10 900"

core_tests()   { compile_default && $limit ctest --test-dir build -C netpoll -L netpoll --output-on-failure --no-tests=error -j"$(nproc)"; }
lua_tests()    { TDL_NETPOLL=$1 TDL_BUILD=$PWD/build $limit tests/lua/run; }
python_tests() { venv_ready && TDL_NETPOLL=$1 PYTHON=$base_python $limit tests/python/run; }

need "for the tests" $packages_build $packages_core_tests $packages_lua $packages_python $packages_clients \
    || die "the packages could not be installed"
part "C tests with io_uring and libuv" ctest core_tests
for back in uring uv; do
    part "Lua tests with TDL_NETPOLL=$back"    busted lua_tests $back
    part "Python tests with TDL_NETPOLL=$back" pytest python_tests $back
done
tally
