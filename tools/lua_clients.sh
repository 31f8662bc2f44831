# SPDX-License-Identifier: MIT
# Sourced after packages.sh. Client libraries for OpenResty, as Debian has them,
# in .dev/lua-clients: unpacked only, for to install them would bring nginx and
# its own LuaJIT in the place of Debian's.

lua_clients="lua-nginx-redis lua-nginx-memcached lua-nginx-websocket lua-nginx-dns lua-redis"

# For the benchmark only.
openresty="nginx libnginx-mod-http-lua libnginx-mod-http-ndk lua-resty-core lua-resty-lrucache libluajit2-5.1-2 libpcre3"

download_and_unpack() { # DIRECTORY PACKAGE…
    local package
    cd "$1" || return
    shift
    apt-get download "$@" || { as_root apt-get update && apt-get download "$@"; } || return
    for package in *.deb; do dpkg-deb -x "$package" . || return; done
}

unpacked() { # PLACE FILE-IN-IT PACKAGE…
    local place=$1 file=$2
    shift 2
    [ ! -e "$place/$file" ] || return 0
    rm -rf "$place.new" && mkdir -p "$place.new"
    ( quietly "fetching $*" download_and_unpack "$place.new" "$@" ) || return
    rm -rf "$place" && mv "$place.new" "$place"
}

lua_clients_ready() {
    command -v apt-get >/dev/null || { say "Not a Debian system: the tests with OpenResty's clients are left out"; return 0; }
    unpacked .dev/lua-clients usr/share/lua/5.1/nginx/redis.lua $lua_clients
}

openresty_ready() {
    command -v apt-get >/dev/null && unpacked .dev/openresty usr/lib/nginx/modules/ngx_http_lua_module.so $openresty
}
