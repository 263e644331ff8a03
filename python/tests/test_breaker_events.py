"""What the listeners of a `Breaker` hear."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable

import pytest
from guarded import Broken, fail, opened

from elixirscope import Breaker, Cause, CircuitOpen, Event, Level, ManualClock, Mode, Phase


def test_events_reach_the_listener_in_order_and_once() -> None:
    heard: list[Event] = []
    clock = ManualClock()
    breaker = Breaker(failure_threshold=1, open_for=10.0, on_event=heard.append, clock=clock)
    fail(breaker)
    clock.advance(10.0)
    with breaker:
        pass
    breaker.reset()
    assert [event.sequence for event in heard] == [1, 2, 3, 4]
    assert [(event.before, event.after) for event in heard] == [
        (Phase.CLOSED, Phase.OPEN),
        (Phase.OPEN, Phase.HALF_OPEN),
        (Phase.HALF_OPEN, Phase.CLOSED),
        (Phase.CLOSED, Phase.CLOSED),
    ]
    assert [event.cause for event in heard] == [
        Cause.FAILURE_THRESHOLD,
        Cause.OPEN_ELAPSED,
        Cause.PROBES_SUCCEEDED,
        Cause.RESET,
    ]
    assert [event.at for event in heard] == [0.0, 10.0, 10.0, 10.0]


def test_events_of_levels_are_numbered_apart() -> None:
    heard: list[Event] = []
    breaker = Breaker(failure_threshold=5, on_event=heard.append, clock=ManualClock(7))
    for _ in range(5):
        fail(breaker)
    of_levels = [event for event in heard if event.is_of_level]
    assert [(event.level_before, event.level_after) for event in of_levels] == [
        (Level.NONE, Level.LIGHT),
        (Level.LIGHT, Level.MEDIUM),
        (Level.MEDIUM, Level.HEAVY),
    ]
    assert [event.sequence for event in of_levels] == [1, 2, 3]
    assert {event.cause for event in of_levels} == {Cause.LEVEL_CHANGED}
    assert {event.generation for event in of_levels} == {1}
    assert heard[-1] == Event(
        sequence=1,
        generation=2,
        before=Phase.CLOSED,
        after=Phase.OPEN,
        level_before=Level.HEAVY,
        level_after=Level.NONE,
        mode=Mode.AUTO,
        cause=Cause.FAILURE_THRESHOLD,
        at=7e-9,
    )


def test_one_call_may_cause_two_events() -> None:
    heard: list[Event] = []
    clock = ManualClock()
    breaker = opened(clock, probe_lease=5.0, on_event=heard.append)
    clock.advance(10.0)
    breaker.acquire()
    clock.advance(100.0)
    breaker.acquire()
    assert [(event.cause, event.at) for event in heard[2:]] == [
        (Cause.PROBE_EXPIRED, 15.0),
        (Cause.OPEN_ELAPSED, 110.0),
    ]


def test_what_is_done_by_hand_is_heard() -> None:
    heard: list[Event] = []
    breaker = Breaker(on_event=heard.append)
    doings: list[Callable[[], object]] = [
        breaker.reset,
        breaker.force_open,
        breaker.force_open,
        breaker.force_closed,
        breaker.metrics_only,
        breaker.auto,
        breaker.reinstall,
        breaker.reconfigure,
        breaker.settle,
    ]
    for do in doings:
        do()
    assert [(event.cause, event.mode) for event in heard] == [
        (Cause.RESET, Mode.AUTO),
        (Cause.MODE_CHANGED, Mode.FORCED_OPEN),
        (Cause.MODE_CHANGED, Mode.FORCED_CLOSED),
        (Cause.MODE_CHANGED, Mode.METRICS_ONLY),
        (Cause.MODE_CHANGED, Mode.AUTO),
        (Cause.REINSTALLED, Mode.AUTO),
    ]


def test_every_listener_hears_and_none_changes_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    unraisable: list[BaseException] = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: unraisable.append(report.exc_value))
    heard: list[Event] = []

    def listener(event: Event) -> None:
        raise Broken(event.cause)

    breaker = Breaker(failure_threshold=1, on_event=[listener, heard.append])
    fail(breaker)
    with pytest.raises(CircuitOpen), breaker:
        pytest.fail("an open breaker ran its block")
    breaker.reset()
    assert [problem.args for problem in unraisable] == [(Cause.FAILURE_THRESHOLD,), (Cause.RESET,)]
    assert [event.cause for event in heard] == [Cause.FAILURE_THRESHOLD, Cause.RESET]


def test_the_interpreters_own_hook_tells_of_a_listener_that_raised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.unraisablehook", sys.__unraisablehook__)

    def listener(event: Event) -> None:
        raise Broken(event.cause)

    breaker = Breaker(failure_threshold=1, on_event=listener)
    fail(breaker)
    assert breaker.phase is Phase.OPEN
    told = capsys.readouterr().err
    assert f"in {listener.__name__}" in told
    assert "Broken" in told


def test_a_listener_may_use_the_breaker() -> None:
    heard: list[Cause] = []

    def listener(event: Event) -> None:
        heard.append(event.cause)
        assert breaker.snapshot().phase is event.after
        if event.cause is Cause.FAILURE_THRESHOLD:
            breaker.reconfigure(failure_threshold=2)
            breaker.reset()

    breaker = Breaker(failure_threshold=1, on_event=listener)
    fail(breaker)
    breaker.call(len, "")
    assert heard == [Cause.FAILURE_THRESHOLD, Cause.RESET]


def test_threads_lose_no_event() -> None:
    heard: list[Event] = []
    breaker = Breaker(failure_threshold=3, open_for=0.0, on_event=heard.append)
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        for turn in range(500):
            try:
                with breaker:
                    if turn % 5:
                        raise Broken
            except (Broken, CircuitOpen):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for of_level in (True, False):
        events = sorted((e for e in heard if e.is_of_level is of_level), key=lambda e: e.sequence)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    # The last loop's events are those of phases: each begins where the one before ended.
    assert all(earlier.after is later.before for earlier, later in itertools.pairwise(events))
    assert events[-1].after is breaker.phase
