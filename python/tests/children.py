"""A part of a test in a forked child."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection


def in_child(function: Callable[[], object]) -> object:
    """What ``function`` gives in a forked child, which then ends as children of multiprocessing do."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run(answer: Connection) -> None:
        try:
            answer.send(function())
        except Exception as problem:
            answer.send(problem)

    child = context.Process(target=run, args=(sender,))
    child.start()
    # The child's copy is the last one: if it dies without an answer, this does not wait for one for ever.
    sender.close()
    answer = receiver.recv()
    child.join()
    assert child.exitcode == 0
    return answer
