"""Circuit breaker: stop calling what keeps failing, and probe it now and then.

The rules are the native library's. What is decided here is which exceptions are failures.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from ctypes import byref, c_int32, sizeof
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from . import _ffi
from ._breaker_call import (
    OUTCOMES,
    Call,
    Listener,
    PlainCall,
    WatchedCall,
    enter,
    innermost,
    leave,
    now,
    publish,
    take_out,
)
from ._breaker_types import BreakerSnapshot, Outcome, Phase
from ._unique import Unique
from ._units import nanoseconds, seconds, unsigned
from .clock import Clock, checked
from .errors import (
    CircuitOpen,
    Error,
    HalfOpenFull,
    HandleClosed,
    Status,
    exception_types,
    invalid,
    wrong_type,
)

P = ParamSpec("P")
R = TypeVar("R")


class _Discard(list[Call]):
    """Takes the calls that end after their breaker was closed."""

    def append(self, call: Call) -> None:
        del call


class Breaker(Unique):
    """Refuses calls for ``open_for`` seconds after ``failure_threshold`` failures in a row.

    >>> from elixirscope import Breaker, CircuitOpen, ManualClock
    >>> clock = ManualClock()
    >>> breaker = Breaker(failure_threshold=2, open_for=30.0, clock=clock)
    >>> for attempt in range(2):
    ...     try:
    ...         with breaker:
    ...             raise ConnectionError("no route")
    ...     except ConnectionError:
    ...         pass
    >>> try:
    ...     with breaker:
    ...         print("not reached")
    ... except CircuitOpen as refusal:
    ...     print(refusal.retry_after)
    30.0
    >>> clock.advance(30.0)
    >>> breaker.call(len, "probe")
    5
    >>> breaker.phase
    <Phase.CLOSED: 0>

    Half-open, ``half_open_permits`` probes pass; ``successes_to_close`` of them close the breaker. A probe
    that is not recorded within ``probe_lease`` seconds counts as failed.

    An exception that leaves the block is a failure if it is one of ``failures`` and none of ``ignored``;
    any other, such as KeyboardInterrupt or a cancelled task, says nothing about what was called.

    ``on_event`` is called with each `Event`, in the thread that caused it and outside any lock. What it
    raises goes to ``sys.unraisablehook``: it cannot change a verdict.

    Any thread and any task may use one breaker at a time, nothing waits, and blocks may nest. After a fork
    parent and child have a breaker each.
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_failures",
        "_handle",
        "_identity",
        "_idle",
        "_ignored",
        "_listener",
    )

    def __init__(
        self,
        failure_threshold: int = 5,
        open_for: float = 30.0,
        *,
        half_open_permits: int = 1,
        successes_to_close: int = 1,
        probe_lease: float = 60.0,
        failures: tuple[type[BaseException], ...] = (Exception,),
        ignored: tuple[type[BaseException], ...] = (),
        on_event: Listener | None = None,
        clock: Clock | None = None,
    ) -> None:
        options = _ffi.BreakerOptions(
            struct_size=sizeof(_ffi.BreakerOptions),
            open_for_ns=nanoseconds("open_for", open_for),
            probe_lease_ns=nanoseconds("probe_lease", probe_lease),
            failure_threshold=unsigned("failure_threshold", failure_threshold, 32),
            half_open_permits=unsigned("half_open_permits", half_open_permits, 32),
            successes_to_close=unsigned("successes_to_close", successes_to_close, 32),
        )
        self._failures = exception_types("failures", failures)
        self._ignored = exception_types("ignored", ignored)
        if on_event is not None and not callable(on_event):
            raise wrong_type("on_event", on_event, "a function that takes an event, or None")
        self._listener = on_event
        self._clock = checked(clock)
        self._identity = object()
        self._idle: list[Call] = []
        handle = _ffi.BreakerHandle()
        _ffi.check(_ffi.api.escope_breaker_new(byref(options), byref(handle)))
        self._handle: _ffi.BreakerHandle | None = handle

    def __enter__(self) -> Breaker:
        idle = self._idle
        call = idle.pop() if idle else self._new_call()
        status = call.acquire()
        if status:
            raise self._refusal(status, call)
        call.token = enter(call)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        call = innermost()
        if call is not None and call.owner is self._identity:
            leave(call.token)
        else:
            call = take_out(self._identity)
        status = call.succeed() if kind is None else call.record(self._outcome(kind))
        if status < 0:
            raise _ffi.error(status)
        self._idle.append(call)

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls ``function`` if the breaker lets it, and gives back what it returns."""
        with self:
            return function(*args, **kwargs)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorates a function or a coroutine function.

        >>> from elixirscope import Breaker
        >>> @Breaker()
        ... def double(number):
        ...     return 2 * number
        >>> double(4)
        8
        """
        if not callable(function):
            raise wrong_type("function", function, "a function or a coroutine function")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            allowed = "a function or a coroutine function; a generator runs after the call has returned"
            raise wrong_type("function", function, allowed)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def guarded_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", guarded_coroutine)

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        return guarded

    def acquire(self) -> Permit:
        """Asks for a permit, for a call that does not fit into a block.

        >>> from elixirscope import Breaker, Outcome
        >>> permit = Breaker().acquire()
        >>> permit.record(Outcome.SUCCESS)
        <Status.OK: 0>
        """
        call = self._new_call()
        status = call.acquire()
        if status:
            raise self._refusal(status, call)
        return Permit(call)

    @property
    def phase(self) -> Phase:
        """Where the breaker stands; asking changes nothing."""
        return self.snapshot().phase

    def snapshot(self) -> BreakerSnapshot:
        """The breaker now; taking it changes nothing."""
        stats = _ffi.BreakerStats(struct_size=sizeof(_ffi.BreakerStats))
        if self._clock is None:
            status = _ffi.api.escope_breaker_snapshot(self._live(), byref(stats))
        else:
            status = _ffi.api.escope_breaker_snapshot_at(self._live(), byref(stats), now(self._clock))
        _ffi.check(status)
        return BreakerSnapshot.from_native(stats)

    def reset(self) -> None:
        """Closes the breaker and forgets its failures; permits that are out become stale."""
        events = _ffi.Events()
        if self._clock is None:
            status = _ffi.api.escope_breaker_reset(self._live(), byref(events))
        else:
            status = _ffi.api.escope_breaker_reset_at(self._live(), byref(events), now(self._clock))
        _ffi.check(status)
        publish(self._listener, events)

    def close(self) -> None:
        """Gives the native breaker back; a later use raises `HandleClosed`.

        Calls that are under way end well, and the memory is freed after the last of them.
        """
        self._handle = None
        self._idle = _Discard()

    def _live(self) -> _ffi.BreakerHandle:
        if self._handle is None:
            raise HandleClosed("this breaker was closed")
        return self._handle

    def _new_call(self) -> Call:
        if self._clock is None and self._listener is None:
            return PlainCall(self._live(), self._identity)
        return WatchedCall(self._live(), self._identity, self._clock, self._listener)

    def _outcome(self, kind: type[BaseException]) -> c_int32:
        failed = issubclass(kind, self._failures) and not issubclass(kind, self._ignored)
        return OUTCOMES[Outcome.FAILURE if failed else Outcome.IGNORED]

    def _refusal(self, status: int, call: Call) -> Error:
        if status < 0:
            return _ffi.error(status)
        retry_after = seconds(call.retry_after.value)
        self._idle.append(call)
        kind = HalfOpenFull if status == Status.HALF_OPEN_FULL else CircuitOpen
        return kind(f"{_ffi.text(status)} Retry after {retry_after:g} s.", retry_after)


class Permit(Unique):
    """The right to make one call, to be recorded once.

    One that is never recorded decides nothing; a probe's counts as failed when its lease has run out.
    """

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def record(self, outcome: Outcome) -> Status:
        """Says what became of the call. Raises `AlreadyDone` the second time.

        Gives `Status.OK`, or `Status.STALE` or `Status.EXPIRED` for a result that came too late to count.
        """
        prepared = OUTCOMES.get(outcome)
        if prepared is None:
            raise invalid("outcome", outcome, "a member of Outcome")
        status = self._call.record(prepared)
        if status < 0:
            raise _ffi.error(status)
        return Status(status)
