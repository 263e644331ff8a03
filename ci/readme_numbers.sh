#!/bin/bash
# ci/readme_numbers.sh --write | --check
#
# README.md's table of numbers stands between two marks and comes from docs/bench/summary.json, the committed
# run of `make bench`. --write puts it there; --check fails when the two differ.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
--write | --check) python3 benches/summary.py readme "${1#--}" ;;
*)
    echo "usage: ci/readme_numbers.sh --write|--check" >&2
    exit 64
    ;;
esac
