"""The checks on a run without faults, and on runs that are wrong."""

import unittest
from dataclasses import replace

from harness.checks import NO_FAULT, Evidence, all_checks, breaker_opened_and_recovered, each_event_once
from harness.database import Audit
from harness.lock_holder import LockHolder
from harness.oracle import Judgement
from harness.outcome import SECOND, Row, Spread, first

QUIET = Row(
    language="c",
    stored=1000,
    admitted=1000,
    limited=0,
    rejected=0,
    failed=0,
    lookups=0,
    found=0,
    opened_ns=None,
    recovered_ns=None,
    to_open_ns=None,
    to_recover_ns=None,
    checkouts=1000,
    created=2,
    leaks=0,
    guard=Spread(0, 0),
    pool=Spread(0, 0),
    inside=Spread(0, 0),
)
COMPLETE = Audit(missing=[], repeated=[], foreign=[], stored={"c": 1000}, updates=0)
UNDISTURBED = Evidence(
    COMPLETE, [QUIET], LockHolder(), [], Judgement(), Judgement(1000, 1000, 1000, 1000, 1000)
)


class WithoutFaults(unittest.TestCase):
    def test_every_check_that_needs_a_fault_says_that_it_saw_none(self) -> None:
        silent = [check.name for check in all_checks(UNDISTURBED) if check.detail == NO_FAULT]
        self.assertEqual(
            silent,
            [
                "another process held the exclusive lock",
                "c: the breaker opened and recovered by itself",
                "a connection process was killed",
                "a client was killed while it held a connection",
                "of 25 updates at once exactly 10 were admitted",
            ],
        )

    def test_and_fails_while_the_others_hold(self) -> None:
        for check in all_checks(UNDISTURBED):
            with self.subTest(check.name):
                self.assertEqual(check.passed, check.detail != NO_FAULT)


class WrongRuns(unittest.TestCase):
    def test_an_event_stored_twice_fails_and_is_named(self) -> None:
        check = each_event_once(replace(COMPLETE, repeated=[17]))
        self.assertFalse(check.passed)
        self.assertIn("first seq at fault: 17", check.detail)

    def test_a_breaker_that_opened_after_the_lock_was_gone_did_not_open_for_it(self) -> None:
        lock = LockHolder(pid=1, locked_ns=10 * SECOND, released_ns=14 * SECOND)
        late = [{"sequence": 1, "to": "open", "cause": "failure_threshold", "at": 15 * SECOND}]
        self.assertIsNone(first(late, "open", since=lock.locked_ns, until=lock.released_ns))
        self.assertFalse(breaker_opened_and_recovered(QUIET, lock).passed)

    def test_a_reset_is_no_recovery(self) -> None:
        closed = [{"sequence": 2, "to": "closed", "cause": "reset", "at": 15 * SECOND}]
        self.assertIsNone(first(closed, "closed", cause="probes_succeeded", since=14 * SECOND))


if __name__ == "__main__":
    unittest.main()
