"""Runs the workers, causes the faults when it is their turn, and gathers what is said."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread

from harness.live import HEADING, Live
from harness.lock_holder import LockHolder
from harness.worker import Message, Worker

# Each fault strikes when this share of all events is stored, so that it falls into the same part of the
# work on fast and slow machines.
SCHEDULE = (
    (0.10, "burst"),
    (0.18, "kill_config_server"),
    (0.28, "lock"),
    (0.60, "kill_event_store"),
    (0.72, "kill_connection"),
    (0.84, "kill_client"),
)
# Over this time the workers spread their events.
SPAN_MS = 18_000
TICK_S = 0.1
LONGEST_S = 180.0


class StageError(Exception):
    """The run could not be carried through; the text says why."""


class Stage:
    """One run."""

    def __init__(self, workers: Sequence[Worker], database: Path, faults: bool) -> None:
        self._workers = workers
        self._by_language = {worker.language: worker for worker in workers}
        self._inbox = workers[0].inbox
        self._database = database
        self._pending = list(SCHEDULE) if faults else []
        self._total = sum(worker.share for worker in workers)
        self._ready: set[str] = set()
        self._lock_thread: Thread | None = None
        self.lock = LockHolder()
        self.began_ns = 0
        self.ended_ns = 0

    def run(self) -> None:
        """From the first process to the last word of each; no process outlives it."""
        try:
            for worker in self._workers:
                worker.spawn()
            self._gather(lambda: len(self._ready) == len(self._workers))
            self._perform()
        finally:
            if self._lock_thread:
                self._lock_thread.join()
            for worker in self._workers:
                worker.kill()

    def _perform(self) -> None:
        live = Live(self._total)
        live.say(HEADING)
        self.began_ns = time.monotonic_ns()
        for worker in self._workers:
            worker.tell(f"start {SPAN_MS}")

        def tick() -> bool:
            self._cause_faults(live)
            live.show(self._workers)
            return all(worker.final is not None for worker in self._workers)

        self._gather(tick)
        self.ended_ns = time.monotonic_ns()
        live.show(self._workers, last=True)
        # Taking its objects apart belongs to a worker's work.
        for worker in self._workers:
            if (code := worker.last_exit()) != 0:
                ended = "did not end" if code is None else f"ended with exit code {code}"
                raise StageError(f"the {worker.language} worker {ended} after its work\n{worker.complaint()}")

    def _gather(self, finished: Callable[[], bool]) -> None:
        """Takes messages until `finished`, which is asked at every tick."""
        deadline = time.monotonic() + LONGEST_S
        while not finished():
            if time.monotonic() > deadline:
                raise StageError(f"not done after {LONGEST_S:.0f} s: {', '.join(self._unfinished())}")
            tick_ends = time.monotonic() + TICK_S
            while (left := tick_ends - time.monotonic()) > 0:
                try:
                    self._take(*self._inbox.get(timeout=left))
                except queue.Empty:
                    break

    def _take(self, language: str, message: Message | None) -> None:
        worker = self._by_language[language]
        if message is None:
            if worker.final is None:
                raise StageError(
                    f"the {language} worker ended before its work was done\n{worker.complaint()}"
                )
        elif message["type"] == "ready":
            self._ready.add(language)
        else:
            worker.take(message)

    def _unfinished(self) -> list[str]:
        return [f"{w.language} {w.done}/{w.share}" for w in self._workers if w.final is None]

    def _cause_faults(self, live: Live) -> None:
        share = sum(worker.done for worker in self._workers) / self._total
        while self._pending and share >= self._pending[0][0]:
            _, fault = self._pending.pop(0)
            if fault == "lock":
                live.say("fault: the sqlite3 shell takes the exclusive lock")
                self._lock_thread = self.lock.start(self._database)
            else:
                live.say(f"fault: {fault.replace('_', ' ')}")
                self._by_language["elixir"].tell(f"fault {fault}")
