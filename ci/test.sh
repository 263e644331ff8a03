#!/bin/bash
# make test: every check of the repository, one after the other, each a script that also runs alone.
#
# A check that cannot run on a machine says so in a line that starts with SKIP. Under CI=true a skipped test,
# of whichever runner, is a failure; ESCOPE_ALLOW_SKIP=1 turns it into a visible count.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

logs=target/test
mkdir -p "$logs"
rm -f "$logs"/*.log

ci/deps.sh test

# Tests that a runner's log reports as skipped or left out: our own lines, and the summaries of cargo, ExUnit, pytest
# and unittest.
skipped_in() {
    awk '
        /^SKIP/ { n++ }
        /^test result:/ { for (i = 2; i <= NF; i++) if ($i ~ /^ignored/) n += $(i - 1) }
        /^[0-9]+ (doctest|test|propert)/ || /^(=+ )?[0-9]+ (passed|skipped).* in [0-9.]+s/ {
            for (i = 2; i <= NF; i++) if ($i ~ /^(skipped|excluded|deselected)/) n += $(i - 1)
        }
        /^(OK|FAILED) \(.*skipped=/ { sub(/.*skipped=/, ""); n += $0 }
        END { print n + 0 }' <(sed 's/\x1b\[[0-9;]*m//g' "$1")
}

passed=0 failed=0 skipped=0 failures=""
step() {
    local name=$1 start=$SECONDS status=ok skips
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" </dev/null 2>&1 | tee "$logs/$name.log" || status=failed
    skips=$(skipped_in "$logs/$name.log")
    skipped=$((skipped + skips))
    if [ "$skips" -gt 0 ] && [ "${CI:-}" = true ] && [ "${ESCOPE_ALLOW_SKIP:-}" != 1 ]; then
        echo "$name: $skips skipped, and under CI=true a skipped test is a failure"
        status=failed
    fi
    if [ $status = ok ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1)) failures+=" $name"
    fi
    printf '== %s: %s (%d s)\n' "$name" "$status" $((SECONDS - start))
}

step versions ci/versions.sh
step lint ci/lint.sh
step rust ci/rust.sh
step capi ci/capi.sh
step elixir ci/elixir.sh
step example ci/example_release.sh
step readme-elixir ci/readme_elixir.sh
step dialyzer ci/dialyzer.sh
step python ci/python.sh
step demo ci/demo_check.sh
step bench ci/bench_test.sh
step vectors ci/vectors.sh
step loom ci/loom.sh
step shuttle ci/shuttle.sh
step readme ci/readme_numbers.sh --check

printf '\n'
[ -z "$failures" ] || echo "failed:$failures"
echo "make test took $((SECONDS / 60)) min $((SECONDS % 60)) s"
echo "checks: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
