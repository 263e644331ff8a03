#!/bin/bash
# make soak SOAK=name: runs that are too long or too random for make test. Without a name: the list.
#
#   sabotage  takes one precaution at a time out of the shipped code; the loom model that guards it must fail
#   loom      every loom model with one more preemption a thread than make test allows
#   limiter   a flood of 100,000,000 keys (KEYS=n sets how many), and the limiter's models without their precautions
#   prop      every property with many more cases, from a fresh seed (SEED=n repeats one, CASES=n sets how many)
#   interrupts  real signals at random moments of a Python check-out, 50,000 of them (TURNS=n sets how many)
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

sabotage() {
    local unguarded
    unguarded=$(comm -23 \
        <(grep -rhoE 'escope_sabotage = "[a-z_]+"' src | cut -d'"' -f2 | sort -u) \
        <(sed -n 's|^// sabotage: \([a-z_]*\) .*|\1|p' tests/loom_*.rs | sort -u))
    if [ -n "$unguarded" ]; then
        echo "soak sabotage: no '// sabotage: NAME TEST' line in tests/loom_*.rs for: ${unguarded//$'\n'/ }" >&2
        return 1
    fi
    ci/loom.sh sabotage
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
limiter)
    ESCOPE_FLOOD_KEYS=${KEYS:-100000000} cargo test --release --locked --test limiter_memory flood
    ci/loom.sh sabotage loom_limiter
    ;;
interrupts)
    ci/python.sh install
    root=$PWD
    export TURNS=${TURNS:-50000}
    (cd target && venv/bin/python -m pytest -q -p no:cacheprovider -c "$root/python/pyproject.toml" \
        --rootdir "$root/python" "$root/python/tests/test_interrupts.py")
    ;;
"") sed -n 's/^#   //p' "$0" ;;
*)
    echo "soak: \"$1\" is none of:" >&2
    sed -n 's/^#   //p' "$0" >&2
    exit 64
    ;;
esac
