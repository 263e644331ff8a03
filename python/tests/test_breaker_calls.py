"""Which calls a `Breaker` guards, and what becomes of them: exceptions, results, coroutines."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from guarded import Broken, fail, opened, phase_of

from elixirscope import Breaker, CircuitOpen, FaultInjected, ManualClock, Outcome, Phase, Unsupported


def counted(breaker: Breaker) -> tuple[int, int, int, int]:
    now = breaker.snapshot()
    return now.succeeded, now.failed, now.ignored, now.cancelled


def test_only_the_chosen_exceptions_are_failures() -> None:
    breaker = Breaker(failure_threshold=1, failure_on=(OSError, ValueError), ignore=(FileNotFoundError,))
    for kind in (FileNotFoundError, Broken, KeyboardInterrupt):
        fail(breaker, kind)
        assert breaker.phase is Phase.CLOSED
    assert counted(breaker) == (0, 0, 2, 1)
    fail(breaker, ConnectionError)
    assert breaker.phase is Phase.OPEN


def test_an_interrupt_or_a_cancelled_task_is_cancelled() -> None:
    breaker = Breaker(failure_threshold=1)
    for kind in (KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit):
        fail(breaker, kind)
    assert breaker.phase is Phase.CLOSED
    assert counted(breaker) == (0, 0, 0, 4)
    strict = Breaker(failure_threshold=1, failure_on=(asyncio.CancelledError,))
    fail(strict, asyncio.CancelledError)
    assert strict.phase is Phase.OPEN


def test_is_failure_is_asked_about_the_other_exceptions() -> None:
    asked: list[object] = []

    def is_failure(error: object) -> bool | Outcome:
        asked.append(error)
        return Outcome.SUCCESS if isinstance(error, KeyError) else isinstance(error, OSError)

    breaker = Breaker(
        failure_threshold=1, failure_on=(ZeroDivisionError,), ignore=(Broken,), is_failure=is_failure
    )
    for kind in (ValueError, KeyError, Broken, KeyboardInterrupt):
        fail(breaker, kind)
    assert counted(breaker) == (1, 0, 2, 1)
    for failure in (OSError, ZeroDivisionError):
        fail(breaker, failure)
        assert phase_of(breaker) is Phase.OPEN
        breaker.reset()
    assert [type(error) for error in asked] == [ValueError, KeyError, OSError]


def test_a_judge_of_results_leaves_exceptions_failures() -> None:
    breaker = Breaker(failure_threshold=1, is_failure=lambda result: result == 503)
    fail(breaker)
    assert breaker.phase is Phase.OPEN


def test_is_failure_judges_what_is_returned() -> None:
    judgements: dict[object, bool | Outcome] = {200: False, 503: True, 404: Outcome.IGNORED}
    breaker = Breaker(failure_threshold=2, is_failure=judgements.__getitem__)

    @breaker
    def plain(status: int) -> int:
        return status

    @breaker
    async def later(status: int) -> int:
        await asyncio.sleep(0)
        return status

    for status in (200, 404, 503):
        assert plain(status) == status
    assert counted(breaker) == (1, 1, 1, 0)
    for status in (200, 404):
        assert asyncio.run(later(status)) == status
    assert phase_of(breaker) is Phase.CLOSED
    for status in (503, 503):
        assert asyncio.run(later(status)) == status
    assert phase_of(breaker) is Phase.OPEN
    # A block has no result.
    breaker.reset()
    with breaker:
        pass
    assert counted(breaker) == (3, 3, 2, 0)


@pytest.mark.parametrize("raises", [False, True])
def test_a_judge_that_raises_counts_as_a_failure(raises: bool) -> None:
    breaker = Breaker(failure_threshold=1, open_for=0.0, failure_on=(), is_failure=lambda result: {}[result])
    breaker.report(Outcome.FAILURE)

    def probe() -> str:
        if raises:
            raise Broken
        return "result"

    with pytest.raises(KeyError) as problem:
        breaker.call(probe)
    assert isinstance(problem.value.__context__, Broken) is raises
    assert breaker.phase is Phase.OPEN
    assert breaker.snapshot().live_probes == 0


def test_slow_calls_open_by_their_share() -> None:
    clock = ManualClock()
    breaker = Breaker(
        policy="rate", window_size=10, min_calls=4, slow_call=2.0, slow_call_rate=0.5, clock=clock
    )
    for seconds in (1, 2, 3):
        breaker.call(clock.advance, seconds)
    assert breaker.snapshot().slow_calls == 1
    breaker.call(clock.advance, 2.5)
    assert breaker.phase is Phase.OPEN
    permit = Breaker(policy="rate", window_size=1, min_calls=1, slow_call=1.0).acquire()
    assert permit.record(Outcome.SLOW) == 0


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


def test_a_block_may_be_an_async_one() -> None:
    breaker = Breaker(failure_threshold=1)

    async def work(*, works: bool) -> Breaker:
        async with breaker as entered:
            await asyncio.sleep(0)
            if not works:
                raise Broken
        return entered

    assert asyncio.run(work(works=True)) is breaker
    with pytest.raises(Broken):
        asyncio.run(work(works=False))
    with pytest.raises(CircuitOpen):
        asyncio.run(work(works=True))


def test_a_task_that_is_cancelled_is_cancelled() -> None:
    clock = ManualClock()
    breaker = opened(clock)
    clock.advance(10.0)

    @breaker
    async def wait() -> None:
        await asyncio.Event().wait()

    async def cancel() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert breaker.snapshot().live_probes == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    now = breaker.snapshot()
    assert (now.phase, now.live_probes, now.cancelled) == (Phase.HALF_OPEN, 0, 1)


def test_a_coroutine_is_part_of_the_call_that_made_it() -> None:
    class Client:
        async def __call__(self, *, works: bool) -> int:
            await asyncio.sleep(0)
            if not works:
                raise Broken
            return 42

    async def fetch(client: Client, *, works: bool) -> int:
        return await client(works=works)

    client = Client()
    made: list[Callable[..., Any]] = [
        lambda breaker, works: breaker.call(fetch, client, works=works),
        lambda breaker, works: breaker(client)(works=works),
        lambda breaker, works: breaker(functools.partial(fetch, client))(works=works),
    ]

    async def use(make: Callable[..., Any]) -> None:
        breaker = Breaker(failure_threshold=1)
        assert await make(breaker, True) == 42
        assert counted(breaker) == (1, 0, 0, 0)
        with pytest.raises(Broken):
            await make(breaker, False)
        assert counted(breaker) == (1, 1, 0, 0)
        with pytest.raises(CircuitOpen):
            await make(breaker, True)

    for make in made:
        asyncio.run(use(make))


def test_a_decorated_coroutine_function_stays_one() -> None:
    breaker = Breaker(failure_threshold=1)

    @breaker
    async def later() -> None: ...

    assert inspect.iscoroutinefunction(later)
    # It asks when it is awaited, not when it is made.
    coroutine = later()
    fail(breaker)
    with pytest.raises(CircuitOpen):
        asyncio.run(coroutine)


def test_a_refused_call_is_not_made() -> None:
    breaker = opened(ManualClock())
    for call in (lambda: breaker.call(pytest.fail), breaker(pytest.fail), breaker.acquire):
        with pytest.raises(CircuitOpen):
            call()


def test_the_wheel_injects_no_faults() -> None:
    with pytest.raises(Unsupported, match="without fault injection"):
        Breaker().inject_faults(failure_rate=1.0)
    assert issubclass(FaultInjected, CircuitOpen)
