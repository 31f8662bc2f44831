# SPDX-License-Identifier: MIT
# Sourced after packages.sh. Client libraries for OpenResty, as Debian has them,
# in .dev/lua-clients: unpacked only, for to install them would bring nginx and
# its own LuaJIT in the place of Debian's.

lua_clients="lua-nginx-redis lua-nginx-memcached lua-nginx-websocket lua-nginx-dns lua-redis"

lua_clients_download() { # DIRECTORY
    local package
    cd "$1" || return
    apt-get download $lua_clients || { as_root apt-get update && apt-get download $lua_clients; } || return
    for package in *.deb; do dpkg-deb -x "$package" . || return; done
}

lua_clients_ready() {
    local place=.dev/lua-clients
    [ ! -e "$place/usr/share/lua/5.1/nginx/redis.lua" ] || return 0
    command -v apt-get >/dev/null || { say "Not a Debian system: the tests with OpenResty's clients are left out"; return 0; }
    mkdir -p "$place.new"
    ( quietly "fetching Lua clients: $lua_clients" lua_clients_download "$place.new" ) || return
    rm -rf "$place" && mv "$place.new" "$place"
}
