"""A clock that moves only when it is told to, for tests.

Every object of this package takes ``clock``: a callable that gives nanoseconds as an integer. Without one the
library reads CLOCK_MONOTONIC itself, which is faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ._units import nanoseconds, unsigned
from .errors import wrong_type

Clock: TypeAlias = Callable[[], int]


class ManualClock:
    """Nanoseconds that a test sets.

    >>> clock = ManualClock()
    >>> clock.advance(1.5)
    >>> clock()
    1500000000
    """

    __slots__ = ("now_ns",)

    def __init__(self, now_ns: int = 0) -> None:
        self.now_ns = unsigned("now_ns", now_ns, 64)

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        """Moves the clock forward."""
        self.now_ns += nanoseconds("seconds", seconds)


def checked(clock: object) -> Clock | None:
    """``clock``, if it can be one."""
    if clock is None or callable(clock):
        return clock
    raise wrong_type("clock", clock, "a function that gives nanoseconds, or None")
