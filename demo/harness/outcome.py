"""What a run amounts to: a row a language, computed from what the workers recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from harness.lock_holder import LockHolder
from harness.worker import Message, Worker

SECOND = 1_000_000_000


@dataclass(frozen=True)
class Spread:
    """Median and 99th percentile of a set of durations; None of an empty one."""

    median_ns: int | None
    p99_ns: int | None


def spread(durations: Sequence[int]) -> Spread:
    """By nearest rank: both are durations that occurred."""
    if not durations:
        return Spread(None, None)
    ordered = sorted(durations)
    return Spread(*(ordered[ceil(len(ordered) * share) - 1] for share in (0.5, 0.99)))


@dataclass(frozen=True)
class Row:
    """One language's run. Instants are CLOCK_MONOTONIC nanoseconds, None for what did not happen."""

    language: str
    stored: int
    admitted: int
    limited: int
    rejected: int
    failed: int
    lookups: int
    found: int
    opened_ns: int | None
    recovered_ns: int | None
    to_open_ns: int | None
    to_recover_ns: int | None
    checkouts: int
    created: int
    leaks: int
    guard: Spread
    pool: Spread
    inside: Spread

    @property
    def reuse(self) -> float:
        """Share of check-outs that were served by a connection made before."""
        return 1 - self.created / self.checkouts if self.checkouts else 0.0


def row(worker: Worker, lock: LockHolder) -> Row:
    """Reads a finished worker's records."""
    assert worker.final is not None
    final = worker.final
    inside = worker.inside_ns()
    opened = first(worker.transitions, "open", since=lock.locked_ns, until=lock.released_ns)
    # Only an opening that the lock caused can be recovered from, and only the breaker's own probe counts.
    recovered = opened and first(
        worker.transitions, "closed", cause="probes_succeeded", since=lock.released_ns
    )
    return Row(
        language=worker.language,
        stored=int(final["done"]),
        admitted=int(final["admitted"]),
        limited=int(final["limited"]),
        rejected=int(final["rejected"]),
        failed=int(final["failed"]),
        lookups=int(final["lookups"]),
        found=int(final["found"]),
        opened_ns=opened,
        recovered_ns=recovered,
        to_open_ns=opened - lock.locked_ns if opened and lock.locked_ns else None,
        to_recover_ns=recovered - lock.released_ns if recovered and lock.released_ns else None,
        checkouts=int(final["checkouts"]),
        created=int(final["created"]),
        # Leases that nobody returned, and connections that the pool did not close when it was closed itself.
        leaks=int(final["leased"]) + int(final["left_open"]),
        guard=spread([guard for guard, _pool in inside]),
        pool=spread([pool for _guard, pool in inside]),
        inside=spread([guard + pool for guard, pool in inside]),
    )


def first(
    transitions: Sequence[Message],
    phase: str,
    cause: str | None = None,
    since: int | None = None,
    until: int | None = None,
) -> int | None:
    """When a breaker first came to `phase` within an interval; never, if the interval has no beginning."""
    if since is None:
        return None
    for transition in sorted(transitions, key=lambda transition: int(transition["sequence"])):
        at = int(transition["at"])
        if transition["to"] == phase and cause in (None, transition["cause"]) and since <= at:
            return at if until is None or at <= until else None
    return None
