"""Circuit breaker: stop calling what keeps failing, and probe it now and then.

The rules are the native library's. What is decided here is which results and exceptions are failures.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Coroutine
from ctypes import byref, c_uint64
from types import CoroutineType, TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeAlias, TypeVar, cast

from . import _ffi
from ._breaker_admin import AdministeredBreaker
from ._breaker_call import (
    OUTCOMES,
    SUCCESS,
    Call,
    Listener,
    Permit,
    PlainCall,
    Prepared,
    WatchedCall,
    enter,
    innermost,
    leave,
    take_out,
)
from ._breaker_types import Outcome
from ._decorated import is_coroutine_function
from ._units import seconds
from .clock import Clock
from .errors import EXCEPTIONS, Error, Refused, Status, exception_types, wrong_type

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._breaker_options import BreakerOptions

P = ParamSpec("P")
R = TypeVar("R")
Judge: TypeAlias = Callable[[Any], "bool | Outcome"]

_FAILURE: Final = OUTCOMES[Outcome.FAILURE]
_IGNORED: Final = OUTCOMES[Outcome.IGNORED]
_CANCELLED: Final = OUTCOMES[Outcome.CANCELLED]


# Seconds that nobody needs to wait.
_AT_ONCE: Final = 0.001


class _Discard(list[Call]):
    """Takes the calls that end after their breaker was closed."""

    def append(self, call: Call) -> None:
        del call


class Breaker(AdministeredBreaker):
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

    `BreakerOptions` describes what else it can be told, such as a failure rate in place of the row.

    An exception that leaves the block is a failure if it is one of ``failure_on`` and none of ``ignore``. Any
    other is ignored, or cancelled if it is no `Exception`: a cancelled task, KeyboardInterrupt and SystemExit
    say nothing about what was called. Inside a block put a time limit that is to count as a failure, such as
    ``asyncio.timeout``.

    ``is_failure`` is asked about what `call` and decorated functions return, and about each `Exception` that
    is neither of ``failure_on`` nor of ``ignore``. It gives True or False, or an `Outcome`. What it raises
    counts as a failure of the call, and is raised.

    >>> breaker = Breaker(failure_threshold=1, is_failure=lambda result: result == 503)
    >>> breaker.call(lambda: 503)
    503
    >>> breaker.phase
    <Phase.OPEN: 1>

    ``on_event`` is a function or a list of functions. Each `Event` is given to each, in the thread that
    caused it and outside any lock. What one raises goes to ``sys.unraisablehook``: it changes no verdict.

    Any thread and any task may use one breaker at a time, nothing waits, and blocks may nest. After a fork
    parent and child have a breaker each.
    """

    __slots__ = ("__weakref__", "_failure_on", "_identity", "_idle", "_ignore", "_is_failure")

    def __init__(
        self,
        *,
        failure_on: tuple[type[BaseException], ...] = (Exception,),
        ignore: tuple[type[BaseException], ...] = (),
        is_failure: Judge | None = None,
        on_event: Listener | list[Listener] | tuple[Listener, ...] | None = None,
        clock: Clock | None = None,
        **options: Unpack[BreakerOptions],
    ) -> None:
        super().__init__(options, on_event, clock)
        self._failure_on = exception_types("failure_on", failure_on)
        self._ignore = exception_types("ignore", ignore)
        if is_failure is not None and not callable(is_failure):
            raise wrong_type(
                "is_failure", is_failure, "a function that takes a result or an exception, or None"
            )
        self._is_failure = is_failure
        self._identity = object()
        self._idle: list[Call] = []

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
        if error is not None:
            self._fail(call, error)
            return
        status = call.succeed()
        if status < 0:
            raise _ffi.error(status)
        self._idle.append(call)

    async def __aenter__(self) -> Breaker:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls ``function`` if the breaker lets it, and gives back what it returns.

        A coroutine that it returns is part of the call, which then ends as the coroutine does.
        """
        idle = self._idle
        call = idle.pop() if idle else self._new_call()
        status = call.acquire()
        if status:
            raise self._refusal(status, call)
        try:
            result = function(*args, **kwargs)
            if result.__class__ is CoroutineType:
                return cast(R, self._awaited(call, cast("Coroutine[Any, Any, Any]", result)))
            outcome = SUCCESS if self._is_failure is None else self._judged(result, SUCCESS)
        except BaseException as error:
            self._fail(call, error)
            raise
        self._end(call, outcome)
        return result

    async def _awaited(self, call: Call, coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            result = await coroutine
            outcome = SUCCESS if self._is_failure is None else self._judged(result, SUCCESS)
        except BaseException as error:
            self._fail(call, error)
            raise
        self._end(call, outcome)
        return result

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorates a function or a coroutine function.

        >>> from elixirscope import Breaker
        >>> @Breaker()
        ... def double(number):
        ...     return 2 * number
        >>> double(4)
        8
        """
        if is_coroutine_function(function):

            @functools.wraps(function)
            async def guarded_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await cast(Any, self.call(function, *args, **kwargs))

            return cast("Callable[P, R]", guarded_coroutine)

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            return self.call(function, *args, **kwargs)

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

    def ask(self) -> None:
        """Asks whether a call may be made, and raises as `acquire` does where it may not.

        There is no permit: `report` may say how the call went. Such a call is never a probe, so a breaker
        that wants probes refuses it until they have closed it. It counts as admitted and cancelled.

        >>> from elixirscope import Breaker, Outcome
        >>> breaker = Breaker()
        >>> breaker.ask()
        >>> breaker.report(Outcome.SUCCESS)
        <Status.OK: 0>
        """
        retry_after = c_uint64()
        if status := self._perform("ask", byref(retry_after)):
            raise _refused(status, retry_after.value)

    def close(self) -> None:
        """Gives the native breaker back; a later use raises `HandleClosed`.

        Calls that are under way end well, and the memory is freed after the last of them.
        """
        self._handle = None
        self._idle = _Discard()

    def _new_call(self) -> Call:
        if self._clock is None and not self._listeners:
            return PlainCall(self._live(), self._identity)
        return WatchedCall(self._live(), self._identity, self._clock, self._listeners)

    def _end(self, call: Call, outcome: Prepared) -> None:
        status = call.record(outcome)
        if status < 0:
            raise _ffi.error(status)
        self._idle.append(call)

    def _fail(self, call: Call, error: BaseException) -> None:
        """Ends a call that an exception left."""
        # What counts if `is_failure` raises.
        outcome = _FAILURE
        try:
            outcome = self._outcome(error)
        finally:
            self._end(call, outcome)

    def _outcome(self, error: BaseException) -> Prepared:
        if isinstance(error, self._ignore):
            return _IGNORED
        if isinstance(error, self._failure_on):
            return _FAILURE
        if not isinstance(error, Exception):
            return _CANCELLED
        return _IGNORED if self._is_failure is None else self._judged(error, _IGNORED)

    def _judged(self, result: object, otherwise: Prepared) -> Prepared:
        judgement = cast(Judge, self._is_failure)(result)
        if isinstance(judgement, Outcome):
            return OUTCOMES[judgement]
        return _FAILURE if judgement else otherwise

    def _refusal(self, status: int, call: Call) -> Error:
        if status < 0:
            return _ffi.error(status)
        retry_after_ns = call.retry_after.value
        self._idle.append(call)
        return _refused(status, retry_after_ns)


def _refused(status: int, retry_after_ns: int) -> Refused:
    retry_after = seconds(retry_after_ns)
    kind = cast(type[Refused], EXCEPTIONS[Status(status)])
    return kind(f"{_ffi.text(status)} {_when(retry_after)}", retry_after)


def _when(retry_after: float) -> str:
    if retry_after == math.inf:
        return "Only another mode changes that."
    if retry_after < _AT_ONCE:
        return "Retry at once."
    return f"Retry after {retry_after:g} s."
