"""Reservations: tokens that were taken, with a receipt that is good for one use."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref, c_int32, c_uint64
from typing import Any

from . import _ffi
from . import _limiter_abi as abi
from ._limiter_types import Decision
from ._unique import Unique
from ._units import seconds, unsigned
from .clock import Clock
from .errors import EXCEPTIONS, Status


class Reservation(Unique):
    """Tokens of one key, for use after ``wait`` seconds from the call on, 0 for at once.

    One of `cancel`, `refund` and `settle` may be called, once; a second one raises `AlreadyDone`. Doing none
    of them keeps the tokens taken. `cost` says how many there are: 0 once it was used, and where there is
    nothing to give back, for a cost of 0 and for a key that shares the overflow bucket; then all three raise
    `BadReceipt`. What raises `Forfeited` changed nothing but used the receipt up.

    >>> from elixirscope import ManualClock, RateLimiter
    >>> limiter = RateLimiter(clock=ManualClock())
    >>> first, second = (limiter.reserve("a", limit=1, window=60, max_wait=90) for _ in range(2))
    >>> first.wait, second.wait
    (0.0, 60.0)
    >>> second.cancel()
    >>> first.refund()
    >>> limiter.peek("a", limit=1, window=60).remaining
    1
    """

    __slots__ = ("__weakref__", "_clock", "_limit", "_limiter", "_receipt", "decision", "wait")

    def __init__(
        self,
        limiter: abi.LimiterHandle,
        limit: abi.LimitHandle | None,
        clock: Clock | None,
        receipt: abi.Receipt,
        decision: Decision,
        wait_ns: int,
    ) -> None:
        self._limiter = limiter
        self._limit = limit
        self._clock = clock
        self._receipt = receipt
        self.decision = decision
        self.wait = seconds(wait_ns)

    @property
    def cost(self) -> int:
        """Tokens that can be given back."""
        cost = c_uint64()
        _ffi.check(_ffi.api.escope_receipt_cost(byref(self._receipt), byref(cost)))
        return cost.value

    def cancel(self) -> None:
        """Takes the whole reservation back before its time has come.

        Raises `TooLate` when it has come, and `Forfeited` when the key was used since: later reservations
        keep their times.
        """
        self._use(_ffi.api.escope_limiter_cancel, _ffi.api.escope_limiter_cancel_at)

    def refund(self, amount: int | None = None) -> None:
        """Gives ``amount`` tokens back that were not used, all of them unless told.

        Raises `Forfeited` when reservations wait for the key.
        """
        tokens = self.cost if amount is None else unsigned("amount", amount, 64)
        self._use(_ffi.api.escope_limiter_refund, _ffi.api.escope_limiter_refund_at, tokens, self._limit)

    def settle(self, actual: int) -> bool:
        """Replaces the estimate by what was used: gives the difference back, or takes it without a test.

        The balance may become negative by up to one full bucket; True says that the debt was cut there.
        Raises `Forfeited` when there is something to give back and reservations wait for the key.
        """
        cut = c_int32()
        self._use(
            _ffi.api.escope_limiter_settle,
            _ffi.api.escope_limiter_settle_at,
            unsigned("actual", actual, 64),
            self._limit,
            byref(cut),
        )
        return bool(cut.value)

    def _use(self, function: Callable[..., int], at: Callable[..., int], *arguments: Any) -> None:
        if self._clock is None:
            status = function(self._limiter, byref(self._receipt), *arguments)
        else:
            now = unsigned("clock", self._clock(), 64)
            status = at(self._limiter, byref(self._receipt), *arguments, now)
        if status < 0:
            raise _ffi.error(status)
        if status:
            raise EXCEPTIONS[Status(status)](_ffi.text(status))
