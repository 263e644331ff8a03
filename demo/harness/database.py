"""The one database that all three languages store into, and what must be in it at the end.

`events` has no unique index: if each event is there once, that is the workers' doing and not SQLite's.
The index on `seq` only makes the look-up of a retry cheap. The workers let SQLite write without waiting
for the disk: a power cut is not among the faults, and a killed process loses nothing that way.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from harness.source import Event

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE events (seq INTEGER NOT NULL, language TEXT NOT NULL, client TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX events_by_seq ON events (seq);
CREATE TABLE updates (user TEXT NOT NULL, value INTEGER NOT NULL);
"""


def create(path: Path) -> None:
    """Makes an empty database, in place of an old one."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)


@dataclass(frozen=True)
class Audit:
    """How the table differs from what was to be stored. `stored` counts rows, by language."""

    missing: list[int]
    repeated: list[int]
    foreign: list[int]
    stored: dict[str, int]
    updates: int

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
        for seq, language, body in connection.execute("SELECT seq, language, body FROM events"):
            stored[language] += 1
            if by_seq.get(seq) == Event(seq, language, body):
                seen[seq] += 1
            else:
                foreign.append(seq)
        (updates,) = connection.execute("SELECT count(*) FROM updates").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Audit(
        missing=[event.seq for event in wanted if event.seq not in seen],
        repeated=sorted(seq for seq, count in seen.items() if count > 1),
        foreign=foreign,
        stored=dict(stored),
        updates=updates,
    )
