#!/usr/bin/env bash
# Removes what install.sh put with the same PREFIX, LIBDIR, INCLUDEDIR and DESTDIR. Directories stay.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/install_paths.sh
. ci/install_paths.sh

rm -f "$destdir$libdir/$link_name" "$destdir$libdir/$abi_name" "$destdir$libdir/$real_name" \
    "$destdir$libdir/libelixirscope.a" "$destdir$includedir/elixirscope.h" "$destdir$libdir/pkgconfig/elixirscope.pc"
echo "removed elixirscope $version from $destdir$prefix"
