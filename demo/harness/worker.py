"""A worker process and the lines it exchanges with the stage.

To a worker go plain commands on standard input: `start SPAN_MS` and, to the BEAM, `fault NAME`. From it
comes one JSON object a line: `ready`, `sample` (its counters, ten times a second), `transition` (of its
breaker), `fault` (one that has happened) and `final`. Times are CLOCK_MONOTONIC in nanoseconds, the clock
that all processes of a machine share.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.oracle import Call, Rule

Message = dict[str, Any]
LAST_EXIT_S = 20.0


@dataclass
class Worker:
    """One language's process, and all that it has said."""

    language: str
    command: Sequence[str]
    directory: Path
    share: int
    inbox: queue.SimpleQueue[tuple[str, Message | None]]
    samples: list[Message] = field(default_factory=list)
    transitions: list[Message] = field(default_factory=list)
    faults: list[Message] = field(default_factory=list)
    final: Message | None = None
    process: subprocess.Popen[str] | None = None
    _noise: list[str] = field(default_factory=list)

    def spawn(self) -> None:
        """Starts the process; its standard error goes to a file beside its records."""
        with (self.directory / "stderr.txt").open("w") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1
            )
        threading.Thread(target=self._listen, name=f"{self.language}-lines", daemon=True).start()

    def _listen(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                self.inbox.put((self.language, json.loads(line)))
            except json.JSONDecodeError:
                # A word of the runtime's, such as a log line: for the reader of a failed run.
                self._noise.append(line.rstrip())
        self.inbox.put((self.language, None))

    def tell(self, command: str) -> None:
        """Sends a command; a worker that is gone is noticed by its silence, not here."""
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def take(self, message: Message) -> None:
        """Files a message."""
        match message["type"]:
            case "sample":
                self.samples.append(message)
            case "transition":
                self.transitions.append(message)
            case "fault":
                self.faults.append(message)
            case "final":
                self.final = message

    @property
    def done(self) -> int:
        """Events stored so far."""
        return int(self.samples[-1]["done"]) if self.samples else 0

    def last_exit(self) -> int | None:
        """Exit code of a process that ends by itself; None if it does not within `LAST_EXIT_S`."""
        assert self.process is not None
        try:
            return self.process.wait(LAST_EXIT_S)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """Ends the process if it still runs."""
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()

    def complaint(self) -> str:
        """The last lines that were no messages."""
        lines = (self.directory / "stderr.txt").read_text(errors="replace").splitlines()
        return "\n".join([*lines, *self._noise][-20:])

    def limiter_calls(self) -> list[Call]:
        """Every check of its limiter: `key tokens period_ns burst cost at_ns until_ns admitted`."""
        calls = []
        with (self.directory / "limiter.txt").open() as file:
            for line in file:
                key, *numbers = line.split()
                tokens, period_ns, burst, cost, at_ns, until_ns, admitted = map(int, numbers)
                # Limiters are one a process: the same key in two languages is two buckets.
                calls.append(
                    Call(
                        f"{self.language}/{key}",
                        Rule(tokens, period_ns, burst),
                        cost,
                        at_ns,
                        until_ns,
                        bool(admitted),
                    )
                )
        return calls

    def inside_ns(self) -> list[tuple[int, int]]:
        """Per stored event the time spent inside (limiter and breaker, pool)."""
        with (self.directory / "inside.txt").open() as file:
            return [(int(guard), int(pool)) for guard, pool in (line.split() for line in file)]
