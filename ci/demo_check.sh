#!/bin/bash
# The demo without a run: tests of what judges it, formatting of what runs in it, and that it builds.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

(cd demo && python3 -m unittest discover -s tests -t .)
(cd demo/elixir && mix format --check-formatted)
ci/demo.sh build
