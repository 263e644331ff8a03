"""A check-out as a ``with`` block, for threads."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

from ._pool_loan import GOOD, Borrower, Loan, nothing
from .errors import InvalidArgument

T = TypeVar("T")


class Checkout(Borrower[T]):
    """One loan after the other, each from entering to leaving. For one thread at a time."""

    __slots__ = ()

    def __enter__(self) -> T:
        if self._loan is not None:
            raise InvalidArgument(
                "this check-out is entered already; call Pool.checkout() for another connection"
            )
        pool = self._pool
        idle = pool._idle
        loan = idle.pop() if idle else Loan(pool._handle, pool._time)
        self.__del__ = loan.give_back
        limit = self._limit
        try:
            status = pool._begin(pool._handle, limit, loan.lease_ref, loan.key_ref, loan.waiter_ref)
            if status:
                pool._wait(loan, status, limit)
            self._loan = loan
            self._returned = False
            return pool._callbacks.connections[loan.key.value]  # type: ignore[index]
        except BaseException:
            self._loan = None
            loan.leave_queue()
            loan.put_back()
            self.__del__ = nothing
            raise

    def __exit__(
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
        status = pool._checkin(pool._handle, loan.lease_ref, GOOD if kind is None else pool._condition(kind))
        self.__del__ = nothing
        if status or pool._callbacks.interrupts:
            pool._check(status)
        # Only now that no finalizer refers to its memory.
        pool._idle.append(loan)
