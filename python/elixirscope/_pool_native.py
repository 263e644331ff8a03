"""The native pool as its Python class uses it: how a check-out waits, and what a status says.

A pool with a clock of its own calls the functions at a given time, which never wait; see `_pool_time`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from ctypes import c_uint64
from typing import Any, Final, Generic, TypeVar

from . import _ffi
from . import _pool_abi as abi
from ._pool_callbacks import Callbacks
from ._pool_loan import Loan
from ._pool_time import LOOK_EVERY_S, GivenTime, begin, checkin
from ._unique import Unique
from ._units import FOREVER_NS
from .clock import Clock
from .errors import EXCEPTIONS, CreateFailed, Error, Status

T = TypeVar("T")

_EXHAUSTED: Final = Status.POOL_EXHAUSTED
# Errors that a creation which failed can be the cause of.
_FOR_WANT_OF_A_CONNECTION: Final = {Status.CREATE_FAILED, Status.POOL_TIMEOUT, Status.POOL_EXHAUSTED}
# Long enough to cost nothing, short enough for a person who presses Ctrl-C.
SLICE_NS: Final = 50_000_000


class NativePool(Unique, Generic[T]):
    """What a pool needs to call the library."""

    __slots__ = ("_begin", "_callbacks", "_checkin", "_handle", "_native", "_time")

    _callbacks: Callbacks[T]
    _handle: abi.PoolHandle
    _native: dict[str, Any]

    def _read(self, clock: Clock | None) -> None:
        """Reads the time from there."""
        own = None if clock is None else GivenTime(clock)
        self._time = own
        self._begin: Callable[..., int] = begin if own is None else own.begin
        self._checkin: Callable[..., int] = checkin if own is None else own.checkin

    def _wait(self, loan: Loan, status: int, limit: c_uint64) -> None:
        """Goes on with a check-out that got nothing at once."""
        if limit.value == 0:
            self._ask_once(loan)
            return
        if status == _EXHAUSTED:
            # Giving up a place whose grant nobody took may destroy a connection.
            loan.waiter.callbacks = self._native
            is_main = threading.current_thread() is threading.main_thread()
            slice_ns = SLICE_NS if is_main else FOREVER_NS
            while status == _EXHAUSTED:
                self._callbacks.raise_interrupt()
                status = self._look(loan, slice_ns)
        self._check(status)
        loan.leave_queue()

    def _ask_once(self, loan: Loan) -> bool:
        # Who does not wait gets no place in the queue; the library has another function for that.
        if self._time is None:
            status = _ffi.blocking.escope_pool_checkout(self._handle, 0, loan.lease_ref, loan.key_ref)
        else:
            now = self._time.now()
            status = _ffi.blocking.escope_pool_checkout_at(self._handle, loan.lease_ref, loan.key_ref, now)
        self._check(status)
        return True

    def _look(self, loan: Loan, slice_ns: int) -> int:
        """Waits in the queue for a slice; at given times it looks once, and sleeps a little if it may."""
        if self._time is None:
            status: int = _ffi.blocking.escope_waiter_wait(
                loan.waiter, slice_ns, loan.lease_ref, loan.key_ref
            )
            return status
        now = self._time.now()
        status = _ffi.blocking.escope_waiter_wait_at(loan.waiter, loan.lease_ref, loan.key_ref, now)
        if status == _EXHAUSTED and slice_ns:
            time.sleep(LOOK_EVERY_S)
        return status

    def _drain_at(self, own: GivenTime, limit: int) -> None:
        end = own.now().value + limit
        while True:
            now = own.now()
            status = _ffi.blocking.escope_pool_drain_at(self._handle, now)
            if status != Status.POOL_TIMEOUT or now.value >= end:
                return self._check(status)
            self._callbacks.raise_interrupt()
            time.sleep(LOOK_EVERY_S)

    def _call(self, library: Any, name: str, *arguments: object) -> int:
        """Calls the library's function of that name, at the time of the clock if there is one."""
        if self._time is None:
            status: int = getattr(library, name)(self._handle, *arguments)
        else:
            status = getattr(library, f"{name}_at")(self._handle, *arguments, self._time.now())
        return status

    def _check(self, status: int) -> None:
        """Raises what a callback had to keep, or what the status says."""
        self._callbacks.raise_interrupt()
        if status:
            # Not by a variable: the exception would refer to this frame, and this frame to the exception. The
            # caller's frames, with what is on loan there, would then wait for the garbage collector.
            raise self._error(status)

    def _error(self, status: int) -> Error:
        """What the status says, with the failed creation behind it as its cause."""
        error = _ffi.error(status) if status < 0 else EXCEPTIONS[Status(status)](_ffi.text(status))
        if error.status in _FOR_WANT_OF_A_CONNECTION:
            failure = self._callbacks.last_failure
            # The library knows no exceptions, only the number that `create` returned to it for one.
            if failure is not None and error.status is Status.CREATE_FAILED:
                error = CreateFailed(f"no connection could be made: {type(failure).__name__}: {failure}")
            error.__cause__ = failure
        return error
