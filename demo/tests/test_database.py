"""The audit on a database that is right, and on such as are not."""

import sqlite3
import tempfile
import unittest
from contextlib import closing
from pathlib import Path

from harness.database import Audit, audit, create
from harness.source import Event, events
from harness.term import Atom
from tests.external import encode

WANTED = events(["a", "b", "c"], 7)
TABLES = """
CREATE TABLE elixir_scope_events (namespace, event_id, timestamp, event, PRIMARY KEY (namespace, event_id));
CREATE TABLE elixir_scope_configs (namespace, version, written_at, config, PRIMARY KEY (namespace, version));
"""
TARGET = [Atom("ai"), Atom("planning"), Atom("performance_target")]


class Audits(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "events.db"
        create(self.path)
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(TABLES)
        for event in WANTED:
            if event.language == "elixir":
                self.keep(event)
            else:
                self.change(
                    "INSERT INTO events VALUES (?, ?, 'client', ?)", event.seq, event.language, event.body
                )

    def keep(self, event: Event, event_id: int | None = None, namespace: str = ":production") -> None:
        data = {Atom("seq"): event.seq, Atom("body"): event.body.encode()}
        self.keep_term(event_id or event.seq + 1, "custom_event", data, namespace)

    def keep_term(self, event_id: int, kind: str, data: object, namespace: str = ":production") -> None:
        event = {Atom("event_type"): Atom(kind), Atom("event_id"): event_id, Atom("data"): data}
        sql = "INSERT OR REPLACE INTO elixir_scope_events VALUES (?, ?, 0, ?)"
        self.change(sql, namespace, event_id, encode(event))

    def change(self, sql: str, *parameters: object) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(sql, parameters)

    def audit(self) -> Audit:
        return audit(self.path, WANTED)

    def test_what_was_wanted_is_exact(self) -> None:
        self.assertEqual(self.audit(), Audit([], [], [], {"elixir": 5, "c": 1, "python": 1}, 0, []))
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
        for change in ("body = 'x'", "language = 'python'"):
            with self.subTest(change):
                self.change(f"UPDATE events SET {change} WHERE seq = 4")
                self.assertEqual((self.audit().foreign, self.audit().missing), ([4], [4]))

    def test_an_event_of_the_store_that_is_missing_or_another_is_seen(self) -> None:
        self.change("DELETE FROM elixir_scope_events WHERE event_id = 3")
        self.assertEqual((self.audit().missing, self.audit().exact), ([2], False))
        self.keep(Event(2, "elixir", "x"))
        self.assertEqual((self.audit().foreign, self.audit().missing), ([2], [2]))

    def test_an_event_under_another_id_is_nobodys(self) -> None:
        self.keep(WANTED[2], event_id=99)
        self.assertEqual((self.audit().foreign, self.audit().exact), ([-99], False))

    def test_other_namespaces_and_kinds_are_others_business(self) -> None:
        self.keep(Event(99, "elixir", "x"), namespace="{:test, 1}")
        self.keep_term(100, "spawn", {})
        self.assertTrue(self.audit().exact)

    def test_the_tables_of_services_that_wrote_nothing_are_not_there(self) -> None:
        for table in ("events", "configs"):
            self.change(f"DROP TABLE elixir_scope_{table}")
        self.assertEqual(self.audit().missing, [0, 1, 2, 3, 6])

    def test_updates_are_counted(self) -> None:
        self.keep_term(200, "config_updated", {Atom("path"): TARGET})
        self.keep_term(201, "config_updated", {Atom("path"): [Atom("dev")]})
        self.assertEqual(self.audit().updates, 1)

    def test_versions_are_read(self) -> None:
        for version in (2, 1, 4):
            self.change("INSERT INTO elixir_scope_configs VALUES (':production', ?, 0, x'')", version)
        self.assertEqual(self.audit().versions, [1, 2, 4])


if __name__ == "__main__":
    unittest.main()
