"""After a fork, and in several threads that close what others use."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from children import in_child

from elixirscope import Breaker, Error, Forked, HandleClosed, ManualClock, Outcome, Phase, Pool, RateLimiter


def test_a_child_has_its_own_breaker_and_limiter() -> None:
    breaker, limiter = Breaker(failure_threshold=1), RateLimiter(clock=ManualClock())

    def use() -> object:
        try:
            with breaker:
                raise OSError
        except OSError:
            pass
        return breaker.phase, [limiter.check("a", 2, 60).allowed for _ in range(3)]

    assert in_child(use) == (Phase.OPEN, [True, True, False])
    assert breaker.phase is Phase.CLOSED
    assert limiter.check("a", 2, 60).remaining == 1


def test_a_child_is_not_stuck_in_what_its_parent_was_doing() -> None:
    breaker, stop = Breaker(), threading.Event()

    def configure() -> None:
        while not stop.is_set():
            breaker.reconfigure(failure_threshold=7)

    threads = [threading.Thread(target=configure) for _ in range(2)]
    for thread in threads:
        thread.start()

    def use() -> object:
        breaker.reconfigure(failure_threshold=1)
        breaker.report(Outcome.FAILURE)
        return breaker.phase

    # The children are forked while other threads change the breaker's options.
    for _ in range(20):
        assert in_child(use) is Phase.OPEN
    stop.set()
    for thread in threads:
        thread.join()
    assert breaker.phase is Phase.CLOSED


def test_a_pool_stays_with_its_process() -> None:
    destroyed: list[int] = []
    pool = Pool(os.getpid, destroyed.append, size=2)
    with pool.checkout():
        pass
    uses: list[Callable[[], object]] = [
        lambda: pool.checkout().__enter__(),
        lambda: pool.checkout(timeout=0).__enter__(),
        lambda: asyncio.run(pool.acquire().__aenter__()),
        lambda: pool.resize(1, 1),
        pool.evict,
        pool.drain,
        pool.snapshot,
        pool.maintain,
        pool.close,
    ]
    assert in_child(lambda: repr(pool)) == "<Pool of the parent process>"
    for use in uses:
        problem = in_child(use)
        assert isinstance(problem, Forked), problem
        assert "parent" in str(problem)
    with pool.checkout() as parent:
        assert parent == os.getpid()
    assert destroyed == []
    assert pool.snapshot().created == 1


def test_a_child_may_drop_a_pool_and_make_its_own() -> None:
    destroyed: list[int] = []
    pools = [Pool(os.getpid, destroyed.append, size=2)]
    with pools[0].checkout():

        def use() -> object:
            pools.clear()
            gc.collect()
            with Pool(os.getpid).checkout() as own:
                return own == os.getpid(), destroyed

        assert in_child(use) == (True, [])
        assert pools[0].snapshot().leased == 1
    pools.clear()
    assert destroyed == [os.getpid()]


IN_A_SUBINTERPRETER = """
try:
    import _interpreters as other
except ImportError:
    import _xxsubinterpreters as other
print(other.run_string(other.create(), '''
from elixirscope import Breaker, Pool, RateLimiter, Unsupported
with Breaker():
    print(RateLimiter().check("a", 1, 1).allowed)
try:
    Pool(object)
except Unsupported as refusal:
    print(refusal)
'''))
"""


def test_a_subinterpreter_gets_no_pool() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_SUBINTERPRETER], check=False, capture_output=True, text=True, timeout=60
    )
    # Python 3.12 does not even load ctypes there.
    assert "main interpreter" in done.stdout or "_ctypes does not support" in done.stderr, done


def test_a_child_that_waits_in_the_parent_is_refused() -> None:
    pool = Pool(object, size=1, max_overflow=0)
    stop = threading.Event()

    def wait_and_see() -> None:
        while not stop.is_set():
            try:
                with pool.checkout(timeout=0.01):
                    pass
            except Error:
                pass

    threads = [threading.Thread(target=wait_and_see) for _ in range(3)]
    for thread in threads:
        thread.start()
    # The children are forked while other threads hold or want the pool's locks.
    for _ in range(20):
        assert isinstance(in_child(pool.snapshot), Forked)
    stop.set()
    for thread in threads:
        thread.join()
    assert pool.snapshot().leased == 0


@pytest.mark.parametrize("make", [Breaker, RateLimiter])
def test_closing_while_others_use_it_is_safe(make: Callable[[], Breaker | RateLimiter]) -> None:
    for _ in range(20):
        thing = make()
        begin = threading.Barrier(4)
        ends: list[BaseException] = []

        def use(thing: Breaker | RateLimiter = thing, begin: threading.Barrier = begin) -> None:
            begin.wait()
            try:
                while True:
                    if isinstance(thing, Breaker):
                        with thing:
                            pass
                    else:
                        thing.check("a", 1000, 1)
            except HandleClosed as problem:
                ends.append(problem)  # noqa: B023

        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        begin.wait()
        thing.close()
        for thread in threads:
            thread.join()
        assert len(ends) == 3
