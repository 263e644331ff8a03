"""Nonsense gets an error that names the argument, its value and what is allowed; nothing dies or leaks."""

from __future__ import annotations

import copy
import ctypes
import gc
import math
import pickle
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from elixirscope import (
    Breaker,
    Checkout,
    CircuitOpen,
    CreateFailed,
    HandleClosed,
    InvalidArgument,
    ManualClock,
    Outcome,
    Pool,
    RateLimiter,
    StaleLease,
    WrongType,
    _breaker_abi,
    _ffi,
    _limiter_abi,
    _pool_abi,
)

HUGE = 2**64
BAD_TIMES: list[Any] = [-1, -0.001, math.nan, -math.inf, 1e12, 10**300, HUGE, "1", None, 1j, [1]]
BAD_COUNTS: list[Any] = [-1, 2**32, HUGE, 10**300, 1.5, "1", None, math.nan, [1]]


def refused(argument: str, value: object, function: Callable[[], object]) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as problem:
        function()
    message = str(problem.value)
    assert f"`{argument}`" in message, message
    assert repr(value) in message, message
    assert "allowed is" in message, message
    return problem.value


def test_an_outcome_is_a_member() -> None:
    permit = Breaker().acquire()
    refused("outcome", 7, lambda: permit.record(7))  # type: ignore[arg-type]
    refused("outcome", 7, lambda: Breaker().report(7))  # type: ignore[arg-type]
    refused("mode", "auto", lambda: Breaker().set_mode("auto"))  # type: ignore[arg-type]
    assert permit.record(Outcome.SUCCESS) == 0


def test_generators_are_not_guarded() -> None:
    def numbers() -> Any:
        yield 1

    async def later() -> Any:
        yield 1

    for function in (numbers, later):
        refused("function", function, lambda function=function: Breaker()(function))  # type: ignore[misc]


@pytest.mark.parametrize("reading", [-1, HUGE, 1.5, "now", None])
def test_a_clock_gives_nanoseconds(reading: Any) -> None:
    breaker = Breaker(clock=lambda: reading)
    limiter = RateLimiter(clock=lambda: reading)
    refused("clock", reading, lambda: breaker.call(len, ""))
    refused("clock", reading, lambda: breaker.snapshot())
    refused("clock", reading, breaker.reconfigure)
    assert "Breaker closed" in repr(breaker)
    refused("clock", reading, lambda: limiter.check("a", 1, 1))
    refused("clock", reading, lambda: limiter.peek("a", 1, 1))


@pytest.mark.parametrize("value", [5, "now", [1]])
def test_what_is_to_be_called_can_be(value: Any) -> None:
    refused("clock", value, lambda: Breaker(clock=value))
    refused("clock", value, lambda: RateLimiter(clock=value))
    refused("on_event", value, lambda: Breaker(on_event=value))
    refused("is_failure", value, lambda: Breaker(is_failure=value))
    refused("function", value, lambda: Breaker()(value))


@pytest.mark.parametrize("value", [-1, HUGE, 1.5, "now", None])
def test_a_manual_clock_begins_at_a_time(value: Any) -> None:
    refused("now_ns", value, lambda: ManualClock(value))


def test_a_manual_clock_goes_forward() -> None:
    clock = ManualClock(5)
    refused("seconds", -1.0, lambda: clock.advance(-1.0))
    assert clock() == 5


def test_the_end_of_time_is_a_time() -> None:
    clock = ManualClock(2**64 - 1)
    breaker, limiter = Breaker(failure_threshold=1, clock=clock), RateLimiter(clock=clock)
    for _ in range(3):
        limiter.check("a", 1, 1)
        with pytest.raises((ZeroDivisionError, CircuitOpen)), breaker:
            raise ZeroDivisionError
    clock.now_ns = 0
    with pytest.raises(CircuitOpen), breaker:
        pytest.fail("a breaker that opened at the end of time ran its block")
    assert not limiter.check("a", 1, 1)


@pytest.mark.parametrize("value", [*BAD_TIMES, math.inf])
def test_windows(value: Any) -> None:
    refused("window", value, lambda: RateLimiter().check("a", 1, value))
    refused("window", value, lambda: RateLimiter().peek("a", 1, value))


@pytest.mark.parametrize("value", [-1, HUGE, 10**300, 1.5, "1", None, [1]])
def test_limits_bursts_costs_and_sizes(value: Any) -> None:
    limiter = RateLimiter()
    refused("limit", value, lambda: limiter.check("a", value, 60))
    refused("cost", value, lambda: limiter.check("a", 1, 60, cost=value))
    refused("max_keys", value, lambda: RateLimiter(max_keys=value))
    if value is not None:
        refused("burst", value, lambda: limiter.check("a", 1, 60, burst=value))
    assert limiter.snapshot().allowed == 0


@pytest.mark.parametrize(
    ("limit", "window", "burst", "named"),
    [
        (0, 60, None, "`limit` is 0"),
        (1, 0, None, "`window` in nanoseconds is 0"),
        (2**64 - 1, 1e-9, None, "`limit` is 18446744073709551615"),
        (1, 1e10, 2**63, "`window` in nanoseconds is 10000000000000000000"),
        (1, 60, 2**63, "`burst` is 9223372036854775808"),
    ],
)
def test_what_the_rules_of_a_limiter_forbid(limit: int, window: float, burst: int | None, named: str) -> None:
    limiter = RateLimiter()
    for call in (limiter.check, limiter.peek):
        with pytest.raises(InvalidArgument, match=f"{named}, allowed is"):
            call("a", limit, window, burst=burst)


@pytest.mark.parametrize("value", [0, 2**63])
def test_a_table_has_a_sane_size(value: int) -> None:
    refused("max_keys", value, lambda: RateLimiter(max_keys=value))


@pytest.mark.parametrize("value", [None, 1, 1.5, ["a"], ("a", 1), bytearray(b"a"), "\ud800"])
def test_keys(value: Any) -> None:
    limiter = RateLimiter()
    for function in (limiter.check, limiter.require, limiter.peek):
        refused("key", value, lambda function=function: function(value, 1, 60))  # type: ignore[misc]
    refused("key", value, lambda: limiter.reset(value))


def test_secrets() -> None:
    refused("secret", "0123456789abcdef", lambda: RateLimiter(secret="0123456789abcdef"))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="allowed is 16"):
        RateLimiter(secret=b"short")


@pytest.mark.parametrize("value", BAD_COUNTS)
@pytest.mark.parametrize("argument", ["size", "max_overflow", "max_waiters"])
def test_counts_of_a_pool(argument: str, value: Any) -> None:
    refused(argument, value, lambda: Pool(object, **{argument: value}))


@pytest.mark.parametrize("value", [*BAD_TIMES, math.inf])
@pytest.mark.parametrize("argument", ["overflow_ttl", "create_backoff", "create_backoff_cap"])
def test_times_of_a_pool(argument: str, value: Any) -> None:
    refused(argument, value, lambda: Pool(object, **{argument: value}))


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("size", {"size": 0, "max_overflow": 0}),
        ("size", {"size": 65_537}),
        ("max_overflow", {"max_overflow": 65_537}),
        ("max_waiters", {"max_waiters": 1_000_001}),
        ("create_backoff", {"create_backoff": 0}),
        ("create_backoff_cap", {"create_backoff": 2.0, "create_backoff_cap": 1.0}),
    ],
)
def test_what_the_rules_of_a_pool_forbid(argument: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=f"`{argument}` is .*, allowed is"):
        Pool(object, **options)


def test_functions_and_orders_of_a_pool() -> None:
    refused("create", 1, lambda: Pool(1))  # type: ignore[arg-type]
    refused("destroy", 1, lambda: Pool(object, 1))  # type: ignore[arg-type]
    for order in ("random", 0, None, ["lifo"]):
        refused("order", order, lambda order=order: Pool(object, order=order))  # type: ignore[misc]
    refused("broken_on", OSError, lambda: Pool(object, broken_on=OSError))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [value for value in BAD_TIMES if value is not None])
def test_timeouts(value: Any) -> None:
    refused("timeout", value, lambda: Pool(object).checkout(timeout=value))


def test_a_type_that_is_not_allowed_is_a_type_error_too() -> None:
    with pytest.raises(TypeError) as problem:
        Breaker(failure_threshold="5")  # type: ignore[arg-type]
    assert isinstance(problem.value, WrongType)
    assert isinstance(problem.value, ValueError)


def test_closed_objects_say_so() -> None:
    breaker, limiter = Breaker(), RateLimiter()
    with breaker:
        breaker.close()
    limiter.close()
    uses: list[Callable[[], object]] = [
        lambda: breaker.call(len, ""),
        breaker.__enter__,
        breaker.acquire,
        breaker.ask,
        breaker.snapshot,
        breaker.reset,
        breaker.settle,
        breaker.force_open,
        breaker.reconfigure,
        breaker.reinstall,
        lambda: breaker.report(Outcome.SUCCESS),
        lambda: breaker.level,
        lambda: limiter.check("a", 1, 1),
        lambda: limiter.peek("a", 1, 1),
        lambda: limiter.reset("a"),
        limiter.snapshot,
        limiter.live_keys,
        lambda: limiter.reserve("a", 1, 1),
        lambda: limiter.acquire("a", 1, 1),
        lambda: limiter.check_many([]),
        lambda: limiter.check_batch([]),
        lambda: limiter.define("user", 1, 1),
        lambda: limiter.limit("user"),
        lambda: limiter.save("limiter"),
    ]
    for use in uses:
        with pytest.raises(HandleClosed, match="closed"):
            use()
    breaker.close()
    limiter.close()


def test_a_check_out_is_entered_and_left_in_turn() -> None:
    pool = Pool(object)
    loan: Checkout[object] = pool.checkout()
    with pytest.raises(StaleLease):
        loan.__exit__(None, None, None)
    with loan, pytest.raises(InvalidArgument, match="entered"):
        loan.__enter__()
    with pytest.raises(StaleLease):
        loan.__exit__(None, None, None)
    assert pool.snapshot().leased == 0


@pytest.mark.parametrize("make", [Breaker, RateLimiter, Pool])
def test_an_unknown_option_is_named(make: Any) -> None:
    with pytest.raises(TypeError, match="reset_timeout_ms"):
        make(**({"create": object} if make is Pool else {}), reset_timeout_ms=1)


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy, pickle.dumps])
def test_what_is_native_has_no_copies(copying: Callable[[object], object]) -> None:
    breaker, limiter, pool = Breaker(), RateLimiter(), Pool(object)
    with pool.checkout() as connection:
        things = (breaker, limiter, pool, pool.checkout(), breaker.acquire(), breaker._handle, pool._handle)
        for thing in things:
            with pytest.raises(WrongType, match=f"`{type(thing).__name__}` cannot be copied or pickled"):
                copying(thing)
    del things, thing
    gc.collect(0)
    with pool.checkout() as again:
        assert again is connection


def test_a_foreign_lease_is_stale() -> None:
    ours, theirs = Pool(object), Pool(object)
    with ours.checkout(), theirs.checkout() as connection:
        other = theirs.checkout()
        with other, pytest.raises(StaleLease, match="`lease` is of pool"):
            # No public call takes a lease; this is what one would come to.
            ours._check(_ffi.api.escope_pool_checkin(ours._handle, other._held().lease_ref, 0))
        assert (ours.snapshot().leased, theirs.snapshot().leased) == (1, 1)
    with theirs.checkout() as again:
        assert again is connection


@pytest.mark.parametrize(
    ("options", "new"),
    [
        (_breaker_abi.BreakerOptions, _ffi.api.escope_breaker_new),
        (_limiter_abi.LimiterOptions, _ffi.api.escope_limiter_new),
        (_pool_abi.PoolOptions, _ffi.api.escope_pool_new),
    ],
)
@pytest.mark.parametrize("size", [0, 1, 2**40])
def test_a_wrong_struct_size_is_named(options: Any, new: Any, size: int) -> None:
    handle = new.argtypes[1]._type_()
    status = new(ctypes.byref(options(struct_size=size)), ctypes.byref(handle))
    message = str(_ffi.error(status))
    assert "struct_size" in message, message
    assert str(size) in message, message
    assert "allowed is" in message, message
    assert not handle.value


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("pool", lambda: _ffi.api.escope_pool_close(None)),
        ("out", lambda: _ffi.api.escope_pool_new(None, None)),
        ("breaker", lambda: _ffi.api.escope_breaker_reset(None, None)),
        ("limiter", lambda: _ffi.api.escope_limiter_reset(None, b"a", 1)),
    ],
)
def test_null_is_named(argument: str, call: Callable[[], int]) -> None:
    assert f"`{argument}` is NULL" in str(_ffi.error(call()))


def test_a_database_that_cannot_be_opened_is_the_cause() -> None:
    pool = Pool(lambda: sqlite3.connect("/no/such/directory/app.db"), sqlite3.Connection.close, size=1)
    for timeout in (0, 1.0, None):
        with pytest.raises(CreateFailed) as refusal, pool.checkout(timeout=timeout):
            pytest.fail("lent what was never opened")
        assert isinstance(refusal.value.__cause__, sqlite3.OperationalError)
        assert "OperationalError: unable to open database file" in str(refusal.value)
        while pool.maintain() is not None:
            pass
    now = pool.snapshot()
    assert (now.leased, now.creating, now.created, now.create_errors) == (0, 0, 0, 3)


def test_a_failed_constructor_is_quiet_when_it_goes(recwarn: pytest.WarningsRecorder) -> None:
    for make in (
        lambda: Breaker(failure_threshold=0),
        lambda: RateLimiter(max_keys=0),
        lambda: Pool(object, size=-1),
    ):
        with pytest.raises(InvalidArgument):
            make()
    assert not recwarn.list
