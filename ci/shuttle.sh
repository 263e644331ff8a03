#!/usr/bin/env bash
# Runs the shuttle models, tests/shuttle_*.rs: many threads on the shipped code under random schedules.
#
#   ci/shuttle.sh             all models
#   ci/shuttle.sh sabotage    shows that they fail when the library is built without a precaution (ci/sabotage.sh)
#
# ESCOPE_SHUTTLE_SCHEDULES (default 40,000) is how many schedules each model runs, SEED=n repeats a run. A schedule that
# fails is printed by shuttle, too.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg escope_shuttle"
export CARGO_TARGET_DIR=target/shuttle
export SHUTTLE_RANDOM_SEED=${SEED:-$((RANDOM << 30 | RANDOM << 15 | RANDOM))}

case "${1:-models}" in
models)
    export ESCOPE_SHUTTLE_SCHEDULES=${ESCOPE_SHUTTLE_SCHEDULES:-40000}
    for file in tests/shuttle_*.rs; do
        model=$(basename -s .rs "$file")
        echo "shuttle: $model, $ESCOPE_SHUTTLE_SCHEDULES schedules, SEED=$SHUTTLE_RANDOM_SEED"
        cargo test -q --release --locked --no-default-features --test "$model"
    done
    ;;
sabotage)
    # The rarest of them needs some ten thousand schedules; the first that fails ends the run.
    export ESCOPE_SHUTTLE_SCHEDULES=${ESCOPE_SHUTTLE_SCHEDULES:-2000000}
    echo "shuttle: SEED=$SHUTTLE_RANDOM_SEED"
    ci/sabotage.sh shuttle
    ;;
*)
    echo "usage: $0 [models|sabotage]" >&2
    exit 64
    ;;
esac
