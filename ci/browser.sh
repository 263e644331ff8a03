#!/usr/bin/env bash
# The status page in headless Chromium. `ci/deps.sh browser` installs that, about 100 MB: so `make test` does not, and
# this says SKIP where there is none. Pictures are left in target/browser.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

if ! chromium=$(command -v chromium); then
    echo "SKIP browser: no chromium; ci/deps.sh browser installs it"
    exit
fi
mkdir -p target/browser
cd native_elixir
MIX_ENV="test" mix run ../ci/browser.exs "$chromium" "$(realpath ../target/browser)"
