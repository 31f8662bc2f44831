# SPDX-License-Identifier: MIT
# Sourced after say.sh. Debian packages: which purpose needs which, and how they
# are installed. Nothing is asked of the network when nothing is missing.

packages_build="gcc libc6-dev make cmake ninja-build pkg-config libuv1-dev libssl-dev"
packages_core_tests="libcmocka-dev luajit libluajit-5.1-dev python3-dev gdb libunwind-dev openssl curl"
packages_sanitizers="clang libclang-rt-14-dev"
packages_aarch64="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
packages_lua="luajit libluajit-5.1-dev lua-busted lua-check lua-ldoc lua-messagepack luarocks lua-luv neovim"
packages_lua_clients="lua-socket redis-server memcached libpcre2-8-0 libssl3" # what the compatibility modules are tested with
packages_python="python3 python3-dev python3-venv python3-pip python3-setuptools python3-wheel"
packages_python_testsuite="libpython3.11-testsuite" # CPython's own tests, for Debian's interpreter
packages_python_debug="python3-dbg"
packages_real="redis-server postgresql wrk openssl" # what real programs on the Python loop talk to
packages_portable="musl-tools python3-venv python3-pip" # see tools/portable.sh
packages_clients="curl wrk netcat-openbsd"

package_missing() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" != installed ]
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root, and there is no sudo: $*"
    fi
}

# need PURPOSE PACKAGE…
need() {
    local purpose=$1 package
    local missing=()
    shift
    command -v dpkg-query >/dev/null || { say "Not a Debian system: make sure these are here: $*"; return 0; }
    for package in "$@"; do
        if package_missing "$package"; then missing+=("$package"); fi
    done
    (( ${#missing[@]} )) || return 0
    headline "Installing what is missing $purpose"
    say "  ${missing[*]}"
    [ "$(id -u)" -eq 0 ] || say "  (root is needed for this, and asked for by sudo)"
    as_root true # a password is asked for here, not behind a log
    if [ -z "${packages_updated:-}" ]; then
        quietly "apt-get update" as_root apt-get update
        packages_updated=1
    fi
    quietly "apt-get install" as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "${missing[@]}"
}

# Where this Debian comes from, or what TDL_DEBIAN_MIRROR says.
debian_mirror() {
    [ -n "${TDL_DEBIAN_MIRROR:-}" ] && { echo "$TDL_DEBIAN_MIRROR"; return; }
    apt-get indextargets --format '$(REPO_URI)' | sed -n '/security/d; s,/$,,; p; q'
}
