#!/bin/bash
# ci/demo.sh: builds the library and the three workers, then runs the demo on real input with real faults.
# ci/demo.sh build: only builds.
#
# INPUT=file: whose paragraphs are stored (/var/lib/dpkg/status). DEMO_FAULTS=none: the same without faults,
# which must fail. Results: target/demo/{report.json,events.db,timeline.svg}.
set -euo pipefail
case ${1:-} in
"" | build) ;;
*)
    echo "usage: ci/demo.sh [build] (got \"$1\")" >&2
    exit 64
    ;;
esac
# A relative path is the caller's.
[ -z "${INPUT:-}" ] || INPUT=$(realpath -m -- "$INPUT") && export INPUT
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8
out=$PWD/target/demo
prefix=$out/prefix
mkdir -p "$out"

# Runs a step whose output matters only if it fails.
step() {
    local what=$1 log=$out/build.log
    shift
    echo "demo: $what"
    "$@" >"$log" 2>&1 </dev/null || {
        cat "$log" >&2
        exit 1
    }
}

c_worker() {
    local flags
    read -ra flags <<<"$(PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config --cflags --libs elixirscope sqlite3)"
    cc -std=c11 -D_GNU_SOURCE -Wall -Wextra -pedantic -Werror -O2 -o "$out/worker" demo/c/*.c \
        "${flags[@]}" -pthread -Wl,-rpath,"$prefix/lib"
}

# pip builds a local package anew each time and asks its index for the build tools; nothing changed, nothing to do.
python_package() {
    local stamp=target/venv/elixirscope.stamp
    if [ -e "$stamp" ] && [ -z "$(find build.rs Cargo.toml Cargo.lock src python -newer "$stamp" \
        \( -name '*.rs' -o -name '*.py' -o -name '*.toml' -o -name '*.lock' \) -print -quit)" ]; then
        return
    fi
    [ -x target/venv/bin/python ] || python3 -m venv target/venv || return
    target/venv/bin/python -m pip install --disable-pip-version-check ./python || return
    touch "$stamp"
}

beam_worker() {
    (cd demo/elixir && mix compile --warnings-as-errors)
}

ci/deps.sh demo
step "installing the C library under target/demo/prefix" env PREFIX="$prefix" DESTDIR= ci/install.sh
step "compiling the C worker" c_worker
step "installing the Python package into target/venv" python_package
step "compiling the BEAM worker" beam_worker
[ "${1:-}" != build ] || exit 0
PYTHONPATH=demo exec target/venv/bin/python -m harness "$out"
