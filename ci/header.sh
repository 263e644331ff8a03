#!/usr/bin/env bash
# Writes include/elixirscope.h from src/capi. `cargo test --test header` fails when this would change it.
set -euo pipefail
cd "$(dirname "$0")/.."
ESCOPE_HEADER="write" cargo test --quiet --locked --test header the_checked_in_header
git --no-pager diff --stat -- include/elixirscope.h
