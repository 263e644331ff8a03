"""`Pool`: what the binding adds to the native pool."""

from __future__ import annotations

import gc
import itertools
import math
import queue
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Literal

import pytest

from elixirscope import (
    CreateFailed,
    Pool,
    PoolClosed,
    PoolExhausted,
    PoolTimeout,
    QueueFull,
    StaleLease,
)


class Connection:
    """Something to lend."""

    numbers = itertools.count()

    def __init__(self) -> None:
        self.number = next(self.numbers)


class Ledger:
    """Makes connections and remembers what became of them."""

    def __init__(self) -> None:
        self.made: list[Connection] = []
        self.destroyed: list[Connection] = []

    def create(self) -> Connection:
        self.made.append(Connection())
        return self.made[-1]

    def destroy(self, connection: Connection) -> None:
        assert connection not in self.destroyed
        self.destroyed.append(connection)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def one(ledger: Ledger) -> Iterator[Pool[Connection]]:
    pool = Pool(ledger.create, ledger.destroy, size=1, max_overflow=0)
    yield pool
    pool.close()
    assert len(ledger.made) == len(ledger.destroyed)
    assert pool.snapshot().leased == 0


def until(true: Callable[[], bool]) -> None:
    """Waits for another thread; a test fails by pytest's own limit, not by a time chosen here."""
    while not true():
        time.sleep(0.001)


def test_a_connection_is_lent_and_used_again(one: Pool[Connection], ledger: Ledger) -> None:
    with one.checkout() as first:
        assert one.snapshot().leased == 1
    with one.checkout() as second:
        assert second is first
    assert ledger.made == [first]
    now = one.snapshot()
    assert (now.idle, now.leased, now.granted, now.returned, now.created) == (1, 0, 2, 2, 1)


def test_a_real_database_is_pooled() -> None:
    with Pool(lambda: sqlite3.connect(":memory:"), sqlite3.Connection.close, size=1) as pool:
        with pool.checkout() as connection:
            connection.execute("create table t (n)")
        with pool.checkout() as connection:
            assert connection.execute("select count(*) from t").fetchone() == (0,)
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("select 1")


def test_who_does_not_wait_is_told_at_once(one: Pool[Connection]) -> None:
    with one.checkout(timeout=0), pytest.raises(PoolExhausted), one.checkout(timeout=0):
        pytest.fail("a pool of one lent a second connection")
    assert one.snapshot().exhausted == 1


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


def test_overflow_is_made_for_a_burst_and_goes_on_return(ledger: Ledger) -> None:
    pool = Pool(ledger.create, ledger.destroy, size=1, max_overflow=1)
    with pool.checkout(), pool.checkout():
        assert pool.snapshot().overflow == 1
    assert len(ledger.destroyed) == 1
    assert pool.snapshot().idle == 1


def test_idle_overflow_goes_when_its_time_is_up(ledger: Ledger) -> None:
    pool = Pool(ledger.create, ledger.destroy, size=0, max_overflow=1, overflow_ttl=0.01)
    with pool.checkout():
        pass
    while (rest := pool.maintain()) is not None:
        time.sleep(rest)
    assert len(ledger.destroyed) == 1
    assert pool.snapshot().next_deadline == math.inf


@pytest.mark.parametrize(("order", "expected"), [("lifo", [0, 0]), ("fifo", [1, 0])])
def test_order_says_which_free_connection_is_lent(
    order: Literal["lifo", "fifo"], expected: list[int], ledger: Ledger
) -> None:
    pool = Pool(ledger.create, ledger.destroy, size=2, order=order)
    with pool.checkout(), pool.checkout():
        pass  # The second made is the first returned.
    lent = []
    for _ in range(2):
        with pool.checkout() as connection:
            lent.append(ledger.made.index(connection))
    assert lent == expected


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


def test_a_failed_creation_is_the_cause(ledger: Ledger) -> None:
    failures = iter([ConnectionError("no route"), None])

    def create() -> Connection:
        failure = next(failures)
        if failure:
            raise failure
        return ledger.create()

    pool = Pool(create, ledger.destroy, size=1, max_overflow=0, create_backoff=0.001)
    with pytest.raises(CreateFailed) as refusal, pool.checkout():
        pytest.fail("lent what was never made")
    assert isinstance(refusal.value.__cause__, ConnectionError)
    with pool.checkout():
        pass
    assert pool.snapshot().create_errors == 1


def test_a_creation_that_returns_none_failed() -> None:
    pool: Pool[None] = Pool(lambda: None, size=1, max_overflow=0)
    with pytest.raises(CreateFailed) as refusal, pool.checkout():
        pytest.fail("lent what was never made")
    assert "`create` returned None" in str(refusal.value.__cause__)


def test_an_interrupt_in_create_comes_out_as_itself() -> None:
    def create() -> Connection:
        raise KeyboardInterrupt

    pool = Pool(create, size=1, max_overflow=0)
    with pytest.raises(KeyboardInterrupt), pool.checkout():
        pytest.fail("lent what was never made")
    assert (pool.snapshot().leased, pool.snapshot().waiting, pool.snapshot().creating) == (0, 0, 0)


def test_an_interrupt_in_destroy_comes_out_as_itself(ledger: Ledger) -> None:
    def destroy(_: Connection) -> None:
        raise KeyboardInterrupt

    pool = Pool(ledger.create, destroy, size=0, max_overflow=1)
    with pytest.raises(KeyboardInterrupt), pool.checkout():
        pass
    assert pool.snapshot().leased == 0


def test_what_destroy_raises_is_reported_and_changes_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[BaseException] = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: unraisable.append(report.exc_value))

    def destroy(connection: Connection) -> None:
        raise OSError(connection.number)

    pool = Pool(ledger.create, destroy, size=0, max_overflow=1)
    with pool.checkout() as connection:
        pass
    assert [problem.args for problem in unraisable] == [(connection.number,)]
    assert pool.snapshot().destroyed == 1


class Harmless(Exception):
    """Says nothing about the connection."""


def test_an_exception_destroys_the_connection_unless_it_is_known_to_be_harmless(ledger: Ledger) -> None:
    careful = Pool(ledger.create, ledger.destroy, size=1)
    with pytest.raises(Harmless), careful.checkout():
        raise Harmless
    assert ledger.destroyed == ledger.made
    lenient = Pool(ledger.create, ledger.destroy, size=1, broken_on=(OSError,))
    with pytest.raises(Harmless), lenient.checkout() as kept:
        raise Harmless
    with pytest.raises(ConnectionError), lenient.checkout():
        raise ConnectionError
    assert ledger.destroyed[-1] is kept
    with pytest.raises(KeyboardInterrupt), lenient.checkout() as cut_off:
        raise KeyboardInterrupt
    assert ledger.destroyed[-1] is cut_off


def test_a_connection_may_be_returned_early_but_once(one: Pool[Connection], ledger: Ledger) -> None:
    loan = one.checkout()
    with loan:
        loan.checkin()
        with one.checkout(timeout=0):
            with pytest.raises(StaleLease, match="lease"):
                loan.checkin()
            assert one.snapshot().leased == 1
    with loan as connection:
        loan.checkin(broken=True)
    assert ledger.destroyed == [connection]
    with pytest.raises(StaleLease):
        loan.checkin()


def test_a_lost_loan_is_taken_back_and_its_connection_destroyed(
    one: Pool[Connection], ledger: Ledger
) -> None:
    one.checkout().__enter__()
    gc.collect()
    assert one.snapshot().leased == 0
    assert ledger.destroyed == ledger.made


@pytest.mark.parametrize("timeout", [0, 0.001])
def test_a_refusal_keeps_no_loan_of_its_caller_alive(
    timeout: float, one: Pool[Connection], ledger: Ledger
) -> None:
    def lose_a_loan_and_be_refused() -> None:
        loan = one.checkout()
        loan.__enter__()
        with pytest.raises((PoolExhausted, PoolTimeout)):
            one.checkout(timeout).__enter__()

    gc.disable()
    try:
        lose_a_loan_and_be_refused()
        assert one.snapshot().leased == 0
    finally:
        gc.enable()
    assert ledger.destroyed == ledger.made


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


def test_a_pool_says_how_it_is(ledger: Ledger) -> None:
    pool = Pool(ledger.create, ledger.destroy, size=2)
    with pool.checkout():
        assert repr(pool) == "<Pool open, size 2, 0 idle, 1 leased, 0 waiting>"
    pool.close()
    assert repr(pool) == "<Pool closed, size 2, 0 idle, 0 leased, 0 waiting>"


def test_the_queue_has_a_bound(ledger: Ledger) -> None:
    pool = Pool(ledger.create, ledger.destroy, size=1, max_overflow=0, max_waiters=1)
    with pool.checkout():
        waiting = threading.Thread(target=lambda: pool.checkout(timeout=None).__enter__())
        waiting.start()
        until(lambda: pool.snapshot().waiting == 1)
        with pytest.raises(QueueFull), pool.checkout(timeout=None):
            pytest.fail("a full queue took one more")
    waiting.join()


def test_an_unused_pool_frees_its_connections(ledger: Ledger) -> None:
    pool = Pool(ledger.create, ledger.destroy, size=2)
    with pool.checkout(), pool.checkout():
        pass
    gone = weakref.ref(pool._callbacks)
    del pool
    gc.collect()
    assert len(ledger.destroyed) == 2
    assert gone() is None


def test_a_pool_may_make_a_pool(ledger: Ledger) -> None:
    inner = Pool(ledger.create, ledger.destroy, size=1)

    def create() -> Connection:
        with inner.checkout() as connection:
            return connection

    with Pool(create, size=1).checkout() as connection:
        assert connection is ledger.made[0]


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


def test_interpreter_shutdown_is_quiet() -> None:
    script = (
        "from elixirscope import *\n"
        "import threading\n"
        "p = Pool(object, print, size=1); l = p.checkout(); l.__enter__()\n"
        "q = Pool(object, print, size=1)\nwith q.checkout(): pass\n"
        "b = Breaker(); r = RateLimiter(); b.__enter__(); r.check('a', 1, 1)\n"
        "w = threading.Thread(target=lambda: p.checkout(timeout=None), daemon=True); w.start()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.stderr, done.returncode) == ("", 0)
