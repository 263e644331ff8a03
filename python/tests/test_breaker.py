"""`Breaker`: what the binding adds to the native rules."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import pickle
import threading
from collections.abc import Generator
from typing import Any

import pytest

from elixirscope import (
    AlreadyDone,
    Breaker,
    Cause,
    CircuitOpen,
    Event,
    HalfOpenFull,
    ManualClock,
    Outcome,
    Phase,
    Status,
)


class Broken(Exception):
    """What the guarded code raises."""


def fail(breaker: Breaker, kind: type[BaseException] = Broken) -> None:
    with pytest.raises(kind), breaker:
        raise kind


def opened(clock: ManualClock, **options: Any) -> Breaker:
    breaker = Breaker(failure_threshold=1, open_for=10.0, clock=clock, **options)
    fail(breaker)
    return breaker


def phase_of(breaker: Breaker) -> Phase:
    """The phase, of which a type checker does not believe that it stays as it was."""
    return breaker.phase


def test_it_opens_refuses_probes_and_closes() -> None:
    clock = ManualClock()
    breaker = Breaker(failure_threshold=2, open_for=10.0, clock=clock)
    fail(breaker)
    assert phase_of(breaker) is Phase.CLOSED
    fail(breaker)
    assert phase_of(breaker) is Phase.OPEN
    clock.advance(4.0)
    with pytest.raises(CircuitOpen) as refusal, breaker:
        pytest.fail("an open breaker ran its block")
    assert refusal.value.retry_after == 6.0
    assert type(refusal.value) is CircuitOpen
    clock.advance(6.0)
    with breaker:
        assert phase_of(breaker) is Phase.HALF_OPEN
        with pytest.raises(HalfOpenFull), breaker:
            pytest.fail("a second probe ran")
    assert phase_of(breaker) is Phase.CLOSED


def test_it_counts_by_the_clock_of_the_library_unless_given_one() -> None:
    breaker = Breaker(failure_threshold=1, open_for=3600.0)
    fail(breaker)
    with pytest.raises(CircuitOpen) as refusal, breaker:
        pytest.fail("an open breaker ran its block")
    assert 0 < refusal.value.retry_after <= 3600.0


def test_only_the_chosen_exceptions_are_failures() -> None:
    breaker = Breaker(failure_threshold=1, failures=(OSError, ValueError), ignored=(FileNotFoundError,))
    for kind in (FileNotFoundError, Broken, KeyboardInterrupt):
        fail(breaker, kind)
        assert breaker.phase is Phase.CLOSED
    fail(breaker, ConnectionError)
    assert breaker.phase is Phase.OPEN
    assert breaker.snapshot().ignored == 3


def test_an_interrupt_or_a_cancelled_task_is_no_failure() -> None:
    breaker = Breaker(failure_threshold=1)
    for kind in (KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit):
        fail(breaker, kind)
    assert breaker.phase is Phase.CLOSED


def test_call_and_decorator_give_results_and_exceptions_through() -> None:
    breaker = Breaker(failure_threshold=1)

    @breaker
    def divide(dividend: int, *, divisor: int = 1) -> float:
        """Divides."""
        return dividend / divisor

    assert divide(6, divisor=3) == 2.0
    assert breaker.call(divide.__wrapped__, 6, divisor=2) == 3.0  # type: ignore[attr-defined]
    assert (divide.__name__, divide.__doc__) == ("divide", "Divides.")
    with pytest.raises(ZeroDivisionError):
        divide(1, divisor=0)
    with pytest.raises(CircuitOpen):
        divide(1)


def test_a_decorated_coroutine_is_judged_by_its_end() -> None:
    breaker = Breaker(failure_threshold=1)

    @breaker
    async def answer(*, works: bool) -> int:
        await asyncio.sleep(0)
        if not works:
            raise Broken
        return 42

    assert asyncio.run(answer(works=True)) == 42
    with pytest.raises(Broken):
        asyncio.run(answer(works=False))
    with pytest.raises(CircuitOpen):
        asyncio.run(answer(works=True))


def test_tasks_end_their_own_blocks() -> None:
    clock = ManualClock()
    breaker = opened(clock, half_open_permits=2, successes_to_close=2)
    clock.advance(10.0)

    async def probe(entered: asyncio.Event, leave: asyncio.Event, *, works: bool) -> None:
        with breaker:
            entered.set()
            await leave.wait()
            if not works:
                raise Broken

    async def both() -> None:
        first, second, go, wait = (asyncio.Event() for _ in range(4))
        failing = asyncio.create_task(probe(first, go, works=False))
        await first.wait()
        passing = asyncio.create_task(probe(second, wait, works=True))
        await second.wait()
        # The one that entered first leaves first: a stack of the thread would end the other's block.
        go.set()
        with pytest.raises(Broken):
            await failing
        assert breaker.phase is Phase.OPEN
        wait.set()
        await passing
        assert breaker.snapshot().stale == 1

    asyncio.run(both())


def test_blocks_nest_and_interleave_with_generators() -> None:
    inner, outer = Breaker(failure_threshold=1), Breaker(failure_threshold=1)

    def rows() -> Generator[int, None, None]:
        with inner:
            yield 1
            yield 2

    suspended = rows()
    assert next(suspended) == 1
    with outer:
        with outer, inner:
            assert next(suspended) == 2
        suspended.close()
    fail(outer)
    assert inner.snapshot().succeeded == 1
    assert inner.snapshot().ignored == 1
    assert outer.snapshot().succeeded == 2
    assert outer.phase is Phase.OPEN


def test_a_block_that_ends_in_another_context_says_so() -> None:
    breaker = Breaker()
    contextvars.copy_context().run(breaker.__enter__)
    with pytest.raises(RuntimeError, match="acquire"):
        breaker.__exit__(None, None, None)
    with breaker:
        copied = contextvars.copy_context()
        other = Breaker()
        with pytest.raises(RuntimeError, match="acquire"):
            copied.run(other.__exit__, None, None, None)
    assert breaker.snapshot().succeeded == 1


def test_a_permit_is_recorded_once() -> None:
    breaker = Breaker(failure_threshold=1)
    permit, late = breaker.acquire(), breaker.acquire()
    assert permit.record(Outcome.FAILURE) is Status.OK
    with pytest.raises(AlreadyDone, match="permit"):
        permit.record(Outcome.SUCCESS)
    assert late.record(Outcome.SUCCESS) is Status.STALE
    with pytest.raises(CircuitOpen):
        breaker.acquire()


def test_a_probe_that_comes_back_too_late_is_expired() -> None:
    clock = ManualClock()
    breaker = Breaker(failure_threshold=1, open_for=10.0, probe_lease=5.0, half_open_permits=3, clock=clock)
    fail(breaker)
    clock.advance(10.0)
    probe = breaker.acquire()
    clock.advance(5.0)
    assert probe.record(Outcome.SUCCESS) is Status.EXPIRED
    assert breaker.snapshot().expired == 1


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


def test_a_listener_that_raises_changes_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    unraisable: list[BaseException] = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: unraisable.append(report.exc_value))

    def listener(event: Event) -> None:
        raise Broken(event.cause)

    breaker = Breaker(failure_threshold=1, on_event=listener)
    fail(breaker)
    with pytest.raises(CircuitOpen), breaker:
        pytest.fail("an open breaker ran its block")
    assert [problem.args for problem in unraisable] == [(Cause.FAILURE_THRESHOLD,)]


def test_snapshot_counts_what_happened() -> None:
    breaker = Breaker(failure_threshold=2)
    with breaker:
        pass
    fail(breaker)
    fail(breaker)
    with pytest.raises(CircuitOpen), breaker:
        pytest.fail("an open breaker ran its block")
    now = breaker.snapshot()
    assert (now.admitted, now.succeeded, now.failed, now.rejected_open) == (3, 1, 2, 1)
    assert (now.phase, now.opens) == (Phase.OPEN, 1)
    breaker.reset()
    assert breaker.phase is Phase.CLOSED


def test_threads_share_a_breaker() -> None:
    breaker = Breaker(failure_threshold=10**6)
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        for turn in range(500):
            try:
                with breaker:
                    if turn % 5 == 0:
                        raise Broken
            except Broken:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now = breaker.snapshot()
    assert (now.admitted, now.succeeded, now.failed) == (4000, 3200, 800)


def test_a_refusal_can_be_pickled() -> None:
    copy = pickle.loads(pickle.dumps(CircuitOpen("open", retry_after=2.5)))
    assert (str(copy), copy.retry_after) == ("open", 2.5)


def test_a_breaker_leaves_no_garbage_behind() -> None:
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(50):
            breaker = Breaker()
            with breaker:
                pass
            del breaker
        assert len(gc.get_objects()) - before < 50
    finally:
        gc.enable()
