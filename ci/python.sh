#!/bin/bash
# The Python package: builds the wheel, installs it into target/venv and checks what was installed.
#
#   ci/python.sh           tests, documentation examples, vectors, types, style, and the wheel on its own
#   ci/python.sh install   only target/venv with the wheel in it
#   ci/python.sh vectors   only the replay of tests/vectors/*.json
#
# The tests run from a directory outside the package's sources, so that they import the installed wheel.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
export LC_ALL=C.UTF-8 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1

step() { printf '\n-- %s\n' "$*"; }

venv=$root/target/venv
wheels=$root/target/wheels
python=$venv/bin/python
mkdir -p target

step "tools in target/venv"
[ -x "$python" ] || python3 -m venv "$venv"
if ! cmp -s python/requirements-dev.txt "$venv/requirements-dev.txt"; then
    "$python" -m pip install --quiet --requirement python/requirements-dev.txt
    cp python/requirements-dev.txt "$venv/requirements-dev.txt"
fi

step "wheel"
rm -rf "$wheels" python/build python/elixirscope.egg-info
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$wheels" ./python
rm -rf python/build python/elixirscope.egg-info
wheel=$(echo "$wheels"/elixirscope-*-py3-none-linux_x86_64.whl)
[ -f "$wheel" ] || { echo "no wheel with the tag py3-none-linux_x86_64 in $wheels" >&2; exit 1; }
echo "$(basename "$wheel"): $(stat -c %s "$wheel") bytes"
"$python" -m pip install --quiet --no-deps --force-reinstall "$wheel"
package=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/elixirscope
[ "${1:-}" = install ] && exit 0

outside=$(mktemp -d)
trap 'rm -rf "$outside"' EXIT
cd "$outside"
pytest() { "$python" -m pytest -p no:cacheprovider -c "$root/python/pyproject.toml" --rootdir "$root/python" "$@"; }

if [ "${1:-}" = vectors ]; then
    pytest -q -s "$root/python/tests/test_vectors.py"
    exit
fi

step "tests"
pytest -q "$root/python/tests"

step "fault injection, with a library that has it"
(cd "$root" && cargo build --locked --quiet --lib --package elixirscope --features fault-injection \
    --target-dir target/faults)
mkdir faulty
cp -r "$package" faulty/
cp "$root/target/faults/debug/libelixirscope.so" faulty/elixirscope/
PYTHONPATH=$outside/faulty pytest -q "$root/python/tests/faults.py"

step "examples in the documentation"
pytest -q --doctest-modules "$package"
for page in README.md python/README.md; do
    "$root/ci/snippet.sh" python "$root/$page" >readme.py
    "$python" readme.py
    echo "$page: ran"
done

step "types and style"
# By paths from the sources: an installed package would be followed, not checked.
(cd "$root/python" && "$python" -m mypy --cache-dir "$root/target/mypy" elixirscope examples tests setup.py)
(cd "$root/demo" && "$python" -m mypy --config-file pyproject.toml --cache-dir "$root/target/mypy" \
    harness tests python/worker.py)
for scripts in python demo benches tests/c; do
    "$python" -m ruff check --no-cache "$root/$scripts"
    "$python" -m ruff format --no-cache --check "$root/$scripts"
done

step "the wheel in an empty venv, far from the checkout"
python3 -m venv --without-pip "$outside/empty"
"$python" -m pip --python "$outside/empty/bin/python" install --quiet --no-deps --no-index "$wheel"
env -i PATH=/usr/bin:/bin "$outside/empty/bin/python" -I - "$root" <<'PYTHON'
import sys

import elixirscope

checkout = sys.argv[1]
assert elixirscope.__file__.startswith(sys.prefix), elixirscope.__file__
with open("/proc/self/maps") as maps:
    mapped = {line.split()[-1] for line in maps if "libelixirscope" in line}
assert mapped, "the native library is not mapped"
assert all(path.startswith(sys.prefix) for path in mapped), mapped

breaker, limiter = elixirscope.Breaker(failure_threshold=1), elixirscope.RateLimiter()
pool = elixirscope.Pool(list)
with breaker, pool.checkout() as connection:
    connection.append(limiter.require("key", 1, 60.0).remaining)
    assert connection == [0]
print(f"elixirscope {elixirscope.__version__} works from {sys.prefix}")
PYTHON

step "without cargo the build says what is missing"
mkdir "$outside/none"
if PATH=$outside/none CARGO='' "$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$outside/none" \
    "$root/python" >"$outside/log" 2>&1; then
    echo "the build succeeded without cargo on the path" >&2
    exit 1
fi
rm -rf "$root/python/build" "$root/python/elixirscope.egg-info"
grep -m 1 'cargo was not found' "$outside/log"
