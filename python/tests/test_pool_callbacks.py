"""What a pool's functions do besides their work: fail, raise, take long, use another pool."""

from __future__ import annotations

import threading
from typing import Any, Literal

import pytest
from lending import Connection, Ledger

from elixirscope import CreateFailed, Pool, PoolTimeout


def test_a_failed_creation_is_the_cause(ledger: Ledger) -> None:
    failures = iter([ConnectionError("no route"), None])

    def create() -> Connection:
        failure = next(failures)
        if failure:
            raise failure
        return ledger.create()

    pool = Pool(create, ledger.destroy, size=1, max_overflow=0, create_backoff=0.001)
    with pytest.raises(CreateFailed) as refusal, pool.checkout():
        pytest.fail("lent what was never made")
    assert isinstance(refusal.value.__cause__, ConnectionError)
    with pool.checkout():
        pass
    assert pool.snapshot().create_errors == 1


def test_a_creation_that_returns_none_failed() -> None:
    pool: Pool[None] = Pool(lambda: None, size=1, max_overflow=0)
    with pytest.raises(CreateFailed) as refusal, pool.checkout():
        pytest.fail("lent what was never made")
    assert "`create` returned None" in str(refusal.value.__cause__)


def test_an_interrupt_in_create_comes_out_as_itself() -> None:
    def create() -> Connection:
        raise KeyboardInterrupt

    pool = Pool(create, size=1, max_overflow=0)
    with pytest.raises(KeyboardInterrupt), pool.checkout():
        pytest.fail("lent what was never made")
    assert (pool.snapshot().leased, pool.snapshot().waiting, pool.snapshot().creating) == (0, 0, 0)


def test_an_interrupt_in_destroy_comes_out_as_itself(ledger: Ledger) -> None:
    def destroy(_: Connection) -> None:
        raise KeyboardInterrupt

    pool = Pool(ledger.create, destroy, size=0, max_overflow=1)
    with pytest.raises(KeyboardInterrupt), pool.checkout():
        pass
    assert pool.snapshot().leased == 0


def test_what_destroy_raises_is_reported_and_changes_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[BaseException] = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: unraisable.append(report.exc_value))

    def destroy(connection: Connection) -> None:
        raise OSError(connection.number)

    pool = Pool(ledger.create, destroy, size=0, max_overflow=1)
    with pool.checkout() as connection:
        pass
    assert [problem.args for problem in unraisable] == [(connection.number,)]
    assert pool.snapshot().destroyed == 1


@pytest.mark.parametrize("name", ["create", "reset", "check", "destroy"])
def test_draining_waits_for_a_thread_that_is_in_a_callback(name: str) -> None:
    inside, may_leave, left = threading.Event(), threading.Event(), threading.Event()

    def stay(*_: object) -> Connection:
        inside.set()
        may_leave.wait()
        left.set()
        return Connection()

    functions: dict[str, Any] = {"create": Connection, name: stay}
    # Nothing idle is kept, so that `destroy` is called on return.
    kept = int(name != "destroy")
    health: Literal["passive", "off"] = "passive" if name == "check" else "off"
    pool = Pool(**functions, size=kept, max_overflow=1 - kept, health=health)

    def lend() -> None:
        with pool.checkout():
            pass

    thread = threading.Thread(target=lend)
    thread.start()
    inside.wait()
    with pytest.raises(PoolTimeout):
        pool.drain(timeout=0.001)
    may_leave.set()
    pool.drain()
    assert left.is_set()
    thread.join()


def test_a_pool_may_make_a_pool(ledger: Ledger) -> None:
    inner = Pool(ledger.create, ledger.destroy, size=1)

    def create() -> Connection:
        with inner.checkout() as connection:
            return connection

    with Pool(create, size=1).checkout() as connection:
        assert connection is ledger.made[0]
