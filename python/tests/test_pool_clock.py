"""A pool with a clock of its own."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from itertools import count

import pytest

from elixirscope import InvalidArgument, ManualClock, Pool, PoolTimeout, WrongType


def make() -> Callable[[], int]:
    return count(1).__next__


def test_connections_age_by_the_clock() -> None:
    clock, destroyed = ManualClock(), list[int]()
    pool = Pool(make(), destroyed.append, size=1, max_lifetime=10.0, clock=clock)
    with pool.checkout() as first:
        clock.advance(9.0)
    with pool.checkout() as second:
        assert second == first
        clock.advance(1.0)
    assert destroyed == [first]
    assert pool.maintain() is None
    with pool.checkout():
        pass
    assert pool.maintain() == 10.0


def test_p08_a_wait_ends_at_its_time_and_not_before() -> None:
    clock = ManualClock()
    pool = Pool(make(), size=1, max_overflow=0, clock=clock)
    outcomes: list[object] = []

    def wait() -> None:
        try:
            with pool.checkout(timeout=5.0) as connection:
                outcomes.append(connection)
        except PoolTimeout as timeout:
            outcomes.append(type(timeout))

    with pool.checkout():
        waiter = threading.Thread(target=wait)
        waiter.start()
        while not pool.snapshot().waiting:
            pass
        clock.advance(4.999)
        waiter.join(0.05)
        assert not outcomes
        clock.advance(0.001)
        waiter.join()
    assert outcomes == [PoolTimeout]


def test_a_wait_gets_what_comes_back() -> None:
    clock = ManualClock()
    pool = Pool(make(), size=1, max_overflow=0, clock=clock)
    held = pool.checkout()
    first = held.__enter__()
    got: list[int] = []

    def wait() -> None:
        with pool.checkout(timeout=None) as connection:
            got.append(connection)

    waiter = threading.Thread(target=wait)
    waiter.start()
    while not pool.snapshot().waiting:
        pass
    clock.advance(2.5)
    held.checkin()
    waiter.join()
    assert got == [first]
    assert pool.snapshot().queue == 2.5


def test_a_task_waits_by_the_clock() -> None:
    clock = ManualClock()
    pool = Pool(make(), size=1, max_overflow=0, clock=clock)

    async def both() -> None:
        async with pool.acquire(timeout=5.0):
            late = asyncio.ensure_future(pool.acquire(timeout=5.0).__aenter__())
            while not pool.snapshot().waiting:
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            assert not late.done()
            clock.advance(5.0)
            with pytest.raises(PoolTimeout):
                await late
        async with pool.acquire(timeout=0):
            pass

    asyncio.run(both())
    assert pool.snapshot().leased == 0


def test_the_pool_is_drained_by_the_clock() -> None:
    clock = ManualClock()
    pool = Pool(make(), size=1, clock=clock)
    with pool.checkout():
        with pytest.raises(PoolTimeout):
            pool.drain(0)
        moving = threading.Timer(0.01, clock.advance, (1.0,))
        moving.start()
        with pytest.raises(PoolTimeout):
            pool.drain(1.0)
        moving.join()
    pool.drain()
    assert pool.snapshot().is_drained


def test_what_is_lost_goes_back_at_the_latest_time() -> None:
    clock, destroyed = ManualClock(1_000), list[int]()
    pool = Pool(make(), destroyed.append, size=2, max_lifetime=60.0, clock=clock)
    with pool.checkout(), pool.checkout():
        pass
    lost = pool.checkout()
    lost.__enter__()
    del lost
    gc.collect()
    # By the machine's time the other would be too old as well.
    assert len(destroyed) == 1
    assert (pool.snapshot().leased, pool.snapshot().idle) == (0, 1)


def test_a_clock_that_fails_loses_nothing() -> None:
    reading: list[object] = [1, 1]
    pool = Pool(make(), size=1, max_overflow=0, clock=lambda: reading.pop())  # type: ignore[arg-type, return-value]
    with pytest.raises(IndexError), pool.checkout():
        pool.maintain()
    gc.collect()
    now = pool.snapshot()
    assert (now.granted, now.broken, now.leased) == (1, 1, 0)
    reading.append(-1)
    with pytest.raises(InvalidArgument, match="`clock` is -1, allowed is an integer from 0 to"):
        pool.checkout().__enter__()
    with pytest.raises(WrongType, match="`clock` is 7"):
        Pool(make(), clock=7)  # type: ignore[arg-type]
