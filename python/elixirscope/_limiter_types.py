"""What a limiter is told and what it says: rules, verdicts, strategies and its snapshot."""

from __future__ import annotations

import enum
from typing import NamedTuple

from ._units import nanoseconds, unsigned
from .errors import Status


class Rule(NamedTuple):
    """``limit`` tokens every ``window`` seconds, and ``burst`` at once, ``limit`` unless given."""

    limit: int
    window: float
    burst: int | None = None


class Decision(NamedTuple):
    """Verdict on one call; true when it is allowed.

    ``remaining`` tokens are left of ``limit``, and after ``reset_after`` seconds the bucket is full again. A
    refused call can pass after ``retry_after`` seconds; infinite means never, its cost is above the bucket.
    """

    allowed: bool
    status: Status
    remaining: int
    limit: int
    retry_after: float
    reset_after: float

    def __bool__(self) -> bool:
        return self.allowed


class LimiterSnapshot(NamedTuple):
    """What a limiter has counted so far, and its table: places for keys, and bytes in all.

    A reservation counts as one call, and so does a group. ``evicted`` keys lost their place while they owed
    tokens, ``overflowed`` calls were allowed by the overflow bucket, ``forfeited`` receipts gave nothing
    back, ``rolled_back`` groups, among the refused, had begun to take. ``waiting`` callers are in
    `acquire` now.
    """

    allowed: int
    limited: int
    never: int
    table_full: int
    evicted: int
    overflowed: int
    forfeited: int
    rolled_back: int
    waiting: int
    capacity: int
    bytes: int


class Strategy(enum.IntEnum):
    """What becomes of the tokens that a key has left when its limit changes.

    ``AS_IS``: as many as before, at most the new burst. ``PROPORTIONAL``: the same share of the burst.
    ``ADDITIVE``: as many as before, and what the burst has grown by. ``RESET``: a full bucket.
    """

    AS_IS = 0
    PROPORTIONAL = 1
    ADDITIVE = 2
    RESET = 3


class FullPolicy(enum.IntEnum):
    """What a new key gets when all its places are taken by keys that owe tokens.

    ``DENY_NEW``: `TableFull`. ``EVICT_MOST_FULL``: the place of the key that owes for the shortest time,
    whose debt is forgotten. ``OVERFLOW_KEY``: a share of one bucket that all such keys have together.
    """

    DENY_NEW = 0
    EVICT_MOST_FULL = 1
    OVERFLOW_KEY = 2


def parts(limit: object, window: object, burst: object) -> tuple[int, int, int]:
    """A rule in the library's units: tokens, nanoseconds, burst."""
    tokens = unsigned("limit", limit, 64)
    return tokens, nanoseconds("window", window), tokens if burst is None else unsigned("burst", burst, 64)
