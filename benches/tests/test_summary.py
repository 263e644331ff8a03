"""What is said of a run: void, missing, over a bound, changed, and the README's table."""

import contextlib
import io
import json
import os
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path

from benches.summary import REQUIRED, SAME, Row, changes, check, filled, missing, over, readme, table, void


def row(name: str, threads: int, ratio: float = 1.0, bound: float | None = None) -> Row:
    return {
        "id": name,
        "threads": threads,
        "peer": "peer",
        "bound": bound,
        "ours_ns": 100.0 * ratio,
        "peer_ns": 100.0,
        "ratio": ratio,
        "spread": 0.1,
    }


COMPLETE = [
    row(name, count) for rows in (SAME, REQUIRED) for name, counts in rows.items() for count in counts
]
VERSIONS = {"rustc": "rustc 1.95.0 (0 2026-04-14)", "otp": "25", "python": "3.11.2"}


def summary(rows: list[Row]) -> dict[str, object]:
    return {"date": "2026-01-02", "cpu": "2 x CPU", "versions": VERSIONS, "rows": rows}


@contextlib.contextmanager
def repository(measured: list[Row] | None, committed: list[Row]) -> Iterator[None]:
    """A directory with these runs and an unfilled README, as the current one."""
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        for path, rows in (("target/bench", measured), ("docs/bench", committed)):
            os.makedirs(path)
            if rows is not None:
                Path(path, "summary.json").write_text(json.dumps(summary(rows)))
        Path("README.md").write_text("before\n<!-- numbers -->\n<!-- /numbers -->\nafter\n")
        yield


def said(measured: list[Row] | None, committed: list[Row]) -> tuple[str, str | None]:
    """What `check` prints, and why it fails."""
    out = io.StringIO()
    with repository(measured, committed), contextlib.redirect_stdout(out):
        try:
            check()
        except SystemExit as exit_:
            return out.getvalue(), str(exit_)
    return out.getvalue(), None


class Void(unittest.TestCase):
    def test_a_peer_beside_itself_has_to_come_out_even(self) -> None:
        self.assertEqual(void(COMPLETE), [])
        for ratio in (0.89, 1.11):
            off = [{**row, "ratio": ratio} if row["id"] == "py-a/a" else row for row in COMPLETE]
            wanted = [f"py-a/a on {count} came out at {ratio}" for count in (1, 2)]
            self.assertEqual(void(off), wanted)

    def test_a_peer_that_was_not_measured_beside_itself_shows_nothing(self) -> None:
        self.assertEqual(void(COMPLETE[1:]), ["rust-a/a on 1 was not measured"])


class Check(unittest.TestCase):
    def test_a_complete_run_passes_whatever_its_times(self) -> None:
        slow = [row("rust-pool", 1, ratio=9.0, bound=0.4) if picked(r) else r for r in COMPLETE]
        out, failure = said(slow, COMPLETE)
        self.assertIsNone(failure)
        self.assertIn("9.000  at most 0.4  MISS", out)
        self.assertEqual(out.count("MISS"), 1)

    def test_a_missing_row_fails_and_is_named(self) -> None:
        _, failure = said([r for r in COMPLETE if not picked(r)], COMPLETE)
        self.assertEqual(failure, "missing rows: rust-pool on 1")
        self.assertEqual(missing([]), [f"{name} on {n}" for name, counts in REQUIRED.items() for n in counts])

    def test_no_run_fails(self) -> None:
        self.assertIn("run make bench", said(None, COMPLETE)[1] or "")

    def test_changes_since_the_committed_run_are_shown(self) -> None:
        changed = [row("rust-pool", 1, ratio=1.2) if picked(r) else r for r in COMPLETE]
        self.assertIn("changed: rust-pool on 1: 1.0 -> 1.2", said(changed, COMPLETE)[0])
        self.assertIn("no ratio changed", said(COMPLETE, COMPLETE)[0])

    def test_a_void_run_says_so(self) -> None:
        self.assertIn("this run is void: rust-a/a on 1", said(COMPLETE[1:], COMPLETE)[0])


class Changes(unittest.TestCase):
    def test_noise_is_no_change(self) -> None:
        self.assertEqual([*changes([row("a", 1, 1.1)], [row("a", 1)])], [])

    def test_rows_come_and_go(self) -> None:
        self.assertEqual([*changes([row("a", 1)], [row("b", 2)])], ["new row: a on 1: 1.0", "gone: b on 2"])


class Readme(unittest.TestCase):
    def test_a_row_over_its_bound_is_marked(self) -> None:
        self.assertTrue(over(row("a", 1, ratio=1.001, bound=1.0)))
        over_it, within = row("a", 1, ratio=2.0, bound=1.0), row("b", 1, ratio=1.0, bound=1.0)
        text = table(summary([over_it, within, row("a", 8, ratio=0.5, bound=1.0)]))
        self.assertIn("| a, 200 ns | peer, 100 ns | 2.00 × (missed) |  | 0.50 × | 1 × |", text)
        self.assertIn("| b, 100 ns | peer, 100 ns | 1.00 × |  |  | 1 × |", text)

    def test_bounds_that_differ_are_told_apart(self) -> None:
        text = table(
            summary([row("a", 1, bound=1.0), row("a", 2, bound=0.5), row("b", 1), row("c-floor", 1)])
        )
        self.assertIn("| 1 × on 1, 0.5 × on 2 |", text)
        self.assertIn("| b, 100 ns | peer, 100 ns | 1.00 × |  |  |  |", text)
        self.assertNotIn("floor", text)

    def test_another_number_of_threads_than_the_columns_stands_by_its_ratio(self) -> None:
        text = table(summary([row("a", 16, ratio=0.5, bound=1.0), row("b", 8), row("b", 3, ratio=2.0)]))
        self.assertIn("| a, 50.0 ns | peer, 100 ns |  |  | 0.50 × on 16 | 1 × |", text)
        self.assertIn("|  |  | 1.00 ×, 2.00 × on 3 |  |", text)

    def test_memory_is_shown_in_bytes(self) -> None:
        weighed = {**row("a", 1, ratio=0.5, bound=1.0), "ours_bytes": 1234}
        del weighed["peer_ns"]
        refusing = {**weighed, "id": "b", "refused_share": 0.25}
        shown = table(summary([{**weighed, "cell_bytes": 64}, refusing]))
        self.assertIn("| a, 1,234 bytes; 64 in the cell | peer | 0.50 × |  |  | 1 × |", shown)
        self.assertIn("| b, 1,234 bytes; refused share 0.25 | peer | 0.50 × |  |  | 1 × |", shown)

    def test_a_void_run_is_shown_as_one(self) -> None:
        self.assertNotIn("void", table(summary(COMPLETE)))
        self.assertIn("void:** rust-a/a on 1 was not measured", table(summary(COMPLETE[1:])))

    def test_what_differs_from_the_committed_run_fails_until_it_is_written(self) -> None:
        with repository(None, COMPLETE), contextlib.redirect_stdout(io.StringIO()):
            with self.assertRaisesRegex(SystemExit, "README.md differs"):
                readme(write_it=False)
            readme(write_it=True)
            readme(write_it=False)
            Path("README.md").write_text(Path("README.md").read_text().replace("100 ns", "99 ns", 1))
            with self.assertRaisesRegex(SystemExit, "README.md differs"):
                readme(write_it=False)

    def test_a_readme_without_its_marks_is_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "once each"):
            filled("no marks", summary(COMPLETE))


def picked(row: Row) -> bool:
    """The row that these tests play with."""
    return (row["id"], row["threads"]) == ("rust-pool", 1)


if __name__ == "__main__":
    unittest.main()
