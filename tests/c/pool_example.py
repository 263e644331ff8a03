#!/usr/bin/env python3
"""Runs the pool example, a command, on a PostgreSQL that it breaks: pool_example.py COMMAND...

A back-end is killed, for which the server restarts all of them, and the server is stopped and started. Every
row is written in the end, over connections that were made anew.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python" / "tests"))

import postgresql

THREADS = 8
SUMMARY = re.compile(
    r"(\d+) rows by 8 threads; \d+ check-outs over (\d+) connections, (\d+) broken, \d+ idle"
)


def summary(said: str) -> tuple[int, int, int]:
    found = SUMMARY.search(said)
    assert found, said
    rows, connections, broken = map(int, found.groups())
    return rows, connections, broken


def serves(server: postgresql.Server, program: subprocess.Popen[str], least: int = 1) -> list[int]:
    """Back-ends that serve the program, once there are so many; none if it has ended."""
    while program.poll() is None:
        if len(found := server.back_ends()) >= least:
            return found
    return []


def breaks(server: postgresql.Server, command: list[str], rows: int) -> bool:
    """Whether the program still ran when all had been broken; then it wrote every row."""
    # Those of the run before.
    while server.back_ends():
        pass
    with subprocess.Popen([*command, str(rows)], stdout=subprocess.PIPE, text=True) as program:
        try:
            # A program that never had a connection gives up. With two its threads are at work.
            for victim in serves(server, program, least=2)[:1]:
                postgresql.kill_back_end(victim)
            # Others than the one that is gone: the server is back and the program as well.
            serves(server, program)
            server.stop()
            server.start()
            in_time = bool(serves(server, program))
            said, _ = program.communicate(timeout=240)
        except BaseException:
            program.kill()
            raise
    assert program.returncode == 0, said
    written, connections, broken = summary(said)
    assert written >= THREADS * rows, said
    if in_time:
        # Which of them a statement found broken and which the reset between two is chance; all were replaced.
        assert broken <= connections, said
        assert connections > 3, said
    return in_time


def main(program: list[str]) -> None:
    server = postgresql.Server()
    try:
        command = [*program, f"host={server.folder} user={postgresql.USER} dbname=postgres"]
        said = subprocess.run([*command, "20"], check=True, capture_output=True, text=True).stdout
        written, connections, broken = summary(said)
        assert (written, broken) == (THREADS * 20, 0), said
        assert connections <= 3, said
        rows = 1000
        while not breaks(server, command, rows):
            rows *= 4
        print(f"pool on PostgreSQL: wrote {THREADS * rows} rows through a killed back-end and a restart")
    finally:
        server.remove()


main(sys.argv[1:])
