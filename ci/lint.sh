#!/bin/bash
# Formatting and static checks of the Rust and shell parts. Elixir's and Python's belong to their own scripts.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    echo "lint: cargo fmt and cargo clippy are needed: rustup component add rustfmt clippy" >&2
    exit 2
fi
cargo fmt --all --check
cargo fmt --manifest-path fuzz/Cargo.toml --check
cargo clippy --locked --workspace --all-targets -- -D warnings
# The map of a module may point a reader of the source to its private parts.
RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --no-deps --document-private-items --lib

# loom and shuttle can only model what gets its atomics and locks from src/sync. A lint by type cannot tell a
# re-export from the original, so the names are looked for.
origin='(std|core)::sync::(atomic|Mutex|RwLock|Condvar)|portable_atomic::|parking_lot::|loom::|shuttle::'
if grep -rnE "$origin" src --include='*.rs' | grep -vE '^src/(sync\.rs|sync/|capi/)|^[^:]+:[0-9]+:\s*//'; then
    echo "lint: only src/sync names where an atomic or a lock comes from" >&2
    exit 1
fi

shellcheck .ci/run ci/*.sh demo/elixir/worker.sh
