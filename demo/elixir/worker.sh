#!/bin/bash
# Runs the compiled BEAM worker: worker.sh DIRECTORY DATABASE
set -euo pipefail
directory=$(realpath "$1")
database=$(realpath "$2")
cd "$(dirname "$0")"
exec mix run --no-compile --no-start -e 'Demo.Worker.main(System.argv())' -- "$directory" "$database"
