#!/usr/bin/env bash
# What the README tells a newcomer who uses Elixir, from `mix new` on: the dependency line that it gives goes into a new
# project, and its Elixir lines, those of the guide too, become a protected service there and run.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8
root=$PWD

dependency=$(grep -o '{:elixir_scope_foundation, path: "[^"]*"}' README.md | head -1)
[ -n "$dependency" ] || { echo "README.md gives no dependency line" >&2; exit 1; }
dependency=${dependency/\"*native_elixir\"/\"$root/native_elixir\"}

rm -rf target/readme_elixir
mkdir -p target/readme_elixir
cd target/readme_elixir
mix new shop >/dev/null
cd shop
grep -q '^      # {:dep_from_hexpm' mix.exs || { echo "mix new makes another mix.exs now" >&2; exit 1; }
sed -i "s|^      # {:dep_from_hexpm.*|      $dependency|; /^      # {:dep_from_git/d" mix.exs

"$root/ci/snippet.sh" elixir "$root/README.md" >readme.exs
"$root/ci/snippet.sh" elixir "$root/docs/protect.md" >guide.exs
mix run readme.exs
mix run guide.exs
echo "readme-elixir: from mix new to a protected service"
