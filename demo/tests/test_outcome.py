"""A language's row and the report, from what a worker recorded."""

import json
import queue
import tempfile
import unittest
from pathlib import Path

from harness.checks import Evidence, all_checks
from harness.database import Audit
from harness.lock_holder import LockHolder
from harness.oracle import Judgement
from harness.outcome import SECOND, Spread, first, row, spread
from harness.report import Run, write
from harness.worker import Message, Worker

LOCK = LockHolder(pid=4711, locked_ns=10 * SECOND, released_ns=14 * SECOND)
FINAL: Message = {
    "type": "final",
    "done": 4,
    "failed": 5,
    "lookups": 2,
    "found": 1,
    "admitted": 9,
    "limited": 6,
    "rejected": 7,
    "checkouts": 8,
    "created": 2,
    "leased": 1,
    "left_open": 2,
}


def change(sequence: int, to: str, cause: str, at_s: float) -> Message:
    return {
        "type": "transition",
        "sequence": sequence,
        "to": to,
        "cause": cause,
        "at": int(at_s * SECOND),
    }


OPENED = change(1, "open", "failure_threshold", 10.5)
PROBED = change(2, "half_open", "open_elapsed", 14.5)
CLOSED = change(3, "closed", "probes_succeeded", 14.75)


class Rows(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name)
        self.path.joinpath("inside.txt").write_text("30 400\n10 200\n20 300\n40 100\n")

    def worker(self, *messages: Message) -> Worker:
        worker = Worker("c", [], self.path, 4, queue.SimpleQueue())
        for message in [*messages, FINAL]:
            worker.take(message)
        return worker

    def test_times_to_open_and_to_recover_count_from_the_ends_of_the_lock(self) -> None:
        made = row(self.worker(CLOSED, OPENED, PROBED), LOCK)
        self.assertEqual((made.to_open_ns, made.to_recover_ns), (SECOND // 2, SECOND * 3 // 4))

    def test_leaks_are_leases_out_and_connections_left_open(self) -> None:
        self.assertEqual(row(self.worker(), LOCK).leaks, 3)

    def test_reuse_is_the_share_of_check_outs_without_a_new_connection(self) -> None:
        self.assertEqual(row(self.worker(), LOCK).reuse, 0.75)

    def test_time_inside_is_added_event_by_event(self) -> None:
        made = row(self.worker(), LOCK)
        self.assertEqual(
            (made.guard, made.pool, made.inside), (Spread(20, 40), Spread(200, 400), Spread(210, 430))
        )

    def test_an_opening_after_the_lock_is_not_due_to_it(self) -> None:
        late = change(1, "open", "failure_threshold", 15)
        made = row(self.worker(late, change(2, "closed", "probes_succeeded", 16)), LOCK)
        self.assertEqual((made.to_open_ns, made.to_recover_ns), (None, None))

    def test_a_reset_is_no_recovery(self) -> None:
        made = row(self.worker(OPENED, change(2, "closed", "reset", 15)), LOCK)
        self.assertEqual((made.to_open_ns, made.to_recover_ns), (SECOND // 2, None))

    def test_without_a_lock_nothing_opened_for_it(self) -> None:
        self.assertIsNone(first([OPENED], "open", since=None))

    def test_the_report_has_what_was_recorded(self) -> None:
        worker = self.worker(OPENED, PROBED, CLOSED)
        fault = {"type": "fault", "kind": "connection_killed", "client": "x", "connection": "y", "seq": 3}
        seen = Evidence(
            audit=Audit([], [], [], {"c": 4}, 0, []),
            paragraphs=2,
            rows=[row(worker, LOCK)],
            lock=LOCK,
            faults=[{**fault, "at": 16 * SECOND}],
            burst=Judgement(),
            limiter=Judgement(4, 3, 3, 3, 3),
            services={"reads": 5, "answered": 4, "lookups": 3, "found": 2, "versions": 1},
        )
        path = self.path / "report.json"
        write(path, Run(Path("input"), 2, 4, 9 * SECOND, 29 * SECOND, "all"), seen, all_checks(seen))
        report = json.loads(path.read_text())
        self.assertEqual(report["lock_holder"], {"pid": 4711, "locked_at_s": 1.0, "released_at_s": 5.0})
        self.assertEqual((report["seconds"], report["passed"]), (20.0, False))
        self.assertEqual(report["services"]["answered"], 4)
        self.assertEqual(report["faults_seen"][0]["at_s"], 7.0)
        (language,) = report["languages"]
        self.assertEqual(
            {
                name: language[name]
                for name in ("language", "stored", "limited", "rejected", "reuse", "leaks")
            },
            {"language": "c", "stored": 4, "limited": 6, "rejected": 7, "reuse": 0.75, "leaks": 3},
        )
        self.assertEqual((language["time_to_open_s"], language["time_to_recover_s"]), (0.5, 0.75))
        self.assertEqual(language["inside_ns"]["all"], {"median_ns": 210, "p99_ns": 430})


class Spreads(unittest.TestCase):
    def test_nothing_measured_has_no_median(self) -> None:
        self.assertEqual(spread([]), Spread(None, None))

    def test_nearest_rank(self) -> None:
        self.assertEqual(spread([*range(1, 201)]), Spread(100, 198))
        self.assertEqual(spread([5]), Spread(5, 5))


if __name__ == "__main__":
    unittest.main()
