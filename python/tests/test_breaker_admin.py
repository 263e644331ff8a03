"""A `Breaker` in the hands of somebody in charge: modes, options, reports, numbers."""

from __future__ import annotations

import math
import threading

import pytest
from guarded import fail, level_of, mode_of, opened, phase_of

from elixirscope import (
    Breaker,
    Cause,
    CircuitOpen,
    ForcedOpen,
    HalfOpenFull,
    InvalidArgument,
    Level,
    ManualClock,
    Mode,
    Outcome,
    Phase,
    ServiceDegraded,
    Status,
)


def test_a_breaker_that_is_forced_open_stays_so() -> None:
    clock = ManualClock()
    breaker = Breaker(clock=clock)
    breaker.force_open()
    clock.advance(1e9)
    breaker.reset()
    breaker.reinstall()
    with pytest.raises(ForcedOpen, match="Only another mode changes that") as refusal:
        breaker.acquire()
    assert refusal.value.retry_after == math.inf
    assert isinstance(refusal.value, CircuitOpen)
    now = breaker.snapshot()
    assert (now.mode, now.retry_after, now.rejected_forced_open) == (Mode.FORCED_OPEN, math.inf, 1)
    breaker.auto()
    assert breaker.call(len, "") == 0


def test_a_breaker_that_is_forced_closed_never_opens() -> None:
    breaker = Breaker(failure_threshold=1)
    breaker.force_closed()
    for _ in range(10):
        fail(breaker)
    assert (phase_of(breaker), mode_of(breaker)) == (Phase.CLOSED, Mode.FORCED_CLOSED)
    breaker.set_mode(Mode.AUTO)
    fail(breaker)
    assert (phase_of(breaker), mode_of(breaker)) == (Phase.OPEN, Mode.AUTO)


def test_metrics_only_tells_what_would_be() -> None:
    heard: list[Cause] = []
    breaker = Breaker(failure_threshold=2, on_event=lambda event: heard.append(event.cause))
    breaker.metrics_only()
    for _ in range(3):
        fail(breaker)
    assert heard.count(Cause.WOULD_OPEN) == 1
    assert (breaker.phase, breaker.mode, breaker.level) == (Phase.CLOSED, Mode.METRICS_ONLY, Level.EXCEEDED)


def test_levels_shed_by_the_strategy() -> None:
    breaker = Breaker(failure_threshold=10, strategy="gradual_degradation", admit={"light": 0.25})
    for _ in range(3):
        fail(breaker)
    assert level_of(breaker) is Level.NONE
    fail(breaker)
    assert level_of(breaker) is Level.LIGHT
    refusals: list[ServiceDegraded] = []
    for _ in range(40):
        try:
            breaker.acquire()
        except ServiceDegraded as refusal:
            refusals.append(refusal)
    assert len(refusals) == breaker.snapshot().rejected_degraded == 30
    assert refusals[0].retry_after < 1.0
    assert str(refusals[0]).endswith("Retry after 0.001 s.")


def test_reports_count_without_a_permit() -> None:
    breaker = Breaker(failure_threshold=2)
    assert breaker.report(Outcome.FAILURE) is Status.OK
    assert breaker.report(Outcome.FAILURE) is Status.OK
    assert breaker.phase is Phase.OPEN
    assert breaker.report(Outcome.SUCCESS) is Status.STALE
    now = breaker.snapshot()
    assert (now.reported, now.admitted, now.failed) == (3, 0, 0)


def test_an_ask_takes_no_permit_and_is_never_a_probe() -> None:
    clock = ManualClock()
    breaker = Breaker(failure_threshold=1, open_for=10.0, clock=clock)
    breaker.ask()
    breaker.report(Outcome.FAILURE)
    with pytest.raises(CircuitOpen) as refusal:
        breaker.ask()
    assert refusal.value.retry_after == 10.0
    clock.advance(10.0)
    with pytest.raises(CircuitOpen):
        breaker.ask()
    probe = breaker.acquire()
    with pytest.raises(HalfOpenFull):
        breaker.ask()
    probe.record(Outcome.SUCCESS)
    breaker.ask()
    breaker.force_open()
    with pytest.raises(ForcedOpen):
        breaker.ask()
    now = breaker.snapshot()
    assert (now.admitted, now.cancelled, now.succeeded) == (3, 2, 1)
    assert (now.rejected_open, now.rejected_half_open, now.rejected_forced_open) == (2, 1, 1)


def test_settle_does_what_is_due() -> None:
    clock = ManualClock()
    breaker = opened(clock, skip_half_open=True)
    clock.advance(10.0)
    assert phase_of(breaker) is Phase.OPEN
    assert breaker.snapshot().retry_after == 0.0
    breaker.settle()
    assert phase_of(breaker) is Phase.CLOSED
    now = breaker.snapshot()
    assert (now.last_cause, now.last_change) == (Cause.OPEN_ELAPSED, 10.0)


def test_reconfigure_changes_what_it_is_given_and_keeps_the_rest() -> None:
    clock = ManualClock()
    breaker = Breaker(failure_threshold=5, open_for=10.0, weights={"ignored": 1}, clock=clock)
    fail(breaker)
    breaker.reconfigure(failure_threshold=2)
    assert breaker.snapshot().failures == 1
    breaker.report(Outcome.IGNORED)
    assert breaker.phase is Phase.OPEN
    breaker.reconfigure(open_for=99.0)
    # An open time that is under way stays.
    assert breaker.snapshot().retry_after == 10.0


def test_reinstall_begins_anew() -> None:
    breaker = opened(ManualClock())
    breaker.reinstall(failure_threshold=2)
    assert (phase_of(breaker), breaker.snapshot().last_cause) == (Phase.CLOSED, Cause.REINSTALLED)
    fail(breaker)
    assert phase_of(breaker) is Phase.CLOSED
    fail(breaker)
    assert phase_of(breaker) is Phase.OPEN


def test_a_policy_replaces_the_one_before_with_its_options() -> None:
    breaker = Breaker(failure_threshold=2, window_capacity=100)
    breaker.reconfigure(policy="rate", window_size=100, min_calls=1)
    breaker.reconfigure(failure_rate=0.9)
    with pytest.raises(InvalidArgument, match="`failure_threshold` is 3, allowed is an option of policy"):
        breaker.reconfigure(failure_threshold=3)
    breaker.reconfigure(policy="consecutive_failures")
    fail(breaker)
    breaker.reconfigure(strategy="gradual_degradation", admit={"none": 0.5})
    breaker.reconfigure(strategy="fail_fast")
    for _ in range(4):
        fail(breaker)
    assert breaker.phase is Phase.OPEN


def test_options_that_are_refused_change_nothing() -> None:
    breaker = Breaker(failure_threshold=2, half_open_permits=4)
    for options in (
        {"failure_threshold": 0},
        {"failure_threshold": "1"},
        {"half_open_permits": 64},
        {"policy": "rate", "window_size": 10},
    ):
        with pytest.raises(InvalidArgument):
            breaker.reconfigure(**options)
        with pytest.raises(InvalidArgument):
            breaker.reinstall(**options)
    breaker.reconfigure(successes_to_close=4)
    fail(breaker)
    assert breaker.phase is Phase.CLOSED
    assert breaker.snapshot().generation == 1


def test_threads_reconfigure_at_the_same_time() -> None:
    breaker = Breaker(failure_threshold=1)
    changes = [
        {"half_open_permits": 8},
        {"max_ignored_probes": 3},
        {"backoff": 2.0},
        {"failure_threshold": 9},
    ]
    barrier = threading.Barrier(len(changes))

    def work(change: dict[str, object]) -> None:
        barrier.wait()
        for _ in range(200):
            breaker.reconfigure(**change)  # type: ignore[arg-type]

    threads = [threading.Thread(target=work, args=(change,)) for change in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # No change was lost: eight successes are allowed, and eight failures do not open.
    breaker.reconfigure(successes_to_close=8)
    for _ in range(8):
        fail(breaker)
    assert phase_of(breaker) is Phase.CLOSED
    fail(breaker)
    assert phase_of(breaker) is Phase.OPEN


def test_the_rates_of_a_snapshot_are_shares() -> None:
    breaker = Breaker(policy="rate", window_size=8, min_calls=8)
    for outcome in (Outcome.FAILURE, Outcome.SUCCESS, Outcome.SLOW, Outcome.SUCCESS):
        breaker.report(outcome)
    now = breaker.snapshot()
    assert (now.window_calls, now.failures, now.slow_calls) == (4, 1, 1)
    assert (now.failure_rate, now.slow_call_rate) == (0.25, 0.25)


def test_equal_seeds_open_for_equal_times() -> None:
    clock = ManualClock()
    times = [opened(clock, jitter=0.5, seed=seed).snapshot().retry_after for seed in (1, 1, 2)]
    assert times[0] == times[1] != times[2]
    assert all(5.0 <= time <= 15.0 for time in times)
