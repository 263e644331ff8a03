"""Owners of connections die at random moments: in the end nothing is lost and nobody was forgotten.

A thread dies by an exception that another thread puts into it at any instruction, or by ending with its
connection in its hands; a forked child by SIGKILL, by `os._exit`, or as Python ends. Each connection is a
canary: its users enter and leave it, and a second one inside is the double hold that must never be.

`make soak SOAK=pool-kill-python` runs 1,000,000 check-outs.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections import defaultdict

import pytest

from elixirscope import CreateFailed, Forked, Pool, PoolTimeout

CHECKOUTS = int(os.environ.get("KILL_CHECKOUTS", "5000"))
SEED = int(os.environ.get("SEED", str(time.time_ns())))
SIZE = 3
MAX_OVERFLOW = 2
WORKERS = 12

put_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc


class Aviary:
    """A pool of canaries, the threads that use it and what they saw.

    A canary is a number and its lock. What must not be torn apart is one call of native code, which nothing
    can strike: making and counting, destroying and writing down, looking who is inside and entering.
    """

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.inside: defaultdict[int, threading.Lock] = defaultdict(threading.Lock)
        self.destroyed: list[int] = []
        self.held_twice: list[int] = []
        self.mine = threading.local()
        self.pool = Pool(
            self.numbers.__next__,
            self.destroyed.append,
            size=SIZE,
            max_overflow=MAX_OVERFLOW,
            create_backoff=1e-6,
            create_backoff_cap=1e-6,
        )

    def live(self, end: str, turns: int, timeout: float | None) -> None:
        """The life of a thread; it ends well, or with a connection in a local or in a thread's variable."""
        for _ in range(turns):
            try:
                with self.pool.checkout(timeout=timeout) as canary:
                    self.visit(canary)
            except (PoolTimeout, CreateFailed):
                pass
        with contextlib.suppress(CreateFailed):
            if end == "holding":
                loan = self.pool.checkout(timeout=None)
                self.visit(loan.__enter__())
            elif end == "keeping":
                self.mine.loan = self.pool.checkout(timeout=None)
                self.visit(self.mine.loan.__enter__())

    def visit(self, canary: int) -> None:
        if not self.inside[canary].acquire(blocking=False):
            self.held_twice.append(canary)
        # Lets others run, who may kill this thread here.
        time.sleep(0)
        self.inside[canary].release()


def live_in_a_child(aviary: Aviary, end: str) -> None:
    """What a child does with its parent's pool and with one of its own, until it ends in its way."""
    status = 1
    try:
        destroyed = len(aviary.destroyed)
        with pytest.raises(Forked):
            aviary.pool.checkout(timeout=None).__enter__()
        with pytest.raises(Forked):
            aviary.pool.close()
        own = Pool(os.getpid, size=1, max_overflow=0)
        for _ in range(3):
            with own.checkout(timeout=None) as connection:
                assert connection == os.getpid()
        loans = [own.checkout(timeout=None)]
        loans[0].__enter__()
        # As the garbage collector does.
        aviary.pool.__del__()
        assert len(aviary.destroyed) == destroyed
        if end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        status = 0
    finally:
        os._exit(status)


def test_owners_that_die_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # A kill that strikes as `create` is about to be called ends that creation, and is reported here.
    # Not the exception: its frames, and the threads' behind them, would keep what the threads held.
    reported: list[type[BaseException]] = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: reported.append(report.exc_type))
    print(f"SEED={SEED}")
    dice = random.Random(SEED)
    aviary = Aviary()
    pool = aviary.pool
    others = threads()
    recent: list[int] = []
    started = killed = children = 0
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        while pool.snapshot().granted < CHECKOUTS:
            while threads() - others < WORKERS:
                end = dice.choices(("well", "holding", "keeping"), (8, 1, 1))[0]
                timeout = dice.choice((None, 0.001))
                # Not of `threading`, whose own lines around the function a kill could strike.
                recent.append(_thread.start_new_thread(aviary.live, (end, dice.randrange(20), timeout)))
                started += 1
            time.sleep(dice.random() * 0.001)
            del recent[:-WORKERS]
            for victim in dice.sample(recent, 4):
                if killed >= started * 0.3:
                    break
                killed += put_exception(ctypes.c_ulong(victim), ctypes.py_object(SystemExit))
            if dice.random() < 0.01:
                children += 1
                bear_a_child(aviary, dice.choice(("killed", "well")))
        while threads() != others:
            time.sleep(0.001)
    finally:
        sys.setswitchinterval(interval)
    print(f"{started} threads, {killed} of them killed, {children} children")
    assert killed > started / 5
    now = pool.snapshot()
    assert set(reported) <= {SystemExit}
    assert aviary.held_twice == []
    assert (now.leased, now.waiting, now.creating, now.closing) == (0, 0, 0, 0)
    assert now.granted == now.returned + now.broken >= CHECKOUTS
    assert now.requests == now.granted + now.timed_out + now.cancelled + now.exhausted + now.create_failed
    assert now.idle <= SIZE
    # Whoever asks now is served, up to the last connection, and the pool is then what it was meant to be.
    loans = [pool.checkout(timeout=0) for _ in range(SIZE)]
    canaries = {loan.__enter__() for loan in loans}
    assert len(canaries) == SIZE
    for loan in loans:
        loan.__exit__(None, None, None)
    assert pool.snapshot().idle == SIZE
    # Each one that was ever made is idle or was destroyed, and none of them twice.
    assert sorted([*canaries, *aviary.destroyed]) == list(range(next(aviary.numbers)))
    pool.close()
    assert pool.snapshot().leased == pool.snapshot().idle == 0


def threads() -> int:
    """Those of this process; Python counts one only once it runs."""
    return len(os.listdir("/proc/self/task"))


def bear_a_child(aviary: Aviary, end: str) -> None:
    child = os.fork()
    if child == 0:
        live_in_a_child(aviary, end)
    _, status = os.waitpid(child, 0)
    assert status == (signal.SIGKILL if end == "killed" else 0)
