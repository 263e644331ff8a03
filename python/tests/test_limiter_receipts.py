"""Reservations, groups, limits with a name and header fields: what the binding makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from elixirscope import (
    AlreadyDone,
    BadReceipt,
    ChangeTooSoon,
    Charge,
    Forfeited,
    FullPolicy,
    InvalidArgument,
    Limit,
    ManualClock,
    Never,
    RateLimited,
    RateLimiter,
    Rule,
    Status,
    Strategy,
    TooLate,
    rate_limit_headers,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def limiter(clock: ManualClock) -> RateLimiter:
    return RateLimiter(clock=clock)


def left(limiter: RateLimiter) -> int:
    return limiter.peek("a", 10, 60).remaining


def test_a_reservation_queues_and_its_refusal_takes_nothing(limiter: RateLimiter) -> None:
    waits = [limiter.reserve("a", 1, 60, max_wait=None).wait for _ in range(3)]
    assert waits == [0.0, 60.0, 120.0]
    with pytest.raises(RateLimited) as refusal:
        limiter.reserve("a", 1, 60, max_wait=179)
    assert refusal.value.decision is not None
    assert refusal.value.decision.status is Status.RATE_LIMITED
    assert limiter.reserve("a", 1, 60, max_wait=180).wait == 180.0


@pytest.mark.parametrize("use", ["cancel", "refund", "settle"])
def test_a_receipt_is_good_for_one_use(limiter: RateLimiter, use: str) -> None:
    limiter.reserve("a", 10, 60, 10)
    receipt = limiter.reserve("a", 10, 60, 4, max_wait=60)
    assert receipt.cost == 4
    receipt.cancel()
    assert receipt.cost == 0
    function: Callable[..., Any] = getattr(receipt, use)
    with pytest.raises(AlreadyDone):
        function(*[4] if use == "settle" else [])


def test_refund_and_settle_give_back_what_was_not_used(limiter: RateLimiter) -> None:
    limiter.reserve("a", 10, 60, 8).refund(3)
    assert left(limiter) == 5
    assert limiter.reserve("a", 10, 60, 5).settle(1) is False
    assert left(limiter) == 4
    limiter.reserve("a", 10, 60, 4).refund()
    assert left(limiter) == 4


def test_settle_may_leave_a_debt_of_one_bucket(limiter: RateLimiter) -> None:
    assert limiter.reserve("a", 10, 60, 1).settle(15) is False
    assert limiter.peek("a", 10, 60).retry_after == 36.0
    assert limiter.reserve("b", 10, 60, 1).settle(1000) is True
    assert limiter.peek("b", 10, 60).retry_after == 66.0


def test_what_cannot_be_given_back_says_why(limiter: RateLimiter) -> None:
    now = limiter.reserve("a", 1, 60)
    with pytest.raises(TooLate):
        now.cancel()
    middle = limiter.reserve("b", 1, 60, max_wait=300), limiter.reserve("b", 1, 60, max_wait=300)
    limiter.reserve("b", 1, 60, max_wait=300)
    with pytest.raises(Forfeited):
        middle[0].refund()
    with pytest.raises(Forfeited):
        middle[1].cancel()
    with pytest.raises(BadReceipt):
        limiter.reserve("c", 1, 60, 0).refund()
    assert limiter.snapshot().forfeited == 2


def test_more_than_was_taken_cannot_be_given_back(limiter: RateLimiter) -> None:
    with pytest.raises(InvalidArgument, match="`amount` is 3"):
        limiter.reserve("a", 10, 60, 2).refund(3)


def test_a_receipt_outlives_the_limiter_that_gave_it(limiter: RateLimiter) -> None:
    receipt = limiter.reserve("a", 10, 60, 2)
    limiter.close()
    receipt.refund()
    assert receipt.cost == 0


def test_a_group_takes_all_or_nothing(limiter: RateLimiter) -> None:
    user, everybody = limiter.define("user", 5, 60), limiter.define("everybody", 2, 60)
    group = [Charge("user:ann", user), Charge("org:acme", 10, 60), Charge("everybody", everybody, cost=2)]
    assert limiter.check_many(group)
    denial = limiter.check_many(group)
    assert (denial.status, denial.refused, denial.level, denial.retry_after) == (
        Status.RATE_LIMITED,
        2,
        "everybody",
        60.0,
    )
    assert [d.allowed for d in denial.decisions] == [True, True, False]
    assert limiter.peek("user:ann", user).remaining == 4
    with pytest.raises(RateLimited, match="'everybody' of 'everybody', retry after 60 s") as refusal:
        limiter.require_many(iter(group))
    assert refusal.value.retry_after == 60.0
    assert refusal.value.decision == denial.decisions[2]


def test_the_gravest_refusal_of_a_group_is_told(limiter: RateLimiter) -> None:
    limiter.check("a", 1, 60)
    denial = limiter.check_many([Charge("a", 1, 60), Charge("b", 1, 60, cost=2)])
    assert (denial.status, denial.refused, denial.level) == (Status.NEVER, 1, None)
    assert denial.retry_after == math.inf
    with pytest.raises(Never):
        limiter.require_many([Charge("b", 1, 60, 2)])


def test_a_group_has_a_largest_size_and_may_be_empty(limiter: RateLimiter) -> None:
    assert limiter.check_many([])
    assert limiter.check_many([Charge(f"{n}", 1, 60) for n in range(32)])
    with pytest.raises(InvalidArgument, match="`charges` is '33 charges', allowed is up to 32"):
        limiter.check_many([Charge(f"{n}", 1, 60) for n in range(33)])


def test_a_batch_answers_each_by_itself(limiter: RateLimiter) -> None:
    limit = limiter.define("user", 2, 60)
    batch = [Charge(b"x\0y", limit) for _ in range(3)] + [Charge(b"x\0z", limit, cost=3)]
    statuses = [d.status for d in limiter.check_batch(batch)]
    assert statuses == [Status.OK, Status.OK, Status.RATE_LIMITED, Status.NEVER]
    assert len(limiter.check_batch(Charge(f"{n}", 1, 60) for n in range(1000))) == 1000
    assert limiter.check_batch([]) == []


def test_a_batch_with_one_bad_charge_takes_nothing(limiter: RateLimiter) -> None:
    for bad in (Charge("b", 1, 0), Charge("b", 1, 60, -1), Charge("b", 1), ("b", 1, 60)):
        with pytest.raises(InvalidArgument, match="allowed is"):
            limiter.check_batch([Charge("a", 1, 60), bad])  # type: ignore[list-item]
        with pytest.raises(InvalidArgument, match="allowed is"):
            limiter.check_many([Charge("a", 1, 60), bad])  # type: ignore[list-item]
    assert limiter.check("a", 1, 60)


@pytest.mark.parametrize(
    ("strategy", "remaining"),
    [(Strategy.AS_IS, 4), (Strategy.PROPORTIONAL, 8), (Strategy.ADDITIVE, 14), (Strategy.RESET, 20)],
)
def test_a_limit_changes_on_live_keys(limiter: RateLimiter, strategy: Strategy, remaining: int) -> None:
    user = limiter.define("user", 10, 60)
    limiter.check("a", user, cost=6)
    user.change(20, 60, strategy=strategy)
    assert limiter.peek("a", limiter.limit("user")).remaining == remaining
    assert user.rule == Rule(20, 60.0, 20)
    assert repr(user) == "<Limit 'user': 20 in 60 s, burst 20>"


def test_a_limit_cannot_change_five_times_at_once(limiter: RateLimiter, clock: ManualClock) -> None:
    user = limiter.define("user", 1, 60, max_wait=0)
    for limit in (2, 3, 4):
        user.change(limit, 60)
    with pytest.raises(ChangeTooSoon) as refusal:
        user.change(5, 60)
    assert 0 < refusal.value.retry_after < math.inf
    clock.advance(refusal.value.retry_after)
    user.change(10, 60)


def test_a_limit_bounds_the_wait(limiter: RateLimiter) -> None:
    user = limiter.define("user", 1, 60, max_wait=59)
    assert limiter.require("a", user)
    with pytest.raises(RateLimited):
        limiter.reserve("a", user, max_wait=None)


def test_what_a_limit_may_not_be_given(limiter: RateLimiter) -> None:
    user = limiter.define("user", 1, 60)
    bad: list[tuple[str, Callable[[], object]]] = [
        ("window", lambda: limiter.check("a", user, 60)),
        ("burst", lambda: limiter.check("a", user, burst=1)),
        ("window", lambda: limiter.peek("a", user, 60)),
        ("window", lambda: limiter.reserve("a", user, 60)),
        ("limit", lambda: limiter.check("a", "user")),  # type: ignore[arg-type]
        ("window", lambda: limiter.check("a", 1)),
        ("name", lambda: limiter.define("user", 1, 60)),
        ("name", lambda: limiter.define("", 1, 60)),
        ("name", lambda: limiter.define("a\0b", 1, 60)),
        ("name", lambda: limiter.define(1, 1, 60)),  # type: ignore[arg-type]
        ("name", lambda: limiter.limit("nobody")),
        ("strategy", lambda: user.change(1, 60, strategy=1)),  # type: ignore[arg-type]
        ("full_policy", lambda: RateLimiter(full_policy=0)),  # type: ignore[arg-type]
        ("max_waiting", lambda: RateLimiter(max_waiting=-1)),
        ("max_wait", lambda: limiter.reserve("a", 1, 60, max_wait=-1)),
        ("timeout", lambda: limiter.acquire("a", 1, 60, timeout=-1)),
        ("policy", lambda: rate_limit_headers(limiter.peek("a", 1, 60), "naïve")),
        ("rule", lambda: rate_limit_headers(limiter.peek("a", 1, 60), "a", (1, 60))),  # type: ignore[arg-type]
        ("path", lambda: limiter.save("a\0b")),
    ]
    for argument, call in bad:
        with pytest.raises(InvalidArgument, match=f"`{argument}`"):
            call()
    assert limiter.snapshot().allowed == 0


def test_headers_of_a_limit(limiter: RateLimiter) -> None:
    api: Limit = limiter.define("api", 10, 60)
    assert rate_limit_headers(limiter.check("a", api), api) == {
        "RateLimit": '"api";r=9;t=6',
        "RateLimit-Policy": '"api";q=10;w=60',
    }
    never = limiter.check("a", api, cost=11)
    assert "Retry-After" not in rate_limit_headers(never, api)
    with pytest.raises(RateLimited) as refusal:
        limiter.require("a", api, cost=10)
    assert refusal.value.decision is not None
    assert rate_limit_headers(refusal.value.decision, api)["Retry-After"] == "6"


def test_policies_of_a_full_table() -> None:
    def flood(policy: FullPolicy) -> tuple[int, int, int]:
        limiter = RateLimiter(1, full_policy=policy, clock=ManualClock())
        for number in range(100):
            limiter.check(f"{number}", 1000, 60)
        now = limiter.snapshot()
        return now.table_full, now.evicted, now.overflowed

    full = [flood(policy) for policy in FullPolicy]
    assert [[count > 0 for count in counts] for counts in full] == [
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


def test_a_limit_of_another_limiter_is_refused() -> None:
    clock = ManualClock()
    limiter, other = RateLimiter(clock=clock), RateLimiter(clock=clock)
    foreign = other.define("user", 1, 60)
    limiter.define("user", 1, 60)
    uses: list[Callable[[], object]] = [
        lambda: limiter.check("a", foreign),
        lambda: limiter.require("a", foreign),
        lambda: limiter.peek("a", foreign),
        lambda: limiter.reserve("a", foreign),
        lambda: limiter.acquire("a", foreign, timeout=0),
        lambda: limiter.check_many([Charge("a", foreign)]),
        lambda: limiter.check_batch([Charge("a", foreign)]),
    ]
    for use in uses:
        with pytest.raises(InvalidArgument, match=r"`limit` is .*'user'.*this limiter has defined"):
            use()
    assert other.check("a", other.limit("user")), "found again, it is the same limit"
    assert limiter.check("a", limiter.limit("user"))


def test_a_batch_reads_each_rule_once_and_takes_equal_numbers_of_another_type_for_no_rule() -> None:
    limiter = RateLimiter(clock=ManualClock())
    with pytest.raises(InvalidArgument, match="`limit`"):
        limiter.check_batch([Charge("a", 1, 60), Charge("b", 1.0, 60)])  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="`burst`"):
        limiter.check_batch([Charge("a", 2, 60, 1, 1), Charge("b", 2, 60, 1, 1.0)])  # type: ignore[arg-type]
    assert limiter.live_keys() == 0
