"""`Pool`: what the binding adds to the native pool; lending, and how a loan and a pool end."""

from __future__ import annotations

import gc
import math
import sqlite3
import subprocess
import sys
import time
import weakref
from typing import Literal

import pytest
from lending import Connection, Ledger

from elixirscope import Pool, PoolExhausted, PoolTimeout, StaleLease


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


def test_a_pool_says_how_it_is(ledger: Ledger) -> None:
    pool = Pool(ledger.create, ledger.destroy, size=2)
    with pool.checkout():
        assert repr(pool) == "<Pool open, size 2, 0 idle, 1 leased, 0 waiting>"
    pool.close()
    assert repr(pool) == "<Pool closed, size 2, 0 idle, 0 leased, 0 waiting>"


def test_an_unused_pool_frees_its_connections(ledger: Ledger) -> None:
    pool = Pool(ledger.create, ledger.destroy, size=2)
    with pool.checkout(), pool.checkout():
        pass
    gone = weakref.ref(pool._callbacks)
    del pool
    gc.collect()
    assert len(ledger.destroyed) == 2
    assert gone() is None


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
