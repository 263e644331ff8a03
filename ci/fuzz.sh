#!/usr/bin/env bash
# ci/fuzz.sh TARGET [SECONDS]: lets libFuzzer choose inputs for fuzz/fuzz_targets/TARGET.rs, for 60 seconds or as said.
#
# It starts from fuzz/corpus/TARGET and keeps what it learns in target/fuzz/corpus/TARGET. An input that fails is written
# to target/fuzz/artifacts/TARGET; add it to the first of these, and `cargo test` replays it.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:?usage: ci/fuzz.sh TARGET [SECONDS]}
seconds=${2:-60}
[ -f "fuzz/fuzz_targets/$target.rs" ] || { echo "fuzz: there is no fuzz/fuzz_targets/$target.rs" >&2; exit 64; }
# libFuzzer is C++.
command -v c++ >/dev/null || { echo "fuzz: a C++ compiler is needed: apt-get install g++" >&2; exit 2; }

tools=$PWD/target/tools
if [ ! -x "$tools/bin/cargo-fuzz" ]; then
    cargo install --locked --quiet --root "$tools" cargo-fuzz
fi
# The instrumentation is an unstable flag, which any compiler takes with this set: no nightly is needed.
export RUSTC_BOOTSTRAP=1
found=$PWD/target/fuzz/corpus/$target
artifacts=$PWD/target/fuzz/artifacts/$target/
mkdir -p "$found" "$artifacts"
"$tools/bin/cargo-fuzz" run --target-dir target/fuzz "$target" "$found" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -artifact_prefix="$artifacts" -max_len=4096 -timeout=10 -print_final_stats=1
