"""The run as a table for people and as `report.json` for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.checks import Check, Evidence
from harness.outcome import SECOND, Row, Spread


@dataclass(frozen=True)
class Run:
    """What was run, beside what came of it."""

    source: Path
    paragraphs: int
    events: int
    began_ns: int
    ended_ns: int
    faults: str


def table(rows: Sequence[Row]) -> str:
    """What each language's calls came to, one line a language."""
    heading = (
        "language  stored  admitted  limited  rejected  failed  time to open  time to recover  reuse  leaks"
    )
    lines = [
        f"{row.language:<8}{row.stored:>8}{row.admitted:>10}{row.limited:>9}{row.rejected:>10}{row.failed:>8}"
        f"{seconds(row.to_open_ns):>14}{seconds(row.to_recover_ns):>17}{row.reuse:>7.1%}{row.leaks:>7}"
        for row in rows
    ]
    return "\n".join([heading, *lines])


def inside_table(rows: Sequence[Row]) -> str:
    """Time an event's last attempt spent inside the library; the pool's with the wait for a connection."""
    heading = "time inside, median / p99 us  limiter and breaker      pool, with waits           together"
    lines = [
        f"{row.language:<28}{micros(row.guard):>21}{micros(row.pool):>22}{micros(row.inside):>19}"
        for row in rows
    ]
    return "\n".join([heading, *lines])


def seconds(duration_ns: int | None) -> str:
    return "never" if duration_ns is None else f"{duration_ns / SECOND:.2f} s"


def micros(of: Spread) -> str:
    if of.median_ns is None or of.p99_ns is None:
        return "none"
    return f"{of.median_ns / 1000:.1f} / {of.p99_ns / 1000:.1f}"


def check_lines(checks: Sequence[Check]) -> str:
    return "\n".join(
        f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.detail}" for check in checks
    )


def write(path: Path, run: Run, seen: Evidence, checks: Sequence[Check]) -> None:
    """Writes `report.json`. Instants are seconds since the start of the run."""

    def since(instant_ns: int | None) -> float | None:
        return None if instant_ns is None else round((instant_ns - run.began_ns) / SECOND, 6)

    def language(row: Row) -> dict[str, Any]:
        return {
            "language": row.language,
            "stored": row.stored,
            "admitted": row.admitted,
            "limited": row.limited,
            "rejected": row.rejected,
            "failed": row.failed,
            "lookups": row.lookups,
            "found_by_lookup": row.found,
            "opened_at_s": since(row.opened_ns),
            "recovered_at_s": since(row.recovered_ns),
            "time_to_open_s": span(row.to_open_ns),
            "time_to_recover_s": span(row.to_recover_ns),
            "checkouts": row.checkouts,
            "connections_created": row.created,
            "reuse": round(row.reuse, 6),
            "leaks": row.leaks,
            "inside_ns": {
                "all": asdict(row.inside),
                "limiter_and_breaker": asdict(row.guard),
                "pool": asdict(row.pool),
            },
        }

    document = {
        "input": str(run.source),
        "paragraphs": run.paragraphs,
        "events": run.events,
        "faults": run.faults,
        "seconds": span(run.ended_ns - run.began_ns),
        "lock_holder": {
            "pid": seen.lock.pid,
            "locked_at_s": since(seen.lock.locked_ns),
            "released_at_s": since(seen.lock.released_ns),
        },
        "languages": [language(row) for row in seen.rows],
        "faults_seen": [
            {**{k: v for k, v in fault.items() if k not in ("type", "at")}, "at_s": since(fault["at"])}
            for fault in seen.faults
        ],
        "limiter": asdict(seen.limiter),
        "services": {
            name: seen.services[name] for name in ("reads", "answered", "lookups", "found", "versions")
        },
        "checks": [asdict(check) for check in checks],
        "passed": all(check.passed for check in checks),
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def span(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else round(duration_ns / SECOND, 6)
