"""A check-out as an ``async with`` block: it waits in the event loop, for a descriptor of the native library.

The descriptor says that there is something to do: take the connection, or make one. What calls `create`,
`check` or `reset` may block and is done in a thread of the loop's executor. A task that is cancelled leaves
at once; what its thread was at goes on, and what comes of it goes to the pool.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable
from ctypes import byref, c_int, c_int32, c_uint64
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from . import _ffi
from ._pool_loan import BROKEN, GOOD, Borrower, Loan, nothing
from ._pool_time import LOOK_EVERY_S
from .errors import InvalidArgument, Status

if TYPE_CHECKING:
    from .pool import Pool

T = TypeVar("T")


class Acquisition(Borrower[T]):
    """One loan to a task, from entering to leaving."""

    __slots__ = ("_apart", "_entered")

    def __init__(self, pool: Pool[T], limit: c_uint64) -> None:
        super().__init__(pool, limit)
        self._apart: Future[bool] | None = None
        self._entered = False

    async def __aenter__(self) -> T:
        if self._entered:
            raise InvalidArgument(
                "this acquisition was entered before; call Pool.acquire() for another connection"
            )
        self._entered = True
        pool = self._pool
        loan = Loan(pool._handle, pool._time)
        self.__del__ = loan.give_back
        try:
            granted = await self._ask(loan)
            while not granted:
                granted = await self._in_a_thread(partial(self._look, loan))
                if granted:
                    break
                if pool._time is None:
                    await _readable(loan)
                else:
                    # The descriptor is the machine's timer.
                    await asyncio.sleep(LOOK_EVERY_S)
            self._loan = loan
            return pool._callbacks.connections[loan.key.value]  # type: ignore[index]
        except BaseException:
            self._loan = None
            if self._apart is None or self._apart.done():
                self._give_up(loan)
            else:
                self._apart.add_done_callback(partial(self._give_up, loan))
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loan = self._held()
        self._loan = None
        if self._returned:
            return
        pool = self._pool
        condition = GOOD if kind is None else pool._condition(kind)
        if condition is BROKEN or pool._tests_returns:
            await self._in_a_thread(partial(self._return, loan, condition))
        else:
            pool._check(pool._checkin(pool._handle, loan.lease_ref, condition))
        self.__del__ = nothing

    async def _ask(self, loan: Loan) -> bool:
        pool, limit = self._pool, self._limit
        if limit.value == 0:
            return await self._in_a_thread(partial(pool._ask_once, loan))
        if pool._pre_pings:
            return await self._in_a_thread(partial(self._begin, loan))
        return self._is_granted(
            loan, pool._begin(pool._handle, limit, loan.lease_ref, loan.key_ref, loan.waiter_ref)
        )

    def _begin(self, loan: Loan) -> bool:
        status = self._pool._call(
            _ffi.blocking,
            "escope_pool_checkout_begin",
            self._limit,
            loan.lease_ref,
            loan.key_ref,
            loan.waiter_ref,
        )
        return self._is_granted(loan, status)

    def _look(self, loan: Loan) -> bool:
        """Takes what the wait has come to, or makes a connection that is to be made."""
        status = self._pool._look(loan, 0)
        return self._is_granted(loan, status)

    def _is_granted(self, loan: Loan, status: int) -> bool:
        # In the thread of the call: the library's message is for that one.
        if status != Status.POOL_EXHAUSTED:
            self._pool._check(status)
            # With its descriptor; no reader of the loop refers to it now.
            loan.leave_queue()
            return True
        self._pool._callbacks.raise_interrupt()
        loan.waiter.callbacks = self._pool._native
        return False

    def _return(self, loan: Loan, condition: c_int32) -> bool:
        pool = self._pool
        pool._check(pool._call(_ffi.blocking, "escope_pool_checkin", loan.lease_ref, condition.value))
        return True

    async def _in_a_thread(self, job: Callable[[], bool]) -> bool:
        """What a job says that may block. It goes on when the task is cancelled."""
        self._apart = asyncio.get_running_loop().run_in_executor(None, job)
        return await asyncio.shield(self._apart)

    def _give_up(self, loan: Loan, ended: Future[bool] | None = None) -> None:
        if ended is not None and not ended.cancelled():
            # What nobody waits for any more is no loss; asking for it says so to asyncio.
            ended.exception()
        loan.leave_queue()
        loan.put_back()
        self.__del__ = nothing


async def _readable(loan: Loan) -> None:
    """Sleeps until the library has something for this wait."""
    descriptor = c_int()
    _ffi.check(_ffi.api.escope_waiter_descriptor(loan.waiter, byref(descriptor)))
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(descriptor.value, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor.value)


def _set(ready: Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
