"""Replays the recorded operations that every language replays, through the public classes.

A replay answers an operation with what the recording has under ``expect``. The classes give times in seconds,
so recorded nanoseconds are divided like theirs before they are compared.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from ctypes import memmove, sizeof
from enum import IntEnum
from fractions import Fraction
from typing import Any, cast

import pytest
from header import CHECKOUT

from elixirscope import (
    AlreadyDone,
    Breaker,
    BreakerOptions,
    ChangeTooSoon,
    Charge,
    Checkout,
    CircuitOpen,
    Decision,
    Error,
    Event,
    FullPolicy,
    ManualClock,
    Mode,
    Outcome,
    Permit,
    Pool,
    PoolTimeout,
    RateLimited,
    RateLimiter,
    Reservation,
    Strategy,
)
from elixirscope import _breaker_abi as abi
from elixirscope._breaker_options import FIELDS, OPTIONS
from elixirscope._units import BP, FOREVER_NS, NS_PER_S, seconds

VECTORS = CHECKOUT / "tests" / "vectors"


def in_seconds(value: Any) -> Any:
    """A recording whose times are seconds and shares numbers; a time that never comes is recorded as null."""
    if isinstance(value, list):
        return [in_seconds(item) for item in value]
    if isinstance(value, dict):
        return {k: in_our_unit(k, v) for k, v in value.items()}
    return value


def in_our_unit(name: str, value: Any) -> Any:
    if name.endswith("_ns"):
        return seconds(FOREVER_NS if value is None else value)
    return value / BP if name.endswith("_bp") else in_seconds(value)


def word(member: IntEnum) -> str:
    return member.name.lower()


def options_of(config: dict[str, Any]) -> BreakerOptions:
    """The options of a configuration, which names the library's fields, and its policy by the kind of window.

    Levels admit what it says, and everything where it says nothing.
    """
    options: dict[str, Any] = {"strategy": "gradual_degradation", "admit": dict.fromkeys(OPTIONS["admit"], 1)}
    for field, value in config.items():
        if field == "policy":
            options[field] = "rate" if value.startswith("rate_") else value
            continue
        name, kind = FIELDS[field]
        # A fraction is exact. A switch is recorded as one already.
        given = value if kind.per == 1 else Fraction(value, kind.per)
        group, _, key = name.partition("[")
        if key:
            options.setdefault(group, {})[key.strip("']")] = given
        else:
            options[name] = given
    return cast(BreakerOptions, options)


class BreakerReplay:
    """One breaker. A second record of a permit asks the breaker itself, with a copy of the first permit."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.clock = ManualClock()
        self.events: list[dict[str, Any]] = []
        self.permits: dict[int, tuple[Permit, bytes]] = {}
        self.breaker = Breaker(on_event=self.hear, clock=self.clock, **options_of(vector["config"]))

    def hear(self, event: Event) -> None:
        self.events.append(
            {
                "sequence": event.sequence,
                "generation": event.generation,
                "from": word(event.before),
                "to": word(event.after),
                "from_level": word(event.level_before),
                "to_level": word(event.level_after),
                "mode": word(event.mode),
                "cause": word(event.cause),
                "at_ns": event.at,
            }
        )

    def run(self, op: dict[str, Any]) -> dict[str, Any]:
        self.clock.now_ns = op["now_ns"]
        answer: dict[str, Any] = getattr(self, op["op"])(op)
        if op["op"] != "state":
            answer["events"], self.events = self.events, []
        return answer

    def acquire(self, op: dict[str, Any]) -> dict[str, Any]:
        try:
            permit = self.breaker.acquire()
        except CircuitOpen as refusal:
            return {"verdict": word(refusal.status), "retry_after_ns": refusal.retry_after}
        self.permits[op["permit"]] = permit, bytes(permit._call.permit)
        return {"verdict": "ok", "retry_after_ns": 0.0}

    def ask(self, _op: dict[str, Any]) -> dict[str, Any]:
        try:
            self.breaker.ask()
        except CircuitOpen as refusal:
            return {"verdict": word(refusal.status), "retry_after_ns": refusal.retry_after}
        return {"verdict": "ok", "retry_after_ns": 0.0}

    def record(self, op: dict[str, Any]) -> dict[str, Any]:
        permit, as_granted = self.permits[op["permit"]]
        memmove(permit._call.permit_ref, as_granted, sizeof(abi.Permit))
        try:
            verdict = permit.record(Outcome[op["outcome"].upper()])
        except AlreadyDone as misuse:
            verdict = misuse.status
        return {"verdict": word(verdict)}

    def report(self, op: dict[str, Any]) -> dict[str, Any]:
        return {"verdict": word(self.breaker.report(Outcome[op["outcome"].upper()]))}

    def settle(self, _op: dict[str, Any]) -> dict[str, Any]:
        self.breaker.settle()
        return {}

    def reset(self, _op: dict[str, Any]) -> dict[str, Any]:
        self.breaker.reset()
        return {}

    def set_mode(self, op: dict[str, Any]) -> dict[str, Any]:
        self.breaker.set_mode(Mode[op["mode"].upper()])
        return {}

    def reconfigure(self, op: dict[str, Any]) -> dict[str, Any]:
        self.breaker.reconfigure(**self.instead(op))
        return {}

    def reinstall(self, op: dict[str, Any]) -> dict[str, Any]:
        self.breaker.reinstall(**self.instead(op))
        return {}

    def instead(self, op: dict[str, Any]) -> BreakerOptions:
        """A configuration that is to replace another one; the public call changes what it is given."""
        self.breaker._options = {}
        return options_of(op["config"])

    def state(self, _op: dict[str, Any]) -> dict[str, Any]:
        now = self.breaker.snapshot()
        return {
            "phase": word(now.phase),
            "mode": word(now.mode),
            "level": word(now.level),
            "last_cause": None if now.last_cause is None else word(now.last_cause),
            "generation": now.generation,
            "opens": now.opens,
            "live_probes": now.live_probes,
            "failures": now.failures,
            "window_calls": now.window_calls,
            "slow_calls": now.slow_calls,
            "failure_rate_bp": now.failure_rate,
            "slow_call_rate_bp": now.slow_call_rate,
            "retry_after_ns": now.retry_after,
        }


class LimiterReplay:
    """One limiter with one rule, and limits with names."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.rule = self.terms(vector["rule"])
        self.clock = ManualClock()
        policy = FullPolicy[vector.get("full_policy", "deny_new").upper()]
        self.limiter = RateLimiter(vector["max_keys"], full_policy=policy, clock=self.clock)
        for name, rule in vector.get("limits", {}).items():
            longest: Any = Fraction(rule["max_wait_ns"], NS_PER_S)
            self.limiter.define(name, **self.terms(rule), max_wait=longest)
        self.receipts: list[Reservation] = []

    @staticmethod
    def terms(rule: dict[str, Any]) -> dict[str, Any]:
        # A fraction, for some periods are longer than a float can say to the nanosecond.
        window = Fraction(rule["period_ns"], NS_PER_S)
        return {"limit": rule["tokens"], "window": window, "burst": rule["burst"]}

    def by(self, op: dict[str, Any]) -> dict[str, Any]:
        """What an operation or a charge measures by."""
        if "limit" in op:
            return {"limit": self.limiter.limit(op["limit"])}
        return self.terms(op["rule"]) if "rule" in op else self.rule

    def run(self, op: dict[str, Any]) -> Any:
        self.clock.now_ns = op["now_ns"]
        return getattr(self, op["op"])(op)

    def check(self, op: dict[str, Any]) -> dict[str, Any]:
        return self.answer(self.limiter.check(op["key"], cost=op["cost"], **self.by(op)))

    def peek(self, op: dict[str, Any]) -> dict[str, Any]:
        return self.answer(self.limiter.peek(op["key"], **self.by(op)))

    def reset(self, op: dict[str, Any]) -> None:
        self.limiter.reset(op["key"])

    def reserve(self, op: dict[str, Any]) -> dict[str, Any]:
        longest: Any = Fraction(op["max_wait_ns"], NS_PER_S)
        try:
            receipt = self.limiter.reserve(op["key"], cost=op["cost"], max_wait=longest, **self.by(op))
        except RateLimited as refusal:
            return self.answer(cast(Decision, refusal.decision)) | {"wait_ns": 0.0, "receipt": None}
        number = None
        if receipt.cost:
            assert receipt.cost == op["cost"]
            number = len(self.receipts)
            self.receipts.append(receipt)
        return self.answer(receipt.decision) | {"wait_ns": receipt.wait, "receipt": number}

    def cancel(self, op: dict[str, Any]) -> str:
        return self.used(self.receipts[op["receipt"]].cancel)

    def refund(self, op: dict[str, Any]) -> str:
        return self.used(self.receipts[op["receipt"]].refund, op["amount"])

    def settle(self, op: dict[str, Any]) -> str:
        return self.used(self.receipts[op["receipt"]].settle, op["actual"])

    @staticmethod
    def used(function: Callable[..., bool | None], *arguments: int) -> str:
        try:
            return "saturated" if function(*arguments) else "applied"
        except AlreadyDone:
            return "bad_receipt"
        except Error as problem:
            return word(problem.status)

    def check_many(self, op: dict[str, Any]) -> dict[str, Any]:
        charges = [Charge(c["key"], cost=c["cost"], **self.by(c)) for c in op["charges"]]
        group = self.limiter.check_many(charges)
        if group.refused is not None:
            assert group.decisions[group.refused].status is group.status
            assert group.level == op["charges"][group.refused].get("limit")
        return {
            "verdict": "allowed" if group else word(group.status),
            "retry_after_ns": group.retry_after,
            "blocked": [i for i, decision in enumerate(group.decisions) if not decision],
        }

    def change(self, op: dict[str, Any]) -> dict[str, Any]:
        strategy = Strategy[op["strategy"].upper()]
        try:
            self.limiter.limit(op["limit"]).change(**self.terms(op["rule"]), strategy=strategy)
        except ChangeTooSoon as refusal:
            return {"verdict": word(refusal.status), "retry_after_ns": refusal.retry_after}
        return {"verdict": "ok"}

    @staticmethod
    def answer(decision: Decision) -> dict[str, Any]:
        return {
            "verdict": "allowed" if decision else word(decision.status),
            "remaining": decision.remaining,
            "limit": decision.limit,
            "retry_after_ns": decision.retry_after,
            "reset_after_ns": decision.reset_after,
        }


class PoolReplay:
    """One pool of numbers, counted from 1. Leases are counted in the order of their grant."""

    def __init__(self, vector: dict[str, Any]) -> None:
        config = vector["config"]
        self.made = 0
        self.destroyed: list[int] = []
        self.loans: list[Checkout[int]] = []
        self.pool: Pool[int] = Pool(
            self.create,
            self.destroyed.append,
            size=config["size"],
            max_overflow=config["max_overflow"],
            order=config["order"],
            overflow_ttl=config["overflow_ttl_ns"] / NS_PER_S,
        )

    def create(self) -> int:
        self.made += 1
        return self.made

    def run(self, op: dict[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self, op["op"])(op)
        except Error as problem:
            answer = {"verdict": word(problem.status)}
        else:
            answer["verdict"] = "ok"
        if self.destroyed:
            answer["destroyed"] = sorted(self.destroyed)
            self.destroyed.clear()
        now = self.pool.snapshot()
        return answer | {k: getattr(now, k) for k in ("idle", "leased", "overflow", "waiting")}

    def checkout(self, _op: dict[str, Any]) -> dict[str, Any]:
        loan = self.pool.checkout(timeout=0)
        connection = loan.__enter__()
        self.loans.append(loan)
        return {"connection": connection}

    def checkin(self, op: dict[str, Any]) -> dict[str, Any]:
        self.loans[op["lease"]].checkin(broken=op["condition"] == "broken")
        return {}

    def close(self, _op: dict[str, Any]) -> dict[str, Any]:
        self.pool.close()
        return {}


class PoolFullReplay:
    """One pool at given times. What an operation leaves to do is done by `maintain` at the same time."""

    def __init__(self, vector: dict[str, Any]) -> None:
        config = vector["config"]
        self.clock = ManualClock()
        self.made = 0
        self.spoilt: set[int] = set()
        self.deeds: dict[str, list[int]] = {"created": [], "checked": [], "destroyed": []}
        self.loans: list[Checkout[int]] = []
        options = {
            (name.removesuffix("_ns")): value / NS_PER_S
            if name.endswith("_ns") and value is not None
            else value
            for name, value in config.items()
        }
        self.pool: Pool[int] = Pool(
            self.create, self.deeds["destroyed"].append, check=self.check, clock=self.clock, **options
        )

    def create(self) -> int:
        self.made += 1
        self.deeds["created"].append(self.made)
        return self.made

    def check(self, connection: int) -> bool:
        self.deeds["checked"].append(connection)
        return connection not in self.spoilt

    def run(self, op: dict[str, Any]) -> dict[str, Any]:
        self.clock.now_ns = op["now_ns"]
        answer: dict[str, Any] = {"verdict": "ok", "connection": None}
        try:
            answer["connection"] = getattr(self, op["op"])(op)
        except Error as problem:
            answer["verdict"] = word(problem.status)
        done = -1
        while done != (done := sum(map(len, self.deeds.values()))):
            self.pool.maintain()
        for name, connections in self.deeds.items():
            answer[name] = sorted(connections)
            connections.clear()
        now = self.pool.snapshot()
        return answer | {k: getattr(now, k) for k in ("idle", "leased", "overflow")}

    def checkout(self, _op: dict[str, Any]) -> int:
        loan = self.pool.checkout(timeout=0)
        connection = loan.__enter__()
        self.loans.append(loan)
        return connection

    def checkin(self, op: dict[str, Any]) -> None:
        self.loans[op["lease"]].checkin(broken=op["condition"] == "broken")

    def maintain(self, _op: dict[str, Any]) -> None:
        self.pool.maintain()

    def spoil(self, op: dict[str, Any]) -> None:
        self.spoilt.add(op["connection"])

    def resize(self, op: dict[str, Any]) -> None:
        self.pool.resize(op["size"], op["max_overflow"])

    def evict(self, _op: dict[str, Any]) -> None:
        self.pool.evict()

    def drain(self, _op: dict[str, Any]) -> None:
        # Whether something is left the counts say.
        with contextlib.suppress(PoolTimeout):
            self.pool.drain(0)

    def close(self, _op: dict[str, Any]) -> None:
        self.pool.close()


REPLAYS: dict[str, Any] = {
    "breaker": BreakerReplay,
    "limiter": LimiterReplay,
    "pool": PoolReplay,
    "pool_full": PoolFullReplay,
}


def first_difference(replay: Any, ops: list[dict[str, Any]]) -> str | None:
    for number, op in enumerate(ops):
        expected, answer = in_seconds(op.get("expect")), replay.run(op)
        if expected is not None and "destroyed" in expected:
            expected["destroyed"].sort()
        if answer != expected:
            return f"operation {number} {op}: {answer}"
    return None


def failures(primitive: str) -> tuple[int, list[str]]:
    """How many vectors a primitive has, and what differs."""
    document = json.loads((VECTORS / f"{primitive}.json").read_text())
    assert document["primitive"] == primitive.removesuffix("_full")
    vectors: list[dict[str, Any]] = document["vectors"]
    failed = []
    for vector in vectors:
        difference = first_difference(REPLAYS[primitive](vector), vector["ops"])
        if difference:
            failed.append(f"{vector['name']}, {difference}")
    return len(vectors), failed


@pytest.mark.parametrize("primitive", sorted(REPLAYS))
def test_vectors(primitive: str, capsys: pytest.CaptureFixture[str]) -> None:
    count, failed = failures(primitive)
    with capsys.disabled():
        print(f"\nvectors {primitive} python: {count} replayed, {len(failed)} failed")
    assert count
    assert not failed, "\n".join(failed[:5])
