"""What a token bucket must admit, in plain integers.

An independent statement of the limiter's promise: 1 ns is worth n ticks, a token costs w ticks
(tokens/period reduced to n/w), and a call of cost c at time t is admitted exactly when `max(tat, n*t) +
c*w <= n*t + burst*w`. Nothing is rounded, so there is one right answer for a sequence of recorded times.

Where a worker passes the time in, the recorded time is the one that was used, and each verdict is
compared. Where the library reads its clock itself, the reading lies between the caller's own readings
before and after the call; and calls on one key may overlap, so that their order is unknown. Then the
count is compared: with the replay of the recorded times in order, and with bounds that hold for every
reading and every order that fit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from itertools import accumulate
from math import gcd


@dataclass(frozen=True)
class Rule:
    """`tokens` per `period_ns`, at most `burst` saved up."""

    tokens: int
    period_ns: int
    burst: int


@dataclass(frozen=True)
class Call:
    """One check: the verdict was reached at some instant from `at_ns` to `until_ns`."""

    key: str
    rule: Rule
    cost: int
    at_ns: int
    until_ns: int
    admitted: bool


@dataclass(frozen=True)
class Judgement:
    """The recorded verdicts beside the oracle's, over any number of keys."""

    calls: int = 0
    admitted: int = 0
    oracle: int = 0
    least: int = 0
    most: int = 0
    disagreements: int = 0

    def __add__(self, other: Judgement) -> Judgement:
        return Judgement(*map(sum, zip(astuple(self), astuple(other), strict=True)))


def judge(calls: Iterable[Call]) -> Judgement:
    """Judges every call, key by key; a key that differs from the oracle counts as a disagreement."""
    by_key: defaultdict[str, list[Call]] = defaultdict(list)
    for call in calls:
        by_key[call.key].append(call)
    return sum((judge_key(of_key) for of_key in by_key.values()), Judgement())


def judge_key(calls: Sequence[Call]) -> Judgement:
    """Judges the calls on one key, which must share rule and cost."""
    if len({(call.rule, call.cost) for call in calls}) != 1:
        raise ValueError(f"calls on key {calls[0].key!r} differ in rule or cost: their order would matter")
    rule, cost = calls[0].rule, calls[0].cost
    calls = sorted(calls, key=lambda call: call.at_ns)
    expected = replay(rule, cost, [(call.at_ns, call.at_ns) for call in calls])
    oracle = sum(expected)
    admitted = sum(call.admitted for call in calls)
    readings = reading_bounds(calls)
    least = sum(replay(rule, cost, [(latest, earliest) for earliest, latest in readings]))
    most = sum(replay(rule, cost, readings))
    if all(call.at_ns == call.until_ns for call in calls):
        disagreements = sum(call.admitted != verdict for call, verdict in zip(calls, expected, strict=True))
    else:
        disagreements = int(not (admitted == oracle and least <= admitted <= most))
    return Judgement(len(calls), admitted, oracle, least, most, disagreements)


def reading_bounds(calls: Sequence[Call]) -> list[tuple[int, int]]:
    """Bounds of the clock reading of the k-th call to be applied.

    It is read before it is applied, hence at most the k-th smallest `until`. It may be older than the
    k-th smallest `at`: a call that was held up in between is judged by its old reading. It is then one of
    those that end no sooner than that. Both bounds grow with k.
    """
    starts = sorted(call.at_ns for call in calls)
    by_end = sorted(calls, key=lambda call: call.until_ns)
    ends = [call.until_ns for call in by_end]
    oldest = list(accumulate((call.at_ns for call in reversed(by_end)), min))[::-1]
    return [(oldest[bisect_left(ends, start)], end) for start, end in zip(starts, ends, strict=True)]


def replay(rule: Rule, cost: int, readings: Iterable[tuple[int, int]]) -> list[bool]:
    """Verdicts in order. A call is booked at the first time of its pair and tested at the second.

    Equal times give the exact verdicts. With growing bounds, (earliest, latest) admits the most and
    (latest, earliest) the least that any times between them can: after as many admissions the `tat` of
    the former is never greater, that of the latter never smaller, than in any history within the bounds.
    """
    common = gcd(rule.tokens, rule.period_ns)
    n, w = rule.tokens // common, rule.period_ns // common
    debit, room = cost * w, rule.burst * w
    tat = 0
    verdicts: list[bool] = []
    for booked, tested in readings:
        admitted = debit <= room and tat + debit <= n * tested + room
        if admitted:
            tat = max(tat, n * booked) + debit
        verdicts.append(admitted)
    return verdicts
