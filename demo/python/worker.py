"""The demo's Python script: four threads store their events through one breaker, one limiter and one pool.

`worker.py DIRECTORY DATABASE` reads DIRECTORY/events.txt, says it is ready, waits for `start SPAN_MS`,
and spreads its work over that span. A client that fell behind hurries to catch up and is then slowed down
by its limit. What it prints is described in harness/worker.py; at the end DIRECTORY holds limiter.txt and
inside.txt.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from elixirscope import (
    Breaker,
    CircuitOpen,
    CreateFailed,
    Pool,
    PoolTimeout,
    RateLimiter,
)
from elixirscope import (
    Event as Transition,
)

CLIENTS = 4
POOL_SIZE, POOL_OVERFLOW, OVERFLOW_TTL_S, CHECKOUT_TIMEOUT_S = 2, 2, 1.0, 1.0
OPEN_FOR_S = 2.0
# Wide enough for a client's pace, so that only one that catches up meets it.
LIMIT, WINDOW_S, BURST = 150, 1, 30
# How long an attempt tries on a locked database, and how often at least a refused client asks again.
ATTEMPT_S, ASK_AGAIN_S, SAMPLE_S = 0.25, 0.1, 0.1
SECOND = 1_000_000_000


@dataclass(frozen=True)
class Event:
    """One thing to store, exactly once."""

    seq: int
    body: str


@dataclass
class Journal:
    """What one client records; it belongs to one thread until that has ended."""

    calls: list[tuple[int, bool]] = field(default_factory=list)
    inside: list[tuple[int, int]] = field(default_factory=list)
    done: int = 0
    failed: int = 0
    lookups: int = 0
    found: int = 0


class RecordingClock:
    """CLOCK_MONOTONIC that remembers each thread's last reading: the time that a verdict used."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __call__(self) -> int:
        now = time.monotonic_ns()
        self._local.last = now
        return now

    @property
    def last(self) -> int:
        """The calling thread's last reading."""
        return int(self._local.last)


class LockedError(Exception):
    """The database stayed locked until the attempt's deadline; nothing was written."""


def read_events(path: Path) -> list[Event]:
    """Records `<seq> <bytes>\\n<body>\\n`."""
    data = path.read_bytes()
    found = []
    at = 0
    while at < len(data):
        end = data.index(b"\n", at)
        seq, length = map(int, data[at:end].split())
        found.append(Event(seq, data[end + 1 : end + 1 + length].decode()))
        at = end + 1 + length + 1
    return found


def say(**message: object) -> None:
    """One line for the stage; one write, so that lines of several threads stay whole."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def on_transition(event: Transition) -> None:
    """Tells the stage that the breaker changed its phase."""
    if event.is_of_level:
        return
    say(
        type="transition",
        at=round(event.at * SECOND),
        sequence=event.sequence,
        **{"from": event.before.name.lower()},
        to=event.after.name.lower(),
        cause=event.cause.name.lower(),
    )


class Store:
    """Connections to the database, and how one event gets into it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.open = 0

    def connect(self) -> sqlite3.Connection:
        """A connection without a busy time-out of its own: who waits, and how long, is decided in `begin`."""
        connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = OFF")
        with self._lock:
            self.open += 1
        return connection

    def close(self, connection: sqlite3.Connection) -> None:
        """The pool gives a connection up."""
        connection.close()
        with self._lock:
            self.open -= 1

    def store(self, connection: sqlite3.Connection, event: Event, client: str, in_doubt: bool) -> bool:
        """One attempt; whether it had to write. `in_doubt`: looks first, in the transaction that writes."""
        begin(connection)
        try:
            missing = True
            if in_doubt:
                found = connection.execute("SELECT 1 FROM events WHERE seq = ?", (event.seq,)).fetchone()
                missing = found is None
            if missing:
                connection.execute(
                    "INSERT INTO events (seq, language, client, body) VALUES (?, 'python', ?, ?)",
                    (event.seq, client, event.body),
                )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return missing


def begin(connection: sqlite3.Connection) -> None:
    """Takes the write lock before anything is written, or gives up at the deadline."""
    deadline = time.monotonic() + ATTEMPT_S
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            if time.monotonic() >= deadline:
                raise LockedError from error
        time.sleep(random.uniform(0.001, 0.003))


class Client:
    """One thread's work: its share of the events, one after the other."""

    def __init__(self, worker: Worker, index: int) -> None:
        self._worker = worker
        self._index = index
        self.name = f"python-{index}"
        self.journal = Journal()

    def run(self) -> None:
        """Stores every event of the share, each when it is due."""
        worker = self._worker
        pace = worker.span_s / len(worker.events)
        for position in range(self._index, len(worker.events), CLIENTS):
            time.sleep(max(0.0, worker.began + pace * position - time.monotonic()))
            self._store(worker.events[position])
            self.journal.done += 1

    def _store(self, event: Event) -> None:
        in_doubt = False
        while True:
            try:
                wait = self._attempt(event, in_doubt)
            except CircuitOpen as refusal:
                wait = min(refusal.retry_after, ASK_AGAIN_S) or ASK_AGAIN_S
            except (LockedError, PoolTimeout, CreateFailed):
                self.journal.failed += 1
                wait = 0.001
            except sqlite3.Error:
                self.journal.failed += 1
                in_doubt = True
                wait = 0.001
            if wait is None:
                return
            time.sleep(wait)

    def _attempt(self, event: Event, in_doubt: bool) -> float | None:
        """Limiter, breaker, pool, database. None once stored, else how long the limiter says to wait."""
        worker, journal = self._worker, self.journal
        began = time.perf_counter_ns()
        decision = worker.limiter.check(self.name, LIMIT, WINDOW_S, burst=BURST)
        guard = time.perf_counter_ns() - began
        journal.calls.append((worker.clock.last, decision.allowed))
        if not decision:
            return decision.retry_after

        began = time.perf_counter_ns()
        with worker.breaker:
            guard += time.perf_counter_ns() - began
            began = time.perf_counter_ns()
            with worker.pool.checkout(timeout=CHECKOUT_TIMEOUT_S) as connection:
                pool = time.perf_counter_ns() - began
                journal.lookups += in_doubt
                wrote = worker.store.store(connection, event, self.name, in_doubt)
                began = time.perf_counter_ns()
            pool += time.perf_counter_ns() - began
            began = time.perf_counter_ns()
        guard += time.perf_counter_ns() - began
        journal.found += not wrote
        journal.inside.append((guard, pool))
        return None


class Worker:
    """The process: one breaker, one limiter, one pool, and the clients that share them."""

    def __init__(self, directory: Path, database: str) -> None:
        self._directory = directory
        self.events = read_events(directory / "events.txt")
        self.store = Store(database)
        self.clock = RecordingClock()
        self.breaker = Breaker(open_for=OPEN_FOR_S, on_event=on_transition)
        self.limiter = RateLimiter(clock=self.clock)
        self.pool = Pool(
            self.store.connect,
            self.store.close,
            size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            overflow_ttl=OVERFLOW_TTL_S,
            # Not so LockedError: a connection on which somebody waited in vain is as good as before.
            broken_on=(sqlite3.Error,),
        )
        self.began = 0.0
        self.span_s = 0.0
        self._clients = [Client(self, index) for index in range(CLIENTS)]

    def run(self) -> None:
        """Waits for the start, works, and tells how it went."""
        say(type="ready")
        command = sys.stdin.readline().split()
        if len(command) != 2 or command[0] != "start":
            sys.exit("expected `start SPAN_MS`")
        self.span_s = int(command[1]) / 1000
        self.began = time.monotonic()
        threads = [
            threading.Thread(target=client.run, name=client.name, daemon=True) for client in self._clients
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self._say_sample()
            time.sleep(SAMPLE_S)
        self._say_sample()
        self._write_records()
        self._say_final()

    def _total(self, name: str) -> int:
        return sum(getattr(client.journal, name) for client in self._clients)

    def _say_sample(self) -> None:
        breaker, pool = self.breaker.snapshot(), self.pool.snapshot()
        say(
            type="sample",
            at=time.monotonic_ns(),
            done=self._total("done"),
            state=breaker.phase.name.lower(),
            admitted=breaker.admitted,
            limited=self.limiter.snapshot().limited,
            rejected=breaker.rejected_open + breaker.rejected_half_open,
            in_use=pool.leased,
            overflow=pool.overflow,
            waiting=pool.waiting,
        )

    def _write_records(self) -> None:
        with (self._directory / "limiter.txt").open("w") as file:
            rule = f"{LIMIT} {WINDOW_S * SECOND} {BURST} 1"
            for client in self._clients:
                file.writelines(f"{client.name} {rule} {at} {at} {ok:d}\n" for at, ok in client.journal.calls)
        with (self._directory / "inside.txt").open("w") as file:
            for client in self._clients:
                file.writelines(f"{guard} {pool}\n" for guard, pool in client.journal.inside)

    def _say_final(self) -> None:
        breaker, pool = self.breaker.snapshot(), self.pool.snapshot()
        self.pool.close()
        say(
            type="final",
            **{name: self._total(name) for name in ("done", "failed", "lookups", "found")},
            admitted=breaker.admitted,
            limited=self.limiter.snapshot().limited,
            rejected=breaker.rejected_open + breaker.rejected_half_open,
            checkouts=pool.granted,
            created=pool.created,
            leased=pool.leased,
            left_open=self.store.open,
        )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print("usage: worker.py DIRECTORY DATABASE", file=sys.stderr)
        sys.exit(64)
    Worker(Path(sys.argv[1]), sys.argv[2]).run()
