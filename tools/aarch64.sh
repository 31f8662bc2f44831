# SPDX-License-Identifier: MIT
# Sourced after say.sh and packages.sh. What the tests on aarch64 need besides
# the cross compiler and qemu: cmocka and libuv, as Debian builds them for arm64. They are
# fetched and unpacked below build-aarch64; apt's own state, and dpkg's, are left
# as they are (no foreign architecture is added).

aarch64_root=$PWD/build-aarch64/debian

aarch64_fetch() {
    local dir=$PWD/build-aarch64/apt
    mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial" "$dir/debs"
    local options=(-o APT::Architecture=arm64 -o APT::Architectures::=arm64
        -o Dir::State="$dir/state" -o Dir::State::status=/dev/null -o Dir::Cache="$dir/cache"
        -o Acquire::Languages=none -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update || say "  (some package lists could not be fetched)"
    (cd "$dir/debs" && apt-get "${options[@]}" download libcmocka0 libcmocka-dev libuv1 libuv1-dev) || return
    local deb
    for deb in "$dir"/debs/*.deb; do dpkg-deb -x "$deb" "$aarch64_root" || return; done
    rm -rf "$dir"
}

aarch64_ready() {
    [ -e "$aarch64_root/usr/lib/aarch64-linux-gnu/libcmocka.so" ] && [ -e "$aarch64_root/usr/include/uv.h" ] && return
    command -v apt-get >/dev/null || { say "  not a Debian system: put cmocka and libuv for aarch64 into $aarch64_root"; return 1; }
    quietly "fetching cmocka and libuv for arm64" aarch64_fetch
}

# Builds for aarch64 in build-aarch64.
aarch64_compile() {
    compile build-aarch64 -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/aarch64-linux-gnu.cmake" \
        -DTDL_AARCH64_ROOT="$aarch64_root" -DTDL_WERROR=ON -DTDL_BUILD_TESTS=ON
}
