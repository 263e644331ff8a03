"""What the tests of the breaker share: calls that fail, and breakers in a state."""

from __future__ import annotations

from typing import Any

import pytest

from elixirscope import Breaker, Level, ManualClock, Mode, Phase


class Broken(Exception):
    """What the guarded code raises."""


def fail(breaker: Breaker, kind: type[BaseException] = Broken) -> None:
    with pytest.raises(kind), breaker:
        raise kind


def opened(clock: ManualClock, **options: Any) -> Breaker:
    breaker = Breaker(failure_threshold=1, open_for=10.0, clock=clock, **options)
    fail(breaker)
    return breaker


# Of a property a type checker does not believe that it changes.
def phase_of(breaker: Breaker) -> Phase:
    return breaker.phase


def mode_of(breaker: Breaker) -> Mode:
    return breaker.mode


def level_of(breaker: Breaker) -> Level:
    return breaker.level
