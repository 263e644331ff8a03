"""`Breaker`: what the binding adds to the native rules."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import pickle
import threading
from collections.abc import Generator
from typing import Any

import pytest
from guarded import Broken, fail, phase_of

from elixirscope import (
    AlreadyDone,
    Breaker,
    CircuitOpen,
    HalfOpenFull,
    InvalidArgument,
    ManualClock,
    Outcome,
    PermitNotFound,
    Phase,
    Status,
)


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
    assert inner.snapshot().cancelled == 1
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


def test_a_forged_probe_is_not_found() -> None:
    clock = ManualClock()
    breaker = Breaker(failure_threshold=1, open_for=10.0, clock=clock)
    fail(breaker)
    clock.advance(10.0)
    probe = breaker.acquire()
    probe._call.permit.private_epoch += 1
    with pytest.raises(PermitNotFound, match="`permit` is a probe that this breaker never granted"):
        probe.record(Outcome.SUCCESS)
    assert breaker.phase is Phase.HALF_OPEN


def test_a_probe_that_comes_back_too_late_is_expired() -> None:
    clock = ManualClock()
    breaker = Breaker(failure_threshold=1, open_for=10.0, probe_lease=5.0, half_open_permits=3, clock=clock)
    fail(breaker)
    clock.advance(10.0)
    probe = breaker.acquire()
    clock.advance(5.0)
    assert probe.record(Outcome.SUCCESS) is Status.EXPIRED
    assert breaker.snapshot().expired == 1


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
    assert breaker.snapshot().admitted == 3
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


@pytest.mark.parametrize("options", [{}, {"on_event": [print]}, {"clock": ManualClock()}])
def test_a_breaker_leaves_no_garbage_behind(options: dict[str, Any]) -> None:
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(50):
            breaker = Breaker(**options)
            with breaker:
                pass
            breaker.call(len, "")
            breaker.acquire()
            with contextlib.suppress(InvalidArgument):
                breaker.reconfigure(failure_threshold=0)
            del breaker
        assert len(gc.get_objects()) - before < 50
    finally:
        gc.enable()


def test_a_breaker_says_how_it_is() -> None:
    breaker = Breaker(failure_threshold=2)
    fail(breaker)
    assert repr(breaker) == (
        "<Breaker closed, mode auto, level light, 1 failures that count, 1 admitted, 0 rejected>"
    )
    breaker.force_open()
    with pytest.raises(CircuitOpen):
        breaker.acquire()
    assert repr(breaker).startswith("<Breaker open, mode forced_open,")
    assert repr(breaker).endswith(" 1 admitted, 1 rejected>")
    breaker.close()
    assert repr(breaker) == "<Breaker, not to be used after close()>"
