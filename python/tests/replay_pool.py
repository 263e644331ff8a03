"""Recorded operations of a pool, through `Pool`."""

from __future__ import annotations

import contextlib
from typing import Any

from recorded import word

from elixirscope import Checkout, Error, ManualClock, Pool, PoolTimeout
from elixirscope._units import NS_PER_S


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
