"""A real lock: the `sqlite3` shell, a process of its own, in an exclusive transaction.

The shell prints a line once it holds the lock and another once it has let go, so the interval that is
recorded is never longer than the true one.
"""

from __future__ import annotations

import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

HOLD_S = 4.0


@dataclass
class LockHolder:
    """One holding of the lock: process and interval (monotonic ns; None while it has not begun or ended)."""

    pid: int | None = None
    locked_ns: int | None = None
    released_ns: int | None = None
    error: str | None = None

    def start(self, database: Path) -> threading.Thread:
        """Takes the lock in the background, holds it for `HOLD_S` seconds and lets go."""
        thread = threading.Thread(target=self._run, args=(database,), name="lock-holder", daemon=True)
        thread.start()
        return thread

    def _run(self, database: Path) -> None:
        with subprocess.Popen(
            ["sqlite3", "-batch", "-bail", str(database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as shell:
            assert shell.stdin is not None
            assert shell.stdout is not None
            assert shell.stderr is not None
            self.pid = shell.pid
            # The shell may wait for its turn: the workers hold the lock for moments all the time.
            shell.stdin.write(".timeout 10000\nBEGIN EXCLUSIVE;\nSELECT 'locked';\n")
            shell.stdin.flush()
            if shell.stdout.readline().strip() != "locked":
                self.error = shell.stderr.read().strip() or "the sqlite3 shell ended before it had the lock"
                return
            self.locked_ns = time.monotonic_ns()
            time.sleep(HOLD_S)
            # Read before the order to let go is given: from then on the lock may be free.
            self.released_ns = time.monotonic_ns()
            shell.stdin.write("COMMIT;\nSELECT 'released';\n.quit\n")
            shell.stdin.flush()
            shell.stdout.read()
