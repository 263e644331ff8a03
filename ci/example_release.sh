#!/usr/bin/env bash
# Builds a release of examples/parse_service with the NIF inside, runs it from a directory of its own, reads its
# /metrics and /status, and stops it.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8 MIX_ENV=prod
root=$PWD

cd examples/parse_service
mix format --check-formatted
MIX_ENV="test" mix test --warnings-as-errors
rm -rf "$root/target/parse_service/release"
mix release --quiet --overwrite --path "$root/target/parse_service/release"

release=$root/target/parse_service/release
find "$release/lib" -name elixirscope_nif.so | grep -q . || { echo "no NIF in the release" >&2; exit 1; }

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cd /
# Without epmd and a node name: it is asked by HTTP and stopped by its process.
RELEASE_DISTRIBUTION=none PARSE_SERVICE_PORT=$port PARSE_SERVICE_WARM_UP=yes \
    "$release/bin/parse_service" start >"$root/target/parse_service/log" 2>&1 &
pid=$!
trap 'kill $pid 2>/dev/null || true' EXIT

fetch() {
    python3 -c 'import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())' \
        "http://127.0.0.1:$port$1"
}

# Until the service has parsed something, or has ended, or has had two minutes for it.
tries=0
until metrics=$(fetch /metrics 2>/dev/null) &&
    grep -q '^elixirscope_breaker_calls_total{breaker="parser",outcome="succeeded"} [1-9]' <<<"$metrics"; do
    tries=$((tries + 1))
    if [ $tries -gt 600 ] || ! kill -0 $pid 2>/dev/null; then
        cat "$root/target/parse_service/log" >&2
        echo "example-release: nothing was parsed" >&2
        exit 1
    fi
    sleep 0.2
done

want() {
    grep -q -- "$2" <<<"$3" || { printf 'example-release: %s holds no %s\n%s\n' "$1" "$2" "$3" >&2; exit 1; }
    echo "example-release: $1 holds $2"
}
want /metrics '^elixirscope_pool_outcomes_total{pool="parsers",outcome="granted"} [1-9]' "$metrics"
want /metrics '^elixirscope_limiter_checks_total{limiter="default",verdict="allowed"} [1-9]' "$metrics"
want /metrics '^# EOF$' "$metrics"
status=$(fetch /status)
want /status '<h3>parser</h3>' "$status"
want /status '<h3>parsers</h3>' "$status"
want /status.json '"name":"parser"' "$(fetch /status.json)"

kill -TERM $pid
wait $pid || true
if kill -0 $pid 2>/dev/null; then exit 1; fi
echo "example-release: started, answered and stopped"
