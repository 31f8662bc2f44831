# SPDX-License-Identifier: MIT
# ./dev pythons [dev] [VERSION…]: the Python tests and the suites of ./dev conformance under
# Pythons that this Debian does not have: 3.14 and 3.15 from Debian's unstable, and a
# free-threaded one, "t", built from Debian's source package (the newest that can be had).
# With "dev": the Python tests alone, in Python's and asyncio's debug modes.
# "tsan", which has to be asked for: the tests of threads under the latter, with ThreadSanitizer.
#
# They live in .dev/sid, a Debian of their own. It sees this checkout, /proc, /dev and /sys
# only while a command runs in it, in a mount namespace that ends with the command.
set -euo pipefail
. tools/say.sh
. tools/packages.sh
. tools/pythons_tsan.sh

sid=$PWD/.dev/sid
mirror=$(debian_mirror)
all="3.14 3.15 t"
valid="-o Acquire::Check-Valid-Until=false" # a mirror may be some days behind
as_root true

case ${1:-} in -h | --help) sed -n '2,11s/^# \?//p' tools/pythons.sh; exit ;; esac
dev=
if [ "${1:-}" = dev ]; then dev=1; shift; fi
for name in "$@"; do
    case " $all tsan " in *" $name "*) ;; *) die "no such Python: $name (there are: $all tsan)" ;; esac
done

# in_sid COMMAND: run by bash in the other Debian, in the checkout.
in_sid() {
    SID=$sid HERE=$PWD COMMAND=$1 as_root unshare --mount --propagation private bash -ec '
        for place in proc dev sys; do mount --rbind /$place "$SID/$place"; done
        mount --bind "$HERE" "$SID/src"
        exec chroot "$SID" env HOME=/root DEBIAN_FRONTEND=noninteractive CCACHE_DIR=/var/cache/ccache \
            TDL_VENV=.venv/sid bash -c "cd /src && eval \"\$COMMAND\""'
}

sid_ready() {
    need "for another Debian" debootstrap
    if [ ! -e "$sid/ready" ]; then
        [ ! -e "$sid" ] || as_root rm -rf --one-file-system "$sid"
        mkdir -p "$sid"
        quietly "debootstrap: .dev/sid" as_root debootstrap --variant=minbase sid "$sid" "$mirror"
        as_root mkdir -p "$sid/src"
        as_root tee "$sid/etc/apt/sources.list" >/dev/null <<LIST
deb $mirror sid main
deb-src $mirror sid main
deb-src $mirror testing main
LIST
        as_root touch "$sid/ready"
    fi
    local wanted="gcc libc6-dev pkg-config make libuv1-dev ca-certificates openssl curl redis-server postgresql wrk"
    local version
    for version in 3.14 3.15; do
        wanted+=" python$version python$version-dev python$version-venv libpython$version-testsuite"
    done
    if [ "$(cat "$sid/packages" 2>/dev/null)" != "$wanted" ]; then
        quietly "apt-get update, in .dev/sid" in_sid "apt-get $valid update"
        # No service is to start there.
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$sid/usr/sbin/policy-rc.d" >/dev/null
        as_root chmod +x "$sid/usr/sbin/policy-rc.d"
        quietly "apt-get install, in .dev/sid" in_sid "apt-get install -y --no-install-recommends $wanted"
        echo "$wanted" | as_root tee "$sid/packages" >/dev/null
    fi
    # Whom this machine trusts, it trusts.
    as_root cp -L /etc/ssl/certs/ca-certificates.crt "$sid/etc/ssl/certs/ca-certificates.crt"
}

# CPython as it is, without the patches for Debian's own directories. A source package of one version
# may be missing where its binary is there.
cpython_source_ready() {
    [ ! -e "$sid/usr/src/python/src/configure" ] || [ -e "$sid/usr/src/python/src/Makefile" ] || return 0 # as it was unpacked
    quietly "what CPython is built with, in .dev/sid" in_sid "apt-get install -y --no-install-recommends \
        dpkg-dev libssl-dev zlib1g-dev libffi-dev libbz2-dev liblzma-dev libsqlite3-dev xz-utils patch"
    # shellcheck disable=SC2016
    quietly "fetching CPython's source package" in_sid '
        rm -rf /usr/src/python && mkdir -p /usr/src/python && cd /usr/src/python || exit
        for package in python3.15 python3.14 python3.13; do
            for version in $(apt-cache showsrc --only-source $package | sed -n "s/^Version: //p" | sort -ruV); do
                if apt-get '"$valid"' source --download-only $package=$version; then
                    exec dpkg-source --no-check --skip-patches -x ${package}_*.dsc src
                fi
                rm -f ./*
            done
        done
        exit 1'
}

free_threaded_ready() {
    [ ! -e "$sid/opt/python-t/bin/python3" ] || return 0
    cpython_source_ready
    quietly "building a free-threaded Python" in_sid "
        rm -rf /usr/src/python/t && mkdir /usr/src/python/t && cd /usr/src/python/t &&
        ../src/configure -q --disable-gil --prefix=/opt/python-t && make -s -j$(nproc) && make -s install"
}

status=0
sid_ready
ulimit -Sn 20000 2>/dev/null || ulimit -Sn "$(ulimit -Hn)"
for name in ${*:-$all}; do
    if [ "$name" = tsan ]; then
        tsan_python_ready
        tsan_treadle_ready
        headline "Python $(tsan_run '-VV') under ThreadSanitizer"
        tsan_check || status=1
        continue
    fi
    python=/usr/bin/python$name more='' suites="a b uvloop rloop"
    if [ "$name" = t ]; then
        free_threaded_ready
        # Not all of the programs have packages for it.
        python=/opt/python-t/bin/python3 more="TDL_REAL=no" suites="a b"
    fi
    headline "Python $(in_sid "$python -c 'import sys; print(sys.version.split()[0], getattr(sys, \"abiflags\", \"\"))'")"
    if [ -n "$dev" ]; then
        in_sid "venv=\$($more PYTHON=$python tests/python/environment) || exit
            PYTHONASYNCIODEBUG=1 $more exec \$venv/bin/python -X dev -m pytest -p no:cacheprovider -p no:asyncio -q" || status=1
        continue
    fi
    if [ "$name" != t ]; then
        # Where no free-threaded build of this version can be had, what is written for one is compiled at least.
        quietly "compiling for a free-threaded $name" in_sid "gcc -fsyntax-only -std=gnu11 -Wall -Wextra -Werror \
            -Wno-missing-field-initializers -Wno-cast-function-type -DPy_GIL_DISABLED=1 -Icore/include \
            -I/usr/include/python$name bindings/python/src/*.c" || status=1
    fi
    in_sid "$more PYTHON=$python tests/python/run" || status=1
    if [ "$name" = t ]; then
        # with a new seed each time, which it says
        in_sid "\$($more PYTHON=$python tests/python/environment)/bin/python tests/python/meddle.py 60" || status=1
    fi
    in_sid "$more $python tests/python/conformance --python $python --suite ${suites// / --suite }" || status=1
done
exit $status
