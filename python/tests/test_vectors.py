"""Replays the recorded operations that every language replays, through the public classes.

Times are compared in seconds, as the classes give them: a division of the recorded nanoseconds is exact here, for
the classes divide the same integers.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from header import CHECKOUT

from elixirscope import (
    AlreadyDone,
    Breaker,
    CircuitOpen,
    Event,
    ManualClock,
    Outcome,
    Permit,
    RateLimiter,
    Status,
)

VECTORS = CHECKOUT / "tests" / "vectors"
NS = 1_000_000_000


def load(primitive: str) -> list[dict[str, Any]]:
    document = json.loads((VECTORS / f"{primitive}.json").read_text())
    assert document["primitive"] == primitive
    vectors: list[dict[str, Any]] = document["vectors"]
    return vectors


class BreakerReplay:
    """One breaker with the recorded configuration."""

    def __init__(self, config: dict[str, int]) -> None:
        self.clock = ManualClock()
        self.events: list[dict[str, Any]] = []
        self.permits: dict[int, Permit] = {}
        self.breaker = Breaker(
            failure_threshold=config["failure_threshold"],
            open_for=config["open_for_ns"] / NS,
            half_open_permits=config["half_open_permits"],
            successes_to_close=config["successes_to_close"],
            probe_lease=config["probe_lease_ns"] / NS,
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
                "at_ns": round(event.at * NS),
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
            word = refusal.status.name.lower()
            return {"verdict": word, "retry_after_ns": round(refusal.retry_after * NS)}
        self.permits[op["permit"]] = permit
        return {"verdict": "ok", "retry_after_ns": 0}

    def record(self, op: dict[str, Any]) -> dict[str, Any]:
        try:
            verdict = self.permits[op["permit"]].record(Outcome[op["outcome"].upper()])
        except AlreadyDone as misuse:
            verdict = misuse.status
        return {"verdict": verdict.name.lower()}

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


REPLAYS: dict[str, Any] = {"breaker": BreakerReplay}


@pytest.mark.parametrize("primitive", sorted(REPLAYS))
def test_vectors(primitive: str, capsys: pytest.CaptureFixture[str]) -> None:
    replayed, failed = 0, []
    for vector in load(primitive):
        replay = REPLAYS[primitive](vector["config"])
        for number, op in enumerate(vector["ops"]):
            answer = replay.run(op)
            replayed += 1
            if answer != op["expect"]:
                failed.append(f"{vector['name']}, operation {number} {op}: got {answer}")
    with capsys.disabled():
        print(f"vectors {primitive} python: {replayed} replayed, {len(failed)} failed")
    assert replayed > 0
    assert not failed, "\n".join(failed[:5])
