"""Recorded operations of a breaker, through `Breaker`."""

from __future__ import annotations

from ctypes import memmove, sizeof
from fractions import Fraction
from typing import Any, cast

from recorded import word

from elixirscope import (
    AlreadyDone,
    Breaker,
    BreakerOptions,
    CircuitOpen,
    Event,
    ManualClock,
    Mode,
    Outcome,
    Permit,
)
from elixirscope import _breaker_abi as abi
from elixirscope._breaker_options import FIELDS, OPTIONS


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
