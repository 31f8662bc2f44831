# SPDX-License-Identifier: MIT
# ./dev docs: the Lua reference, made of the annotations, as pages.
set -euo pipefail
. tools/say.sh
. tools/packages.sh

need "for the Lua reference" python3 lua-ldoc
exec python3 tools/lua_docs.py .dev/lua-docs
