#!/bin/bash
# ci/bench_check.sh: prints every measured row, MISS beside one over its bound; fails when a row of the number
# table is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 benches/summary.py check
