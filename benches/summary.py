"""Makes target/bench/summary.json of the measured rows, and says how they stand.

summary.py write ROWS.jsonl     makes the summary and shows what changed since docs/bench/summary.json
summary.py check                marks what is over its bound, shows what changed, fails when a row is missing
summary.py readme write|check   fills the README's table from docs/bench/summary.json, or fails if they differ

Nothing here passes or fails by a time.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

MEASURED = Path("target/bench/summary.json")
COMMITTED = Path("docs/bench/summary.json")
README = Path("README.md")
BEGIN, END = "<!-- numbers -->", "<!-- /numbers -->"

# The number table: id -> thread or process counts.
REQUIRED = {
    "rust-breaker": (1, 2),
    "rust-breaker-rate": (1, 2),
    "rust-breaker-open": (1, 2),
    "rust-bucket": (1, 2),
    "rust-key1": (1, 2),
    "rust-key100k": (1, 2),
    "rust-flood": (1, 2),
    "rust-group3": (1, 2),
    "rust-pool": (1, 2),
    "rust-pool-deadpool": (1, 2),
    "rust-pool-wait": (8,),
    "rust-pool-wait-p99": (8,),
    "rust-pool-wait-longest": (8,),
    "c-breaker": (1, 2),
    "c-limiter": (1, 2),
    "c-pool": (1, 2),
    "beam-breaker": (1, 2, 8),
    "beam-breaker-handle": (1, 2, 8),
    "beam-breaker-timeout": (1, 2, 8),
    "beam-fuse-ask": (1, 2, 8),
    "beam-limiter": (1, 2, 8),
    "beam-limiter-binary": (1, 2, 8),
    "beam-limiter-batch": (1, 2, 8),
    "beam-pool": (1, 2, 8),
    "beam-pool-oneshot": (1, 2, 8),
    "beam-pool-wait": (16,),
    "beam-pool-wait-p99": (16,),
    "beam-pool-wait-longest": (16,),
    "beam-pool-pg": (1, 2, 8),
    "beam-get-protected": (1, 2, 8),
    "beam-flag-off": (1, 2, 8),
    "beam-store-protected": (1, 2, 8),
    "beam-protected-operation": (1, 2, 8),
    "beam-execute-protected": (1, 2, 8),
    "py-breaker": (1, 2),
    "py-breaker-floor": (1, 2),
    "py-limiter": (1, 2),
    "py-limiter-floor": (1, 2),
    "py-pool": (1, 2),
    "breaker-memory": (1,),
    "limiter-memory": (1,),
    "limiter-memory-1m": (1,),
}
# A peer beside itself, measured with every language and count: outside of these the machine was too noisy.
SAME = {"rust-a/a": (1, 2), "beam-a/a": (1, 2, 8), "py-a/a": (1, 2)}
SAME_LEAST, SAME_MOST = 0.9, 1.1
# A change of a ratio by less is noise of these machines.
NOTEWORTHY = 0.15

Row = dict[str, Any]


def key(row: Row) -> tuple[str, int]:
    return row["id"], row["threads"]


def over(row: Row) -> bool:
    return row["bound"] is not None and row["ratio"] > row["bound"]


def void(rows: Sequence[Row]) -> list[str]:
    """Why the run says nothing; empty if it does."""
    ratios = {key(row): row["ratio"] for row in rows}
    reasons = []
    for name, counts in SAME.items():
        for count in counts:
            ratio = ratios.get((name, count))
            if ratio is None:
                reasons.append(f"{name} on {count} was not measured")
            elif not SAME_LEAST <= ratio <= SAME_MOST:
                reasons.append(f"{name} on {count} came out at {ratio:.2f}")
    return reasons


def missing(rows: Sequence[Row]) -> list[str]:
    """Rows of the number table that were not measured, or dropped themselves."""
    there = {key(row) for row in rows}
    return [f"{name} on {n}" for name, counts in REQUIRED.items() for n in counts if (name, n) not in there]


def changes(rows: Sequence[Row], committed: Sequence[Row]) -> Iterator[str]:
    """What differs from the committed run by more than noise."""
    before = {key(row): row for row in committed}
    for row in rows:
        old = before.pop(key(row), None)
        if old is None:
            yield f"new row: {row['id']} on {row['threads']}: {row['ratio']}"
        elif abs(row["ratio"] - old["ratio"]) > NOTEWORTHY * old["ratio"]:
            yield f"changed: {row['id']} on {row['threads']}: {old['ratio']} -> {row['ratio']}"
    for name, threads in before:
        yield f"gone: {name} on {threads}"


def show_changes(rows: Sequence[Row]) -> None:
    if not COMMITTED.exists():
        print(f"{COMMITTED} does not exist yet: nothing to compare with")
        return
    committed = json.loads(COMMITTED.read_text())
    print(f"since the committed run of {committed['date']}:")
    for change in [*changes(rows, committed["rows"])] or ["no ratio changed by more than noise"]:
        print(f"  {change}")


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(models)} x {models[0]}"


def write(rows_file: str) -> None:
    rows: list[Row] = [json.loads(line) for line in Path(rows_file).read_text().splitlines()]
    otp = output("erl", "-noshell", "-eval", "io:put_chars(erlang:system_info(otp_release)),halt().")
    summary = {
        "date": date.today().isoformat(),
        "cpu": cpu(),
        "versions": {"rustc": output("rustc", "--version"), "otp": otp, "python": platform.python_version()},
        "void": bool(void(rows)),
        "rows": rows,
    }
    MEASURED.parent.mkdir(parents=True, exist_ok=True)
    MEASURED.write_text(json.dumps(summary, indent=1) + "\n")
    print(f"{MEASURED}: {len(rows)} rows")
    show_void(rows)
    show_changes(rows)


def show_void(rows: Sequence[Row]) -> None:
    if reasons := void(rows):
        print(f"this run is void: {'; '.join(reasons)}")


def check() -> None:
    if not MEASURED.exists():
        sys.exit(f"{MEASURED} does not exist: run make bench")
    rows: list[Row] = json.loads(MEASURED.read_text())["rows"]
    for row in rows:
        bound = "" if row["bound"] is None else f"  at most {row['bound']:g}"
        print(
            f"{row['id']:<32} {row['threads']:>2}  {row['ratio']:>7.3f}{bound}{'  MISS' if over(row) else ''}"
        )
    show_void(rows)
    show_changes(rows)
    if lacking := missing(rows):
        sys.exit("missing rows: " + ", ".join(lacking))


# Threads, or processes of the BEAM, that a row is measured with.
THREADS = (1, 2, 8)


def table(summary: dict[str, Any]) -> str:
    """The committed run as the README shows it."""
    versions = summary["versions"]
    head = [
        f"Run of {summary['date']} on {summary['cpu']}: {versions['rustc'].split(' (')[0]}, "
        f"OTP {versions['otp']}, Python {versions['python']}.",
        "",
    ]
    if reasons := void(summary["rows"]):
        head += [
            f"**By its own rule this run is void:** {'; '.join(reasons)}, where 0.9 to 1.1 is asked.",
            "",
        ]
    heads = " | ".join(f"on {threads}" for threads in THREADS)
    head += [
        f"| work, ours on 1 | peer | {heads} | at most |",
        f"| --- | --- |{' ---: |' * len(THREADS)} --- |",
    ]
    shown = [row for row in summary["rows"] if not row["id"].endswith(("a/a", "-floor"))]
    works = dict.fromkeys(row["id"] for row in shown)
    return "\n".join([*head, *(line([row for row in shown if row["id"] == work]) for work in works)])


def line(rows: Sequence[Row]) -> str:
    """One piece of work, on each number of threads that it was measured with."""
    first = rows[0]
    on = {row["threads"]: row for row in rows}
    cells = [ratio(on[threads]) if threads in on else "" for threads in THREADS]
    others = [f"{ratio(on[threads])} on {threads}" for threads in on if threads not in THREADS]
    cells[-1] = ", ".join(cell for cell in (cells[-1], *others) if cell)
    return f"| {first['id']}, {ours(first)} | {peer(first)} | {' | '.join(cells)} | {bounds(rows)} |"


def ratio(row: Row) -> str:
    return f"{row['ratio']:.2f} ×{' (missed)' if over(row) else ''}"


def bounds(rows: Sequence[Row]) -> str:
    """The bound, or one for each number of threads where they differ."""
    bounds = {row["threads"]: row["bound"] for row in rows if row["bound"] is not None}
    if len(set(bounds.values())) <= 1:
        return "".join(f"{bound:g} ×" for bound in set(bounds.values()))
    return ", ".join(f"{bound:g} × on {threads}" for threads, bound in bounds.items())


def ours(row: Row) -> str:
    if "ours_bytes" in row:
        in_cell = "cell_bytes" in row
        rest = f"{row['cell_bytes']} in the cell" if in_cell else f"refused share {row['refused_share']:.2g}"
        return f"{row['ours_bytes']:,} bytes; {rest}"
    return time(row["ours_ns"])


def peer(row: Row) -> str:
    return f"{row['peer']}, {time(row['peer_ns'])}" if "peer_ns" in row else str(row["peer"])


def time(nanoseconds: float) -> str:
    return f"{nanoseconds:,.0f} ns" if nanoseconds >= 100 else f"{nanoseconds:.1f} ns"


def filled(text: str, summary: dict[str, Any]) -> str:
    """A README with the table between its marks."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{README} needs {BEGIN} and {END}, once each")
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{table(summary)}\n{END}{rest.split(END)[1]}"


def readme(write_it: bool) -> None:
    text, summary = README.read_text(), json.loads(COMMITTED.read_text())
    wanted = filled(text, summary)
    if write_it:
        README.write_text(wanted)
    elif wanted != text:
        sys.exit(f"{README} differs from {COMMITTED}; ci/readme_numbers.sh --write mends it")
    print(f"{README} holds the {len(summary['rows'])} rows of the committed run")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", rows_file]:
            write(rows_file)
        case ["check"]:
            check()
        case ["readme", ("write" | "check") as how]:
            readme(how == "write")
        case _:
            sys.exit(__doc__)
