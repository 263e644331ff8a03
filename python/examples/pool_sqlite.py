"""A pool of SQLite connections that several threads share, and a block that commits or rolls back.

python pool_sqlite.py [database]
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from elixirscope import Pool


def connect(path: str) -> sqlite3.Connection:
    # A connection is lent to one thread after the other, never to two at a time.
    connection = sqlite3.connect(path, check_same_thread=False, timeout=30, isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    return connection


@contextmanager
def transaction(pool: Pool[sqlite3.Connection]) -> Iterator[sqlite3.Connection]:
    """Lends a connection, commits at the end, and rolls back when an exception ends the block."""
    # As a context manager, a connection of sqlite3 commits or rolls back.
    with pool.checkout(timeout=30.0) as connection, connection:
        connection.execute("begin immediate")
        yield connection


def main(path: str) -> int:
    threads = 8
    # What SQLite raises is about a statement: the connection is as good as before.
    with Pool(lambda: connect(path), sqlite3.Connection.close, size=3, max_overflow=2, broken_on=()) as pool:
        with transaction(pool) as connection:
            connection.execute("create table if not exists visits (id integer primary key, thread integer)")
            connection.execute("delete from visits")

        def visit(number: int) -> None:
            for _ in range(25):
                with transaction(pool) as connection:
                    connection.execute("insert into visits (thread) values (?)", (number,))
            try:
                with transaction(pool) as connection:
                    connection.execute("insert into visits (thread) values (-1)")
                    connection.execute("insert into nowhere values (1)")
            except sqlite3.OperationalError:
                pass

        workers = [threading.Thread(target=visit, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        with pool.checkout() as connection:
            (count,) = connection.execute("select count(*) from visits").fetchone()
        now = pool.snapshot()
    print(f"{count} visits by {threads} threads over {now.created} connections, {now.granted} check-outs")
    return int(count)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(str(Path(folder) / "visits.db"))
