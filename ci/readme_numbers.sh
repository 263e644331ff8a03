#!/bin/bash
# ci/readme_numbers.sh --write | --check
#
# README.md's table of numbers stands between two marks and comes from docs/bench/summary.json, the committed
# run of `make bench`. --write puts it there; --check fails when the two differ.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
--write | --check) ;;
*)
    echo "usage: ci/readme_numbers.sh --write|--check" >&2
    exit 64
    ;;
esac

python3 - "$1" <<'PYTHON'
import json
import pathlib
import sys

BEGIN, END = "<!-- numbers -->", "<!-- /numbers -->"
readme = pathlib.Path("README.md")
summary = json.loads(pathlib.Path("docs/bench/summary.json").read_text())


def time(nanoseconds):
    if nanoseconds is None:
        return ""
    return f"{nanoseconds:,.0f} ns" if nanoseconds >= 100 else f"{nanoseconds:.1f} ns"


def line(row):
    peer = f"{row['peer']}, {time(row['peer_ns'])}" if row.get("peer_ns") is not None else row.get("peer") or ""
    ratio = "" if row.get("ratio") is None else f"{row['ratio']:.2f} ×"
    bound = "" if row.get("bound") is None else f"{row['bound']:g} ×"
    missed = row.get("ratio") is not None and row.get("bound") is not None and row["ratio"] > row["bound"]
    return f"| {row['id']} | {row['threads']} | {time(row.get('ours_ns'))} | {peer} | {ratio} | {bound}{' (missed)' * missed} |"


table = ["| work | threads | ours | peer | ratio | bound |", "| --- | ---: | ---: | --- | ---: | ---: |"]
table += [line(row) for row in summary["rows"]]
text = readme.read_text()
if text.count(BEGIN) != 1 or text.count(END) != 1:
    sys.exit(f"readme_numbers: README.md needs {BEGIN} and {END}, once each")
head, rest = text.split(BEGIN)
tail = rest.split(END)[1]
filled = f"{head}{BEGIN}\n" + "\n".join(table) + f"\n{END}{tail}"

if sys.argv[1] == "--write":
    readme.write_text(filled)
    print(f"readme_numbers: {len(summary['rows'])} rows written")
elif filled != text:
    sys.exit("readme_numbers: README.md differs from docs/bench/summary.json; ci/readme_numbers.sh --write mends it")
else:
    print(f"readme_numbers: README.md holds the {len(summary['rows'])} rows of the committed run")
PYTHON
