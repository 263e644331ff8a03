"""Statuses of the native library and the exceptions they become.

There is one table of refusals and failures, in the library. `Status` repeats its numbers and names, each
exception bears the name of its status (``CIRCUIT_OPEN`` is `CircuitOpen`) and the first sentence of its
documentation is the library's text for it; the tests compare all three with the library and its header.

A positive status is a refusal, part of normal life. A negative one is misuse or failure. `Status.STALE` and
`Status.EXPIRED` are verdicts of `Permit.record` and have no exception: a late result is nobody's mistake.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from ._limiter_types import Decision


class Status(enum.IntEnum):
    """Outcome of a call into the native library."""

    OK = 0
    CIRCUIT_OPEN = 1
    HALF_OPEN_FULL = 2
    RATE_LIMITED = 3
    NEVER = 4
    TABLE_FULL = 5
    POOL_TIMEOUT = 6
    POOL_EXHAUSTED = 7
    POOL_CLOSED = 8
    QUEUE_FULL = 9
    STALE = 10
    EXPIRED = 11
    FORCED_OPEN = 12
    SERVICE_DEGRADED = 13
    FAULT_INJECTED = 14
    TOO_LATE = 15
    FORFEITED = 16
    CHANGE_TOO_SOON = 17
    SHED = 18
    INVALID_ARGUMENT = -1
    ALREADY_DONE = -2
    STALE_LEASE = -3
    OUT_OF_MEMORY = -4
    PANIC = -5
    UNSUPPORTED = -6
    CREATE_FAILED = -7
    FORKED = -8
    PERMIT_NOT_FOUND = -9
    BAD_RECEIPT = -10


class Error(Exception):
    """Every error that this package raises on its own account."""

    status: ClassVar[Status]


class Refused(Error):
    """A refusal: the call was understood and turned down for now.

    ``retry_after`` says in how many seconds another try can succeed, as far as that is known; it is
    infinite when no later try can.
    """

    retry_after: float

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CircuitOpen(Refused):
    """The circuit breaker is open.

    Every other refusal of a breaker is a `CircuitOpen` too.
    """

    status = Status.CIRCUIT_OPEN


class HalfOpenFull(CircuitOpen):
    """The circuit breaker is half-open and all its probes are taken."""

    status = Status.HALF_OPEN_FULL


class ForcedOpen(CircuitOpen):
    """Somebody has forced the circuit breaker open."""

    status = Status.FORCED_OPEN


class ServiceDegraded(CircuitOpen):
    """The circuit breaker admits only a share of the calls for now."""

    status = Status.SERVICE_DEGRADED


class FaultInjected(CircuitOpen):
    """The call was chosen to fail by fault injection."""

    status = Status.FAULT_INJECTED


class RateLimited(Refused):
    """The rate limit is used up for now.

    ``decision`` is what the limiter said of the key, of a group's the one that refused.
    """

    status = Status.RATE_LIMITED
    decision: Decision | None = None


class Never(RateLimited):
    """The cost is above the burst, so the call can never be admitted."""

    status = Status.NEVER

    def __init__(self, message: str, retry_after: float = math.inf) -> None:
        super().__init__(message, retry_after)


class TableFull(RateLimited):
    """The table has no place for a new key."""

    status = Status.TABLE_FULL


class ChangeTooSoon(Refused):
    """Keys may still owe from the rule that was in force four changes before."""

    status = Status.CHANGE_TOO_SOON


class TooLate(Error):
    """The time of the reservation has come, so it cannot be cancelled."""

    status = Status.TOO_LATE


class Forfeited(Error):
    """Nothing was given back, for later reservations rely on it."""

    status = Status.FORFEITED


class PoolError(Error):
    """A pool did not hand out a connection."""


class PoolTimeout(PoolError, TimeoutError):
    """No connection became free within the time-out."""

    status = Status.POOL_TIMEOUT


class PoolExhausted(PoolError):
    """No connection is free and the call does not wait."""

    status = Status.POOL_EXHAUSTED


class PoolClosed(PoolError):
    """The pool is closed."""

    status = Status.POOL_CLOSED


class QueueFull(PoolError):
    """Too many callers wait already."""

    status = Status.QUEUE_FULL


class Shed(PoolError):
    """The wait for a connection was ended early because all waits had become too long."""

    status = Status.SHED


class CreateFailed(PoolError):
    """The callback that makes a connection failed.

    ``__cause__`` is what the callback raised.
    """

    status = Status.CREATE_FAILED


class Forked(PoolError):
    """The pool belongs to the parent process."""

    status = Status.FORKED


class StaleLease(Error):
    """The lease was returned before, or belongs to another pool."""

    status = Status.STALE_LEASE


class AlreadyDone(Error):
    """The permit or receipt was used before."""

    status = Status.ALREADY_DONE


class PermitNotFound(Error):
    """The breaker never granted such a probe."""

    status = Status.PERMIT_NOT_FOUND


class BadReceipt(Error):
    """This is no receipt of this limiter."""

    status = Status.BAD_RECEIPT


class InvalidArgument(Error, ValueError):
    """An argument is invalid."""

    status = Status.INVALID_ARGUMENT


class WrongType(InvalidArgument, TypeError):
    """An argument is of a type that is not allowed."""


class HandleClosed(InvalidArgument):
    """The object was closed, so it cannot be used any more."""


class OutOfMemory(Error, MemoryError):
    """There is not enough memory."""

    status = Status.OUT_OF_MEMORY


class Panic(Error):
    """The library failed internally; the object stays usable."""

    status = Status.PANIC


class Unsupported(Error):
    """This machine has no lock-free 128-bit atomic."""

    status = Status.UNSUPPORTED


EXCEPTIONS: dict[Status, type[Error]] = {
    kind.status: kind
    for kind in (
        CircuitOpen,
        HalfOpenFull,
        ForcedOpen,
        ServiceDegraded,
        FaultInjected,
        RateLimited,
        Never,
        TableFull,
        TooLate,
        Forfeited,
        ChangeTooSoon,
        PoolTimeout,
        PoolExhausted,
        PoolClosed,
        QueueFull,
        Shed,
        CreateFailed,
        Forked,
        StaleLease,
        AlreadyDone,
        PermitNotFound,
        BadReceipt,
        InvalidArgument,
        OutOfMemory,
        Panic,
        Unsupported,
    )
}


def invalid(argument: str, value: object, allowed: str) -> InvalidArgument:
    """An error in the words that the native library uses for its own."""
    return InvalidArgument(f"`{argument}` is {value!r}, allowed is {allowed}")


def wrong_type(argument: str, value: object, allowed: str) -> WrongType:
    """Like `invalid`, for a value of the wrong type."""
    return WrongType(f"`{argument}` is {value!r}, allowed is {allowed}")


def exception_types(argument: str, kinds: object) -> tuple[type[BaseException], ...]:
    """``kinds``, if it is a tuple of exception classes."""
    if isinstance(kinds, tuple) and all(isinstance(k, type) and issubclass(k, BaseException) for k in kinds):
        return kinds
    raise wrong_type(argument, kinds, "a tuple of exception classes")
