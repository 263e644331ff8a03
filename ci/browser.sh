#!/usr/bin/env bash
# make browser: the status page in headless Chromium. That is about 100 MB, so no part of `make test`. Pictures are left in
# target/browser.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

chromium=$(command -v chromium)
mkdir -p target/browser
cd native_elixir
MIX_ENV="test" mix run ../ci/browser.exs "$chromium" "$(realpath ../target/browser)"
