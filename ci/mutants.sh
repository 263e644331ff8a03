#!/bin/bash
# make mutants: cargo-mutants changes src/breaker, src/limiter and src/pool in small ways, one at a time; a test
# must fail for each. What survives on purpose stands in mutants.toml with its reason.
#
# FILES="src/breaker src/pool/slots.rs" takes these files and folders only, and the tests that have the folder's name in
# theirs. A change costs one build of those and a run of them, some five seconds; a folder has a thousand. Arguments go to
# cargo-mutants: ci/mutants.sh --shard 1/8, --list.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/tools
if [ ! -x "$tools/bin/cargo-mutants" ]; then
    cargo install --locked --quiet --root "$tools" cargo-mutants
fi
files=()
tests=(--cargo-test-arg=--lib)
for path in ${FILES:-src/breaker src/limiter src/pool}; do
    if [ -d "$path" ]; then
        files+=(--file "${path%/}/**/*.rs")
    elif [ -f "$path" ]; then
        files+=(--file "$path")
    else
        echo "mutants: there is no $path" >&2
        exit 64
    fi
    folder=${path#src/}
    tests+=("--cargo-test-arg=--test=*${folder%%/*}*")
done
# A mutant that survives few random cases is asking for a better test, not for more cases.
export PROPTEST_CASES=${PROPTEST_CASES:-32} ESCOPE_KILLS=${ESCOPE_KILLS:-100}
# Every second of a build counts a thousand times: no debug information, and dependencies are built once for all runs.
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/mutants/build}
# Frames of a build without optimisation are large.
export RUST_MIN_STACK=${RUST_MIN_STACK:-67108864}
mkdir -p target/mutants
status=0
"$tools/bin/cargo-mutants" mutants --config mutants.toml --output target/mutants --colors never \
    "${files[@]}" "${tests[@]}" "$@" || status=$?
# 3: no mutant survived, some made a test hang until it was stopped. That is noticed, too.
[ $status = 3 ] || exit $status
