"""Makes target/bench/summary.json of the measured rows, shows what changed since the committed run, checks bounds.

summary.py write ROWS.jsonl   makes the summary and compares it with docs/bench/summary.json
summary.py check              fails when a row of the number table is missing; marks what is over its bound
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

MEASURED = Path("target/bench/summary.json")
COMMITTED = Path("docs/bench/summary.json")

# The number table: id -> thread or process counts.
REQUIRED = {
    "rust-breaker": (1, 2),
    "rust-bucket": (1, 2),
    "rust-key1": (1, 2),
    "rust-key100k": (1, 2),
    "rust-pool": (1, 2),
    "beam-breaker": (1, 2, 8),
    "beam-limiter": (1, 2, 8),
    "beam-pool": (1, 2, 8),
    "beam-pool-oneshot": (1, 2, 8),
    "py-breaker": (1, 2),
    "py-limiter": (1, 2),
    "py-pool": (1, 2),
    "limiter-memory": (1,),
}
# A change of a ratio by less is noise of these machines.
NOTEWORTHY = 0.15

Row = dict[str, Any]


def key(row: Row) -> tuple[str, int]:
    return row["id"], row["threads"]


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} x {models[0]}"


def write(rows_file: str) -> None:
    rows: list[Row] = [json.loads(line) for line in Path(rows_file).read_text().splitlines()]
    off = [row for row in rows if row["id"].endswith("-a/a") and not 0.9 <= row["ratio"] <= 1.1]
    otp = output("erl", "-noshell", "-eval", 'io:put_chars(erlang:system_info(otp_release)),halt().')
    summary = {
        "date": date.today().isoformat(),
        "cpu": cpu(),
        "versions": {"rustc": output("rustc", "--version"), "otp": otp, "python": platform.python_version()},
        "void": bool(off),
        "rows": rows,
    }
    MEASURED.parent.mkdir(parents=True, exist_ok=True)
    MEASURED.write_text(json.dumps(summary, indent=1) + "\n")
    for row in off:
        print(f"void: {row['peer']} came out at {row['ratio']} on {row['threads']} threads; the machine was too noisy")
    print(f"{MEASURED}: {len(rows)} rows")
    compare(rows)


def compare(rows: list[Row]) -> None:
    if not COMMITTED.exists():
        print(f"{COMMITTED} does not exist yet: nothing to compare with")
        return
    before = {key(row): row for row in json.loads(COMMITTED.read_text())["rows"]}
    for row in rows:
        old = before.pop(key(row), None)
        if old is None:
            print(f"new row: {row['id']} on {row['threads']}: {row['ratio']}")
        elif abs(row["ratio"] - old["ratio"]) > NOTEWORTHY * old["ratio"]:
            print(f"changed: {row['id']} on {row['threads']}: {old['ratio']} -> {row['ratio']}")
    for name, threads in before:
        print(f"gone: {name} on {threads}")


def check() -> None:
    if not MEASURED.exists():
        sys.exit(f"{MEASURED} does not exist: run make bench")
    summary = json.loads(MEASURED.read_text())
    rows = {key(row): row for row in summary["rows"]}
    for row in summary["rows"]:
        over = row["bound"] is not None and row["ratio"] > row["bound"]
        bound = "" if row["bound"] is None else f"  at most {row['bound']:g}"
        print(f"{row['id']:<32} {row['threads']:>2}  {row['ratio']:>7.3f}{bound}{'  MISS' if over else ''}")
    if summary["void"]:
        print("this run is void: a peer beside itself did not come out between 0.9 and 1.1")
    missing = [f"{name} on {n}" for name, counts in REQUIRED.items() for n in counts if (name, n) not in rows]
    if missing:
        sys.exit("missing rows: " + ", ".join(missing))


match sys.argv[1:]:
    case ["write", rows_file]:
        write(rows_file)
    case ["check"]:
        check()
    case _:
        sys.exit(__doc__)
