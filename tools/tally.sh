# SPDX-License-Identifier: MIT
# Sourced after say.sh. Runs one part of the tests after another, and counts
# with the runners' own summaries.

passed=0
failed=0
tally_lines=()

# Reads a runner's output; prints "PASSED FAILED".
summary_of() {
    sed 's/\x1b\[[0-9;]*m//g' "$2" | case $1 in
        ctest)  sed -nE 's/^[0-9]+% tests passed, ([0-9]+) tests? failed out of ([0-9]+).*/\1 \2/p' |
                    awk '{ f += $1; p += $2 - $1 } END { print p + 0, f + 0 }' ;;
        busted) sed -nE 's|^([0-9]+) success(es)? / ([0-9]+) failures? / ([0-9]+) errors? .*|\1 \3 \4|p' |
                    awk '{ p += $1; f += $2 + $3 } END { print p + 0, f + 0 }' ;;
        pytest) grep -E '[0-9]+ (passed|failed|errors?)\b.* in [0-9.]+ ?s' | grep -oE '[0-9]+ (passed|failed|error)' |
                    awk '$2 == "passed" { p += $1 } $2 != "passed" { f += $1 } END { print p + 0, f + 0 }' ;;
    esac
}

# part TITLE KIND COMMAND…: KIND is ctest, busted or pytest for a command that
# runs many tests, check for one that is a test itself.
part() {
    local title=$1 kind=$2 log status=0 p=0 f=0 begin=$SECONDS
    shift 2
    log=$(mktemp)
    headline "$title"
    "$@" 2>&1 </dev/null | tee "$log"
    status=${PIPESTATUS[0]}
    if [ "$kind" = check ]; then
        if (( status == 0 )); then p=1; else f=1; fi
    else
        read -r p f < <(summary_of "$kind" "$log")
        if (( p + f == 0 )); then
            say "  no test was run (exit status $status)"
            f=1
        elif (( status != 0 && f == 0 )); then
            say "  all tests passed, but the runner ended with status $status"
            f=1
        fi
    fi
    rm -f "$log"
    passed=$(( passed + p ))
    failed=$(( failed + f ))
    tally_lines+=("$(printf '%-44s %5d passed %4d failed %5d s' "$title" "$p" "$f" $(( SECONDS - begin )))")
    say "${tally_lines[-1]}"
}

# The table of parts, and the line that everybody reads, which comes last.
tally() {
    headline "Parts"
    printf '%s\n' "${tally_lines[@]}"
    printf '\n%d passed, %d failed\n' "$passed" "$failed"
    (( failed == 0 ))
}
