"""What a breaker says: phases, modes, levels, outcomes, events and its snapshot."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final

from ._units import BP, seconds


class Phase(enum.IntEnum):
    """Where a breaker stands."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2


class Mode(enum.IntEnum):
    """Who decides: the results, or somebody in charge."""

    AUTO = 0
    FORCED_OPEN = 1
    FORCED_CLOSED = 2
    METRICS_ONLY = 3


class Level(enum.IntEnum):
    """How much of what its policy tolerates a closed breaker has used.

    ``EXCEEDED`` is all of it: the breaker would be open, did its mode not forbid that.
    """

    NONE = 0
    LIGHT = 1
    MEDIUM = 2
    HEAVY = 3
    EXCEEDED = 4


class Cause(enum.IntEnum):
    """Why a breaker changed."""

    FAILURE_THRESHOLD = 1
    OPEN_ELAPSED = 2
    PROBES_SUCCEEDED = 3
    PROBES_FAILED = 4
    PROBE_EXPIRED = 5
    RESET = 6
    FAILURE_RATE = 7
    SLOW_CALL_RATE = 8
    HALF_OPEN_LIMIT = 9
    PROBES_IGNORED = 10
    MODE_CHANGED = 11
    RECONFIGURED = 12
    REINSTALLED = 13
    LEVEL_CHANGED = 14
    WOULD_OPEN = 15


class Outcome(enum.IntEnum):
    """What became of a call.

    ``IGNORED`` says nothing about the health of what was called; ``CANCELLED`` is a call that was given up
    before it could tell. ``SLOW`` is a success that took too long; with ``slow_call`` the breaker finds that
    out by itself.
    """

    SUCCESS = 0
    FAILURE = 1
    IGNORED = 2
    SLOW = 3
    CANCELLED = 4


_OF_LEVELS: Final = {Cause.LEVEL_CHANGED, Cause.WOULD_OPEN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A change of a breaker.

    There are two kinds, each with a ``sequence`` of its own that starts at 1 and has no gaps: those of levels
    change nothing but the level, each of the others begins a ``generation``. Who hears from several threads
    sorts each kind by its sequence. ``mode`` is the one after the change, ``at`` in seconds of the breaker's
    clock.
    """

    sequence: int
    generation: int
    before: Phase
    after: Phase
    level_before: Level
    level_after: Level
    mode: Mode
    cause: Cause
    at: float

    @property
    def is_of_level(self) -> bool:
        """Whether nothing but the level changed."""
        return self.cause in _OF_LEVELS

    @classmethod
    def from_native(cls, event: Any) -> Event:
        """From the library's struct, whose fields `from` and `to` would be keywords here."""
        return cls(
            sequence=event.sequence,
            generation=event.generation,
            before=Phase(getattr(event, "from")),
            after=Phase(event.to),
            level_before=Level(event.from_level),
            level_after=Level(event.to_level),
            mode=Mode(event.mode),
            cause=Cause(event.cause),
            at=seconds(event.at_ns),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSnapshot:
    """A breaker at one moment, and what it has counted so far.

    ``last_cause`` and ``last_change`` tell of the generation that is under way, None and 0 for the first.
    ``failures`` are those that count toward opening, by their weights: in a row, within the period, or of the
    ``window_calls`` in the window. ``retry_after`` is 0 when a call may pass now, and infinite when only
    another mode lets one pass. The rates are shares of the window.

    While no call is under way, ``admitted`` minus ``succeeded``, ``failed``, ``ignored``, ``cancelled``,
    ``stale`` and ``expired`` is the number of permits that were not recorded.
    """

    phase: Phase
    mode: Mode
    level: Level
    generation: int
    last_cause: Cause | None
    last_change: float
    retry_after: float
    opens: int
    live_probes: int
    failures: int
    window_calls: int
    slow_calls: int
    failure_rate: float
    slow_call_rate: float
    admitted: int
    succeeded: int
    failed: int
    ignored: int
    cancelled: int
    stale: int
    expired: int
    reported: int
    rejected_open: int
    rejected_half_open: int
    rejected_forced_open: int
    rejected_degraded: int
    injected: int

    @classmethod
    def from_native(cls, stats: Any) -> BreakerSnapshot:
        """From the library's struct."""
        as_they_are = {
            name: getattr(stats, name) for name in cls.__dataclass_fields__ if name not in _TRANSLATED
        }
        return cls(
            phase=Phase(stats.phase),
            mode=Mode(stats.mode),
            level=Level(stats.level),
            last_cause=Cause(stats.last_cause) if stats.last_cause else None,
            last_change=seconds(stats.last_change_ns),
            retry_after=seconds(stats.retry_after_ns),
            failure_rate=stats.failure_rate_bp / BP,
            slow_call_rate=stats.slow_call_rate_bp / BP,
            **as_they_are,
        )


_TRANSLATED: Final = {
    "phase",
    "mode",
    "level",
    "last_cause",
    "last_change",
    "retry_after",
    "failure_rate",
    "slow_call_rate",
}
