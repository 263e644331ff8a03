"""A pool of PostgreSQL connections over pg8000, which is Python alone: no libpq, no compiler.

    python pool_postgresql.py socket user database

A connection whose server or back-end went away is destroyed and another one made. One whose statement was
wrong is used again: `reset` rolls back what was begun and forgets what was set.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pg8000.dbapi

from elixirscope import Pool

GONE: tuple[type[BaseException], ...] = (OSError, pg8000.dbapi.InterfaceError)


def pool_of(path: str, user: str, database: str, size: int) -> Pool[Any]:
    def connect() -> Any:
        with ExitStack() as stack:
            # A socket of ours: pg8000 leaves its own open when the server refuses.
            line = stack.enter_context(socket.socket(socket.AF_UNIX))
            line.settimeout(10)
            line.connect(path)
            connection = pg8000.dbapi.connect(user, database=database, sock=line)
            stack.pop_all()
            return connection

    return Pool(
        connect,
        disconnect,
        reset=reset,
        check=ping,
        size=size,
        max_overflow=0,
        broken_on=GONE,
        pre_ping_after=60.0,
        pre_ping_limit=5.0,
        max_lifetime=3600.0,
        max_lifetime_jitter=600.0,
    )


def reset(connection: Any) -> None:
    connection.rollback()
    # No transaction may hold this statement.
    connection.autocommit = True
    connection.cursor().execute("discard all")
    connection.autocommit = False


def ping(connection: Any) -> None:
    connection.cursor().execute("select 1")
    connection.rollback()


def disconnect(connection: Any) -> None:
    # The server may have been faster.
    with suppress(*GONE):
        connection.close()


@contextmanager
def transaction(pool: Pool[Any]) -> Iterator[Any]:
    """Lends a cursor and commits at the end; an exception leaves what was done to `reset`."""
    with pool.checkout(timeout=5.0) as connection:
        yield connection.cursor()
        connection.commit()


def main(path: str, user: str, database: str) -> int:
    threads = 8
    with pool_of(path, user, database, size=3) as pool:
        with transaction(pool) as cursor:
            cursor.execute("create table if not exists visits (id serial primary key, thread integer)")
            cursor.execute("truncate visits")

        def visit(number: int) -> None:
            for _ in range(25):
                with transaction(pool) as cursor:
                    cursor.execute("insert into visits (thread) values (%s)", (number,))
            try:
                with transaction(pool) as cursor:
                    cursor.execute("insert into visits (thread) values (-1)")
                    cursor.execute("insert into nowhere values (1)")
            except pg8000.dbapi.DatabaseError:
                pass

        workers = [threading.Thread(target=visit, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        with transaction(pool) as cursor:
            cursor.execute("select count(*) from visits")
            (count,) = cursor.fetchone()
        now = pool.snapshot()
    print(f"{count} visits by {threads} threads over {now.created} connections, {now.granted} check-outs")
    return int(count)


if __name__ == "__main__":
    main(*sys.argv[1:4])
