#!/usr/bin/env bash
# Runs the loom models, tests/loom_*.rs, on the shipped code.
#
#   ci/loom.sh                all models
#   ci/loom.sh sabotage       shows that they fail when the library is built without a precaution (ci/sabotage.sh)
#
# LOOM_MAX_PREEMPTIONS (default 2) bounds the search.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg escope_loom"
export CARGO_TARGET_DIR=target/loom
export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-2}"

case "${1:-models}" in
models)
    for file in tests/loom_*.rs; do
        model=$(basename -s .rs "$file")
        echo "loom: $model, at most $LOOM_MAX_PREEMPTIONS preemptions"
        cargo test -q --release --locked --no-default-features --test "$model"
    done
    ;;
sabotage) ci/sabotage.sh loom ;;
*)
    echo "usage: $0 [models|sabotage]" >&2
    exit 2
    ;;
esac
