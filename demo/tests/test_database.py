"""The audit on a database that is right, and on such as are not."""

import sqlite3
import tempfile
import unittest
from contextlib import closing
from pathlib import Path

from harness.database import Audit, audit, create
from harness.source import events

WANTED = events(["a", "b", "c"], 7)


class Audits(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "events.db"
        create(self.path)
        for event in WANTED:
            self.change(
                "INSERT INTO events VALUES (?, ?, 'client', ?)", event.seq, event.language, event.body
            )

    def change(self, sql: str, *parameters: object) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(sql, parameters)

    def audit(self) -> Audit:
        return audit(self.path, WANTED)

    def test_what_was_wanted_is_exact(self) -> None:
        self.assertEqual(self.audit(), Audit([], [], [], {"elixir": 5, "c": 1, "python": 1}, 0))
        self.assertTrue(self.audit().exact)

    def test_a_missing_row_is_seen(self) -> None:
        self.change("DELETE FROM events WHERE seq = 4")
        self.assertEqual((self.audit().missing, self.audit().exact), ([4], False))

    def test_the_table_takes_a_row_twice_and_the_audit_sees_it(self) -> None:
        self.change("INSERT INTO events SELECT * FROM events WHERE seq = 4")
        self.assertEqual((self.audit().repeated, self.audit().exact), ([4], False))

    def test_a_row_that_nobody_wanted_is_seen(self) -> None:
        self.change("INSERT INTO events VALUES (99, 'c', 'client', 'a')")
        self.assertEqual((self.audit().foreign, self.audit().exact), ([99], False))

    def test_another_text_or_language_is_another_event(self) -> None:
        for change in ("body = 'x'", "language = 'c'"):
            with self.subTest(change):
                self.change(f"UPDATE events SET {change} WHERE seq = 2")
                self.assertEqual((self.audit().foreign, self.audit().missing), ([2], [2]))

    def test_updates_are_counted(self) -> None:
        self.change("INSERT INTO updates VALUES ('alice', 1)")
        self.assertEqual(self.audit().updates, 1)


if __name__ == "__main__":
    unittest.main()
