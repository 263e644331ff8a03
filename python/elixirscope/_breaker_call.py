"""One guarded call: its permit, and which call belongs to which ``with`` block.

A call's memory, the ctypes objects and the prepared native calls, is used again, so that a pass through a
closed breaker allocates next to nothing. There are two kinds: a `PlainCall` lets the library read the clock
and asks for no events; a `WatchedCall` serves a breaker with a clock or a listener of its own.

A breaker is shared by threads and tasks, so the open blocks stand in a context variable, and each thread and
task sees its own. The variable holds the innermost call; each call holds the token that brings back the one
around it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from ctypes import byref, c_int32, c_uint64
from functools import partial
from typing import Any, Final, TypeAlias

from . import _ffi
from ._breaker_types import Event, Outcome
from ._units import unsigned
from .clock import Clock

_acquire = _ffi.hot("escope_breaker_acquire")
_acquire_at = _ffi.hot("escope_breaker_acquire_at")
_record = _ffi.hot("escope_breaker_record")
_record_at = _ffi.hot("escope_breaker_record_at")

# Prepared, because a hot prototype takes no bare integer.
OUTCOMES: Final = {outcome: c_int32(outcome) for outcome in Outcome}
_SUCCESS: Final = OUTCOMES[Outcome.SUCCESS]

Listener: TypeAlias = Callable[[Event], object]


class _Call:
    """What both kinds have. ``owner`` is the identity of the breaker, which a call must not keep alive."""

    __slots__ = ("handle", "owner", "permit", "permit_ref", "retry_after", "retry_ref", "token")

    def __init__(self, handle: _ffi.BreakerHandle, owner: object) -> None:
        self.handle = handle
        self.owner = owner
        self.permit = _ffi.Permit()
        self.permit_ref = byref(self.permit)
        self.retry_after = c_uint64()
        self.retry_ref = byref(self.retry_after)
        self.token: Token[Call | None]


class PlainCall(_Call):
    """A call whose breaker has neither clock nor listener."""

    __slots__ = ("acquire", "succeed")

    def __init__(self, handle: _ffi.BreakerHandle, owner: object) -> None:
        super().__init__(handle, owner)
        self.acquire: Callable[[], int] = partial(_acquire, handle, self.permit_ref, self.retry_ref, None)
        self.succeed: Callable[[], int] = partial(_record, handle, self.permit_ref, _SUCCESS, None)

    def record(self, outcome: c_int32) -> int:
        status: int = _record(self.handle, self.permit_ref, outcome, None)
        return status


class WatchedCall(_Call):
    """A call whose breaker has a clock or a listener."""

    __slots__ = ("clock", "events", "events_ref", "listener")

    def __init__(
        self, handle: _ffi.BreakerHandle, owner: object, clock: Clock | None, listener: Listener | None
    ) -> None:
        super().__init__(handle, owner)
        self.clock = clock
        self.listener = listener
        self.events = _ffi.Events()
        self.events_ref = byref(self.events)

    def acquire(self) -> int:
        arguments = (self.handle, self.permit_ref, self.retry_ref, self.events_ref)
        if self.clock is None:
            status: int = _acquire(*arguments)
        else:
            status = _acquire_at(*arguments, now(self.clock))
        publish(self.listener, self.events)
        return status

    def succeed(self) -> int:
        return self.record(_SUCCESS)

    def record(self, outcome: c_int32) -> int:
        arguments = (self.handle, self.permit_ref, outcome, self.events_ref)
        if self.clock is None:
            status: int = _record(*arguments)
        else:
            status = _record_at(*arguments, now(self.clock))
        publish(self.listener, self.events)
        return status


Call: TypeAlias = PlainCall | WatchedCall


def now(clock: Clock) -> c_uint64:
    """A reading of a user's clock."""
    return c_uint64(unsigned("clock", clock(), 64))


def publish(listener: Listener | None, events: Any) -> None:
    """Tells the listener of each event, and empties the list: a failed call does not write it."""
    count, events.count = events.count, 0
    if listener is not None:
        for event in events.items[:count]:
            _ffi.shielded(listener, Event.from_native(event))


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
