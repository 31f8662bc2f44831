# SPDX-License-Identifier: MIT
# ./dev model [--seconds S] [PROGRAM…]: the scenarios of tests/model (or of the programs
# named) with the bounds of a long run, and then at random for S seconds each.
set -euo pipefail
. tools/say.sh
. tools/packages.sh
. tools/compile.sh

seconds=60
programs=()
while [ $# -gt 0 ]; do
    case $1 in
        --seconds) seconds=${2:?--seconds needs a number}; shift 2 ;;
        -*) die "model: unknown option: $1" ;;
        *) programs+=("$1"); shift ;;
    esac
done
need "to build" $packages_build python3
headline "Model checking"
compile_model
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

# Each scenario is a process; as many at once as there are processors.
scenarios() {
    local program
    for program in build-model/tests/model/model_*; do
        local name=${program##*/model_}
        [ "$name" = litmus ] && continue
        [ ${#programs[@]} -eq 0 ] || [[ " ${programs[*]} " = *" $name "* ]] || continue
        "$program" --list | sed "s|^|$program |"
    done
}
one() { # PROGRAM SCENARIO SECONDS RESULTS
    local out=$4/${1##*/}.$2
    if "$1" --full "$2" >"$out" && "$1" --seconds "$3" "$2" >>"$out"; then
        grep 'schedules  ' "$out" | sed "s|^|  ${1##*/model_}/|"
    else
        cat "$out"
        touch "$4/failed"
    fi
}
export -f one
scenarios | xargs -P "$(nproc)" -L 1 bash -c 'one "$0" "$1" '"$seconds $results"
cat "$results"/model_* | awk '$2 == "schedules" && NF == 2 { n += $1 } END { printf "%d schedules\n", n }'
[ ! -e "$results/failed" ]
