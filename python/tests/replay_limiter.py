"""Recorded operations of a limiter, through `RateLimiter`."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, cast

from recorded import word

from elixirscope import (
    AlreadyDone,
    ChangeTooSoon,
    Charge,
    Decision,
    Error,
    FullPolicy,
    ManualClock,
    RateLimited,
    RateLimiter,
    Reservation,
    Strategy,
)
from elixirscope._units import NS_PER_S


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
