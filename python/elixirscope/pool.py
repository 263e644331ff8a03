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
import time
from collections.abc import Callable
from ctypes import byref, c_int32, c_uint64, sizeof
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from . import _ffi
from . import _pool_abi as abi
from ._pool_acquire import Acquisition
from ._pool_callbacks import Callbacks
from ._pool_checkout import Checkout
from ._pool_loan import BROKEN, GOOD, Loan
from ._pool_native import SLICE_NS, NativePool
from ._pool_options import PoolOptions, native, pre_pings, refusal
from ._pool_types import Leak, PoolSnapshot
from ._units import FOREVER_NS, NS_PER_S, nanoseconds, seconds, timeout_ns, unsigned
from .clock import Clock, checked
from .errors import Forked, Status, Unsupported, exception_types, wrong_type

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")

_RUNNING: Final = 0
_DRAINED: Final = 2
# Time-outs are few. A caller that computes a new one for each call must not fill the memory with them.
_MOST_TIMEOUTS: Final = 1024


_COUNTS: Final = [
    name
    for name in PoolSnapshot._fields
    if name not in ("is_closed", "is_drained", "queue", "longest_queue", "use", "next_deadline")
]


class Pool(NativePool[T]):
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

    ``create`` makes a connection and ``destroy`` ends one; ``reset`` and ``check`` find one unfit by raising
    or by giving False; `PoolOptions` says when they are asked. All run in threads that use the pool, never
    under a lock: ``create`` in one that waits for a connection, not always in the one that gets it.

    Callers are served in the order in which they came. A connection above ``size`` is destroyed when it has
    been idle for ``overflow_ttl`` seconds, at once if that is 0; see `maintain`. After a failed creation the
    pool waits ``create_backoff`` seconds, twice as long after each further one, up to ``create_backoff_cap``.

    An exception that leaves the block destroys the connection if it is one of ``broken_on``, or no
    `Exception` at all: nobody knows what state it was left in. Name the exceptions that say so to keep it
    after others.

    Any thread may use a pool at any time. A pool belongs to the process that made it; in a forked child its
    use raises `Forked`. Only a check-out that has to wait waits; it would block an asyncio loop.
    Drain a pool that daemon threads use before the program ends: Python ends such a thread where it stands,
    and inside one of the functions above that can end the process by SIGABRT. `drain` waits for a thread that
    is in one of them, `close` does not.

    ``clock``, for tests, is what gives the time instead of the machine. A wait then looks at it a thousand
    times a second.

    A signal handler that raises, as Ctrl-C does, loses no connection. One that strikes as the block is left,
    before its end has begun, leaves the connection on loan for as long as the exception is referred to; then
    it is destroyed. One that strikes as ``create`` is about to be called is reported to
    ``sys.unraisablehook``, and that creation has failed; one that strikes as ``reset`` or ``check`` is about
    to be called is reported as well, and the connection may count as fit.
    """

    __slots__ = (
        "__del__",
        "__weakref__",
        "_broken_on",
        "_idle",
        "_pre_pings",
        "_tests_returns",
        "_timeouts",
    )

    def __init__(
        self,
        create: Callable[[], T],
        destroy: Callable[[T], object] | None = None,
        *,
        reset: Callable[[T], object] | None = None,
        check: Callable[[T], object] | None = None,
        on_leak: Callable[[Leak], object] | None = None,
        broken_on: tuple[type[BaseException], ...] = (Exception,),
        clock: Clock | None = None,
        **options: Unpack[PoolOptions],
    ) -> None:
        if not callable(create):
            raise wrong_type("create", create, "a function that makes a connection")
        functions: dict[str, object] = {
            "destroy": destroy,
            "reset": reset,
            "check": check,
            "on_leak": on_leak,
        }
        for name, function in functions.items():
            if function is not None and not callable(function):
                what = "a leak" if name == "on_leak" else "a connection"
                raise wrong_type(name, function, f"a function that takes {what}, or None")
        if not _ffi.in_main_interpreter():
            raise Unsupported(
                "a pool belongs to the main interpreter: its callbacks cannot run in another one"
            )
        self._broken_on = exception_types("broken_on", broken_on)
        self._callbacks: Callbacks[T] = Callbacks(create, destroy, reset, check, on_leak)
        self._read(checked(clock))
        self._idle: list[Loan] = []
        self._timeouts: dict[object, c_uint64] = {}
        settings = native(options)
        # The native pool may call these until it is closed, at the latest by the finalizer of this object.
        self._native = self._callbacks.native()
        for name, callback in self._native.items():
            setattr(settings, name, callback)
        self._tests_returns = reset is not None or options.get("health") in ("passive", "mixed")
        self._pre_pings = pre_pings(settings)
        self._handle = handle = abi.PoolHandle()
        if status := _ffi.api.escope_pool_new(byref(settings), byref(handle)):
            raise refusal(status, options)
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

    def try_checkout(self) -> Checkout[T]:
        """`checkout` that waits for nobody's return."""
        return self.checkout(0)

    def acquire(self, timeout: float | None = 5.0) -> Acquisition[T]:
        """Like `checkout`, as an asynchronous context manager for asyncio: it waits in the event loop.

        ``create``, ``reset`` and ``check`` then run in the loop's executor. A task that is cancelled as it
        waits loses its place and nothing else. For one that is cancelled in the block see ``broken_on``.
        """
        return Acquisition(self, self.checkout(timeout)._limit)

    def resize(self, size: int, max_overflow: int) -> None:
        """Changes how many connections there may be, together up to ``max_slots``.

        What is above a smaller capacity is destroyed, if it is idle, or else when it comes back.
        """
        self._check(
            self._call(
                _ffi.api,
                "escope_pool_resize",
                unsigned("size", size, 32),
                unsigned("max_overflow", max_overflow, 32),
            )
        )

    def evict(self, spread: float = 0.0) -> None:
        """Has every connection replaced that there is now, as after a password has changed.

        Each is not lent any more from a random instant within ``spread`` seconds on, and destroyed when
        nobody holds it.
        """
        self._check(self._call(_ffi.api, "escope_pool_evict", nanoseconds("spread", spread)))

    def drain(self, timeout: float | None = None) -> None:
        """Closes the pool to new callers and waits until those who wait were served and all came back.

        Raises `PoolTimeout` after ``timeout`` seconds; the pool stays closed to new callers then.
        """
        limit = timeout_ns("timeout", timeout)
        if self._time is not None:
            return self._drain_at(self._time, limit)
        end = time.monotonic_ns() + limit
        is_main = threading.current_thread() is threading.main_thread()
        while True:
            left = FOREVER_NS if limit == FOREVER_NS else max(0, end - time.monotonic_ns())
            slice_ns = min(left, SLICE_NS) if is_main else left
            status = _ffi.blocking.escope_pool_drain(self._handle, slice_ns)
            if status != Status.POOL_TIMEOUT or slice_ns == left:
                return self._check(status)
            self._callbacks.raise_interrupt()

    def maintain(self) -> float | None:
        """Does what time has made due: destroys, tests and makes connections, ends waits, tells of leaks.

        Gives the seconds until there is more to do, or None. A pool with options that are times wants this to
        be called once at first and then when that is over; threads that wait do it by themselves.
        """
        deadline_ns = c_uint64()
        self._check(self._call(_ffi.api, "escope_pool_maintain", byref(deadline_ns)))
        if deadline_ns.value == FOREVER_NS:
            return None
        now_ns = _ffi.api.escope_clock_now_ns() if self._time is None else self._time.now().value
        return seconds(max(0, deadline_ns.value - now_ns))

    def close(self) -> None:
        """Closes the pool for good, also a second time.

        Idle connections are destroyed now, those on loan when they come back; who waits gets `PoolClosed`.
        """
        self._check(self._call(_ffi.api, "escope_pool_close"))

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
            **values,
            is_closed=stats.phase != _RUNNING,
            is_drained=stats.phase == _DRAINED,
            queue=stats.queue_ns / NS_PER_S,
            longest_queue=stats.longest_queue_ns / NS_PER_S,
            use=stats.use_ns / NS_PER_S,
            next_deadline=seconds(stats.next_deadline_ns),
        )

    def _new_timeout(self, timeout: object) -> c_uint64:
        limit = c_uint64(timeout_ns("timeout", timeout))
        if len(self._timeouts) >= _MOST_TIMEOUTS:
            self._timeouts.clear()
        self._timeouts[timeout] = limit
        return limit

    def _condition(self, kind: type[BaseException]) -> c_int32:
        broken = issubclass(kind, self._broken_on) or not issubclass(kind, Exception)
        return BROKEN if broken else GOOD
