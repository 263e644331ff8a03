"""What is shown while it runs: one line, rewritten on a terminal, repeated once a second elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence

from harness.worker import Worker

HEADING = "events stored | breaker, calls admitted/limited/rejected, pool in use/overflow/waiting"
LABEL = {"elixir": "ex", "c": "c", "python": "py"}
PLAIN_INTERVAL_S = 1.0


class Live:
    """The line, and where it goes."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._began = time.monotonic()
        self._terminal = sys.stdout.isatty()
        self._next_plain = 0.0

    def show(self, workers: Sequence[Worker], last: bool = False) -> None:
        """Shows the newest samples; the last line stays."""
        elapsed = time.monotonic() - self._began
        if not self._terminal:
            if elapsed < self._next_plain and not last:
                return
            self._next_plain = elapsed + PLAIN_INTERVAL_S
        done = sum(worker.done for worker in workers)
        line = " | ".join([f"{elapsed:5.1f}s {done:>6}/{self._total}", *map(describe, workers)])
        if self._terminal:
            line = "\r\x1b[2K" + line[: shutil.get_terminal_size().columns - 1]
        sys.stdout.write(line + ("\n" if last or not self._terminal else ""))
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        elapsed = time.monotonic() - self._began
        sys.stdout.write(("\r\x1b[2K" if self._terminal else "") + f"{elapsed:5.1f}s {text}\n")
        sys.stdout.flush()


def describe(worker: Worker) -> str:
    """A worker's newest sample in a few words."""
    if not worker.samples:
        return f"{LABEL[worker.language]} starting"
    now = worker.samples[-1]
    return (
        f"{LABEL[worker.language]} {now['state']:<9} {now['admitted']}/{now['limited']}/{now['rejected']}"
        f" {now['in_use']}/{now['overflow']}/{now['waiting']}"
    )
