#!/usr/bin/env python3
"""Puts the limiter example, a server given as a command, under load: limiter_example.py COMMAND...

Many clients at once ask as each of several users, more often than they may. A user is admitted its burst and
what the time meanwhile brings, no request more and none less. The bound is counted with this program's clock:
nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import re
import subprocess
import sys
import time
from collections import Counter

USERS = ("ann", "bob", "cid", "dora")
REQUESTS_EACH = 25
CLIENTS = 8
BURST, PERIOD_S = 10, 60
POLICY = f'"user";q={BURST};w={PERIOD_S}'


def check(holds: bool, complaint: str) -> None:
    if not holds:
        sys.exit(f"limiter_example: {complaint}")


def ask(port: int, user: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("GET", "/", headers={"X-User": user})
        response = connection.getresponse()
        response.read()
    finally:
        connection.close()
    fields = {name: response.getheader(name, "") for name in ("RateLimit-Policy", "RateLimit", "Retry-After")}
    check(fields["RateLimit-Policy"] == POLICY, f"the policy is {fields}")
    left = re.fullmatch(r'"user";r=(\d+);t=(\d+)', fields["RateLimit"])
    check(left is not None, f"the limit is {fields}")
    if response.status == 200:
        check(fields["Retry-After"] == "", f"an admitted request is told to come back: {fields}")
    else:
        # A token comes every six seconds, and whoever is refused has none left.
        check(response.status == 429, f"the status is {response.status}")
        check(1 <= int(fields["Retry-After"]) <= PERIOD_S // BURST, f"when to come back: {fields}")
        check(
            left is not None and left[1] == "0" and left[2] == fields["Retry-After"],
            f"what is left: {fields}",
        )
    return response.status


def main(command: list[str]) -> None:
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline().removeprefix("listening at port "))
        users = [user for _ in range(REQUESTS_EACH) for user in USERS]
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
            statuses = list(clients.map(lambda user: ask(port, user), users))
        most = BURST + int((time.monotonic() - began) * BURST / PERIOD_S)
        admitted = Counter(user for user, status in zip(users, statuses, strict=True) if status == 200)
        for user in USERS:
            times = admitted[user]
            check(BURST <= times <= most, f"{user} was admitted {times} times, not {BURST} to {most}")
        server.terminate()
        last, _ = server.communicate()
        total = admitted.total()
        wanted = f"{total} admitted, {len(users) - total} refused"
        check(server.returncode == 0, f"the example ended with {server.returncode}")
        check(last.strip() == wanted, f"its last line is {last.strip()!r}, not {wanted!r}")
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
