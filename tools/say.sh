# SPDX-License-Identifier: MIT
# Sourced. Says what is going on: headlines, and elapsed time for what is slow.

# What runs in the background would not hear Ctrl-C.
trap 'trap - INT TERM; kill 0' INT

say()      { printf '%s\n' "$*"; }
headline() { printf '\n== %s\n' "$*"; }
die()      { printf 'dev: %s\n' "$*" >&2; exit 1; }

# quietly LABEL COMMAND…: runs the command with its output in a log; says the
# label at once and the time every 5 seconds; shows the log only when it fails.
quietly() {
    local label=$1 log status=0 begin=$SECONDS said=0 pid
    shift
    log=$(mktemp)
    printf '  %s …\n' "$label"
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        if (( SECONDS - begin >= said + 5 )); then
            said=$(( SECONDS - begin ))
            printf '  %s … %d s\n' "$label" "$said"
        fi
    done
    wait "$pid" || status=$?
    if (( status != 0 )); then
        tail -n 60 "$log" >&2
        printf 'dev: failed: %s (exit status %d)\n' "$label" "$status" >&2
    elif (( SECONDS - begin > 2 )); then
        printf '  %s: done in %d s\n' "$label" $(( SECONDS - begin ))
    fi
    rm -f "$log"
    return "$status"
}
