#!/usr/bin/env bash
# The C library as its users get it: installs it below target/, compiles the header alone as C and C++, compares symbols
# and SONAME, then builds and runs the C tests and examples, dynamically and statically linked, under valgrind
# where it is installed. Under CI=true valgrind must be there.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$PWD/${CAPI_TARGET:-target/capi}
prefix=$target/prefix
bin=$target/bin
rm -rf "$target"
mkdir -p "$bin"
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib
CC=${CC:-cc} CXX=${CXX:-c++}
strict=(-Wall -Wextra -pedantic -Werror)
c11=(-std=c11 -D_POSIX_C_SOURCE=200809L -g -O1 -pthread "${strict[@]}")

step() { printf '== %s\n' "$*"; }
die() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

step "install and uninstall"
PREFIX=$prefix ci/install.sh
PREFIX=/usr/nowhere DESTDIR=$target/stage ci/install.sh
grep -q '^prefix=/usr/nowhere$' "$target/stage/usr/nowhere/lib/pkgconfig/elixirscope.pc" || die "DESTDIR leaked into the .pc"
PREFIX=/usr/nowhere DESTDIR=$target/stage ci/uninstall.sh
[ -z "$(find "$target/stage" ! -type d)" ] || die "uninstall left files"

step "the header alone, as C11 and C++17"
echo '#include <elixirscope.h>' >"$target/header.c"
cp "$target/header.c" "$target/header.cpp"
"$CC" -std=c11 "${strict[@]}" $(pkg-config --cflags elixirscope) -fsyntax-only "$target/header.c"
"$CXX" -std=c++17 "${strict[@]}" $(pkg-config --cflags elixirscope) -fsyntax-only "$target/header.cpp"

step "exported symbols are the header's functions"
"$CC" -std=c11 -E $(pkg-config --cflags elixirscope) "$target/header.c" | tr -d '\n' |
    grep -o '\bescope_[a-z_]*(' | tr -d '(' | sort -u >"$target/declared"
nm -D --defined-only "$prefix/lib/libelixirscope.so" | awk '{print $3}' | sort -u >"$target/exported"
diff "$target/declared" "$target/exported" || die "header (<) and library (>) differ"
! grep -v '^escope_' "$target/exported" || die "a symbol without the prefix"
echo "$(wc -l <"$target/exported") functions"

step "SONAME and versions"
PREFIX=$prefix . ci/install_paths.sh
readelf --dynamic "$prefix/lib/$link_name" | grep -qF "soname: [$abi_name]" || die "the SONAME is not $abi_name"
[ "$(pkg-config --modversion elixirscope)" = "$version" ] || die "the .pc has another version"
[ "$(readlink "$prefix/lib/$abi_name")" = "$real_name" ] || die "$abi_name does not lead to $real_name"

step "Libs.private is what the linker needs"
wanted=$(cargo rustc --release --locked --lib --package elixirscope --crate-type staticlib -- \
    --print native-static-libs 2>&1 | sed -n 's/^note: native-static-libs: //p' | tr ' ' '\n' | sort -u)
[ -n "$wanted" ] || die "rustc named no libraries"
[ "$(sed -n 's/^Libs.private: //p' "$prefix/lib/pkgconfig/elixirscope.pc" | tr ' ' '\n' | sort -u)" = "$wanted" ] ||
    die "rustc wants $wanted"

checker=()
if command -v valgrind >/dev/null; then
    checker=(valgrind --quiet --leak-check=full --errors-for-leak-kinds=definite,possible --error-exitcode=9)
elif [ "${CI:-}" = true ]; then
    die "valgrind is not installed"
else
    echo "valgrind is not installed: the programs run without it"
fi

for test in tests/c/*.c; do
    name=$(basename "$test" .c)
    [ "$name" != vectors ] || continue
    step "test $name"
    "$CC" "${c11[@]}" "$test" -o "$bin/$name" $(pkg-config --cflags --libs elixirscope)
    "${checker[@]}" "$bin/$name"
done

step "vectors"
"$CC" "${c11[@]}" tests/c/vectors.c -o "$bin/vectors" $(pkg-config --cflags --libs elixirscope)
"${checker[@]}" "$bin/vectors" tests/vectors

step "examples"
"$CC" c_examples/breaker.c $(pkg-config --cflags --libs elixirscope) -o "$bin/example_breaker"
make -s -C c_examples BIN="$bin" CFLAGS="${c11[*]}" CC="$CC" -B
"${checker[@]}" "$bin/breaker" >"$target/breaker.out"
grep -q 'closed -> open' "$target/breaker.out" && grep -q 'half-open -> closed' "$target/breaker.out" || die "breaker example"
[ "$(yes ann | head -n 25 | "${checker[@]}" "$bin/limiter" | tail -n 1)" = "10 admitted, 15 refused" ] || die "limiter example"
"${checker[@]}" "$bin/pool"
"${checker[@]}" "$bin/pool" /nowhere/at/all 2>"$target/pool.err" && die "a database that cannot be opened went unnoticed"
grep -q '`create` returned 14' "$target/pool.err" || die "the pool example does not say why"

step "static link"
"$CC" "${c11[@]}" c_examples/limiter.c -o "$bin/limiter_static" $(pkg-config --cflags elixirscope) \
    "$prefix/lib/libelixirscope.a" $(pkg-config --static --libs-only-l elixirscope | sed 's/-lelixirscope//')
! readelf --dynamic "$bin/limiter_static" | grep -q libelixirscope || die "the static program wants the shared library"
[ "$(yes bob | head -n 11 | "$bin/limiter_static" | tail -n 1)" = "10 admitted, 1 refused" ] || die "static limiter example"

echo "C library: all checks passed"
