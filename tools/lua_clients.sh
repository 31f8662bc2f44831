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

# LuaJIT as it is at its source: its newest, which no Debian release has, comes with this Python package's sources.
luajit_upstream="lupa==2.8"

build_luajit_upstream() { # DIRECTORY, which the wrapper's text names
    local place=$1 from
    from=$(mktemp -d)
    # shellcheck disable=SC2064
    trap "rm -rf '$from'" EXIT
    mkdir -p "$place" || return
    python3 -m pip download --quiet --no-deps --no-binary=:all: --dest "$from" "$luajit_upstream" || return
    tar -xzf "$from"/lupa-*.tar.gz -C "$from" || return
    make -C "$from"/lupa-*/third-party/luajit21 -j"$(nproc)" || return
    make -C "$from"/lupa-*/third-party/luajit21 install PREFIX="$place" || return
    mkdir -p "$place/wrapped" || return
    # Debian's modules are where this one does not look.
    cat >"$place/wrapped/luajit" <<TEXT
#!/bin/sh
LUA_PATH="\${LUA_PATH:-./?.lua;;};$place/share/luajit-2.1/?.lua;/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua"
LUA_CPATH="\${LUA_CPATH:-./?.so;;};/usr/lib/$(gcc -print-multiarch)/lua/5.1/?.so"
export LUA_PATH LUA_CPATH
exec "$place/bin/luajit" "\$@"
TEXT
    chmod +x "$place/wrapped/luajit"
}

luajit_upstream_ready() {
    [ ! -x .dev/luajit-upstream/wrapped/luajit ] || return 0
    rm -rf .dev/luajit-upstream
    ( quietly "building LuaJIT from the sources in $luajit_upstream" build_luajit_upstream "$PWD/.dev/luajit-upstream" )
}

lua_clients_ready() {
    command -v apt-get >/dev/null || { say "Not a Debian system: the tests with OpenResty's clients are left out"; return 0; }
    unpacked .dev/lua-clients usr/share/lua/5.1/nginx/redis.lua $lua_clients
}

openresty_ready() {
    command -v apt-get >/dev/null && unpacked .dev/openresty usr/lib/nginx/modules/ngx_http_lua_module.so $openresty
}
