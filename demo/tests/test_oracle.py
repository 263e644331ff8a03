"""The oracle against buckets worked out by hand."""

import random
import unittest

from harness.oracle import Call, Judgement, Rule, judge, judge_key, replay

TEN_A_MINUTE = Rule(tokens=10, period_ns=60_000_000_000, burst=10)
SECOND = 1_000_000_000


def at(*instants: int) -> list[tuple[int, int]]:
    """Readings known to the nanosecond."""
    return [(instant, instant) for instant in instants]


def exact(key: str, rule: Rule, *calls: tuple[int, bool]) -> list[Call]:
    """Calls whose time is known to the nanosecond."""
    return [Call(key, rule, 1, instant, instant, admitted) for instant, admitted in calls]


class Replay(unittest.TestCase):
    def test_a_full_bucket_admits_its_burst_and_no_more(self) -> None:
        self.assertEqual(replay(TEN_A_MINUTE, 1, at(*[SECOND] * 25)), [True] * 10 + [False] * 15)

    def test_a_token_returns_at_its_nanosecond(self) -> None:
        due = 7 * SECOND
        verdicts = replay(TEN_A_MINUTE, 1, at(*[SECOND] * 10, due - 1, due, due))
        self.assertEqual(verdicts[10:], [False, True, False])

    def test_a_third_of_a_nanosecond_is_not_rounded(self) -> None:
        # Three per second: the second token is due after 333,333,333 and a third nanoseconds.
        rule = Rule(tokens=3, period_ns=SECOND, burst=1)
        self.assertEqual(replay(rule, 1, at(0, 333_333_333, 333_333_334)), [True, False, True])

    def test_a_cost_above_the_burst_is_never_admitted(self) -> None:
        self.assertEqual(replay(TEN_A_MINUTE, 11, at(10**18)), [False])


class Judge(unittest.TestCase):
    def test_right_verdicts_agree(self) -> None:
        calls = exact("a", TEN_A_MINUTE, *[(SECOND + i, i < 10) for i in range(25)])
        self.assertEqual(judge(calls), Judgement(25, 10, 10, 10, 10, 0))

    def test_one_admission_too_many_is_seen(self) -> None:
        calls = exact("a", TEN_A_MINUTE, *[(SECOND + i, i < 11) for i in range(25)])
        self.assertEqual(judge(calls).disagreements, 1)

    def test_the_right_count_on_the_wrong_calls_is_seen(self) -> None:
        judgement = judge(exact("a", TEN_A_MINUTE, *[(SECOND + i, i >= 15) for i in range(25)]))
        self.assertEqual((judgement.admitted, judgement.oracle), (10, 10))
        self.assertEqual(judgement.disagreements, 20)

    def test_overlapping_calls_are_judged_by_their_count(self) -> None:
        calls = [Call("a", TEN_A_MINUTE, 1, SECOND + i, SECOND + 5_000, i % 5 in (1, 3)) for i in range(25)]
        self.assertEqual(judge(calls), Judgement(25, 10, 10, 9, 10, 0))
        calls[0] = Call("a", TEN_A_MINUTE, 1, SECOND, SECOND + 5_000, True)
        self.assertEqual(judge(calls).disagreements, 1)

    def test_keys_do_not_share_a_bucket_nor_make_up_for_each_other(self) -> None:
        spent = exact("a", TEN_A_MINUTE, *[(SECOND, i < 9) for i in range(11)])
        lavish = exact("b", TEN_A_MINUTE, *[(SECOND, i < 11) for i in range(11)])
        judgement = judge([*spent, *lavish])
        self.assertEqual((judgement.admitted, judgement.oracle, judgement.disagreements), (20, 20, 2))

    def test_mixed_costs_on_a_key_are_refused(self) -> None:
        calls = [Call("a", TEN_A_MINUTE, 1, 0, 0, True), Call("a", TEN_A_MINUTE, 2, 0, 0, True)]
        with self.assertRaisesRegex(ValueError, "'a' differ in rule or cost"):
            judge(calls)

    def test_bounds_hold_for_every_order_and_reading_that_fit(self) -> None:
        rule = Rule(tokens=3, period_ns=50, burst=2)
        for seed in range(500):
            dice = random.Random(seed)
            judgement = judge_key(overlapping_history(rule, dice))
            with self.subTest(seed=seed):
                self.assertLessEqual(judgement.least, judgement.admitted)
                self.assertLessEqual(judgement.admitted, judgement.most)


def overlapping_history(rule: Rule, dice: random.Random) -> list[Call]:
    """Calls that read the clock at one instant and are applied, in an order of their own, at a later one."""
    planned = []
    for _ in range(dice.randint(2, 12)):
        start = dice.randint(0, 120)
        reading = start + dice.randint(0, 15)
        applied = reading + dice.randint(0, 15)
        planned.append((applied, reading, start, applied + dice.randint(0, 15)))
    planned.sort()
    calls = []
    tat = 0
    for _applied, reading, start, end in planned:
        booked = max(tat, rule.tokens * reading) + rule.period_ns
        admitted = booked <= rule.tokens * reading + rule.burst * rule.period_ns
        if admitted:
            tat = booked
        calls.append(Call("a", rule, 1, start, end, admitted))
    return calls


if __name__ == "__main__":
    unittest.main()
