"""What a breaker says: phases, outcomes, events and its snapshot."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

from ._units import seconds


class Phase(enum.IntEnum):
    """Where a breaker stands."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2


class Cause(enum.IntEnum):
    """Why a breaker changed its phase."""

    FAILURE_THRESHOLD = 1
    OPEN_ELAPSED = 2
    PROBES_SUCCEEDED = 3
    PROBES_FAILED = 4
    PROBE_EXPIRED = 5
    RESET = 6


class Outcome(enum.IntEnum):
    """What became of a call. ``IGNORED`` says nothing about the health of what was called."""

    SUCCESS = 0
    FAILURE = 1
    IGNORED = 2


class Event(NamedTuple):
    """A change of phase.

    ``sequence`` starts at 1 and has no gaps: who hears from several threads sorts by it. ``at`` is in seconds
    of the breaker's clock.
    """

    sequence: int
    generation: int
    before: Phase
    after: Phase
    cause: Cause
    at: float

    @classmethod
    def from_native(cls, event: Any) -> Event:
        """From the library's struct, whose fields `from` and `to` would be keywords here."""
        return cls(
            sequence=event.sequence,
            generation=event.generation,
            before=Phase(getattr(event, "from")),
            after=Phase(event.to),
            cause=Cause(event.cause),
            at=seconds(event.at_ns),
        )


class BreakerSnapshot(NamedTuple):
    """A breaker at one moment, and what it has counted so far."""

    phase: Phase
    generation: int
    consecutive_failures: int
    opens: int
    live_probes: int
    retry_after: float
    admitted: int
    succeeded: int
    failed: int
    ignored: int
    rejected_open: int
    rejected_half_open: int
    stale: int
    expired: int

    @classmethod
    def from_native(cls, stats: Any) -> BreakerSnapshot:
        """From the library's struct."""
        return cls(
            phase=Phase(stats.phase),
            generation=stats.generation,
            consecutive_failures=stats.consecutive_failures,
            opens=stats.opens,
            live_probes=stats.live_probes,
            retry_after=seconds(stats.retry_after_ns),
            admitted=stats.admitted,
            succeeded=stats.succeeded,
            failed=stats.failed,
            ignored=stats.ignored,
            rejected_open=stats.rejected_open,
            rejected_half_open=stats.rejected_half_open,
            stale=stats.stale,
            expired=stats.expired,
        )
