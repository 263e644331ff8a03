"""Fixtures of the pool's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lending import Connection, Ledger

from elixirscope import Pool


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def one(ledger: Ledger) -> Iterator[Pool[Connection]]:
    pool = Pool(ledger.create, ledger.destroy, size=1, max_overflow=0)
    yield pool
    pool.close()
    assert len(ledger.made) == len(ledger.destroyed)
    assert pool.snapshot().leased == 0
