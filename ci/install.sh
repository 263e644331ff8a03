#!/usr/bin/env bash
# Builds the C library and installs it: shared and static library, header, pkg-config file.
#   PREFIX (/usr/local), LIBDIR (PREFIX/lib), INCLUDEDIR (PREFIX/include): where programs will find it;
#   DESTDIR: put in front of these for staging, in no file that is written.
# Without DESTDIR the loader's cache is renewed where it covers LIBDIR, else the way to the library is told.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=ci/install_paths.sh
. ci/install_paths.sh

if ! command -v cargo >/dev/null; then
    echo "install: cargo was not found; Rust is needed to build the library. Where it belongs to another user" >&2
    echo "than the one who may write to $prefix, let that user run: make install PREFIX=$prefix DESTDIR=/tmp/stage" >&2
    echo "and copy as the other: cp -dR /tmp/stage/. /" >&2
    exit 2
fi
cargo build --release --locked --lib --package elixirscope
target=${CARGO_TARGET_DIR:-target}/release

# The library itself says what programs will look for.
soname=$(readelf --dynamic "$target/libelixirscope.so" | sed -n 's/.*(SONAME).*\[\(.*\)\]$/\1/p')
[ "$soname" = "$abi_name" ] || { echo "SONAME is '$soname', expected '$abi_name'" >&2; exit 1; }

# What a static link needs beside the archive: that of an empty Rust library, for the crate itself adds nothing.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
: >"$scratch/empty.rs"
private=$(rustc --crate-type staticlib --print native-static-libs --out-dir "$scratch" "$scratch/empty.rs" 2>&1 |
    sed -n 's/^note: native-static-libs: //p')
[ -n "$private" ] || { echo "rustc named no native-static-libs" >&2; exit 1; }

sed -e "s|@PREFIX@|$prefix|" -e "s|@LIBDIR@|$libdir|" -e "s|@INCLUDEDIR@|$includedir|" \
    -e "s|@VERSION@|$version|" -e "s|@LIBS_PRIVATE@|$private|" elixirscope.pc.in >"$scratch/elixirscope.pc"

install -d "$destdir$libdir/pkgconfig" "$destdir$includedir"
install -m 755 "$target/libelixirscope.so" "$destdir$libdir/$real_name"
ln -sf "$real_name" "$destdir$libdir/$abi_name"
ln -sf "$abi_name" "$destdir$libdir/$link_name"
install -m 644 "$target/libelixirscope.a" "$destdir$libdir/"
install -m 644 include/elixirscope.h "$destdir$includedir/"
install -m 644 "$scratch/elixirscope.pc" "$destdir$libdir/pkgconfig/"
echo "installed elixirscope $version in $destdir$prefix"
[ -z "$destdir" ] || exit 0

PATH=$PATH:/usr/sbin:/sbin
# With -N and -X it only tells where the loader looks.
case $'\n'$(ldconfig -v -N -X 2>/dev/null || true) in
*$'\n'"$libdir:"*)
    if [ "$(id -u)" = 0 ]; then
        ldconfig
    else
        echo "programs find the library once root has run: ldconfig"
    fi
    ;;
*) echo "programs are compiled with PKG_CONFIG_PATH=$libdir/pkgconfig and run with LD_LIBRARY_PATH=$libdir" ;;
esac
