#!/bin/bash
# The measuring tools without a measurement: what is concluded from a run, and that the BEAM's rows compile. Those
# in Rust are linted with the workspace.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

python3 -m unittest discover -s benches/tests -t .

# Compiling a module loads its NIF.
cargo build --release --locked --quiet -p elixirscope_reference_nif
export ESCOPE_REFERENCE_NIF=$PWD/target/release/libelixirscope_reference_nif
(cd native_elixir && mix compile && mix format --check-formatted ../benches/beam/*.ex)
beams=target/bench/beam-test
mkdir -p "$beams"
elixirc --warnings-as-errors --ignore-module-conflict -o "$beams" \
    -pa native_elixir/_build/dev/lib/elixir_scope_foundation/ebin \
    benches/beam/*.ex native_elixir/test/support/postgresql.ex
