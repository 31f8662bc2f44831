# SPDX-License-Identifier: MIT
# ./dev portable [PART…]: what shows that treadle is not Linux's, nor the GNU C library's.
#   posix     the core as other systems have it (-DTDL_PORTABLE=ON: libuv alone polls, POSIX
#             alone is used): its tests and the sweep of faults
#   musl      the core with another C library: the same tests
#   systems   library and examples are built for macOS, FreeBSD, NetBSD and OpenBSD, with these
#             systems' own headers and (but NetBSD) the symbols of their libraries; nothing is run
set -uo pipefail # no -e: all are run, and counted
. tools/say.sh
. tools/packages.sh
. tools/compile.sh
. tools/sources.sh
. tools/tally.sh

all="posix musl systems"
zig_version=0.17.1 # its compiler comes with those headers
targets="x86_64-macos aarch64-macos x86_64-freebsd aarch64-freebsd x86_64-netbsd x86_64-openbsd"
dir=$PWD/.dev/portable
for name in "$@"; do
    case " $all " in *" $name "*) ;; *) die "no such part: $name (there are: $all)" ;; esac
done

limit="timeout --foreground --kill-after=10 1200"
ulimit -Sn 20000 2>/dev/null || ulimit -Sn "$(ulimit -Hn)"

run_ctest() { $limit ctest --test-dir "$@" --output-on-failure --no-tests=error --timeout 240 -j"$(nproc)"; }

# -- POSIX and libuv

posix_tests() {
    compile build-portable -DTDL_PORTABLE=ON -DTDL_BUILD_TESTS=ON -DTDL_WERROR=ON && run_ctest build-portable -L 'core|faults'
}

# -- musl

# The kernel's headers beside musl's own; libuv and cmocka built for it.
musl_libraries() {
    local name machine
    machine=$(gcc -print-multiarch)
    mkdir -p "$dir/musl/kernel"
    for name in linux asm-generic; do ln -sfn "/usr/include/$name" "$dir/musl/kernel/$name"; done
    ln -sfn "/usr/include/$machine/asm" "$dir/musl/kernel/asm"
    for name in libuv1 cmocka; do
        cmake -S ".dev/sources/$name" -B "$dir/musl/build-$name" -G Ninja -DCMAKE_C_COMPILER=musl-gcc \
            -DCMAKE_C_FLAGS="-idirafter $dir/musl/kernel" -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF \
            -DLIBUV_BUILD_TESTS=OFF -DWITH_EXAMPLES=OFF -DCMAKE_INSTALL_PREFIX="$dir/musl" -DCMAKE_INSTALL_LIBDIR=lib &&
            cmake --build "$dir/musl/build-$name" && cmake --install "$dir/musl/build-$name" || return
    done
}

musl_tests() {
    source_ready libuv1 && source_ready cmocka || return
    if [ ! -e "$dir/musl/ready" ]; then
        quietly "building libuv and cmocka with musl" musl_libraries || return
        touch "$dir/musl/ready"
    fi
    # pkg-config is to find none of this machine's libraries: those are the other C library's.
    export PKG_CONFIG_LIBDIR=$dir/musl/lib/pkgconfig
    compile build-musl -DCMAKE_C_COMPILER=musl-gcc -DCMAKE_C_FLAGS="-idirafter $dir/musl/kernel" -DCMAKE_PREFIX_PATH="$dir/musl" \
        -DTDL_UV_INCLUDE="$dir/musl/include" -DTDL_UV_LIBRARY="$dir/musl/lib/libuv.so" -DTDL_MUSL=ON -DTDL_BUILD_TESTS=ON -DTDL_WERROR=ON &&
        run_ctest build-musl
}

# -- Other systems

zig_compiler() {
    local target tool
    python3 -m venv "$dir/zig" && "$dir/zig/bin/pip" install --disable-pip-version-check --quiet "ziglang==$zig_version" || return
    for target in $targets; do
        printf '#!/bin/sh\nexec "%s/zig/bin/python" -m ziglang cc -target %s "$@"\n' "$dir" "$target" >"$dir/cc-$target"
    done
    for tool in ar ranlib; do printf '#!/bin/sh\nexec "%s/zig/bin/python" -m ziglang %s "$@"\n' "$dir" $tool >"$dir/$tool"; done
    chmod +x "$dir"/cc-* "$dir/ar" "$dir/ranlib"
    touch "$dir/zig/$zig_version"
}

uv_for() { # TARGET OPTION…
    local target=$1
    shift
    cmake -S .dev/sources/libuv1 -B "$dir/uv-$target" "$@" -DCMAKE_BUILD_TYPE=Release -DCMAKE_POSITION_INDEPENDENT_CODE=ON \
        -DBUILD_TESTING=OFF -DLIBUV_BUILD_TESTS=OFF && cmake --build "$dir/uv-$target" --target uv_a
}

built_for() { # TARGET
    local system
    source_ready libuv1 || return
    [ -e "$dir/zig/$zig_version" ] || quietly "fetching the compiler of ziglang $zig_version" zig_compiler || return
    export ZIG_GLOBAL_CACHE_DIR=$dir/cache ZIG_LOCAL_CACHE_DIR=$dir/cache PKG_CONFIG_LIBDIR=$dir/none
    case $1 in
        *-macos)   system=Darwin ;;
        *-freebsd) system=FreeBSD ;;
        *-netbsd)  system=NetBSD ;;
        *-openbsd) system=OpenBSD ;;
    esac
    local cross=(-G Ninja -DCMAKE_SYSTEM_NAME=$system -DCMAKE_SYSTEM_PROCESSOR="${1%-*}" -DCMAKE_C_COMPILER="$dir/cc-$1"
        -DCMAKE_AR="$dir/ar" -DCMAKE_RANLIB="$dir/ranlib")
    quietly "building libuv for $1" uv_for "$1" "${cross[@]}" || return
    local of=all said="libtreadle and the examples are linked for $1"
    if [ $system = NetBSD ]; then # the compiler knows its headers better than its libraries
        of=treadle_static said="libtreadle.a is built for $1"
    fi
    quietly "configuring build-systems/$1" cmake -S . -B "build-systems/$1" "${cross[@]}" -DTDL_UV_INCLUDE="$PWD/.dev/sources/libuv1/include" \
        -DTDL_UV_LIBRARY="$dir/uv-$1/libuv_a.a" -DTDL_WERROR=ON -DTDL_BUILD_EXAMPLES=ON &&
        quietly "building build-systems/$1" cmake --build "build-systems/$1" --target $of || return
    say "  $said"
}

need "to build" $packages_build $packages_core_tests $packages_portable || die "the packages could not be installed"
for name in ${*:-$all}; do
    case $name in
        posix) part "C tests and faults on libuv and POSIX" ctest posix_tests ;;
        musl)  part "C tests with musl" ctest musl_tests ;;
        systems) for target in $targets; do part "Built for $target" check built_for $target; done ;;
    esac
done
tally
