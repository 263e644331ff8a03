#!/usr/bin/env bash
# The C library as its users get it: installs it below target/, compiles the header alone as C and C++, compares symbols
# and SONAME, then builds and runs the C tests and examples, dynamically and statically linked, under valgrind
# where it is installed; where it is not, a SKIP line says so, on which ci/test.sh decides.
#   ci/capi.sh vectors: only replays tests/vectors through the installed library.
#   ci/capi.sh pool-kill CHECK-OUTS [SEED]: only kills threads and connections of a pool, so many times.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$PWD/target/capi
prefix=$target/prefix
bin=$target/bin
examples=$target/examples
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig LD_LIBRARY_PATH=$prefix/lib
CC=${CC:-cc} CXX=${CXX:-c++}
strict=(-Wall -Wextra -pedantic -Werror)
c11=(-std=c11 -D_POSIX_C_SOURCE=200809L -g -O1 -pthread "${strict[@]}")

step() { printf '== %s\n' "$*"; }
die() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

# compile SOURCE PROGRAM [FLAG...]
compile() {
    local source=$1 program=$2 flags
    shift 2
    read -ra flags < <(pkg-config --cflags --libs elixirscope)
    "$CC" "${c11[@]}" "$@" "$source" -o "$program" "${flags[@]}"
}

rm -rf "$target"
mkdir -p "$bin" "$examples"

case ${1:-} in
"") ;;
vectors)
    PREFIX=$prefix ci/install.sh
    compile tests/c/vectors.c "$bin/vectors"
    "$bin/vectors" tests/vectors
    exit
    ;;
pool-kill)
    PREFIX=$prefix ci/install.sh
    compile tests/c/pool_kill.c "$bin/pool_kill"
    "$bin/pool_kill" "${@:2}"
    exit
    ;;
*) echo "usage: ci/capi.sh [vectors | pool-kill CHECK-OUTS [SEED]]" >&2; exit 2 ;;
esac

step "install and uninstall"
PREFIX=$prefix ci/install.sh
PREFIX=/usr/nowhere DESTDIR=$target/stage ci/install.sh
grep -q '^prefix=/usr/nowhere$' "$target/stage/usr/nowhere/lib/pkgconfig/elixirscope.pc" || die "DESTDIR leaked into the .pc"
PREFIX=/usr/nowhere DESTDIR=$target/stage ci/uninstall.sh
[ -z "$(find "$target/stage" ! -type d)" ] || die "uninstall left files"

step "the header alone, as C11 and C++17"
echo '#include <elixirscope.h>' >"$target/header.c"
cp "$target/header.c" "$target/header.cpp"
"$CC" -std=c11 "${strict[@]}" -I"$prefix/include" -fsyntax-only "$target/header.c"
"$CXX" -std=c++17 "${strict[@]}" -I"$prefix/include" -fsyntax-only "$target/header.cpp"

step "exported symbols are the header's functions"
"$CC" -std=c11 -E -I"$prefix/include" "$target/header.c" | tr -d '\n' |
    grep -oE '\bescope_[a-z_]+\(' | tr -d '(' | sort -u >"$target/declared"
nm -D --defined-only "$prefix/lib/libelixirscope.so" | awk '{print $3}' | sort -u >"$target/exported"
diff "$target/declared" "$target/exported" || die "header (<) and library (>) differ"
! grep -v '^escope_' "$target/exported" || die "a symbol without the prefix"
echo "$(wc -l <"$target/exported") functions"

step "SONAME and versions"
PREFIX=$prefix
# shellcheck source=ci/install_paths.sh
. ci/install_paths.sh
readelf --dynamic "$prefix/lib/$link_name" | grep -qF "soname: [$abi_name]" || die "the SONAME is not $abi_name"
[ "$(pkg-config --modversion elixirscope)" = "$version" ] || die "the .pc has another version"
[ "$(readlink "$prefix/lib/$abi_name")" = "$real_name" ] || die "$abi_name does not lead to $real_name"

step "Libs.private is what the linker needs"
sorted() { tr ' ' '\n' | sort -u; }
wanted=$(cargo rustc --release --locked --lib --package elixirscope --crate-type staticlib -- \
    --print native-static-libs 2>&1 | sed -n 's/^note: native-static-libs: //p' | sorted)
[ -n "$wanted" ] || die "rustc named no libraries"
[ "$(sed -n 's/^Libs.private: //p' "$prefix/lib/pkgconfig/elixirscope.pc" | sorted)" = "$wanted" ] ||
    die "rustc wants $wanted"

checker=()
if command -v valgrind >/dev/null; then
    checker=(valgrind --quiet --leak-check=full "--errors-for-leak-kinds=definite,possible" --error-exitcode=9)
else
    echo "SKIP valgrind is not installed: the programs run without it"
fi

# What is an ordinary test: neither the replay, nor what wants a library of its own, nor what is killed.
ordinary() {
    local test
    for test in tests/c/*.c; do
        case $test in
        */vectors.c | */faults.c | */pool_kill.c) ;;
        *) echo "$test" ;;
        esac
    done
}

for test in $(ordinary); do
    name=$(basename "$test" .c)
    step "test $name"
    compile "$test" "$bin/$name"
    "${checker[@]}" "$bin/$name"
done

step "the tests again, under the address and undefined behaviour sanitizers"
for test in $(ordinary); do
    name=$(basename "$test" .c)
    compile "$test" "$bin/$name.san" -fsanitize=address,undefined -fno-sanitize-recover=all
    "$bin/$name.san"
done

step "threads and connections of a pool, killed"
compile tests/c/pool_kill.c "$bin/pool_kill"
"$bin/pool_kill" 3000
# Its processes end with what they were forked with, which valgrind would call leaks; the sanitizer looks for those.
[ ${#checker[@]} = 0 ] || valgrind --quiet --error-exitcode=9 "$bin/pool_kill" 300
compile tests/c/pool_kill.c "$bin/pool_kill.san" -fsanitize=address,undefined -fno-sanitize-recover=all
"$bin/pool_kill.san" 1000

step "no fault injection in what is installed, all of it in a library that has it"
# faulty LIBRARY: whether its symbols, their debug information or its texts tell of it.
faulty() {
    { nm "$1" && strings -a "$1"; } 2>/dev/null >"$target/words"
    grep -qE 'inject_faults|Injector|delay_bp' "$target/words"
}
for library in libelixirscope.so libelixirscope.a; do
    ! faulty "$prefix/lib/$library" || die "$library can inject faults"
done
cargo build --locked --lib --package elixirscope --features fault-injection --target-dir target/faults
cp target/faults/debug/libelixirscope.so "$target/$abi_name"
faulty "$target/$abi_name" || die "the check for fault injection does not see it where it is"
"$CC" "${c11[@]}" -I"$prefix/include" tests/c/faults.c -o "$bin/faults" "$target/$abi_name"
LD_LIBRARY_PATH=$target "${checker[@]}" "$bin/faults"

step "vectors"
compile tests/c/vectors.c "$bin/vectors"
"${checker[@]}" "$bin/vectors" tests/vectors

step "the README's program and an example, built as the README says"
ci/snippet.sh c README.md >"$target/readme.c"
# shellcheck disable=SC2046
"$CC" "$target/readme.c" $(pkg-config --cflags --libs elixirscope) -o "$examples/readme"
"${checker[@]}" "$examples/readme"
# shellcheck disable=SC2046
"$CC" c_examples/breaker.c $(pkg-config --cflags --libs elixirscope) -o "$examples/breaker_plain"

step "examples"
make -s -B -C c_examples BIN="$examples" CFLAGS="${c11[*]}" CC="$CC"
"${checker[@]}" "$examples/breaker" >"$target/breaker.out"
grep -q 'closed -> open' "$target/breaker.out" || die "the breaker example does not open"
grep -q 'half-open -> closed' "$target/breaker.out" || die "the breaker example does not recover"
python3 tests/c/http_example.py "${checker[@]}" "$examples/breaker_http"
python3 tests/c/limiter_example.py "${checker[@]}" "$examples/limiter"
"${checker[@]}" "$examples/pool"
# 1 is the program's own failure; the checker's would be another.
status=0
"${checker[@]}" "$examples/pool" /nowhere/at/all 2>"$target/pool.err" || status=$?
[ $status = 1 ] || die "a database that cannot be opened ended with exit code $status"
# The text is the library's: SQLITE_CANTOPEN came through.
# shellcheck disable=SC2016
grep -q '`create` returned 14' "$target/pool.err" || die "the pool example does not say why"
if pkg-config --exists libpq; then
    python3 tests/c/pool_example.py "$examples/pool"
else
    echo "SKIP libpq-dev is not installed: the pool example has SQLite only"
fi
# One loop, no connection above the three, and every job was answered.
"${checker[@]}" "$examples/pool_loop" 60 | tee "$target/pool_loop.out"
grep -qE '^60 jobs in [0-9]+ turns: [4-6][0-9] served, [0-9]+ too late, at most 3 at a time; 3 connections$' \
    "$target/pool_loop.out" || die "the event loop's jobs were not served as they should"

step "static link"
# -l:FILE takes the archive although the shared library lies beside it; the rest is what pkg-config says.
read -ra static < <(pkg-config --static --cflags --libs elixirscope | sed 's/-lelixirscope/-l:libelixirscope.a/')
"$CC" "${c11[@]}" c_examples/limiter.c -o "$examples/limiter_static" "${static[@]}"
! readelf --dynamic "$examples/limiter_static" | grep -q libelixirscope || die "the static program wants the shared library"
python3 tests/c/limiter_example.py "$examples/limiter_static"
# Wholly static, as the examples' page has it. The linker warns of glibc's resolver, which nothing here calls.
read -ra static < <(pkg-config --static --cflags --libs elixirscope | sed 's/-lgcc_s//')
"$CC" "${c11[@]}" -static c_examples/limiter.c -o "$examples/limiter_static" "${static[@]}" 2>"$target/static.err" ||
    die "$(cat "$target/static.err")"
python3 tests/c/limiter_example.py "$examples/limiter_static"

echo "C library: all checks passed"
