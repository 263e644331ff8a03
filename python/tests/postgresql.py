"""A PostgreSQL of Debian's package in a temporary folder, reached by a Unix socket."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

USER = "postgres"


class Server:
    """Made once for a module; `stop` is what a crash does, `start` brings it back."""

    def __init__(self) -> None:
        # By a short path: a socket's has room for 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="escope_pg_"))
        self.socket = str(self.folder / ".s.PGSQL.5432")
        self._data = str(self.folder / "data")
        if os.getuid() == 0:
            shutil.chown(self.folder, USER, USER)
        self._run("initdb", "-D", self._data, "-U", USER, "-A", "trust", "-N", "--no-locale", "-E", "UTF8")
        self.start()

    def back_ends(self) -> list[int]:
        """The processes that serve a connection."""
        postmaster = (Path(self._data) / "postmaster.pid").read_text().split()[0]
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
                if parent == postmaster and b"[local]" in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
            except OSError:
                continue
        return found

    def start(self) -> None:
        # No TCP port, which another server could have.
        options = f"-k {self.folder} -h '' -c fsync=off -c max_connections=20"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", self._data, "-l", log, "-o", options, "-w", "-t", "60", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "stop")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _run(self, name: str, *arguments: str) -> None:
        # PostgreSQL refuses to run as root.
        as_user = (
            ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.getuid() == 0 else []
        )
        # Not through a pipe that the server would keep open.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                [*as_user, program(name), *arguments],
                check=False,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
            said.seek(0)
            assert done.returncode == 0, f"{name} failed with {done.returncode}: {said.read().decode()}"


def program(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not found:
        if os.environ.get("ESCOPE_ALLOW_SKIP") == "1":
            raise unittest.SkipTest("no PostgreSQL; ci/deps.sh test installs it")
        raise AssertionError("these tests need Debian's postgresql; ci/deps.sh test installs it")
    return str(found[-1])


def kill_back_end(process_id: int) -> None:
    """What the kernel does to one that takes too much memory. The server then restarts all of them."""
    os.kill(process_id, signal.SIGKILL)
