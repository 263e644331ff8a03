"""`RateLimiter`: what the binding adds to the native arithmetic."""

from __future__ import annotations

import math
import threading

import pytest

from elixirscope import Decision, ManualClock, Never, RateLimited, RateLimiter, Status, TableFull

SECRET = bytes(range(16))


def test_a_key_gets_its_limit_and_no_more() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock=clock)
    verdicts = [limiter.check("user:1", 10, 60.0) for _ in range(25)]
    assert [v.allowed for v in verdicts] == [True] * 10 + [False] * 15
    assert [v.remaining for v in verdicts[:3]] == [9, 8, 7]
    refused = verdicts[-1]
    assert refused == Decision(False, Status.RATE_LIMITED, 0, 10, 6.0, 60.0)
    clock.advance(refused.retry_after)
    assert limiter.check("user:1", 10, 60.0)
    assert not limiter.check("user:1", 10, 60.0)


def test_it_counts_by_the_clock_of_the_library_unless_given_one() -> None:
    limiter = RateLimiter()
    assert limiter.check("user:1", 1, 3600.0)
    refused = limiter.check("user:1", 1, 3600.0)
    assert not refused
    assert 0 < refused.retry_after <= 3600.0


def test_text_and_its_bytes_are_one_key() -> None:
    limiter = RateLimiter(clock=ManualClock())
    assert limiter.check("schlüssel", 1, 60)
    assert not limiter.check("schlüssel".encode(), 1, 60)
    assert limiter.check(b"", 1, 60)
    assert limiter.check(b"\xff\x00", 1, 60)
    assert not limiter.check(b"\xff\x00", 1, 60)


def test_cost_and_burst() -> None:
    limiter = RateLimiter(clock=ManualClock())
    assert limiter.check("a", 10, 60, cost=7).remaining == 3
    assert limiter.check("a", 10, 60, cost=4).status is Status.RATE_LIMITED
    assert limiter.check("b", 10, 60, burst=3).limit == 3
    assert limiter.check("b", 10, 60, cost=4, burst=3).status is Status.NEVER


def test_a_cost_above_the_bucket_can_never_pass() -> None:
    limiter = RateLimiter()
    with pytest.raises(Never) as refusal:
        limiter.require("a", 10, 60, cost=11)
    assert refusal.value.retry_after == math.inf


def test_require_raises_the_refusal() -> None:
    limiter = RateLimiter(clock=ManualClock())
    assert limiter.require("a", 1, 30).allowed
    with pytest.raises(RateLimited, match="'a'") as refusal:
        limiter.require("a", 1, 30)
    assert refusal.value.retry_after == 30.0
    assert type(refusal.value) is RateLimited


def test_peek_takes_nothing_and_reset_fills() -> None:
    limiter = RateLimiter(clock=ManualClock())
    for _ in range(3):
        assert limiter.peek("a", 1, 30).allowed
    assert limiter.check("a", 1, 30)
    assert limiter.peek("a", 1, 30).retry_after == 30.0
    limiter.reset("a")
    assert limiter.check("a", 1, 30)


def test_a_full_table_refuses_new_keys_and_keeps_the_old() -> None:
    limiter = RateLimiter(max_keys=1, secret=SECRET, clock=ManualClock())
    places = 0
    while limiter.check(f"key:{places}", 1, 60):
        places += 1
        assert places < 1000, "a table for one key takes any number"
    assert places >= 1
    assert limiter.check(f"key:{places}", 1, 60).status is Status.TABLE_FULL
    with pytest.raises(TableFull):
        limiter.require(f"key:{places}", 1, 60)
    assert limiter.check("key:0", 1, 60).status is Status.RATE_LIMITED
    assert limiter.snapshot().table_full == 3


def test_snapshot_counts_what_happened() -> None:
    limiter = RateLimiter(max_keys=36_000, clock=ManualClock())
    for _ in range(3):
        limiter.check("a", 2, 60)
    limiter.check("a", 2, 60, cost=3)
    now = limiter.snapshot()
    assert (now.allowed, now.limited, now.never, now.table_full) == (2, 1, 1, 0)
    assert now.capacity >= 36_000
    assert now.bytes < 1_000_000


def test_a_limiter_says_how_it_is() -> None:
    limiter = RateLimiter(max_keys=1000, clock=ManualClock())
    for _ in range(3):
        limiter.check("a", 2, 60)
    assert repr(limiter) == f"<RateLimiter of up to {limiter.snapshot().capacity} keys, 2 allowed, 1 limited>"
    limiter.close()
    assert repr(limiter) == "<RateLimiter, not to be used after close()>"


def test_any_number_of_rules_keeps_memory_bounded() -> None:
    limiter = RateLimiter()
    for limit in range(1, 5000):
        limiter.check("a", limit, 60)
    assert len(limiter._rules) <= 1024


def test_threads_share_a_limit() -> None:
    limiter = RateLimiter(clock=ManualClock())
    admitted: list[int] = []
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        admitted.append(sum(limiter.check("shared", 1000, 60).allowed for _ in range(500)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == 1000
