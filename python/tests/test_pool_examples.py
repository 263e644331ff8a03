"""The examples run, and a pool of real connections outlives a real server's faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pg8000.dbapi
import pool_postgresql
import pool_sqlite
import postgresql
import pytest

from elixirscope import CreateFailed


@pytest.fixture(scope="module")
def server() -> Iterator[postgresql.Server]:
    server = postgresql.Server()
    yield server
    server.remove()


def test_sqlite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pool_sqlite.main(str(tmp_path / "visits.db")) == 200
    assert "200 visits by 8 threads over" in capsys.readouterr().out


def test_postgresql(server: postgresql.Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert pool_postgresql.main(server.socket, postgresql.USER, "postgres") == 200
    assert "200 visits by 8 threads over" in capsys.readouterr().out


def ask(pool: Any, statement: str) -> Any:
    with pool_postgresql.transaction(pool) as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def ask_until_answered(pool: Any, statement: str) -> Any:
    while True:
        try:
            return ask(pool, statement)
        except (*pool_postgresql.GONE, pg8000.dbapi.DatabaseError, CreateFailed):
            pass


def test_a_back_end_that_is_killed_is_replaced(server: postgresql.Server) -> None:
    with pool_postgresql.pool_of(server.socket, postgresql.USER, "postgres", size=1) as pool:
        first = ask(pool, "select pg_backend_pid()")
        assert ask(pool, "select pg_backend_pid()") == first
        postgresql.kill_back_end(first)
        with pytest.raises(pool_postgresql.GONE):
            ask(pool, "select 1")
        assert pool.snapshot().idle == 0
        assert ask_until_answered(pool, "select pg_backend_pid()") != first
        assert pool.snapshot().leased == 0


def test_a_server_that_stops_and_starts_is_found_again(server: postgresql.Server) -> None:
    with pool_postgresql.pool_of(server.socket, postgresql.USER, "postgres", size=1) as pool:
        assert ask(pool, "select 1") == 1
        server.stop()
        try:
            with pytest.raises(pool_postgresql.GONE):
                ask(pool, "select 1")
            with pytest.raises(CreateFailed) as refusal:
                ask(pool, "select 1")
            assert isinstance(refusal.value.__cause__, pool_postgresql.GONE)
        finally:
            server.start()
        assert ask_until_answered(pool, "select 2") == 2
        now = pool.snapshot()
        assert (now.leased, now.waiting, now.idle) == (0, 0, 1)


def test_a_wrong_statement_costs_no_connection(server: postgresql.Server) -> None:
    with pool_postgresql.pool_of(server.socket, postgresql.USER, "postgres", size=1) as pool:
        with pytest.raises(pg8000.dbapi.DatabaseError):
            ask(pool, "select from nowhere")
        assert ask(pool, "select 1") == 1
        assert pool.snapshot().created == 1


def test_the_next_holder_finds_nothing_of_the_last(server: postgresql.Server) -> None:
    with pool_postgresql.pool_of(server.socket, postgresql.USER, "postgres", size=1) as pool:
        ask(pool, "create table begun (n int); select 1")
        before = ask(pool, "select count(*) from begun"), ask(pool, "show work_mem")
        with pool.checkout() as connection:
            cursor = connection.cursor()
            cursor.execute("set work_mem = '1MB'")
            cursor.execute("insert into begun values (2)")
        assert (ask(pool, "select count(*) from begun"), ask(pool, "show work_mem")) == before
        assert pool.snapshot().created == 1
