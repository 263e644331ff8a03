#!/bin/bash
# One version everywhere: what Cargo.toml says is compared with every other place that has to repeat it.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
differing=0

same() { # same PLACE VERSION_FOUND [VERSION_WANTED]
    local want=${3:-$version}
    if [ "$2" = "$want" ]; then
        echo "versions: $1 says $2"
    else
        echo "versions: $1 says \"$2\", Cargo.toml says $version (so wanted: \"$want\")" >&2
        differing=1
    fi
}

header() { # value of a macro, as a C program sees it
    printf '#include "include/elixirscope.h"\n%s\n' "$1" | cc -E -P -x c -I. - | tail -1
}

echo "versions: Cargo.toml says $version"
same native_elixir/mix.exs "$(sed -n 's/^ *\(@version\|version:\) "\([^"]*\)".*/\2/p' native_elixir/mix.exs)"
same python/pyproject.toml "$(sed -n '/^\[project\]/,/^\[/s/^version = "\(.*\)"/\1/p' python/pyproject.toml)"
same "include/elixirscope.h (string)" "$(header ESCOPE_VERSION_STRING | tr -d '" ')"
same "include/elixirscope.h (parts)" \
    "$(header 'ESCOPE_VERSION_MAJOR.ESCOPE_VERSION_MINOR.ESCOPE_VERSION_PATCH' | tr -d ' ')"
IFS=. read -r major minor patch <<<"$version"
same "include/elixirscope.h (number)" "$(($(header ESCOPE_VERSION_NUMBER)))" $((major * 10000 + minor * 100 + patch))
same "CHANGELOG.md (newest release)" "$(sed -n 's/^## \[\([0-9][^]]*\)\].*/\1/p' CHANGELOG.md | head -1)"

# Every crate of the workspace, and what they locked.
while read -r crate found; do
    same "Cargo.lock, $crate" "$found"
done < <(awk '/^name = "elixirscope/ { gsub(/"/, ""); name = $3; getline; gsub(/"/, ""); print name, $3 }' Cargo.lock)

exit $differing
