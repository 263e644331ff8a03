#!/bin/bash
# ci/bench.sh [rust|beam|python ...]: measures side by side and writes target/bench/summary.json.
#
# Rows of languages that are not named are kept from the last run. It never fails by a time: ci/bench_check.sh
# compares with the bounds.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8
root=$PWD
out=$root/target/bench
mkdir -p "$out/beam"

rust() {
    # The C loop is linked to the library as its users install it.
    local flags
    PREFIX=$out/installed ci/install.sh >&2
    read -ra flags < <(PKG_CONFIG_PATH=$out/installed/lib/pkgconfig pkg-config --cflags --libs elixirscope)
    export ESCOPE_ROWS_LIBRARY=$out/librows.so
    cc -std=c11 -O2 -Wall -Wextra -Werror -shared -fPIC -Wl,-rpath,"$out/installed/lib" \
        -o "$ESCOPE_ROWS_LIBRARY" benches/c/rows.c "${flags[@]}"
    cargo build --release --locked --quiet -p elixirscope_bench
    target/release/rust_rows
}

beam() {
    cargo build --release --locked --quiet -p elixirscope_reference_nif
    (cd native_elixir && MIX_ENV=prod mix compile >&2)
    local app=$root/native_elixir/_build/prod/lib/elixir_scope_foundation/ebin
    export ESCOPE_REFERENCE_NIF=$out/libelixirscope_reference_nif
    cp target/release/libelixirscope_reference_nif.so "$ESCOPE_REFERENCE_NIF.so"
    elixirc --ignore-module-conflict -pa "$app" -o "$out/beam" \
        benches/beam/*.ex native_elixir/test/support/postgresql.ex >&2
    elixir -pa "$app" -pa "$out/beam" -e 'ElixirScopeBench.Rows.main()'
}

python() {
    local venv=$out/venv
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check \
        'pybreaker==1.4.1' 'limits==5.8.0' 'SQLAlchemy==2.1.9' >&2
    "$venv/bin/pip" install --quiet --disable-pip-version-check --force-reinstall --no-deps ./python >&2
    export ESCOPE_FLOOR_LIBRARY=$out/libfloor.so
    cc -std=c11 -O2 -Wall -Wextra -Werror -shared -fPIC -o "$ESCOPE_FLOOR_LIBRARY" benches/python/floor.c
    (cd benches/python && "$venv/bin/python" rows.py)
}

languages=("$@")
[ ${#languages[@]} -gt 0 ] || languages=(rust beam python)
for language in "${languages[@]}"; do
    case $language in
    rust | beam | python) ;;
    *)
        echo "usage: ci/bench.sh [rust|beam|python ...] (got \"$language\")" >&2
        exit 64
        ;;
    esac
    echo "bench: $language"
    "$language" >"$out/$language.jsonl.new"
    mv "$out/$language.jsonl.new" "$out/$language.jsonl"
done
: >"$out/rows.jsonl"
for language in rust beam python; do
    [ ! -e "$out/$language.jsonl" ] || cat "$out/$language.jsonl" >>"$out/rows.jsonl"
done
python3 benches/summary.py write "$out/rows.jsonl"
