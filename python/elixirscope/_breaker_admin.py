"""A breaker for whoever is in charge of it: its options, mode and numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from ctypes import byref, sizeof
from threading import RLock
from typing import TYPE_CHECKING, Any

from . import _breaker_abi as abi
from . import _ffi
from ._breaker_call import OUTCOMES, Listener, now, publish
from ._breaker_native import layer, native, native_faults, over, refusal
from ._breaker_types import BreakerSnapshot, Level, Mode, Outcome, Phase
from ._unique import Unique
from .clock import Clock, checked
from .errors import HandleClosed, Status, Unsupported, invalid, wrong_type

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._breaker_options import BreakerOptions

# What a breaker was told, and what its native side was told, change together. No user code runs meanwhile,
# and a fork waits until nobody is at it.
_configuring = RLock()
os.register_at_fork(
    before=_configuring.acquire,
    after_in_parent=_configuring.release,
    after_in_child=_configuring.release,
)


class AdministeredBreaker(Unique):
    """What a `Breaker` is apart from its calls."""

    __slots__ = ("_clock", "_handle", "_listeners", "_options")

    def __init__(self, options: Mapping[str, Any], on_event: object, clock: object) -> None:
        self._options = layer(options)
        self._listeners = _listeners(on_event)
        self._clock: Clock | None = checked(clock)
        settings, handle = native(self._options), abi.BreakerHandle()
        if status := _ffi.api.escope_breaker_new(byref(settings), byref(handle)):
            raise refusal(status, self._options, settings)
        self._handle: abi.BreakerHandle | None = handle

    def __repr__(self) -> str:
        if self._handle is None:
            return f"<{type(self).__name__}, not to be used after close()>"
        stats = abi.BreakerStats(struct_size=sizeof(abi.BreakerStats))
        _ffi.check(_ffi.api.escope_breaker_snapshot(self._handle, byref(stats)))
        seen = BreakerSnapshot.from_native(stats)
        rejected = (
            seen.rejected_open + seen.rejected_half_open + seen.rejected_forced_open + seen.rejected_degraded
        )
        return (
            f"<{type(self).__name__} {seen.phase.name.lower()}, mode {seen.mode.name.lower()}, "
            f"level {seen.level.name.lower()}, {seen.failures} failures that count, "
            f"{seen.admitted} admitted, {rejected} rejected>"
        )

    @property
    def phase(self) -> Phase:
        """Where the breaker stands; asking changes nothing."""
        return self.snapshot().phase

    @property
    def mode(self) -> Mode:
        """Who decides."""
        return self.snapshot().mode

    @property
    def level(self) -> Level:
        """How much of what its policy tolerates a closed breaker has used."""
        return self.snapshot().level

    def snapshot(self) -> BreakerSnapshot:
        """The breaker now; taking it changes nothing.

        An open breaker whose time is over still reads open, with a ``retry_after`` of 0: the next call
        changes it.
        """
        stats = abi.BreakerStats(struct_size=sizeof(abi.BreakerStats))
        if self._clock is None:
            status = _ffi.api.escope_breaker_snapshot(self._live(), byref(stats))
        else:
            status = _ffi.api.escope_breaker_snapshot_at(self._live(), byref(stats), now(self._clock))
        _ffi.check(status)
        return BreakerSnapshot.from_native(stats)

    def report(self, outcome: Outcome) -> Status:
        """Says how a call ended that did not ask the breaker first.

        Gives `Status.OK`, or `Status.STALE` where the breaker is not closed and counts no such call.
        """
        if outcome not in OUTCOMES:
            raise invalid("outcome", outcome, "a member of Outcome")
        return self._perform("report", outcome)

    def settle(self) -> None:
        """Does what time has made due, as every call does too; for listeners that want to hear of it now."""
        self._perform("settle")

    def reset(self) -> None:
        """Closes the breaker and forgets its results; permits that are out become stale. The mode stays."""
        self._perform("reset")

    def set_mode(self, mode: Mode) -> None:
        """Puts somebody, or the results again, in charge; another mode begins without results.

        >>> from elixirscope import Breaker, ForcedOpen
        >>> breaker = Breaker()
        >>> breaker.force_open()
        >>> try:
        ...     breaker.call(len, "not called")
        ... except ForcedOpen as refusal:
        ...     print(refusal.retry_after)
        inf
        >>> breaker.auto()
        >>> breaker.call(len, "called")
        6
        """
        if not isinstance(mode, Mode):
            raise wrong_type("mode", mode, "a member of Mode")
        self._perform("set_mode", mode)

    def force_open(self) -> None:
        """Refuses every call with `ForcedOpen`, until another mode is set."""
        self.set_mode(Mode.FORCED_OPEN)

    def force_closed(self) -> None:
        """Switches the breaker off: every call is admitted and nothing counts toward opening."""
        self.set_mode(Mode.FORCED_CLOSED)

    def metrics_only(self) -> None:
        """Admits every call, counts, and tells listeners when the breaker would have opened."""
        self.set_mode(Mode.METRICS_ONLY)

    def auto(self) -> None:
        """Lets the results decide; the mode of a new breaker."""
        self.set_mode(Mode.AUTO)

    def reconfigure(self, **options: Unpack[BreakerOptions]) -> None:
        """Gives the breaker other options, over those that it has, and keeps its state.

        What stays: phase, open time, mode, and the results so far unless they are of another kind of policy.
        A ``policy`` replaces the one before with all of its options, ``strategy`` likewise. A half-open
        breaker whose permits, successes, lease or limit change begins a new round. Options that are refused
        change nothing.

        >>> from elixirscope import Breaker
        >>> breaker = Breaker(failure_threshold=5, open_for=30, window_capacity=1000)
        >>> breaker.reconfigure(failure_threshold=3)
        >>> breaker.reconfigure(policy="rate", window_size=1000, failure_rate=0.2)
        """
        self._configure("reconfigure", options)

    def reinstall(self, **options: Unpack[BreakerOptions]) -> None:
        """Like `reconfigure`, and begins anew: closed and without results, in the mode that it has."""
        self._configure("reinstall", options)

    def inject_faults(
        self, *, failure_rate: float = 0.0, delay_rate: float = 0.0, delay: float = 0.0, seed: int = 0
    ) -> None:
        """Makes a share of a closed breaker's calls fail with `FaultInjected`, or wait ``delay`` seconds.

        For development and tests: a wheel's library does not hold it, and this raises `Unsupported`. Which
        calls are chosen follows from ``seed``; shares of 0 end it. A delay holds the interpreter lock.
        """
        if not hasattr(_ffi.api, "escope_breaker_inject_faults"):
            raise Unsupported(
                "this library was built without fault injection, as every wheel's is; for tests, build one "
                "with `cargo build --features fault-injection`"
            )
        faults = {"failure_bp": failure_rate, "delay_bp": delay_rate, "delay_ns": delay, "seed": seed}
        numbers = native_faults(faults)
        if status := _ffi.api.escope_breaker_inject_faults(self._live(), *numbers):
            raise refusal(status, faults, abi.BreakerOptions())

    def _configure(self, verb: str, options: Mapping[str, Any]) -> None:
        time = None if self._clock is None else now(self._clock)
        changes, events = layer(options), abi.Events()
        with _configuring:
            fields = over(changes, self._options)
            settings = native(fields)
            arguments = (self._live(), byref(settings), byref(events))
            status = _call(verb, arguments, time)
            if status:
                raise refusal(status, fields, settings)
            self._options = fields
        publish(self._listeners, events)

    def _perform(self, verb: str, *arguments: object) -> Status:
        """Calls the library's function of that name, with the clock's time if there is a clock."""
        events = abi.Events()
        time = None if self._clock is None else now(self._clock)
        status = _call(verb, (self._live(), *arguments, byref(events)), time)
        if status < 0:
            raise _ffi.error(status)
        publish(self._listeners, events)
        return Status(status)

    def _live(self) -> abi.BreakerHandle:
        if self._handle is None:
            raise HandleClosed("this breaker was closed")
        return self._handle


def _call(verb: str, arguments: tuple[object, ...], time: object) -> int:
    name = f"escope_breaker_{verb}"
    if time is None:
        status: int = getattr(_ffi.api, name)(*arguments)
    else:
        status = getattr(_ffi.api, f"{name}_at")(*arguments, time)
    return status


def _listeners(on_event: object) -> tuple[Listener, ...]:
    if on_event is None:
        return ()
    listeners = tuple(on_event) if isinstance(on_event, (list, tuple)) else (on_event,)
    if not all(map(callable, listeners)):
        raise wrong_type("on_event", on_event, "a function that takes an event, a list of such, or None")
    return listeners
