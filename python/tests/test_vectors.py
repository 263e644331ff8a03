"""Replays the recorded operations that every language replays, through the public classes.

A replay answers an operation with what the recording has under ``expect``. The classes give times in seconds,
so recorded nanoseconds are divided like theirs before they are compared.
"""

from __future__ import annotations

import json
from ctypes import memmove, sizeof
from fractions import Fraction
from typing import Any

import pytest
from header import CHECKOUT

from elixirscope import (
    AlreadyDone,
    Breaker,
    Checkout,
    CircuitOpen,
    Decision,
    Error,
    Event,
    ManualClock,
    Outcome,
    Permit,
    Pool,
    RateLimiter,
    Status,
    _ffi,
)
from elixirscope._units import FOREVER_NS, NS_PER_S, seconds

VECTORS = CHECKOUT / "tests" / "vectors"


def in_seconds(value: Any) -> Any:
    """A recording whose times are seconds; a time that never comes is recorded as null."""
    if isinstance(value, list):
        return [in_seconds(item) for item in value]
    if isinstance(value, dict):
        return {
            k: seconds(FOREVER_NS if v is None else v) if k.endswith("_ns") else in_seconds(v)
            for k, v in value.items()
        }
    return value


def word(status: Status) -> str:
    return status.name.lower()


class BreakerReplay:
    """One breaker. A second record of a permit asks the breaker itself, with a copy of the first permit."""

    def __init__(self, vector: dict[str, Any]) -> None:
        config = vector["config"]
        self.clock = ManualClock()
        self.events: list[dict[str, Any]] = []
        self.permits: dict[int, tuple[Permit, bytes]] = {}
        self.breaker = Breaker(
            failure_threshold=config["failure_threshold"],
            open_for=config["open_for_ns"] / NS_PER_S,
            half_open_permits=config["half_open_permits"],
            successes_to_close=config["successes_to_close"],
            probe_lease=config["probe_lease_ns"] / NS_PER_S,
            on_event=self.hear,
            clock=self.clock,
        )

    def hear(self, event: Event) -> None:
        self.events.append(
            {
                "sequence": event.sequence,
                "generation": event.generation,
                "from": event.before.name.lower(),
                "to": event.after.name.lower(),
                "cause": event.cause.name.lower(),
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

    def record(self, op: dict[str, Any]) -> dict[str, Any]:
        permit, as_granted = self.permits[op["permit"]]
        memmove(permit._call.permit_ref, as_granted, sizeof(_ffi.Permit))
        try:
            verdict = permit.record(Outcome[op["outcome"].upper()])
        except AlreadyDone as misuse:
            verdict = misuse.status
        return {"verdict": word(verdict)}

    def reset(self, _op: dict[str, Any]) -> dict[str, Any]:
        self.breaker.reset()
        return {}

    def state(self, _op: dict[str, Any]) -> dict[str, Any]:
        now = self.breaker.snapshot()
        return {
            "phase": now.phase.name.lower(),
            "generation": now.generation,
            "consecutive_failures": now.consecutive_failures,
            "live_probes": now.live_probes,
        }


class LimiterReplay:
    """One limiter and one rule."""

    def __init__(self, vector: dict[str, Any]) -> None:
        rule = vector["rule"]
        # A fraction, for some periods are longer than a float can say to the nanosecond.
        window: Any = Fraction(rule["period_ns"], NS_PER_S)
        self.rule = {"limit": rule["tokens"], "window": window, "burst": rule["burst"]}
        self.clock = ManualClock()
        self.limiter = RateLimiter(vector["max_keys"], clock=self.clock)

    def run(self, op: dict[str, Any]) -> dict[str, Any] | None:
        self.clock.now_ns = op["now_ns"]
        match op["op"]:
            case "check":
                return self.answer(self.limiter.check(op["key"], cost=op["cost"], **self.rule))
            case "peek":
                return self.answer(self.limiter.peek(op["key"], **self.rule))
            case "reset":
                self.limiter.reset(op["key"])
                return None
        raise ValueError(op)

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


REPLAYS: dict[str, Any] = {"breaker": BreakerReplay, "limiter": LimiterReplay, "pool": PoolReplay}


def first_difference(replay: Any, ops: list[dict[str, Any]]) -> str | None:
    for number, op in enumerate(ops):
        expected, answer = in_seconds(op.get("expect")), replay.run(op)
        if expected is not None and "destroyed" in expected:
            expected["destroyed"].sort()
        if answer != expected:
            return f"operation {number} {op}: {answer}"
    return None


@pytest.mark.parametrize("primitive", sorted(REPLAYS))
def test_vectors(primitive: str, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads((VECTORS / f"{primitive}.json").read_text())
    assert document["primitive"] == primitive
    vectors: list[dict[str, Any]] = document["vectors"]
    failed = []
    for vector in vectors:
        difference = first_difference(REPLAYS[primitive](vector), vector["ops"])
        if difference:
            failed.append(f"{vector['name']}, {difference}")
    with capsys.disabled():
        print(f"\nvectors {primitive} python: {len(vectors)} replayed, {len(failed)} failed")
    assert vectors
    assert not failed, "\n".join(failed[:5])
