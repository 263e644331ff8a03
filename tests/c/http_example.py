#!/usr/bin/env python3
"""Runs the HTTP example against a server that is started, broken and healed: http_example.py COMMAND...

The server is a process of its own. Once it is killed, so that nobody listens; once it is replaced by one that
answers 500. The example, given as a command, gets one URL at a time and is waited for, so nothing here
depends on how fast the machine is.
"""

from __future__ import annotations

import http.server
import subprocess
import sys
from collections.abc import Callable


def serve(port: int, status: int) -> None:
    """Answers every request with this status, but a 404 for /nowhere; says its port first."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if self.path == "/nowhere" else status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", port), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


class Server:
    """A server process, at the same port whenever it is started."""

    def __init__(self) -> None:
        self.port = 0
        self.start(200)

    def start(self, status: int) -> None:
        command = [sys.executable, __file__, "--serve", str(self.port), str(status)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Example:
    """The program under test."""

    def __init__(self, command: list[str]) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        self.changes: list[str] = []

    def fetch(self, url: str) -> str:
        """What became of one request; changes of the breaker are kept apart."""
        print(url, file=self.process.stdin, flush=True)
        while (line := self.process.stdout.readline().rstrip("\n")).startswith("breaker: "):
            self.changes.append(line.removeprefix("breaker: "))
        return line

    def until(self, url: str, reached: Callable[[str], bool]) -> list[str]:
        """Fetches until an answer is the wanted one, and gives those before it."""
        before = []
        while not reached(answer := self.fetch(url)):
            if self.process.poll() is not None:
                sys.exit(f"the example ended with {self.process.returncode} after: {before}")
            before.append(answer)
        return before

    def end(self) -> None:
        # The last change of the last request comes after its line.
        rest, _ = self.process.communicate()
        lines = rest.splitlines()
        self.changes += [line.removeprefix("breaker: ") for line in lines if line.startswith("breaker: ")]
        check(self.process.returncode == 0, f"the example ended with {self.process.returncode}")
        check(lines[-1].endswith(" refused"), f"its last line is {lines[-1]!r}")


def check(holds: bool, complaint: str) -> None:
    if not holds:
        sys.exit(f"http_example: {complaint}")


def refused(answer: str) -> bool:
    return answer.startswith("refused for ")


def breaks_and_heals(server: Server, example: Example, url: str, broken: str) -> None:
    """The server is broken already: the breaker opens, spares it, and closes after it has healed."""
    before = example.until(url, refused)
    all_broken = all(answer.startswith(broken) for answer in before)
    check(len(before) >= 2 and all_broken, f"before it opened: {before}")
    if broken.startswith("answered"):
        server.kill()
    server.start(200)
    between = example.until(url, lambda answer: answer == "answered 200")
    check(all(refused(answer) for answer in between), f"while it was open: {between}")
    # The second probe closes it, and the next request is one of many again.
    check([example.fetch(url) for _ in range(3)] == ["answered 200"] * 3, "it does not stay well")
    wanted = [
        "closed -> open (failure_rate)",
        "open -> half-open (open_elapsed)",
        "half-open -> closed (probes_succeeded)",
    ]
    check(example.changes == wanted, f"the breaker went {example.changes}")
    example.changes.clear()


def main(command: list[str]) -> None:
    server, example = Server(), Example(command)
    try:
        url = f"http://127.0.0.1:{server.port}/"
        check([example.fetch(url) for _ in range(4)] == ["answered 200"] * 4, "a good server is not reached")
        # What is the caller's own fault opens nothing.
        nowhere = [example.fetch(f"{url}nowhere") for _ in range(30)]
        check(nowhere == ["answered 404"] * 30, f"a wrong path: {nowhere}")
        check(example.fetch("no such thing").startswith("failed: "), "nonsense is fetched")

        server.kill()
        breaks_and_heals(server, example, url, "failed: ")
        server.kill()
        server.start(500)
        breaks_and_heals(server, example, url, "answered 500")
        example.end()
    finally:
        server.kill()
        example.process.kill()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main(sys.argv[1:])
