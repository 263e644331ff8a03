#!/bin/bash
# make vectors: tests/vectors/*.json replayed by Rust, C, Elixir and Python.
#
# Every replay prints one line a primitive, `vectors breaker c: 420 replayed, 0 failed`. This script runs the
# replays, prints those lines together and fails unless each primitive has one from each language, all with
# the same count above zero and none failed.
set -euo pipefail
cd "$(dirname "$0")/.."

ci/deps.sh test

lines=target/vectors.txt
mkdir -p target
: >"$lines"
failed=0

replay() {
    local log
    echo "vectors: replaying by $*"
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1 </dev/null; then
        cat "$log"
        echo "vectors: $* failed" >&2
        failed=1
    fi
    sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -oE 'vectors [a-z_]+ [a-z]+: [0-9]+ replayed, [0-9]+ failed' >>"$lines" || true
    rm -f "$log"
}

replay cargo test --locked --test 'vectors_*' -- --nocapture
replay ci/capi.sh vectors
replay ci/elixir.sh vectors
replay ci/python.sh vectors

sort -u "$lines"
awk '
    { sub(/:/, "", $3); count[$2, $3] = $4; bad += $6; if ($4 + 0 == 0) bad++ }
    END {
        split("breaker limiter pool pool_full", primitives)
        split("rust c elixir python", languages)
        for (p = 1; p in primitives; p++)
            for (l = 1; l in languages; l++) {
                got = count[primitives[p], languages[l]]
                want = count[primitives[p], languages[1]]
                if (got == "" || got != want) {
                    printf "vectors: %s %s replayed %s, rust %s\n", primitives[p], languages[l], \
                        got == "" ? "none" : got, want == "" ? "none" : want
                    bad++
                }
            }
        exit bad > 0
    }' "$lines" || failed=1
exit $failed
