#!/usr/bin/env bash
# ci/sabotage.sh TOOL: takes one precaution at a time out of the shipped code; the model that guards it must fail. For
# ci/loom.sh and ci/shuttle.sh, which set how models are built.
#
# Each line "// sabotage: NAME TEST" of tests/TOOL_*.rs says which test must fail when the library is built without
# the precaution NAME.
set -euo pipefail
cd "$(dirname "$0")/.."

tool=${1:?usage: ci/sabotage.sh TOOL}
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for file in tests/"$tool"_*.rs; do
    model=$(basename -s .rs "$file")
    cargo_test() { cargo test -q --release --locked --no-default-features --test "$model" "$@"; }
    while read -r name test; do
        export ESCOPE_SABOTAGE=$name
        cargo_test --no-run
        if cargo_test "$test" -- --exact >"$log" 2>&1; then
            echo "SURVIVED: $test passes without $name"
            failed=1
        elif ! grep -q "^test result: FAILED. 0 passed; 1 failed" "$log"; then
            cat "$log"
            echo "BROKEN: $test did not run without $name"
            failed=1
        else
            echo "ok: $test fails without $name"
        fi
    done < <(sed -n 's|^// sabotage: ||p' "$file")
done
exit "$failed"
