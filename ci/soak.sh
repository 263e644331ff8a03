#!/bin/bash
# make soak SOAK=name: runs that are too long or too random for make test. Without a name: the list.
#
#   sabotage  takes one precaution at a time out of the shipped code; the loom model that guards it must fail
#   loom      every loom model with one more preemption a thread than make test allows
#   prop      every property with many more cases, from a fresh seed (SEED=n repeats one, CASES=n sets how many)
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

loom_test() { # loom_test SABOTAGE ARGUMENTS...
    RUSTFLAGS="--cfg escope_loom --cfg escope_sabotage=\"$1\"" CARGO_TARGET_DIR=target/loom-sabotage \
        cargo test --release --locked --no-default-features "${@:2}"
}

sabotage() {
    local name model log=target/sabotage.log passed=0 failed=0
    mkdir -p target
    while read -r name; do
        model=loom_${name%%_*}
        # That it does not compile is no proof, so building comes first and has to work.
        loom_test "$name" --test "$model" --no-run
        if LOOM_MAX_PREEMPTIONS=${LOOM_MAX_PREEMPTIONS:-2} loom_test "$name" --test "$model" >"$log" 2>&1; then
            echo "sabotage $name: NO model of tests/$model.rs noticed"
            failed=$((failed + 1))
        else
            echo "sabotage $name: noticed by $(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" | paste -sd' ')"
            passed=$((passed + 1))
        fi
    done < <(grep -rhoE 'escope_sabotage = "[a-z_]+"' src | sed 's/.*"\(.*\)"/\1/' | sort -u)
    echo "sabotage: $passed passed, $failed failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}

prop() {
    local tests
    export PROPTEST_RNG_SEED=${SEED:-$((RANDOM << 30 | RANDOM << 15 | RANDOM))}
    export PROPTEST_CASES=${CASES:-20000}
    echo "soak prop: SEED=$PROPTEST_RNG_SEED CASES=$PROPTEST_CASES"
    mapfile -t tests < <(basename -s .rs tests/prop_*.rs | sed 's/^/--test=/')
    cargo test --release --locked "${tests[@]}"
    echo "soak prop: passed with SEED=$PROPTEST_RNG_SEED"
}

case ${1:-} in
sabotage) sabotage ;;
loom) LOOM_MAX_PREEMPTIONS=3 ci/loom.sh ;;
prop) prop ;;
"") sed -n 's/^#   //p' "$0" ;;
*)
    echo "soak: \"$1\" is none of:" >&2
    sed -n 's/^#   //p' "$0" >&2
    exit 64
    ;;
esac
