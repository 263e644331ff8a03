"""Where a pool reads the time: from the machine's clock, or from one that it was given.

The library reads the machine's clock itself; a time that is given goes with each call. It cannot wait for a
clock that it does not know, so a wait at given times looks again and again.
"""

from __future__ import annotations

from ctypes import c_uint64
from typing import Any, Final

from . import _ffi
from ._units import unsigned
from .clock import Clock

begin: Final = _ffi.hot("escope_pool_checkout_begin")
checkin: Final = _ffi.hot("escope_pool_checkin")
_begin_at: Final = _ffi.hot("escope_pool_checkout_begin_at")
checkin_at: Final = _ffi.hot("escope_pool_checkin_at")

# How long a wait at given times sleeps between two looks.
LOOK_EVERY_S: Final = 0.001


class GivenTime:
    """The hot calls at the time of a given clock."""

    __slots__ = ("clock", "latest")

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        # For finalizers, which may not call a function of the program.
        self.latest = c_uint64()

    def now(self) -> c_uint64:
        """The time for one call."""
        now_ns = unsigned("clock", self.clock(), 64)
        self.latest.value = now_ns
        return c_uint64(now_ns)

    def begin(self, handle: Any, limit: Any, lease: Any, key: Any, waiter: Any) -> int:
        status: int = _begin_at(handle, limit, lease, key, waiter, self.now())
        return status

    def checkin(self, handle: Any, lease: Any, condition: Any) -> int:
        status: int = checkin_at(handle, lease, condition, self.now())
        return status
