"""The Python rows of the number table: the public calls beside pybreaker, limits and SQLAlchemy.

One JSON object a line. The bare ctypes call of the same C signature, which does nothing, is shown as the
floor. A round measures the one and the other, back to back; which goes first alternates. The ratio is the
median of the rounds' ratios, the spread the distance between their quartiles.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from threading import Barrier, Thread
from time import perf_counter_ns

import floor
import limits
import pybreaker
from elixirscope import Breaker, Pool, RateLimiter
from sqlalchemy.pool import QueuePool

ROUNDS = 9
SLICE_NS = 40_000_000
BURST = 1_000_000_000
HOUR = 3600.0

# Does so many operations and tells how many were admitted.
Side = Callable[[int], int]


def timed(side: Side, threads: int, repeats: int) -> tuple[int, int]:
    """Time of the slowest thread, and how many operations were admitted in all."""
    start = Barrier(threads)
    results: list[tuple[int, int]] = []

    def work() -> None:
        start.wait()
        began = perf_counter_ns()
        admitted = side(repeats)
        results.append((perf_counter_ns() - began, admitted))

    workers = [Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return max(time for time, _ in results), sum(admitted for _, admitted in results)


def repeats_of(side: Side, threads: int) -> int:
    repeats = 100
    while timed(side, threads, repeats)[0] < SLICE_NS:
        repeats *= 2
    return repeats


def row(
    name: str, peer_name: str, bound: float | None, threads: int, ours: Side, peer: Side
) -> dict[str, object] | None:
    sides = [(ours, repeats_of(ours, threads)), (peer, repeats_of(peer, threads))]
    times: list[list[float]] = [[], []]
    for turn in range(ROUNDS):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            side, repeats = sides[which]
            time, admitted = timed(side, threads, repeats)
            if admitted != repeats * threads:
                told = f"{admitted} of {repeats * threads} admitted, the row is dropped"
                print(f"{name}: {told}", file=sys.stderr)
                return None
            times[which].append(time / repeats)
    lower, ratio, upper = quartiles([ours / peer for ours, peer in zip(*times, strict=True)])
    ours_ns, peer_ns = (quartiles(series)[1] for series in times)
    return {
        "id": name,
        "threads": threads,
        "peer": peer_name,
        "bound": bound,
        "ours_ns": round(ours_ns, 1),
        "peer_ns": round(peer_ns, 1),
        "ratio": round(ratio, 3),
        "spread": round(upper - lower, 3),
    }


def quartiles(values: list[float]) -> list[float]:
    """The lower quartile, the median and the upper quartile, by nearest rank."""
    ordered = sorted(values)
    return [ordered[len(ordered) * quarter // 4] for quarter in (1, 2, 3)]


def breaker_sides() -> tuple[Side, Side]:
    breaker, peer = Breaker(), pybreaker.CircuitBreaker(fail_max=5, reset_timeout=30)

    def ours(repeats: int) -> int:
        admitted = 0
        for _ in range(repeats):
            with breaker:
                admitted += 1
        return admitted

    def nothing() -> int:
        return 1

    def peers(repeats: int) -> int:
        admitted = 0
        for _ in range(repeats):
            admitted += peer.call(nothing)
        return admitted

    return ours, peers


def limiter_sides() -> tuple[Side, Side]:
    limiter = RateLimiter()
    peer = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
    rate = limits.RateLimitItemPerHour(BURST)

    def ours(repeats: int) -> int:
        return sum(limiter.check("user:17", BURST, HOUR).allowed for _ in range(repeats))

    def peers(repeats: int) -> int:
        return sum(peer.hit(rate, "user:17") for _ in range(repeats))

    return ours, peers


class Connection:
    """What both pools hand out; it has what SQLAlchemy asks of a connection."""

    def close(self) -> None: ...

    def rollback(self) -> None: ...


def pool_sides() -> tuple[Side, Side]:
    pool = Pool(Connection, size=5, max_overflow=10)
    peer = QueuePool(Connection, pool_size=5, max_overflow=10, reset_on_return=None)

    def ours(repeats: int) -> int:
        admitted = 0
        for _ in range(repeats):
            with pool.checkout():
                admitted += 1
        return admitted

    def peers(repeats: int) -> int:
        admitted = 0
        for _ in range(repeats):
            peer.connect().close()
            admitted += 1
        return admitted

    return ours, peers


def rows() -> Iterator[dict[str, object] | None]:
    for threads in (1, 2):
        ours, peer = breaker_sides()
        yield row("py-a/a", "pybreaker beside itself", None, threads, peer, peer)
        yield row("py-breaker", "pybreaker", 0.8, threads, ours, peer)
        yield row("py-breaker-floor", "bare ctypes call", 3.0, threads, ours, floor.breaker)
        ours, peer = limiter_sides()
        yield row("py-limiter", "limits", 0.4, threads, ours, peer)
        yield row("py-limiter-floor", "bare ctypes call", 1.6, threads, ours, floor.limiter)
        ours, peer = pool_sides()
        yield row("py-pool", "SQLAlchemy QueuePool", 0.3, threads, ours, peer)
        yield row("py-pool-floor", "bare ctypes call", None, threads, ours, floor.pool)


for measured in rows():
    if measured:
        print(json.dumps(measured), flush=True)
