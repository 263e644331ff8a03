"""An interrupt at a random instruction, again and again: `make soak SOAK=interrupts`.

Not part of `make test`: an asynchronous exception between the native grant and the assignment of its result can
still lose a lease, so this fails in some of its runs.
"""

from __future__ import annotations

import signal

import pytest

from elixirscope import CreateFailed, Pool


def test_an_interrupt_at_any_moment_loses_no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(object, size=1, max_overflow=0, create_backoff=1e-6, create_backoff_cap=1e-6)
    ignored: list[object] = []
    # One that strikes in the first instruction of a callback has no Python frame to go to; ctypes reports it.
    monkeypatch.setattr("sys.unraisablehook", lambda report: ignored.append(report.exc_value))
    struck = 0

    def strike(*_: object) -> None:
        nonlocal struck
        struck += 1
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, strike)
    try:
        for turn in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 + turn * 2e-7)
                while struck == turn:
                    try:
                        with pool.checkout():
                            pass
                    except CreateFailed:
                        assert ignored
            except KeyboardInterrupt:
                pass
            assert pool.snapshot().leased == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert struck == 300
    assert all(isinstance(problem, KeyboardInterrupt) for problem in ignored)
    assert (pool.snapshot().waiting, pool.snapshot().creating) == (0, 0)
