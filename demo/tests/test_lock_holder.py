"""What is recorded of the lock, with a program in the place of the `sqlite3` shell."""

import sys
import unittest
from pathlib import Path

from harness.lock_holder import LockHolder

LOYAL = "import sys\nfor line in sys.stdin:\n if 'SELECT' in line: print(line.split(\"'\")[1], flush=True)"
REFUSED = "import sys; sys.exit('Error: database is locked')"
KILLED = "import sys\nfor _ in range(3): sys.stdin.readline()\nprint('locked', flush=True)"


def held(shell: str) -> LockHolder:
    holder = LockHolder()
    holder.hold(Path("no.db"), [sys.executable, "-c", shell], hold_s=0.01)
    return holder


class Lock(unittest.TestCase):
    def test_an_interval_is_recorded(self) -> None:
        holder = held(LOYAL)
        self.assertIsNone(holder.error)
        assert holder.locked_ns is not None
        assert holder.released_ns is not None
        self.assertGreaterEqual(holder.released_ns - holder.locked_ns, 10_000_000)

    def test_a_lock_that_was_never_had_is_an_error(self) -> None:
        holder = held(REFUSED)
        self.assertEqual(holder.error, "Error: database is locked")
        self.assertIsNone(holder.locked_ns)

    def test_a_holder_that_dies_before_it_lets_go_is_an_error(self) -> None:
        holder = held(KILLED)
        self.assertEqual(holder.error, "the sqlite3 shell ended while it had the lock")
        self.assertIsNone(holder.released_ns)


if __name__ == "__main__":
    unittest.main()
