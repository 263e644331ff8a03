"""The one database that all three languages store into, and what must be in it at the end.

C and Python store into `events`, which has no unique index: if each event is there once, that is the
workers' doing and not SQLite's. The index on `seq` only makes the look-up of a retry cheap. The BEAM's
events are where its EventStore keeps them, by their ids, and with them those that tell of changes of the
configuration; its ConfigServer keeps versions of the configuration. The workers let SQLite write without
waiting for the disk: a power cut is not among the faults, and a killed process loses nothing that way.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.source import Event
from harness.term import Atom, decode

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE events (seq INTEGER NOT NULL, language TEXT NOT NULL, client TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX events_by_seq ON events (seq);
"""
# Of the events that the EventStore has: the demo's, and the burst's updates.
STORED = "custom_event"
UPDATED = ("config_updated", ["ai", "planning", "performance_target"])


def create(path: Path) -> None:
    """Makes an empty database, in place of an old one."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)


@dataclass(frozen=True)
class Audit:
    """How the tables differ from what was to be stored. `stored` counts rows, by language."""

    missing: list[int]
    repeated: list[int]
    foreign: list[int]
    stored: dict[str, int]
    updates: int
    versions: list[int]

    @property
    def exact(self) -> bool:
        """Each event is there once, with its text and its language, and nothing else is."""
        return not (self.missing or self.repeated or self.foreign)


def audit(path: Path, wanted: Sequence[Event]) -> Audit:
    """Compares every row with the event that it should be."""
    seen: Counter[int] = Counter()
    stored: Counter[str] = Counter()
    foreign: list[int] = []
    by_seq = {event.seq: event for event in wanted}
    with closing(sqlite3.connect(path)) as connection:
        kept = list(kept_events(connection))
        rows = [Event(*row) for row in connection.execute("SELECT seq, language, body FROM events")]
        rows += [event for event in map(stored_event, kept) if event]
        for event in rows:
            stored[event.language] += 1
            if by_seq.get(event.seq) == event:
                seen[event.seq] += 1
            else:
                foreign.append(event.seq)
        updates = sum(map(is_update, kept))
        versions = rows_of(connection, "elixir_scope_configs", "version")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Audit(
        missing=[event.seq for event in wanted if event.seq not in seen],
        repeated=sorted(seq for seq, count in seen.items() if count > 1),
        foreign=foreign,
        stored=dict(stored),
        updates=updates,
        versions=sorted(version for (version,) in versions),
    )


def rows_of(connection: sqlite3.Connection, table: str, columns: str) -> list[tuple[Any, ...]]:
    """Rows of production in a table of the services, which make it when they first use it."""
    exists = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    if not connection.execute(exists, (table,)).fetchone():
        return []
    return connection.execute(f"SELECT {columns} FROM {table} WHERE namespace = ':production'").fetchall()


def kept_events(connection: sqlite3.Connection) -> Iterator[tuple[int, dict[Atom, Any]]]:
    """The events of the EventStore, with the ids of their rows."""
    for event_id, event in rows_of(connection, "elixir_scope_events", "event_id, event"):
        yield event_id, decode(event)


def stored_event(kept: tuple[int, dict[Atom, Any]]) -> Event | None:
    """An event of the demo; one under an id that is not its own is nobody's."""
    event_id, event = kept
    if event[Atom("event_type")] != STORED:
        return None
    data = event[Atom("data")]
    seq = data[Atom("seq")] if data[Atom("seq")] + 1 == event_id == event[Atom("event_id")] else -event_id
    return Event(seq, "elixir", data[Atom("body")].decode())


def is_update(kept: tuple[int, dict[Atom, Any]]) -> bool:
    """Whether an event tells of an update of the burst."""
    _, event = kept
    kind, path = UPDATED
    return bool(event[Atom("event_type")] == kind and event[Atom("data")][Atom("path")] == path)
