#!/bin/bash
# The core's unit, property and black-box tests, and the examples in its documentation.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo test --locked
# The NIF crate builds the core without its C ABI: that must stand by itself.
cargo check --locked --no-default-features --lib
