"""Each check on a run where everything held, on one without faults, and on runs it must not let pass."""

import unittest
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.checks import NO_FAULT, Evidence, all_checks
from harness.database import Audit
from harness.lock_holder import LockHolder
from harness.oracle import Judgement
from harness.outcome import SECOND, Row, Spread

LOCK = LockHolder(pid=1, locked_ns=10 * SECOND, released_ns=14 * SECOND)
ROW = Row(
    language="c",
    stored=1000,
    admitted=1000,
    limited=0,
    rejected=50,
    failed=5,
    lookups=0,
    found=0,
    opened_ns=11 * SECOND,
    recovered_ns=15 * SECOND,
    to_open_ns=SECOND,
    to_recover_ns=SECOND,
    checkouts=1000,
    created=2,
    leaks=0,
    guard=Spread(0, 0),
    pool=Spread(0, 0),
    inside=Spread(0, 0),
)
FAULTS = [
    {"kind": "connection_killed", "client": "elixir-01", "connection": "#PID<0.1.0>", "seq": 7, "at": 16},
    {"kind": "client_killed", "client": "elixir-02", "connection": "#PID<0.2.0>", "seq": 8, "at": 17},
    {"kind": "client_replaced", "client": "elixir-02", "at": 18},
    {"kind": "event_store_killed", "pid": "#PID<0.3.0>", "acknowledged": 500, "at": 19},
    {"kind": "event_store_back", "pid": "#PID<0.4.0>", "has": 505, "at": 20},
    {"kind": "config_server_killed", "pid": "#PID<0.5.0>", "acknowledged": 600, "at": 21},
    {"kind": "config_server_back", "pid": "#PID<0.6.0>", "has": 0, "at": 22},
]
SERVICES = {"reads": 900, "answered": 900, "lookups": 1000, "found": 1000, "versions": 12}
SOUND = Evidence(
    audit=Audit(
        missing=[], repeated=[], foreign=[], stored={"c": 1000}, updates=10, versions=[*range(1, 14)]
    ),
    paragraphs=300,
    rows=[ROW],
    lock=LOCK,
    faults=FAULTS,
    burst=Judgement(25, 10, 10, 10, 10),
    limiter=Judgement(1000, 900, 900, 900, 900),
    services=SERVICES,
)
WITHOUT_FAULTS = replace(
    SOUND,
    audit=replace(SOUND.audit, updates=0),
    rows=[replace(ROW, opened_ns=None, recovered_ns=None, to_open_ns=None, to_recover_ns=None)],
    lock=LockHolder(),
    faults=[],
    burst=Judgement(),
)

ONCE = "each event is stored exactly once"
LOCKED = "another process held the exclusive lock"
BREAKER = "c: the breaker opened and recovered by itself"
CONNECTION = "a connection process was killed"
CLIENT = "a client was killed while it held a connection"
LEASES = "c: no lease leaked"
REUSE = "c: reuse above 90%"
BURST = "of 25 updates at once exactly 10 were admitted"
ORACLE = "the limiters admitted what the integer oracle admits"
COMMITTED = "an event that the EventStore acknowledged was in the database"
STORE = "the EventStore was killed and came back with every acknowledged event"
READS = "the ConfigServer was killed, and every protected read was answered"
VERSIONS = "the configuration's versions are gapless, and none is lost"


def of_audit(**changes: object) -> Evidence:
    return replace(SOUND, audit=replace(SOUND.audit, **changes))  # type: ignore[arg-type]


def of_row(**changes: object) -> Evidence:
    return replace(SOUND, rows=[ROW, replace(ROW, language="python", **changes)])  # type: ignore[arg-type]


def of_services(**changes: object) -> Evidence:
    return replace(SOUND, services={**SERVICES, **changes})


def of_fault(kind: str, **changes: object) -> Evidence:
    """With one fault told otherwise; without it if nothing is changed."""
    others = [fault for fault in FAULTS if fault["kind"] != kind]
    told = [{**fault, **changes} for fault in FAULTS if fault["kind"] == kind and changes]
    return replace(SOUND, faults=others + told)


# What must fail the check, and that check alone; a row's check is that of a second language.
SPOILT: Mapping[str, Sequence[Evidence]] = {
    ONCE: [of_audit(missing=[301]), of_audit(repeated=[301]), of_audit(foreign=[301])],
    LOCKED: [
        replace(SOUND, lock=replace(LOCK, error="the sqlite3 shell ended while it had the lock")),
        replace(SOUND, lock=replace(LOCK, released_ns=None)),
    ],
    BREAKER: [
        of_row(opened_ns=None, to_open_ns=None, recovered_ns=None, to_recover_ns=None),
        of_row(recovered_ns=None, to_recover_ns=None),
    ],
    CONNECTION: [of_fault("connection_killed")],
    CLIENT: [of_fault("client_killed"), of_fault("client_replaced")],
    LEASES: [of_row(leaks=1)],
    REUSE: [of_row(created=100), of_row(created=1000)],
    BURST: [
        replace(SOUND, burst=Judgement(25, 11, 10, 10, 10)),
        replace(SOUND, burst=Judgement(25, 9, 10, 10, 10)),
        replace(SOUND, burst=Judgement(24, 10, 10, 10, 10)),
        of_audit(updates=9),
        of_audit(updates=11),
    ],
    ORACLE: [
        replace(SOUND, limiter=Judgement(1000, 901, 900, 900, 901)),
        replace(SOUND, limiter=Judgement(1000, 900, 900, 900, 900, disagreements=2)),
        replace(SOUND, limiter=Judgement()),
    ],
    COMMITTED: [of_services(found=999), of_services(lookups=0, found=0)],
    STORE: [
        of_fault("event_store_killed"),
        of_fault("event_store_back"),
        of_fault("event_store_back", has=499),
        of_fault("event_store_back", pid="#PID<0.3.0>"),
        of_fault("event_store_killed", acknowledged=0),
    ],
    READS: [
        of_fault("config_server_killed"),
        of_fault("config_server_back"),
        of_fault("config_server_back", pid="#PID<0.5.0>"),
        of_services(answered=899),
        of_services(reads=0, answered=0),
    ],
    VERSIONS: [
        of_audit(versions=[1, 2, 4, *range(5, 15)]),
        of_audit(versions=[*range(1, 12)]),
        of_audit(versions=[*range(2, 15)]),
        of_services(versions=0),
    ],
}


def failing(seen: Evidence) -> list[str]:
    return [check.name for check in all_checks(seen) if not check.passed]


class Checks(unittest.TestCase):
    def test_a_sound_run_passes_all(self) -> None:
        self.assertEqual(failing(SOUND), [])

    def test_each_check_fails_on_what_it_is_there_for(self) -> None:
        self.assertEqual([check.name for check in all_checks(SOUND)], list(SPOILT))
        for name, runs in SPOILT.items():
            for seen in runs:
                with self.subTest(name, seen=seen):
                    self.assertEqual(failing(seen), [name.replace("c:", f"{seen.rows[-1].language}:")])

    def test_a_language_without_a_check_out_has_shown_nothing(self) -> None:
        idle = of_row(checkouts=0, created=0)
        self.assertEqual(failing(idle), ["python: no lease leaked", "python: reuse above 90%"])

    def test_without_faults_each_check_that_needs_one_says_that_it_saw_none(self) -> None:
        silent = [check.name for check in all_checks(WITHOUT_FAULTS) if check.detail == NO_FAULT]
        self.assertEqual(silent, [LOCKED, BREAKER, CONNECTION, CLIENT, BURST, STORE, READS])
        self.assertEqual(failing(WITHOUT_FAULTS), silent)

    def test_an_event_at_fault_is_named_by_its_pass_and_paragraph(self) -> None:
        once = all_checks(of_audit(missing=[301]))[0]
        self.assertIn("first at fault: seq 301, paragraph 1 of pass 1", once.detail)


if __name__ == "__main__":
    unittest.main()
