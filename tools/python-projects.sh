# SPDX-License-Identifier: MIT
# ./dev python-projects [NAME…]: the tests of other projects for asyncio, on asyncio's loop
# and on treadle's.
set -euo pipefail
. tools/say.sh
. tools/packages.sh

case " $* " in
    *" --help "* | *" -h "* | *" --list "*) ;;
    *) need "for the projects and their servers" $packages_build $packages_python $packages_real ;;
esac
exec "${TDL_PYTHON:-/usr/bin/python3}" tests/python/projects "$@"
