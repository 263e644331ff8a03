"""What the tests of the pool share: connections to lend, and what became of them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable


class Connection:
    """Something to lend."""

    numbers = itertools.count()

    def __init__(self) -> None:
        self.number = next(self.numbers)


class Ledger:
    """Makes connections and remembers what became of them."""

    def __init__(self) -> None:
        self.made: list[Connection] = []
        self.destroyed: list[Connection] = []

    def create(self) -> Connection:
        self.made.append(Connection())
        return self.made[-1]

    def destroy(self, connection: Connection) -> None:
        assert connection not in self.destroyed
        self.destroyed.append(connection)


def until(true: Callable[[], bool]) -> None:
    """Waits for another thread, however long that takes: no test fails by a time chosen here."""
    while not true():
        time.sleep(0.001)
