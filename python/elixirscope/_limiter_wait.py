"""Waiting for tokens: a reservation, a sleep until its time, and the tokens back if the sleep is ended early.

First come, first served: the library orders the reservations. Who waits stands in a set, which bounds their
number. Adding to a set and asking for its length are whole operations of the interpreter, so nothing here
needs a lock, which a signal handler that waits too could never get. The set refers to a caller weakly: one
that a signal handler ended between two instructions leaves no place taken.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Final

from . import _ffi
from ._limiter_receipts import Reservation
from ._units import NS_PER_S
from .errors import Error, QueueFull, RateLimited, Status

# A clock of the program's own may go faster than sleep knows, so it is asked now and then.
_SLICE: Final = 0.05
# Sleeps have a largest argument.
_LONGEST: Final = 86_400.0


class Turn:
    """A block in which one caller waits; one that an exception leaves gives the tokens back."""

    __slots__ = ("__weakref__", "_at", "_most", "_now", "_reserve", "_timeout", "_waiting", "reservation")

    def __init__(
        self,
        reserve: Callable[[int], Reservation],
        timeout: int,
        now: Callable[[], int] | None,
        waiting: set[weakref.ref[Turn]],
        most: int,
    ) -> None:
        self._reserve = reserve
        self._timeout = timeout
        self._now = now
        self._waiting = waiting
        self._most = most
        self._at = 0
        self.reservation: Reservation

    def __enter__(self) -> Turn:
        waiting = self._waiting
        waiting.add(weakref.ref(self, waiting.discard))
        try:
            full = len(waiting) > self._most
            try:
                self.reservation = self._reserve(0 if full else self._timeout)
            except RateLimited as refusal:
                if full and self._timeout and refusal.status is Status.RATE_LIMITED:
                    raise QueueFull(_ffi.text(Status.QUEUE_FULL)) from None
                raise
            # Read after the reservation, so that the sleep ends no earlier than its time.
            self._at = self._read() + round(self.reservation.wait * NS_PER_S)
        except BaseException:
            waiting.discard(weakref.ref(self))
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting.discard(weakref.ref(self))
        if error is not None:
            # Others may have used the key since; then the tokens stay taken.
            with contextlib.suppress(Error):
                if self.left() > 0:
                    self.reservation.cancel()
                else:
                    self.reservation.refund()

    def left(self) -> float:
        """Seconds to sleep before the next look, 0 once the time has come."""
        left = (self._at - self._read()) / NS_PER_S
        return max(0.0, min(left, _LONGEST if self._now is None else _SLICE))

    def _read(self) -> int:
        now: int = _ffi.api.escope_clock_now_ns() if self._now is None else self._now()
        return now
