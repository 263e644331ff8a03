#!/usr/bin/env bash
# Runs the loom models, tests/loom_*.rs, on the shipped code.
#
#   ci/loom.sh                all models
#   ci/loom.sh sabotage [MODEL...]
#                             each line "// sabotage: NAME TEST" of a model file says which test must fail when the
#                             library is built without the precaution NAME; shows that it does
#
# LOOM_MAX_PREEMPTIONS (default 2) bounds the search.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg escope_loom"
export CARGO_TARGET_DIR=target/loom
export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-2}"

models() { basename -s .rs -a tests/loom_*.rs; }

cargo_test() { cargo test -q --release --no-default-features "$@"; }

case "${1:-models}" in
models)
    for model in $(models); do
        echo "loom: $model, at most $LOOM_MAX_PREEMPTIONS preemptions"
        cargo_test --test "$model"
    done
    ;;
sabotage)
    failed=0
    read -ra chosen <<<"${*:2}"
    [ ${#chosen[@]} -gt 0 ] || mapfile -t chosen < <(models)
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    for model in "${chosen[@]}"; do
        while read -r name test; do
            export ESCOPE_SABOTAGE=$name
            cargo_test --test "$model" --no-run
            if cargo_test --test "$model" "$test" -- --exact >"$log" 2>&1; then
                echo "SURVIVED: $test passes without $name"
                failed=1
            elif ! grep -q "^test result: FAILED. 0 passed; 1 failed" "$log"; then
                cat "$log"
                echo "BROKEN: $test did not run without $name"
                failed=1
            else
                echo "ok: $test fails without $name"
            fi
        done < <(sed -n 's|^// sabotage: ||p' "tests/$model.rs")
    done
    exit "$failed"
    ;;
*)
    echo "usage: $0 [models|sabotage [MODEL...]]" >&2
    exit 2
    ;;
esac
