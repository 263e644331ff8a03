#!/bin/bash
# The core's unit, property and black-box tests, and the examples in its documentation.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo test --locked
# The NIF crate builds the core without its C ABI: that must stand by itself.
cargo check --locked --no-default-features --lib

# Under panic = "abort" a panic would take the host down, so both libraries refuse to be built that way.
for package in elixirscope elixirscope_nif; do
    if output=$(cargo check --locked --quiet -p "$package" --lib --config 'profile.dev.panic="abort"' 2>&1); then
        echo "rust: $package builds under panic = \"abort\"" >&2
        exit 1
    elif ! grep -q 'unwind' <<<"$output"; then
        printf '%s\nrust: %s fails under panic = "abort" for another reason\n' "$output" "$package" >&2
        exit 1
    fi
    echo "rust: $package refuses panic = \"abort\""
done
