#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# ./dev sim [--seeds N] [--first N]: random goroutine programs under simulation, N seeds
# (100,000 when not said) against the library, and a tenth of that with a point at
# each atomic operation. The seeds are dealt to as many processes as there are CPUs.
set -euo pipefail
seeds=100000 first=0
while [ $# -gt 0 ]; do
    case $1 in
        --seeds) seeds=$2; shift 2 ;;
        --first) first=$2; shift 2 ;;
        *) echo "./dev sim: unknown option: $1" >&2; exit 2 ;;
    esac
done
jobs=$(nproc)
cmake -S . -B build -DTDL_BUILD_TESTS=ON >/dev/null
cmake --build build -j "$jobs" --target programs programs_atomics >/dev/null

# run PROGRAM FIRST COUNT: each process a part of them
run() {
    local program=$1 from=$2 count=$3 pids=() failed=0
    local part=$(((count + jobs - 1) / jobs))
    echo "$(basename "$program"): $count seeds from $from"
    for ((i = 0; i < jobs; i++)); do
        local begin=$((from + i * part)) n=$part
        [ $((i * part + n)) -gt "$count" ] && n=$((count - i * part))
        [ "$n" -le 0 ] && break
        "$program" "$begin" "$n" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    return $failed
}

status=0
run build/tests/core/sim/programs "$first" "$seeds" || status=1
run build/tests/core/sim/programs_atomics "$first" "$((seeds / 10))" || status=1
[ $status = 0 ] && echo "sim: no seed failed" || echo "sim: a seed failed"
exit $status
