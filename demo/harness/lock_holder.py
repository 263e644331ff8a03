"""A real lock: the `sqlite3` shell, a process of its own, in an exclusive transaction.

The shell prints a line once it holds the lock and another once it has let go, so the interval that is
recorded is never longer than the true one. In the journal mode of the demo's database this lock keeps out
all who write; readers go on.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

HOLD_S = 4.0
SHELL = ("sqlite3", "-batch", "-bail")


@dataclass
class LockHolder:
    """One holding of the lock: process and interval (monotonic ns; None while it has not begun or ended)."""

    pid: int | None = None
    locked_ns: int | None = None
    released_ns: int | None = None
    error: str | None = None

    def start(self, database: Path) -> threading.Thread:
        """Takes the lock in the background, holds it for `HOLD_S` seconds and lets go."""
        thread = threading.Thread(target=self.hold, args=(database,), name="lock-holder", daemon=True)
        thread.start()
        return thread

    def hold(self, database: Path, shell_command: Sequence[str] = SHELL, hold_s: float = HOLD_S) -> None:
        """Takes the lock, holds it and lets go; a shell that does not last that long is an error."""
        shell_process = subprocess.Popen(
            [*shell_command, str(database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # A shell that is gone leaves orders unread, and closing its input stumbles over them.
        with suppress(BrokenPipeError), shell_process as shell:
            assert shell.stderr is not None
            self.pid = shell.pid
            # The shell may wait for its turn: the workers hold the lock for moments all the time.
            if not answers(shell, ".timeout 10000\nBEGIN EXCLUSIVE;\nSELECT 'locked';\n", "locked"):
                self.error = shell.stderr.read().strip() or "the sqlite3 shell ended before it had the lock"
                return
            self.locked_ns = time.monotonic_ns()
            time.sleep(hold_s)
            # Read before the order to let go is given: from then on the lock may be free.
            released_ns = time.monotonic_ns()
            if not answers(shell, "COMMIT;\nSELECT 'released';\n.quit\n", "released"):
                self.error = shell.stderr.read().strip() or "the sqlite3 shell ended while it had the lock"
                return
            self.released_ns = released_ns


def answers(shell: subprocess.Popen[str], orders: str, answer: str) -> bool:
    """Whether the shell, given orders, comes to print a line; not if it is gone."""
    assert shell.stdin is not None
    assert shell.stdout is not None
    try:
        shell.stdin.write(orders)
        shell.stdin.flush()
    except BrokenPipeError:
        return False
    return shell.stdout.readline().strip() == answer
