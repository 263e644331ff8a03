"""`Pool.acquire`: a check-out that waits in an event loop."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import random
import threading
import time

import pytest

from elixirscope import (
    CreateFailed,
    InvalidArgument,
    Pool,
    PoolClosed,
    PoolExhausted,
    PoolTimeout,
    StaleLease,
)

SEED = int(os.environ.get("SEED", str(time.time_ns())))


def pool_of(size: int, destroyed: list[int] | None = None, **options: object) -> Pool[int]:
    end = (destroyed if destroyed is not None else []).append
    return Pool(itertools.count(1).__next__, end, size=size, max_overflow=0, **options)  # type: ignore[arg-type]


async def until_waiting(pool: Pool[int], number: int) -> None:
    while pool.snapshot().waiting != number:
        await asyncio.sleep(0.001)


def test_a_task_gets_a_connection_and_gives_it_back() -> None:
    pool = pool_of(1)

    async def run() -> None:
        for _ in range(3):
            async with pool.acquire() as connection:
                assert connection == 1
                assert pool.snapshot().leased == 1
        async with pool.acquire(timeout=0) as connection:
            assert connection == 1
            with pytest.raises(PoolExhausted):
                await pool.acquire(timeout=0).__aenter__()

    asyncio.run(run())
    assert (pool.snapshot().leased, pool.snapshot().idle) == (0, 1)


def test_tasks_wait_in_the_loop_and_are_served_in_order() -> None:
    pool = pool_of(1)
    served: list[int] = []

    async def use(number: int) -> None:
        async with pool.acquire(timeout=None):
            served.append(number)
            await asyncio.sleep(0)

    async def run() -> None:
        async with pool.acquire():
            tasks = []
            for number in range(5):
                tasks.append(asyncio.create_task(use(number)))
                await until_waiting(pool, number + 1)
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert served == [0, 1, 2, 3, 4]
    assert pool.snapshot().leased == 0


def test_a_thread_gives_to_a_task() -> None:
    pool = pool_of(1)
    lent, give = threading.Event(), threading.Event()

    def hold() -> None:
        with pool.checkout():
            lent.set()
            give.wait()

    async def run() -> int:
        task = asyncio.create_task(pool.acquire(timeout=None).__aenter__())
        await until_waiting(pool, 1)
        give.set()
        return await task

    holder = threading.Thread(target=hold)
    holder.start()
    lent.wait()
    assert asyncio.run(run()) == 1
    holder.join()


def test_a_wait_ends_with_its_time_and_with_the_pool() -> None:
    pool = pool_of(1)

    async def run() -> None:
        async with pool.acquire():
            with pytest.raises(PoolTimeout):
                await pool.acquire(timeout=0.01).__aenter__()
            task = asyncio.create_task(pool.acquire(timeout=None).__aenter__())
            await until_waiting(pool, 1)
            pool.close()
            with pytest.raises(PoolClosed):
                await task

    asyncio.run(run())
    assert pool.snapshot().is_drained


def test_a_slow_creation_does_not_stop_the_loop() -> None:
    may_end = threading.Event()

    def create() -> int:
        may_end.wait()
        return 1

    async def run() -> None:
        pool = Pool(create, size=1)
        task = asyncio.create_task(pool.acquire(timeout=None).__aenter__())
        while pool.snapshot().creating == 0:
            await asyncio.sleep(0)
        # Were `create` in the loop's thread, nobody would get here.
        may_end.set()
        assert await task == 1

    asyncio.run(run())


def test_a_failed_creation_is_the_cause() -> None:
    def create() -> int:
        raise ConnectionError("no route")

    async def run() -> None:
        with pytest.raises(CreateFailed) as refusal:
            await Pool(create, size=1).acquire().__aenter__()
        assert isinstance(refusal.value.__cause__, ConnectionError)

    asyncio.run(run())


def test_a_task_that_is_cancelled_as_it_waits_leaves_its_place() -> None:
    pool = pool_of(1)

    async def run() -> None:
        async with pool.acquire():
            task = asyncio.create_task(pool.acquire(timeout=None).__aenter__())
            await until_waiting(pool, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until_waiting(pool, 0)
        async with pool.acquire(timeout=0) as connection:
            assert connection == 1

    asyncio.run(run())


def test_a_task_that_is_cancelled_as_its_connection_is_made_leaves_it_to_the_next() -> None:
    may_end = threading.Event()
    numbers = itertools.count(1)

    def create() -> int:
        may_end.wait()
        return next(numbers)

    async def run() -> None:
        pool = Pool(create, size=1, max_overflow=0)
        task = asyncio.create_task(pool.acquire(timeout=None).__aenter__())
        while pool.snapshot().creating == 0:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_end.set()
        async with pool.acquire(timeout=None) as connection:
            assert connection == 1
        assert (pool.snapshot().leased, pool.snapshot().idle) == (0, 1)

    asyncio.run(run())


def test_a_task_that_is_cancelled_in_the_block_has_its_connection_destroyed() -> None:
    destroyed: list[int] = []
    pool = pool_of(1, destroyed)

    async def use(entered: asyncio.Event) -> None:
        async with pool.acquire():
            entered.set()
            await asyncio.Event().wait()

    async def run() -> None:
        entered = asyncio.Event()
        task = asyncio.create_task(use(entered))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert destroyed == [1]
    assert pool.snapshot().leased == 0


def test_a_connection_is_reset_and_tested_apart_from_the_loop() -> None:
    threads: list[int] = []

    def note(_: int) -> None:
        threads.append(threading.get_ident())

    pool = pool_of(1, reset=note, check=note, pre_ping_after=0)

    async def run() -> None:
        for _ in range(2):
            async with pool.acquire():
                pass

    asyncio.run(run())
    assert len(threads) == 3
    assert threading.get_ident() not in threads


def test_a_connection_may_be_returned_early_but_once() -> None:
    destroyed: list[int] = []
    pool = pool_of(1, destroyed)

    async def run() -> None:
        acquisition = pool.acquire()
        async with acquisition:
            acquisition.checkin(broken=True)
            with pytest.raises(StaleLease):
                acquisition.checkin()
        with pytest.raises(StaleLease):
            acquisition.checkin()
        with pytest.raises(InvalidArgument, match="entered before"):
            await acquisition.__aenter__()

    asyncio.run(run())
    assert destroyed == [1]


def test_cancellations_at_any_moment_lose_nothing() -> None:
    print(f"SEED={SEED}")
    dice = random.Random(SEED)
    destroyed: list[int] = []
    numbers = itertools.count()
    pool = Pool(numbers.__next__, destroyed.append, size=2, max_overflow=1)
    inside: set[int] = set()

    async def use() -> None:
        async with pool.acquire(timeout=None) as connection:
            assert connection not in inside
            inside.add(connection)
            try:
                await asyncio.sleep(dice.random() * 0.001)
            finally:
                inside.remove(connection)

    async def run() -> int:
        cancelled = 0
        for _ in range(40):
            tasks = [asyncio.create_task(use()) for _ in range(10)]
            for task in tasks:
                await asyncio.sleep(dice.random() * 0.001)
                if dice.random() < 0.4:
                    task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                assert ended is None or isinstance(ended, asyncio.CancelledError)
                cancelled += ended is not None
        return cancelled

    assert asyncio.run(run()) > 0
    gc.collect()
    now = pool.snapshot()
    assert (now.leased, now.waiting, now.creating) == (0, 0, 0)
    assert now.requests == now.granted + now.cancelled
    pool.close()
    assert sorted(destroyed) == list(range(next(numbers)))
