"""What a pool tells: how it is, and which loans last too long."""

from __future__ import annotations

from typing import Any, NamedTuple


class PoolSnapshot(NamedTuple):
    """A pool at one moment, and what it has counted so far.

    ``next_deadline`` is when `Pool.maintain` has something to do, in seconds of CLOCK_MONOTONIC, or infinite.
    ``queue`` and ``longest_queue`` are the seconds that granted waits took, together and the longest;
    ``use`` those of ended loans, 0 without ``measure`` or ``leak_after``.
    """

    size: int
    capacity: int
    idle: int
    leased: int
    creating: int
    checking: int
    closing: int
    waiting: int
    overflow: int
    failing: int
    is_closed: bool
    is_drained: bool
    requests: int
    granted: int
    timed_out: int
    cancelled: int
    exhausted: int
    queue_full: int
    closed: int
    create_failed: int
    shed: int
    returned: int
    broken: int
    created: int
    create_errors: int
    destroyed: int
    checks_passed: int
    checks_failed: int
    pre_pings: int
    leaks: int
    queue: float
    longest_queue: float
    use: float
    next_deadline: float


class Leak(NamedTuple):
    """A loan that lasts too long: of what, since when by CLOCK_MONOTONIC in seconds, and to which thread.

    ``thread`` is its name, or None if it has ended; ``native_id`` the number that ``threading.get_native_id``
    gave in it. The connection may come back while this is read: do not use it.
    """

    connection: Any
    since: float
    thread: str | None
    native_id: int
