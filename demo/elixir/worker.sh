#!/bin/bash
# Runs the compiled BEAM worker: worker.sh DIRECTORY DATABASE
set -euo pipefail
directory=$(realpath "$1")
database=$(realpath "$2")
cd "$(dirname "$0")"
# One async thread, so that SQLite's statements run in the order in which they were given: see Demo.Store.
export ELIXIR_ERL_OPTIONS="+A 1"
exec mix run --no-compile --no-start -e 'Demo.Worker.main(System.argv())' -- "$directory" "$database"
