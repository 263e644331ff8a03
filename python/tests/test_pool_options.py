"""What a pool can be told: reset and tests, ages, sizes, leaks, and how it ends."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import pytest
from header import read
from lending import until

from elixirscope import CreateFailed, InvalidArgument, Leak, Pool, PoolClosed, PoolTimeout, Shed, WrongType
from elixirscope._pool_options import CREATE_FAILURES, HEALTH, OPTIONS, ORDERS, PoolOptions


class Ledger:
    """Connections are numbers; which were reset, tested and destroyed, and which are unfit."""

    def __init__(self) -> None:
        self.create = itertools.count(1).__next__
        self.resets: list[int] = []
        self.tests: list[int] = []
        self.destroyed: list[int] = []
        self.unfit: set[int] = set()
        self.raises = False

    def reset(self, connection: int) -> None:
        self.resets.append(connection)
        if connection in self.unfit:
            raise ConnectionError(connection)

    def check(self, connection: int) -> bool:
        self.tests.append(connection)
        return connection not in self.unfit

    def pool(self, **options: Any) -> Pool[int]:
        return Pool(self.create, self.destroyed.append, **{"size": 1, "max_overflow": 0, **options})


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def lend(pool: Pool[int]) -> int:
    with pool.checkout() as connection:
        return connection


def test_every_option_of_the_library_has_a_name_here() -> None:
    header = read()
    callbacks = {"struct_size", "create", "destroy", "reset", "check", "leaked", "userdata"}
    theirs = set(header.structs["escope_pool_options"]) - callbacks
    assert {field for field, _ in OPTIONS.values()} == theirs
    assert set(OPTIONS) == set(PoolOptions.__annotations__)
    for prefix, words in (
        ("ESCOPE_ORDER_", ORDERS),
        ("ESCOPE_HEALTH_", HEALTH),
        ("ESCOPE_CREATE_FAILURE_", CREATE_FAILURES),
    ):
        numbers = {k[len(prefix) :].lower(): v for k, v in header.constants.items() if k.startswith(prefix)}
        assert numbers == words


def test_a_connection_is_reset_when_it_comes_back(ledger: Ledger) -> None:
    pool = ledger.pool(reset=ledger.reset)
    assert lend(pool) == 1
    assert ledger.resets == [1]
    ledger.unfit.add(1)
    assert lend(pool) == 1
    assert ledger.destroyed == [1]
    assert lend(pool) == 2
    assert (pool.snapshot().checks_passed, pool.snapshot().checks_failed) == (2, 1)


def test_a_broken_connection_is_not_reset(ledger: Ledger) -> None:
    pool = ledger.pool(reset=ledger.reset)
    with pool.checkout() as connection, pytest.raises(OSError, match="gone"):
        raise OSError("gone")
    with pytest.raises(OSError, match="gone"), pool.checkout() as connection:
        raise OSError("gone")
    assert ledger.destroyed == [connection]
    assert ledger.resets == [1]


def test_passive_health_tests_on_return(ledger: Ledger) -> None:
    pool = ledger.pool(check=ledger.check, health="passive")
    with pool.checkout() as connection:
        ledger.unfit.add(connection)
    assert (ledger.tests, ledger.destroyed) == ([1], [1])


def test_active_health_tests_what_is_idle(ledger: Ledger) -> None:
    pool = ledger.pool(check=ledger.check, health="active", health_interval=1e-9)
    lend(pool)
    ledger.unfit.add(1)
    until(lambda: pool.maintain() is None or bool(ledger.destroyed))
    assert ledger.destroyed == [1]


def test_what_was_idle_is_tested_before_it_is_lent(ledger: Ledger) -> None:
    pool = ledger.pool(check=ledger.check, pre_ping_after=0)
    assert lend(pool) == 1
    ledger.unfit.add(1)
    assert lend(pool) == 2
    assert (ledger.tests, ledger.destroyed) == ([1], [1])
    assert pool.snapshot().pre_pings == 1


def test_an_interrupt_in_a_test_comes_out_as_itself(ledger: Ledger) -> None:
    def check(_: int) -> None:
        raise KeyboardInterrupt

    pool = ledger.pool(check=check, pre_ping_after=0)
    lend(pool)
    with pytest.raises(KeyboardInterrupt):
        lend(pool)
    assert (pool.snapshot().leased, pool.snapshot().waiting) == (0, 0)
    assert ledger.destroyed == [1]


def test_connections_age(ledger: Ledger) -> None:
    pool = ledger.pool(max_lifetime=1e-9)
    assert [lend(pool), lend(pool)] == [1, 2]
    idle = ledger.pool(idle_timeout=1e-9)
    first = lend(idle)
    until(lambda: idle.maintain() is None)
    assert first in ledger.destroyed


def test_connections_are_made_ahead_of_demand(ledger: Ledger) -> None:
    pool = ledger.pool(size=3, min_idle=2)
    pool.maintain()
    assert pool.snapshot().idle == 2


def test_a_leak_names_who_holds_what_since_when(ledger: Ledger) -> None:
    leaks: list[Leak] = []
    pool = ledger.pool(on_leak=leaks.append, leak_after=1e-9)
    before = time.monotonic()

    def hold() -> None:
        with pool.checkout() as connection:
            until(lambda: pool.maintain() is None)
            (leak,) = leaks
            assert leak.connection == connection
            assert leak.native_id == threading.get_native_id()

    holder = threading.Thread(target=hold, name="the holder")
    holder.start()
    holder.join()
    (leak,) = leaks
    assert leak.thread == "the holder"
    assert before <= leak.since <= time.monotonic()
    now = pool.snapshot()
    assert (now.leaks, now.leased) == (1, 0)
    assert now.use > 0


def test_what_a_leak_report_raises_goes_to_the_hook(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    unraisable: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: unraisable.append(report.exc_type))

    def complain(_: Leak) -> None:
        raise LookupError

    pool = ledger.pool(on_leak=complain, leak_after=1e-9)
    with pool.checkout():
        until(lambda: pool.maintain() is None)
    assert unraisable == [LookupError]


def test_a_pool_grows_and_shrinks(ledger: Ledger) -> None:
    pool = ledger.pool(max_slots=3)
    with pool.checkout():
        pool.resize(2, 1)
        with pool.checkout(timeout=0), pool.checkout(timeout=0):
            assert pool.snapshot().capacity == 3
            pool.resize(1, 0)
    assert pool.snapshot().idle == 1
    assert len(ledger.destroyed) == 2
    with pytest.raises(InvalidArgument, match=r"`max_overflow`|`size`"):
        pool.resize(3, 1)


def test_eviction_replaces_what_there_is(ledger: Ledger) -> None:
    pool = ledger.pool()
    with pool.checkout() as held:
        pool.evict()
        assert ledger.destroyed == []
    assert ledger.destroyed == [held]
    assert lend(pool) == 2


def test_draining_waits_for_who_holds(ledger: Ledger) -> None:
    pool = ledger.pool()
    lent, returned = threading.Event(), threading.Event()

    def hold() -> None:
        with pool.checkout():
            lent.set()
            until(lambda: pool.snapshot().is_closed)
            # Several slices of the main thread's wait.
            time.sleep(0.2)
            returned.set()

    holder = threading.Thread(target=hold)
    holder.start()
    lent.wait()
    with pytest.raises(PoolTimeout):
        pool.drain(timeout=0.001)
    assert not pool.snapshot().is_drained
    pool.drain()
    assert returned.is_set()
    assert pool.snapshot().is_drained
    with pytest.raises(PoolClosed):
        lend(pool)
    holder.join()


def test_a_creation_that_fails_is_tried_again(ledger: Ledger) -> None:
    failures = iter([OSError(), OSError()])

    def create() -> int:
        for failure in failures:
            raise failure
        return ledger.create()

    def fail() -> int:
        raise OSError

    pool = Pool(create, size=1, create_failure="retry", create_backoff=1e-6, create_backoff_cap=1e-6)
    assert lend(pool) == 1
    assert pool.snapshot().create_errors == 2
    with pytest.raises(CreateFailed):
        lend(Pool(fail, size=1))


def test_waits_that_stay_too_long_are_shed(ledger: Ledger) -> None:
    pool = ledger.pool(queue_target=1e-9, queue_interval=1e-6, min_idle=1)
    # Made now: a wait for a creation could be too long as well.
    pool.maintain()
    with pool.checkout(), pytest.raises(Shed):
        lend(pool)
    assert pool.snapshot().shed == 1


def test_who_does_not_wait(ledger: Ledger) -> None:
    pool = ledger.pool()
    with pool.try_checkout() as connection:
        assert connection == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sise": 3}, "`sise` is no option of a pool; did you mean `size`?"),
        (
            {"order": "random"},
            "`order` is 'random', allowed is 'lifo', 'fifo', 'round_robin' or 'least_used'",
        ),
        ({"measure": 1}, "`measure` is 1, allowed is True or False"),
        ({"min_idle": 2}, "`min_idle` is 2, allowed is 0 to size"),
        (
            {"max_lifetime_jitter": 2.5},
            "`max_lifetime_jitter` is 2.5, allowed is 0 to max_lifetime",
        ),
        ({"create_backoff": 0}, "`create_backoff` is 0, allowed is more than 0"),
        (
            {"create_backoff": 20},
            "`create_backoff_cap` is 10 (its default), allowed is create_backoff or more",
        ),
        (
            {"keepalive": 1},
            "`check` is None, allowed is a function with health, keepalive or pre_ping_after",
        ),
        ({"leak_after": 1}, "`on_leak` is None, allowed is a function with leak_after"),
        ({"reset": 1}, "`reset` is 1, allowed is a function that takes a connection, or None"),
    ],
)
def test_a_wrong_option_is_named_in_the_words_of_the_caller(
    options: dict[str, Any], message: str, ledger: Ledger
) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        ledger.pool(**options)
    assert str(refusal.value) == message


def test_an_unknown_option_is_a_type_error(ledger: Ledger) -> None:
    with pytest.raises(TypeError) as refusal:
        ledger.pool(colour="blue")
    assert isinstance(refusal.value, WrongType)
