#!/usr/bin/env bash
# Replays tests/vectors/*.json by a C program that is linked to an installed copy of the library below target/.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$PWD/${CAPI_TARGET:-target/capi}
PREFIX=$target/prefix ci/install.sh >/dev/null
export PKG_CONFIG_PATH=$target/prefix/lib/pkgconfig LD_LIBRARY_PATH=$target/prefix/lib
mkdir -p "$target/bin"
"${CC:-cc}" -std=c11 -D_POSIX_C_SOURCE=200809L -O1 -Wall -Wextra -pedantic -Werror tests/c/vectors.c \
    -o "$target/bin/vectors" $(pkg-config --cflags --libs elixirscope)
"$target/bin/vectors" tests/vectors
