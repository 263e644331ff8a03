"""One guarded call: its permit, and which call belongs to which ``with`` block.

A call's memory, the ctypes objects and the prepared native calls, is used again, so that a pass through a
closed breaker allocates next to nothing. There are two kinds: a `PlainCall` lets the library read the clock
and asks for no events; a `WatchedCall` serves a breaker with a clock or listeners of its own.

A breaker is shared by threads and tasks, so the open blocks stand in a context variable, and each thread and
task sees its own. The variable holds the innermost call; each call holds the token that brings back the one
around it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from ctypes import byref, c_int32, c_uint64, c_void_p
from functools import partial
from typing import Any, Final, TypeAlias

from . import _breaker_abi as abi
from . import _ffi
from ._breaker_types import Event, Outcome
from ._unique import Unique
from ._units import unsigned
from .clock import Clock
from .errors import Status, invalid

_acquire = _ffi.hot("escope_breaker_acquire")
_acquire_at = _ffi.hot("escope_breaker_acquire_at")
_record = _ffi.hot("escope_breaker_record")
_record_at = _ffi.hot("escope_breaker_record_at")

# A ctypes argument; its type has no public name. A hot prototype takes no bare integer, and what is an
# argument already it need not turn into one.
Prepared: TypeAlias = Any

OUTCOMES: Final[dict[Outcome, Prepared]] = {outcome: c_int32.from_param(outcome) for outcome in Outcome}
SUCCESS: Final[Prepared] = OUTCOMES[Outcome.SUCCESS]

Listener: TypeAlias = Callable[[Event], object]


class _Call:
    """What both kinds have. ``owner`` is the identity of the breaker, which a call must not keep alive."""

    __slots__ = ("handle", "owner", "permit", "permit_ref", "retry_after", "retry_ref", "token")

    def __init__(self, handle: abi.BreakerHandle, owner: object) -> None:
        self.handle = handle
        self.owner = owner
        self.permit = abi.Permit()
        self.permit_ref = byref(self.permit)
        self.retry_after = c_uint64()
        self.retry_ref = byref(self.retry_after)
        self.token: Token[Call | None]


class PlainCall(_Call):
    """A call whose breaker has neither clock nor listeners."""

    __slots__ = ("acquire", "succeed")

    def __init__(self, handle: abi.BreakerHandle, owner: object) -> None:
        super().__init__(handle, owner)
        # It does not keep the native breaker; the handle does.
        breaker: Prepared = c_void_p.from_param(handle.value)
        self.acquire: Callable[[], int] = partial(_acquire, breaker, self.permit_ref, self.retry_ref, None)
        self.succeed: Callable[[], int] = partial(_record, breaker, self.permit_ref, SUCCESS, None)

    def record(self, outcome: Prepared) -> int:
        status: int = _record(self.handle, self.permit_ref, outcome, None)
        return status


class WatchedCall(_Call):
    """A call whose breaker has a clock or listeners."""

    __slots__ = ("clock", "events", "events_ref", "listeners")

    def __init__(
        self, handle: abi.BreakerHandle, owner: object, clock: Clock | None, listeners: tuple[Listener, ...]
    ) -> None:
        super().__init__(handle, owner)
        self.clock = clock
        self.listeners = listeners
        self.events = abi.Events()
        self.events_ref = byref(self.events)

    def acquire(self) -> int:
        arguments = (self.handle, self.permit_ref, self.retry_ref, self.events_ref)
        if self.clock is None:
            status: int = _acquire(*arguments)
        else:
            status = _acquire_at(*arguments, now(self.clock))
        publish(self.listeners, self.events)
        return status

    def succeed(self) -> int:
        return self.record(SUCCESS)

    def record(self, outcome: Prepared) -> int:
        arguments = (self.handle, self.permit_ref, outcome, self.events_ref)
        if self.clock is None:
            status: int = _record(*arguments)
        else:
            status = _record_at(*arguments, now(self.clock))
        publish(self.listeners, self.events)
        return status


Call: TypeAlias = PlainCall | WatchedCall


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


def now(clock: Clock) -> c_uint64:
    """A reading of a user's clock."""
    return c_uint64(unsigned("clock", clock(), 64))


def publish(listeners: tuple[Listener, ...], events: Any) -> None:
    """Tells the listeners of each event, and empties the list: a failed call does not write it."""
    count, events.count = events.count, 0
    for native in events.items[:count] if listeners else ():
        event = Event.from_native(native)
        for listener in listeners:
            _ffi.shielded(listener, event)


_innermost: ContextVar[Call | None] = ContextVar("elixirscope_innermost_call", default=None)
innermost = _innermost.get
enter = _innermost.set
leave = _innermost.reset


def take_out(owner: object) -> Call:
    """The innermost call of ``owner``, when the innermost call of all is another breaker's.

    That is so when a generator that suspends inside a block is closed or resumed inside another block.
    """
    above: list[Call] = []
    found: Call | None = None
    try:
        while found is None and (call := innermost()) is not None:
            leave(call.token)
            if call.owner is owner:
                found = call
            else:
                above.append(call)
    except ValueError:
        # A token of another context: what stands below was entered by the task that started this one.
        found = None
    for call in reversed(above):
        call.token = enter(call)
    if found is None:
        raise RuntimeError(
            "this `with` block began in another context (thread, task or copied context) than it ends in; "
            "use Breaker.acquire() and Permit.record() there"
        )
    return found
