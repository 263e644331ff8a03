"""Connection pool: lends objects that are expensive to make.

The queue and the fate of every connection are the native library's. This module turns a ``with`` block into
one check-out and one check-in, whatever happens in between.

Waiting. A check-out that finds nothing free gets a place in the native queue. The main thread waits there in
short slices and lets Python run its signal handlers in between, the place is kept; other threads, which
Python gives no signals to, wait in one go. Either way without the interpreter lock.

Interrupts. A signal handler that raises, as Ctrl-C does, can strike between any two instructions. So a lease
has an owner before it exists: the memory that the native call writes it to belongs to the `Checkout`, whose
finalizer is the native check-in itself. The finalizer runs no Python that could be struck, and it needs no
knowledge of how far the check-out got: the native library tells a lease that is live from one that is not.
The block's own end only comes first: it puts a good connection back as good, where the finalizer has it
destroyed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from ctypes import byref, c_int32, c_uint64, c_void_p, sizeof
from functools import partial
from types import TracebackType
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar

from . import _ffi
from . import _pool_abi as abi
from ._pool_callbacks import Callbacks
from ._unique import Unique
from ._units import FOREVER_NS, nanoseconds, seconds, timeout_ns, unsigned
from .errors import (
    EXCEPTIONS,
    CreateFailed,
    Error,
    Forked,
    InvalidArgument,
    StaleLease,
    Status,
    Unsupported,
    exception_types,
    invalid,
    wrong_type,
)

T = TypeVar("T")

_begin = _ffi.hot("escope_pool_checkout_begin")
_checkin = _ffi.hot("escope_pool_checkin")

_GOOD: Final = c_int32(0)
_BROKEN: Final = c_int32(1)
_ORDERS: Final = {"lifo": 0, "fifo": 1, "round_robin": 2, "least_used": 3}
_EXHAUSTED: Final = Status.POOL_EXHAUSTED
# Errors that a creation which failed can be the cause of.
_FOR_WANT_OF_A_CONNECTION: Final = {Status.CREATE_FAILED, Status.POOL_TIMEOUT, Status.POOL_EXHAUSTED}
# Long enough to cost nothing, short enough for a person who presses Ctrl-C.
_SLICE_NS: Final = 50_000_000
# Time-outs are few. A caller that computes a new one for each call must not fill the memory with them.
_MOST_TIMEOUTS: Final = 1024


class PoolSnapshot(NamedTuple):
    """A pool at one moment, and what it has counted so far.

    ``next_deadline`` is when `Pool.maintain` has something to do, in seconds of CLOCK_MONOTONIC, or infinite.
    """

    size: int
    capacity: int
    idle: int
    leased: int
    creating: int
    closing: int
    waiting: int
    overflow: int
    failing: int
    is_closed: bool
    requests: int
    granted: int
    timed_out: int
    cancelled: int
    exhausted: int
    queue_full: int
    closed: int
    create_failed: int
    returned: int
    broken: int
    created: int
    create_errors: int
    destroyed: int
    next_deadline: float


_COUNTS: Final = [name for name in PoolSnapshot._fields if name not in ("is_closed", "next_deadline")]


class _Loan:
    """The memory of one loan. It is used again, so nothing outside this module may keep it."""

    __slots__ = ("give_back", "key", "key_ref", "lease_ref", "waiter", "waiter_ref")

    def __init__(self, handle: abi.PoolHandle) -> None:
        self.lease_ref = byref(abi.Lease())
        self.key = c_void_p()
        self.key_ref = byref(self.key)
        self.give_back = partial(_checkin, handle, self.lease_ref, _BROKEN)
        self.leave_queue()

    def leave_queue(self) -> None:
        """Gives a place in the queue back at once; a traceback would keep it with the frames it refers to."""
        self.waiter = abi.WaiterHandle()
        self.waiter_ref = byref(self.waiter)


# A finalizer with nothing to do.
_nothing: Final = int


class Pool(Unique, Generic[T]):
    """Keeps up to ``size`` connections, and up to ``max_overflow`` more while there is need.

    >>> from elixirscope import Pool
    >>> import sqlite3
    >>> pool = Pool(lambda: sqlite3.connect(":memory:"), destroy=sqlite3.Connection.close, size=2)
    >>> with pool.checkout(timeout=5.0) as connection:
    ...     connection.execute("select 6 * 7").fetchone()
    (42,)
    >>> pool.snapshot().idle
    1
    >>> pool.close()

    ``create`` makes a connection and ``destroy`` ends one. They run in threads that use the pool, never under
    a lock: ``create`` in one that waits for a connection, not always in the one that gets it.

    Callers are served in the order in which they came. A connection above ``size`` is destroyed when it has
    been idle for ``overflow_ttl`` seconds, at once if that is 0; see `maintain`. After a failed creation the
    pool waits ``create_backoff`` seconds, twice as long after each further one, up to ``create_backoff_cap``.

    An exception that leaves the block destroys the connection if it is one of ``broken_on``, or no
    `Exception` at all: nobody knows what state it was left in. Name the exceptions that say so to keep it
    after others.

    Any thread may use a pool at any time. A pool belongs to the process that made it; in a forked child its
    use raises `Forked`. Only a check-out that has to wait waits; it would block an asyncio loop.
    Close a pool that daemon threads use before the program ends: Python ends such a thread where it stands,
    and inside ``create`` or ``destroy`` that ends the process by SIGABRT.

    A signal handler that raises, as Ctrl-C does, loses no connection. One that strikes as the block is left,
    before its end has begun, leaves the connection on loan for as long as the exception is referred to; then
    it is destroyed. One that strikes as ``create`` is about to be called is reported to
    ``sys.unraisablehook``, and that creation has failed.
    """

    __slots__ = (
        "__del__",
        "__weakref__",
        "_broken_on",
        "_callbacks",
        "_handle",
        "_idle",
        "_native",
        "_timeouts",
    )

    def __init__(
        self,
        create: Callable[[], T],
        destroy: Callable[[T], object] | None = None,
        *,
        size: int = 5,
        max_overflow: int = 10,
        max_waiters: int = 10_000,
        order: Literal["lifo", "fifo", "round_robin", "least_used"] = "lifo",
        overflow_ttl: float = 0.0,
        create_backoff: float = 0.1,
        create_backoff_cap: float = 10.0,
        broken_on: tuple[type[BaseException], ...] = (Exception,),
    ) -> None:
        if not callable(create):
            raise wrong_type("create", create, "a function that makes a connection")
        if destroy is not None and not callable(destroy):
            raise wrong_type("destroy", destroy, "a function that takes a connection, or None")
        if not isinstance(order, str) or order not in _ORDERS:
            raise invalid("order", order, "'lifo', 'fifo', 'round_robin' or 'least_used'")
        if not _ffi.in_main_interpreter():
            raise Unsupported(
                "a pool belongs to the main interpreter: its callbacks cannot run in another one"
            )
        self._broken_on = exception_types("broken_on", broken_on)
        self._callbacks: Callbacks[T] = Callbacks(create, destroy)
        self._idle: list[_Loan] = []
        self._timeouts: dict[object, c_uint64] = {}
        # The native pool may call these until it is closed, at the latest by the finalizer of this object.
        self._native = native = self._callbacks.native()
        options = abi.PoolOptions()
        _ffi.check(_ffi.api.escope_pool_options_init(byref(options), sizeof(options)))
        options.create, options.destroy = native
        options.overflow_ttl_ns = nanoseconds("overflow_ttl", overflow_ttl)
        options.create_backoff_ns = nanoseconds("create_backoff", create_backoff)
        options.create_backoff_cap_ns = nanoseconds("create_backoff_cap", create_backoff_cap)
        options.size = unsigned("size", size, 32)
        options.max_overflow = unsigned("max_overflow", max_overflow, 32)
        options.max_waiters = unsigned("max_waiters", max_waiters, 32)
        options.order = _ORDERS[order]
        self._handle = handle = abi.PoolHandle()
        _ffi.check(_ffi.api.escope_pool_new(byref(options), byref(handle)))
        # Here and not with the handle: the garbage collector finalizes a pool before it takes apart what the
        # callbacks need.
        self.__del__: Callable[[], Any] = partial(_ffi.api.escope_pool_close, handle)

    def __repr__(self) -> str:
        try:
            now = self.snapshot()
        except Forked:
            return f"<{type(self).__name__} of the parent process>"
        state = "closed" if now.is_closed else "open"
        return (
            f"<{type(self).__name__} {state}, size {now.size}, {now.idle} idle, {now.leased} leased, "
            f"{now.waiting} waiting>"
        )

    def checkout(self, timeout: float | None = 5.0) -> Checkout[T]:
        """A context manager that lends a connection.

        Entering waits up to ``timeout`` seconds; with 0 it takes a free connection or makes one but waits for
        nobody's return; with ``None`` it waits for ever. It raises `PoolTimeout`, `PoolExhausted`,
        `PoolClosed`, `QueueFull` or `CreateFailed`.
        """
        try:
            limit = self._timeouts[timeout]
        except (KeyError, TypeError):
            limit = self._new_timeout(timeout)
        return Checkout(self, limit)

    def maintain(self) -> float | None:
        """Does what time has made due: destroys idle overflow, tries creations again.

        Gives the seconds until there is more to do, or None. A pool whose ``overflow_ttl`` is not 0 wants
        this to be called now and then; threads that wait do it by themselves.
        """
        deadline_ns = c_uint64()
        self._check(_ffi.api.escope_pool_maintain(self._handle, byref(deadline_ns)))
        if deadline_ns.value == FOREVER_NS:
            return None
        return seconds(max(0, deadline_ns.value - _ffi.api.escope_clock_now_ns()))

    def close(self) -> None:
        """Closes the pool for good, also a second time.

        Idle connections are destroyed now, those on loan when they come back; who waits gets `PoolClosed`.
        """
        self._check(_ffi.api.escope_pool_close(self._handle))

    def __enter__(self) -> Pool[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def snapshot(self) -> PoolSnapshot:
        """The pool now."""
        stats = abi.PoolStats(struct_size=sizeof(abi.PoolStats))
        self._check(_ffi.api.escope_pool_snapshot(self._handle, byref(stats)))
        values = {name: getattr(stats, name) for name in _COUNTS}
        return PoolSnapshot(
            **values, is_closed=bool(stats.phase), next_deadline=seconds(stats.next_deadline_ns)
        )

    def _new_timeout(self, timeout: object) -> c_uint64:
        limit = c_uint64(timeout_ns("timeout", timeout))
        if len(self._timeouts) >= _MOST_TIMEOUTS:
            self._timeouts.clear()
        self._timeouts[timeout] = limit
        return limit

    def _wait(self, loan: _Loan, status: int, limit: c_uint64) -> None:
        """Goes on with a check-out that got nothing at once."""
        if limit.value == 0:
            # Who does not wait gets no place in the queue; the library has another function for that.
            status = _ffi.blocking.escope_pool_checkout(self._handle, 0, loan.lease_ref, loan.key_ref)
        elif status == _EXHAUSTED:
            # Giving up a place whose grant nobody took may destroy a connection.
            loan.waiter.callbacks = self._native
            is_main = threading.current_thread() is threading.main_thread()
            slice_ns = _SLICE_NS if is_main else FOREVER_NS
            while status == _EXHAUSTED:
                self._callbacks.raise_interrupt()
                status = _ffi.blocking.escope_waiter_wait(loan.waiter, slice_ns, loan.lease_ref, loan.key_ref)
        self._check(status)
        loan.leave_queue()

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

    def _condition(self, kind: type[BaseException]) -> c_int32:
        broken = issubclass(kind, self._broken_on) or not issubclass(kind, Exception)
        return _BROKEN if broken else _GOOD


class Checkout(Unique, Generic[T]):
    """One loan after the other, each from entering to leaving. For one thread at a time."""

    __slots__ = ("__del__", "_limit", "_loan", "_pool", "_returned")

    def __init__(self, pool: Pool[T], limit: c_uint64) -> None:
        self._pool = pool
        self._limit = limit
        self._loan: _Loan | None = None
        self._returned = False
        self.__del__: Callable[[], Any] = _nothing

    def __enter__(self) -> T:
        if self._loan is not None:
            raise InvalidArgument(
                "this check-out is entered already; call Pool.checkout() for another connection"
            )
        pool = self._pool
        idle = pool._idle
        loan = idle.pop() if idle else _Loan(pool._handle)
        self.__del__ = loan.give_back
        limit = self._limit
        try:
            status = _begin(pool._handle, limit, loan.lease_ref, loan.key_ref, loan.waiter_ref)
            if status:
                pool._wait(loan, status, limit)
            self._loan = loan
            self._returned = False
            return pool._callbacks.connections[loan.key.value]  # type: ignore[index]
        except BaseException:
            self._loan = None
            loan.leave_queue()
            _checkin(pool._handle, loan.lease_ref, _GOOD)
            self.__del__ = _nothing
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
        status = _checkin(pool._handle, loan.lease_ref, _GOOD if kind is None else pool._condition(kind))
        self.__del__ = _nothing
        if status or pool._callbacks.interrupts:
            pool._check(status)
        # Only now that no finalizer refers to its memory.
        pool._idle.append(loan)

    def checkin(self, *, broken: bool = False) -> None:
        """Returns the connection before the block ends; it must not be used any more.

        ``broken`` has it destroyed. A second time raises `StaleLease`.
        """
        loan = self._held()
        # First: the end of a block that is struck between the two lines must not return it a second time.
        self._returned = True
        status = _checkin(self._pool._handle, loan.lease_ref, _BROKEN if broken else _GOOD)
        self.__del__ = _nothing
        self._pool._check(status)

    def _held(self) -> _Loan:
        if self._loan is None:
            raise StaleLease("this check-out holds no connection: it was left before, or never entered")
        return self._loan
