"""Who waits for a connection: in which order, how long, and what ends a wait."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from lending import Connection, Ledger, until

from elixirscope import Pool, PoolClosed, PoolTimeout, QueueFull


def test_a_wait_ends_with_its_time(one: Pool[Connection]) -> None:
    with one.checkout():
        for thread_runs in (lambda run: run(), in_thread):
            with pytest.raises(PoolTimeout) as refusal:
                thread_runs(one.checkout(timeout=0.02).__enter__)
            assert isinstance(refusal.value, TimeoutError)
    assert one.snapshot().timed_out == 2


def in_thread(function: Callable[[], object]) -> object:
    """Runs in another thread, which Python gives no signals to, and brings its exception here."""
    outcomes: queue.SimpleQueue[tuple[object, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcomes.put((function(), None))
        except BaseException as problem:
            outcomes.put((None, problem))

    thread = threading.Thread(target=run)
    thread.start()
    value, problem = outcomes.get()
    thread.join()
    if problem is not None:
        raise problem
    return value


def test_waiting_threads_are_served_in_the_order_they_came(one: Pool[Connection]) -> None:
    served: list[int] = []

    def work(number: int) -> None:
        with one.checkout(timeout=None):
            served.append(number)

    threads = []
    with one.checkout():
        for number in range(5):
            threads.append(threading.Thread(target=work, args=(number,)))
            threads[-1].start()
            until(lambda: one.snapshot().waiting == len(threads))
    for thread in threads:
        thread.join()
    assert served == [0, 1, 2, 3, 4]


def test_the_main_thread_keeps_its_place_between_slices(one: Pool[Connection]) -> None:
    served: list[str] = []

    def hold(lent: threading.Event) -> None:
        with one.checkout():
            lent.set()
            until(lambda: one.snapshot().waiting == 1)
            late.start()
            until(lambda: one.snapshot().waiting == 2)
            # Several slices pass: a waiter that came back to the end of the queue would now be second.
            time.sleep(0.2)

    def come_late() -> None:
        with one.checkout(timeout=None):
            served.append("late")

    lent = threading.Event()
    late = threading.Thread(target=come_late)
    holder = threading.Thread(target=hold, args=(lent,))
    holder.start()
    lent.wait()
    with one.checkout(timeout=None):
        served.append("main")
    holder.join()
    late.join()
    assert served == ["main", "late"]


def test_many_threads_share_few_connections(ledger: Ledger) -> None:
    pool = Pool(ledger.create, ledger.destroy, size=2, max_overflow=1)
    in_use: set[int] = set()
    lock = threading.Lock()

    def work() -> None:
        for _ in range(200):
            with pool.checkout(timeout=None) as connection:
                with lock:
                    assert connection.number not in in_use
                    in_use.add(connection.number)
                with lock:
                    in_use.remove(connection.number)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now = pool.snapshot()
    assert (now.granted, now.returned, now.leased, now.waiting) == (1600, 1600, 0, 0)
    assert now.created - now.destroyed == now.idle == len(ledger.made) - len(ledger.destroyed)


def test_the_queue_has_a_bound(ledger: Ledger) -> None:
    pool = Pool(ledger.create, ledger.destroy, size=1, max_overflow=0, max_waiters=1)
    with pool.checkout():
        waiting = threading.Thread(target=lambda: pool.checkout(timeout=None).__enter__())
        waiting.start()
        until(lambda: pool.snapshot().waiting == 1)
        with pytest.raises(QueueFull), pool.checkout(timeout=None):
            pytest.fail("a full queue took one more")
    waiting.join()


def test_closing_wakes_who_waits_and_lets_loans_end(ledger: Ledger) -> None:
    pool = Pool(ledger.create, ledger.destroy, size=2, max_overflow=0)
    outcomes: list[type[BaseException]] = []

    def work() -> None:
        try:
            pool.checkout(timeout=None).__enter__()
        except PoolClosed as refusal:
            outcomes.append(type(refusal))

    waiting = threading.Thread(target=work)
    with pool.checkout(), pool.checkout():
        waiting.start()
        until(lambda: pool.snapshot().waiting == 1)
        pool.close()
        waiting.join()
        assert ledger.destroyed == []
    assert len(ledger.destroyed) == 2
    assert outcomes == [PoolClosed]
    with pytest.raises(PoolClosed), pool.checkout():
        pytest.fail("a closed pool lent a connection")
    pool.close()
    assert pool.snapshot().is_closed


WAITS_FOR_EVER = """
import signal, threading, os
from elixirscope import Pool
pool = Pool(object, size=1, max_overflow=0)
signal.signal(signal.SIGINT, signal.default_int_handler)
with pool.checkout():
    killer = threading.Thread(target=lambda: (
        [None for _ in iter(lambda: pool.snapshot().waiting, 1)], os.kill(os.getpid(), signal.SIGINT)))
    killer.start()
    try:
        with pool.checkout(timeout=None):
            print("lent")
    except KeyboardInterrupt:
        print("interrupted", pool.snapshot().waiting, pool.snapshot().leased)
    killer.join()
print(pool.snapshot().leased)
"""


def test_control_c_ends_a_wait() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WAITS_FOR_EVER], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.split(), done.stderr, done.returncode) == (["interrupted", "0", "1", "0"], "", 0)
