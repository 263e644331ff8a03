#!/bin/bash
# make soak SOAK=name: runs that are too long or too random for make test. Without a name: the list.
#
#   sabotage  takes one precaution at a time out of the shipped code; the models that guard it must fail
#   loom      every loom model with one more preemption a thread than make test allows
#   shuttle   every shuttle model with many more schedules, from a fresh seed (SEED=n repeats one, SCHEDULES=n sets how many)
#   limiter   a flood of 100,000,000 keys (KEYS=n sets how many), sabotage of the limiter's models, and its random
#             histories (as prop)
#   pool      sabotage of the pool's models, its loom models with one more preemption, and its random histories (as prop)
#   prop      every property with many more cases, from a fresh seed (SEED=n repeats one, CASES=n sets how many)
#   fuzz-breaker  libFuzzer chooses calls of the breaker's C ABI, compared with the model (SOAK_SECONDS=n, default 600)
#   fuzz-limiter  the same for the limiter
#   fuzz-pool     the same for the pool
#   breaker   sabotage of the breaker's models, then 10,000 processes killed on a shared breaker (KILLS=n sets how
#             many) and its random histories (as prop)
#   interrupts  real signals at random moments of a Python check-out, 50,000 of them (TURNS=n sets how many)
#   breaker-kill  100,000 guarded calls on the BEAM, 30 % of their processes killed at any moment (KILL_CALLS=n)
#   pool-kill     1,000,000 check-outs on the BEAM, 30 % of their processes killed, while connections, pool and PostgreSQL
#             fail (KILL_CHECKOUTS=n)
#   foundation    50 processes on the Foundation services for 60 seconds (LOAD_SECONDS=n), a service killed each second,
#             PostgreSQL stopped twice: availability, acknowledged events, memory
#   pool-kill-python  1,000,000 check-outs in Python, 30 % of the threads killed, while children are forked (KILL_CHECKOUTS=n,
#             SEED=n repeats one)
#   pool-kill-c   1,000,000 check-outs in C, 30 % of the threads killed, while connections, which are processes, are killed
#             and children forked (KILL_CHECKOUTS=n, SEED=n repeats one)
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
    ci/shuttle.sh sabotage
}

prop() {
    local tests
    export PROPTEST_RNG_SEED=${SEED:-$((RANDOM << 30 | RANDOM << 15 | RANDOM))}
    export PROPTEST_CASES=${CASES:-20000}
    echo "soak prop: SEED=$PROPTEST_RNG_SEED CASES=$PROPTEST_CASES"
    # shellcheck disable=SC2086 # the star is to match
    mapfile -t tests < <(basename -s .rs tests/prop_${1:-*}.rs | sed 's/^/--test=/')
    cargo test --release --locked "${tests[@]}"
    echo "soak prop: passed with SEED=$PROPTEST_RNG_SEED"
}

case ${1:-} in
sabotage) sabotage ;;
loom) LOOM_MAX_PREEMPTIONS=3 ci/loom.sh ;;
shuttle) ESCOPE_SHUTTLE_SCHEDULES=${SCHEDULES:-3000000} ci/shuttle.sh ;;
prop) prop ;;
fuzz-breaker) ci/fuzz.sh breaker_capi "${SOAK_SECONDS:-600}" ;;
fuzz-limiter) ci/fuzz.sh limiter_capi "${SOAK_SECONDS:-600}" ;;
fuzz-pool) ci/fuzz.sh pool_capi "${SOAK_SECONDS:-600}" ;;
breaker)
    MODEL=breaker ci/loom.sh sabotage
    MODEL=breaker ci/shuttle.sh sabotage
    ESCOPE_KILLS=${KILLS:-10000} cargo test --release --locked --test shared_breaker -- --nocapture
    prop breaker
    ;;
pool)
    MODEL=pool ci/loom.sh sabotage
    MODEL=pool ci/shuttle.sh sabotage
    MODEL=pool LOOM_MAX_PREEMPTIONS=3 ci/loom.sh
    prop pool
    ;;
limiter)
    ESCOPE_FLOOD_KEYS=${KEYS:-100000000} cargo test --release --locked --test limiter_memory flood
    MODEL=limiter ci/loom.sh sabotage
    MODEL=limiter ci/shuttle.sh sabotage
    prop limiter
    ;;
interrupts)
    ci/python.sh install
    root=$PWD
    export TURNS=${TURNS:-50000}
    (cd target && venv/bin/python -m pytest -q -p no:cacheprovider -c "$root/python/pyproject.toml" \
        --rootdir "$root/python" "$root/python/tests/test_interrupts.py")
    ;;
breaker-kill)
    cd native_elixir
    KILL_CALLS=${KILL_CALLS:-100000} mix test test/foundation/infrastructure/circuit_breaker_kill_test.exs
    ;;
pool-kill)
    cd native_elixir
    KILL_CHECKOUTS=${KILL_CHECKOUTS:-1000000} mix test test/foundation/infrastructure/connection_pool_kill_test.exs
    ;;
foundation)
    cd native_elixir
    LOAD_SECONDS=${LOAD_SECONDS:-60} mix test test/foundation/load_test.exs
    ;;
pool-kill-python)
    ci/python.sh install
    root=$PWD
    export KILL_CHECKOUTS=${KILL_CHECKOUTS:-1000000}
    (cd target && venv/bin/python -m pytest -q -s -p no:cacheprovider -c "$root/python/pyproject.toml" \
        --rootdir "$root/python" "$root/python/tests/test_pool_kill.py")
    ;;
pool-kill-c) ci/capi.sh pool-kill "${KILL_CHECKOUTS:-1000000}" ${SEED:+"$SEED"} ;;
"") sed -n 's/^#   //p' "$0" ;;
*)
    echo "soak: \"$1\" is none of:" >&2
    sed -n 's/^#   //p' "$0" >&2
    exit 64
    ;;
esac
