"""Fault injection. Not collected with the tests: it wants a library that has it, and a wheel's has not."""

from __future__ import annotations

import time
from typing import Any

import pytest

from elixirscope import Breaker, FaultInjected, InvalidArgument, Phase


def faults_of(seed: int) -> list[bool]:
    breaker = Breaker(failure_threshold=1000)
    breaker.inject_faults(failure_rate=0.3, seed=seed)
    struck = []
    for _ in range(1000):
        try:
            breaker.call(len, "")
            struck.append(False)
        except FaultInjected:
            struck.append(True)
    assert breaker.snapshot().injected == sum(struck)
    return struck


def test_a_share_of_the_calls_fails_by_the_seed() -> None:
    assert 200 < sum(faults_of(1)) < 400
    assert faults_of(1) == faults_of(1) != faults_of(2)


def test_injected_faults_open_a_breaker_and_end() -> None:
    breaker = Breaker(failure_threshold=2, open_for=0.0)
    breaker.inject_faults(failure_rate=1.0)
    for _ in range(2):
        with pytest.raises(FaultInjected), breaker:
            pytest.fail("a call that was chosen to fail was made")
    assert breaker.phase is Phase.OPEN
    breaker.inject_faults()
    breaker.reset()
    assert breaker.call(len, "") == 0


def test_calls_wait() -> None:
    breaker = Breaker()
    breaker.inject_faults(delay_rate=1.0, delay=0.02)
    began = time.monotonic()
    breaker.call(len, "")
    assert time.monotonic() - began >= 0.02


@pytest.mark.parametrize(
    ("argument", "value"),
    [("failure_rate", 1.5), ("failure_rate", "1"), ("delay_rate", -1), ("delay", 1e10), ("seed", 2**64)],
)
def test_faults_are_named_in_the_words_of_the_caller(argument: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"`{argument}` is {value!r}, allowed is "):
        Breaker().inject_faults(**{argument: value})
