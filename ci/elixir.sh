#!/usr/bin/env bash
# The BEAM side: formatting, warnings, a second compile that does nothing, the NIF's exports, tests.
#
#   ci/elixir.sh           all of it
#   ci/elixir.sh vectors   only the replay of tests/vectors/*.json
set -euo pipefail
cd "$(dirname "$0")/../native_elixir"
export LC_ALL=C.UTF-8

if [ "${1:-}" = vectors ]; then
    mix test test/foundation/infrastructure/*_vectors_test.exs
    exit
fi

echo "elixir: format"
mix format --check-formatted

echo "elixir: compile without warnings"
mix compile --force --warnings-as-errors

echo "elixir: a second compile has nothing to do"
library=priv/native/elixirscope_nif.so
before=$(stat -c '%i %Y' "$library")
output=$(mix compile)
after=$(stat -c '%i %Y' "$library")
if [[ -n "$output" || "$before" != "$after" ]]; then
    echo "the second compile did something: $output ($before, then $after)" >&2
    exit 1
fi

echo "elixir: the NIF exports its entry only"
exports=$(nm -D --defined-only "$library" | awk '{ print $3 }' | LC_ALL=C sort)
if [[ "$exports" != $'elixirscope_nif_nif_init\nnif_init' ]]; then
    printf 'unexpected exports:\n%s\n' "$exports" >&2
    exit 1
fi

echo "elixir: the lines of both READMEs"
mkdir -p ../target
for page in ../README.md README.md; do
    ../ci/snippet.sh elixir "$page" >../target/readme.exs
    mix run ../target/readme.exs
done

echo "elixir: tests"
mix test --warnings-as-errors
