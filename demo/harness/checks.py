"""What must hold at the end. A check that needs a fault fails when it saw none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.database import Audit
from harness.lock_holder import LockHolder
from harness.oracle import Judgement
from harness.outcome import SECOND, Row
from harness.source import identity
from harness.worker import Message

BURST = 25
BURST_ADMITTED = 10
REUSE = 0.90

NO_FAULT = "saw no fault"


@dataclass(frozen=True)
class Check:
    """A statement about the run and whether it holds."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Evidence:
    """All that the checks look at."""

    audit: Audit
    paragraphs: int
    rows: Sequence[Row]
    lock: LockHolder
    faults: Sequence[Message]
    burst: Judgement
    limiter: Judgement
    # The BEAM worker's last word on its services.
    services: Message


def all_checks(seen: Evidence) -> list[Check]:
    """Every check, in the order in which they are printed."""
    return [
        each_event_once(seen.audit, seen.paragraphs),
        lock_was_held(seen.lock),
        *(breaker_opened_and_recovered(row, seen.lock) for row in seen.rows),
        connection_was_killed(seen.faults),
        client_was_killed(seen.faults),
        *(no_lease_leaked(row) for row in seen.rows),
        *(connections_were_reused(row) for row in seen.rows),
        burst_was_limited(seen),
        limiter_agrees(seen.limiter),
        acknowledged_is_committed(seen.services),
        event_store_lost_nothing(seen.faults),
        reads_were_answered(seen),
        versions_are_gapless(seen),
    ]


def each_event_once(audit: Audit, paragraphs: int) -> Check:
    detail = (
        f"{sum(audit.stored.values())} rows; missing {len(audit.missing)}, repeated {len(audit.repeated)}, "
        f"foreign {len(audit.foreign)}"
    )
    if not audit.exact:
        seq = min([*audit.missing, *audit.repeated, *audit.foreign])
        of_pass, index = identity(seq, paragraphs)
        detail += f"; first at fault: seq {seq}, paragraph {index} of pass {of_pass}"
    return Check("each event is stored exactly once", audit.exact, detail)


def lock_was_held(lock: LockHolder) -> Check:
    name = "another process held the exclusive lock"
    if lock.error:
        return Check(name, False, f"pid {lock.pid}: {lock.error}")
    if lock.locked_ns is None or lock.released_ns is None:
        return Check(name, False, NO_FAULT)
    return Check(
        name, True, f"sqlite3, pid {lock.pid}, for {(lock.released_ns - lock.locked_ns) / SECOND:.2f} s"
    )


def breaker_opened_and_recovered(row: Row, lock: LockHolder) -> Check:
    name = f"{row.language}: the breaker opened and recovered by itself"
    if lock.locked_ns is None:
        return Check(name, False, NO_FAULT)
    if row.to_open_ns is None:
        return Check(name, False, "it did not open while the database was locked")
    opened = f"open {row.to_open_ns / SECOND:.2f} s after the lock"
    if row.to_recover_ns is None:
        return Check(name, False, f"{opened}, but no probe closed it again")
    return Check(name, True, f"{opened}, closed {row.to_recover_ns / SECOND:.2f} s after its end")


def of_kind(faults: Sequence[Message], kind: str) -> Message | None:
    return next((fault for fault in faults if fault["kind"] == kind), None)


def connection_was_killed(faults: Sequence[Message]) -> Check:
    name = "a connection process was killed"
    fault = of_kind(faults, "connection_killed")
    if fault is None:
        return Check(name, False, NO_FAULT)
    return Check(
        name, True, f"{fault['connection']}, while {fault['client']} looked for event {fault['seq']}"
    )


def client_was_killed(faults: Sequence[Message]) -> Check:
    name = "a client was killed while it held a connection"
    fault = of_kind(faults, "client_killed")
    if fault is None:
        return Check(name, False, NO_FAULT)
    if of_kind(faults, "client_replaced") is None:
        return Check(name, False, f"{fault['client']} was not replaced")
    return Check(
        name, True, f"{fault['client']}, holding {fault['connection']} for event {fault['seq']}; replaced"
    )


def no_lease_leaked(row: Row) -> Check:
    detail = f"{row.checkouts} check-outs, {row.leaks} leaked"
    return Check(f"{row.language}: no lease leaked", row.checkouts > 0 and row.leaks == 0, detail)


def connections_were_reused(row: Row) -> Check:
    detail = f"{row.reuse:.2%}: {row.created} made for {row.checkouts} check-outs"
    return Check(f"{row.language}: reuse above {REUSE:.0%}", row.reuse > REUSE, detail)


def burst_was_limited(seen: Evidence) -> Check:
    name = f"of {BURST} updates at once exactly {BURST_ADMITTED} were admitted"
    if seen.burst.calls == 0:
        return Check(name, False, NO_FAULT)
    passed = (seen.burst.calls, seen.burst.admitted, seen.audit.updates) == (
        BURST,
        BURST_ADMITTED,
        BURST_ADMITTED,
    )
    detail = f"{seen.burst.calls} asked, {seen.burst.admitted} admitted, {seen.audit.updates} rows written"
    return Check(name, passed, detail)


def limiter_agrees(limiter: Judgement) -> Check:
    passed = limiter.calls > 0 and limiter.admitted == limiter.oracle and limiter.disagreements == 0
    detail = (
        f"{limiter.calls} calls, {limiter.admitted} admitted, oracle {limiter.oracle} "
        f"(bounds {limiter.least} to {limiter.most}), {limiter.disagreements} disagreements"
    )
    return Check("the limiters admitted what the integer oracle admits", passed, detail)


def acknowledged_is_committed(services: Message) -> Check:
    looked, found = services["lookups"], services["found"]
    detail = f"{looked} looked for, {found} found"
    return Check("an event that the EventStore acknowledged was in the database", 0 < looked == found, detail)


def event_store_lost_nothing(faults: Sequence[Message]) -> Check:
    name = "the EventStore was killed and came back with every acknowledged event"
    fault, back = of_kind(faults, "event_store_killed"), of_kind(faults, "event_store_back")
    if fault is None:
        return Check(name, False, NO_FAULT)
    if back is None:
        return Check(name, False, f"{fault['pid']} had no successor")
    detail = f"{fault['pid']}, then {back['pid']} after {(back['at'] - fault['at']) / SECOND:.2f} s"
    detail += f"; {fault['acknowledged']} acknowledged, {back['has']} there"
    return Check(name, back["pid"] != fault["pid"] and back["has"] >= fault["acknowledged"] > 0, detail)


def reads_were_answered(seen: Evidence) -> Check:
    name = "the ConfigServer was killed, and every protected read was answered"
    fault, back = of_kind(seen.faults, "config_server_killed"), of_kind(seen.faults, "config_server_back")
    if fault is None:
        return Check(name, False, NO_FAULT)
    if back is None:
        return Check(name, False, f"{fault['pid']} had no successor")
    reads, answered = seen.services["reads"], seen.services["answered"]
    detail = f"{fault['pid']}, then {back['pid']}; {answered} of {reads} answered"
    return Check(name, back["pid"] != fault["pid"] and 0 < reads == answered, detail)


def versions_are_gapless(seen: Evidence) -> Check:
    versions, acknowledged = seen.audit.versions, seen.services["versions"]
    # An attempt that failed, or whose client was killed, may have written all the same.
    passed = versions == list(range(1, len(versions) + 1)) and len(versions) >= acknowledged > 0
    detail = f"{len(versions)} in the database, {acknowledged} acknowledged"
    return Check("the configuration's versions are gapless, and none is lost", passed, detail)
