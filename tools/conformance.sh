# SPDX-License-Identifier: MIT
# ./dev conformance [--python X]… [--suite a|b|uvloop|rloop]… [TEXT…]: the suites that
# say what an asyncio loop is, on treadle's, under each interpreter found.
set -euo pipefail
. tools/say.sh
. tools/packages.sh

case " $* " in
    *" --help "* | *" -h "*) ;;
    *) need "to build the package and for CPython's tests" $packages_build $packages_python $packages_python_testsuite ;;
esac
exec python3 tests/python/conformance "$@"
