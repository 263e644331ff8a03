"""Replays the recorded operations that every language replays, through the public classes.

A replay answers an operation with what the recording has under ``expect``.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from header import CHECKOUT
from recorded import in_seconds
from replay_breaker import BreakerReplay
from replay_limiter import LimiterReplay
from replay_pool import PoolFullReplay, PoolReplay

VECTORS = CHECKOUT / "tests" / "vectors"


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
