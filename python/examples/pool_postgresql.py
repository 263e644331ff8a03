"""A pool of PostgreSQL connections over pg8000, which is Python alone: no libpq, no compiler.

    python pool_postgresql.py socket user database

A connection whose server or back-end went away is destroyed and another one made; one whose statement was
wrong is rolled back and used again.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pg8000.dbapi

from elixirscope import Pool

GONE: tuple[type[BaseException], ...] = (OSError, pg8000.dbapi.InterfaceError)


def pool_of(socket: str, user: str, database: str, size: int) -> Pool[Any]:
    def connect() -> Any:
        return pg8000.dbapi.connect(user, database=database, unix_sock=socket, timeout=10)

    return Pool(connect, disconnect, size=size, max_overflow=0, broken_on=GONE)


def disconnect(connection: Any) -> None:
    # The server may have been faster.
    with suppress(*GONE):
        connection.close()


@contextmanager
def transaction(pool: Pool[Any]) -> Iterator[Any]:
    """Lends a cursor, commits at the end, and rolls back when an exception ends the block."""
    with pool.checkout(timeout=5.0) as connection:
        try:
            yield connection.cursor()
        except GONE:
            raise
        except BaseException:
            connection.rollback()
            raise
        connection.commit()


def main(socket: str, user: str, database: str) -> int:
    threads = 8
    with pool_of(socket, user, database, size=3) as pool:
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
