"""One loan: its memory, and how it ends.

An interrupt can strike between any two instructions, so a lease has an owner before it exists: the memory
that the native call writes it to belongs to the object that the caller holds, whose finalizer is the native
check-in.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref, c_int32, c_uint64, c_void_p
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from . import _pool_abi as abi
from ._pool_time import GivenTime, checkin, checkin_at
from ._unique import Unique
from .errors import StaleLease

if TYPE_CHECKING:
    from .pool import Pool

T = TypeVar("T")

GOOD: Final = c_int32(0)
BROKEN: Final = c_int32(1)


class Loan:
    """The memory of one loan. It is used again, so nothing outside the pool may keep it."""

    __slots__ = ("give_back", "key", "key_ref", "lease_ref", "put_back", "waiter", "waiter_ref")

    def __init__(self, handle: abi.PoolHandle, time: GivenTime | None) -> None:
        self.lease_ref = byref(abi.Lease())
        self.key = c_void_p()
        self.key_ref = byref(self.key)
        # Both call nothing of the program's, as a clock is. The first is for one whose state nobody knows.
        if time is None:
            self.give_back = partial(checkin, handle, self.lease_ref, BROKEN)
            self.put_back = partial(checkin, handle, self.lease_ref, GOOD)
        else:
            self.give_back = partial(checkin_at, handle, self.lease_ref, BROKEN, time.latest)
            self.put_back = partial(checkin_at, handle, self.lease_ref, GOOD, time.latest)
        self.leave_queue()

    def leave_queue(self) -> None:
        """Gives a place in the queue back at once; a traceback would keep it with the frames it refers to."""
        self.waiter = abi.WaiterHandle()
        self.waiter_ref = byref(self.waiter)


# A finalizer with nothing to do.
nothing: Final = int


class Borrower(Unique, Generic[T]):
    """What holds a loan from entering to leaving."""

    __slots__ = ("__del__", "_limit", "_loan", "_pool", "_returned")

    def __init__(self, pool: Pool[T], limit: c_uint64) -> None:
        self._pool = pool
        self._limit = limit
        self._loan: Loan | None = None
        self._returned = False
        self.__del__: Callable[[], Any] = nothing

    def checkin(self, *, broken: bool = False) -> None:
        """Returns the connection before the block ends; it must not be used any more.

        ``broken`` has it destroyed. A second time raises `StaleLease`.
        """
        loan = self._held()
        # First: the end of a block that is struck between the two lines must not return it a second time.
        self._returned = True
        pool = self._pool
        status = pool._checkin(pool._handle, loan.lease_ref, BROKEN if broken else GOOD)
        self.__del__ = nothing
        pool._check(status)

    def _held(self) -> Loan:
        if self._loan is None:
            raise StaleLease("this check-out holds no connection: it was left before, or never entered")
        return self._loan
