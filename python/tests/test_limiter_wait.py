"""`acquire`, its coroutine and the decorator: who waits, in which order, what an ended wait gives back."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from typing import Any

import pytest

from elixirscope import InvalidArgument, ManualClock, Never, QueueFull, RateLimited, RateLimiter


class Mishap(Exception):
    """Raised by a signal handler."""


def until(condition: Any) -> None:
    while not condition():
        time.sleep(0.001)


def test_acquire_sleeps_until_its_time() -> None:
    limiter = RateLimiter()
    before = time.monotonic()
    assert limiter.acquire("a", 100, 1, burst=1).wait == 0.0
    taken = 1
    # A thread that got no processor for 10 ms finds that its time has come already.
    while (wait := limiter.acquire("a", 100, 1, burst=1).wait) == 0.0:
        taken += 1
    assert wait <= 0.01
    assert time.monotonic() - before >= taken * 0.01


def test_a_wait_that_would_be_too_long_is_refused_at_once() -> None:
    limiter = RateLimiter(clock=ManualClock())
    limiter.check("a", 1, 60)
    for timeout in (0, 59.9):
        with pytest.raises(RateLimited) as refusal:
            limiter.acquire("a", 1, 60, timeout=timeout)
        assert refusal.value.retry_after == 60.0
    with pytest.raises(Never):
        limiter.acquire("a", 1, 60, 2)
    assert limiter.snapshot().waiting == 0


def test_first_come_first_served_by_the_clock_given() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock=clock)
    limiter.check("a", 1, 60)
    served: list[int] = []

    def wait(number: int) -> None:
        limiter.acquire("a", 1, 60)
        served.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(3)]
    for number, thread in enumerate(threads):
        thread.start()
        until(lambda number=number: limiter.snapshot().allowed == number + 2)
    assert limiter.snapshot().waiting == 3
    for number in range(3):
        assert served == list(range(number))
        clock.advance(60)
        threads[number].join()
    assert served == [0, 1, 2]
    assert limiter.snapshot().waiting == 0


def test_the_queue_is_bounded_and_others_pass() -> None:
    clock = ManualClock()
    limiter = RateLimiter(max_waiting=1, clock=clock)
    limiter.check("a", 1, 60)
    waiter = threading.Thread(target=limiter.acquire, args=("a", 1, 60))
    waiter.start()
    until(lambda: limiter.snapshot().allowed == 2)
    with pytest.raises(QueueFull):
        limiter.acquire("a", 1, 60)
    assert limiter.acquire("b", 1, 60).wait == 0.0
    with pytest.raises(RateLimited):
        limiter.acquire("a", 1, 60, timeout=0)
    clock.advance(60)
    waiter.join()
    assert limiter.peek("a", 1, 60).retry_after == 60.0


def test_a_signal_handler_that_raises_ends_a_wait_and_gives_the_tokens_back() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock=clock)
    limiter.check("a", 1, 60)

    def handler(_signal: int, _frame: object) -> None:
        raise Mishap

    main = threading.get_ident()

    def strike() -> None:
        until(lambda: limiter.snapshot().allowed == 2)
        # The wait has begun, or is about to.
        time.sleep(0.02)
        signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    striker = threading.Thread(target=strike)
    try:
        striker.start()
        with pytest.raises(Mishap):
            limiter.acquire("a", 1, 60)
    finally:
        striker.join()
        signal.signal(signal.SIGUSR1, before)
    assert limiter.snapshot().waiting == 0
    assert limiter.peek("a", 1, 60).retry_after == 60.0


def test_a_coroutine_waits_and_a_cancelled_one_gives_back() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock=clock)

    async def work() -> None:
        await limiter.acquire_async("a", 1, 60)
        first = asyncio.create_task(limiter.acquire_async("a", 1, 60))
        last = asyncio.create_task(limiter.acquire_async("a", 1, 60))
        await asyncio.sleep(0)
        assert limiter.snapshot().waiting == 2
        last.cancel()
        with pytest.raises(asyncio.CancelledError):
            await last
        assert limiter.peek("a", 1, 60).retry_after == 120.0
        clock.advance(60)
        assert (await first).wait == 60.0
        with pytest.raises(RateLimited):
            await limiter.acquire_async("a", 1, 60, timeout=1)

    asyncio.run(work())
    assert limiter.snapshot().waiting == 0


def test_the_decorator_limits_functions_and_coroutine_functions() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock=clock)
    calls: list[str] = []

    @limiter.limited(lambda name, **_: f"user:{name}", 1, 60)
    def greet(name: str, *, loud: bool = False) -> str:
        """Greets."""
        calls.append(name)
        return name.upper() if loud else name

    @limiter.limited("later", limiter.define("later", 1, 60), timeout=60)
    async def later(number: int) -> int:
        return number

    assert (greet.__name__, greet.__doc__) == ("greet", "Greets.")
    assert greet("ann", loud=True) == "ANN"
    with pytest.raises(RateLimited):
        greet("ann")
    assert greet("bob") == "bob"
    assert calls == ["ann", "bob"]

    async def twice() -> list[int]:
        first = await later(1)
        second = asyncio.create_task(later(2))
        await asyncio.sleep(0)
        clock.advance(60)
        return [first, await second]

    assert asyncio.run(twice()) == [1, 2]


def test_generators_are_not_limited() -> None:
    def numbers() -> Any:
        yield 1

    with pytest.raises(InvalidArgument, match="`function`"):
        RateLimiter().limited("a", 1, 60)(numbers)
