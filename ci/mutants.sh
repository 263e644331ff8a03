#!/bin/bash
# make mutants: cargo-mutants changes src/breaker, src/limiter and src/pool in small ways, one at a time; a test
# must fail for each. What survives on purpose stands in mutants.toml with its reason.
#
# Hours on two cores. Arguments go to cargo-mutants: ci/mutants.sh --re src/pool/slots, --shard 1/8, --list.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/tools
if [ ! -x "$tools/bin/cargo-mutants" ]; then
    cargo install --locked --quiet --root "$tools" cargo-mutants
fi
# A mutant that survives few random cases is asking for a better test, not for more cases.
export PROPTEST_CASES=${PROPTEST_CASES:-64}
mkdir -p target/mutants
status=0
"$tools/bin/cargo-mutants" mutants --config mutants.toml --output target/mutants --colors never "$@" || status=$?
# 3: no mutant survived, some made a test hang until it was stopped. That is noticed, too.
[ $status = 3 ] || exit $status
