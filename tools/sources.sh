# SPDX-License-Identifier: MIT
# Sourced after say.sh and packages.sh. Sources of Debian packages, as their authors wrote them, for what
# has to be built in a way that Debian does not, or for its tests: source_ready PACKAGE [SUITE] unpacks one,
# of this Debian or of another suite, into .dev/sources/PACKAGE. apt's own state and lists are left as they are.

source_fetch() { # PACKAGE [SUITE]
    local dir=$PWD/.dev/sources/apt to=$PWD/.dev/sources/$1 suite=${2:-}
    [ -n "$suite" ] || suite=$(. /etc/os-release && echo "$VERSION_CODENAME") || return
    rm -rf "$dir" "$to.part"
    mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial" "$dir/files" "$to.part"
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(debian_mirror) $suite main" \
        >"$dir/sources.list"
    local options=(-o Dir::State="$dir/state" -o Dir::State::status=/dev/null -o Dir::Cache="$dir/cache"
        -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=-
        -o Acquire::Languages=none -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update || return
    (cd "$dir/files" && apt-get "${options[@]}" source --tar-only --download-only "$1") || return
    tar -xf "$dir/files/$1"_*.orig.tar.?z -C "$to.part" --strip-components=1 || return
    rm -rf "$dir" "$to"
    mv "$to.part" "$to"
}

source_ready() { # PACKAGE [SUITE]
    [ -d ".dev/sources/$1" ] && return
    command -v apt-get >/dev/null || { say "  not a Debian system: put the sources of $1 into .dev/sources/$1"; return 1; }
    quietly "fetching the sources of $1" source_fetch "$@"
}
