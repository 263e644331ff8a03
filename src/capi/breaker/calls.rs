//! What a guarded call needs: leave to make it, and a place to say how it went.
//!
//! A permit or a list of events that goes through memory costs more than a closed breaker's verdict: it is written in
//! other pieces than it is read in, which a processor cannot forward. So what stands between an exported function and the
//! core's short paths is always inlined, and what the long ones return in memory stays in functions of their own.

use super::super::boundary::{Failure, Out, Verdict, check, guarded, input};
use super::super::status::escope_status;
use super::escope_breaker;
use super::event::{EventsOut, escope_events};
use super::permit::{already_done, escope_permit, not_found, outcome};
use crate::breaker::{Events, Outcome, Permit, RecordVerdict, Recorded, RejectReason};
use crate::status::Status;
use crate::sync::monotonic_ns;

/// Asks whether a call may be made now.
///
/// Ownership: `permit` is the caller's memory, 32 bytes; it may move to another thread, and it may be dropped
/// without a record (what becomes of a dropped probe `release_expired_probes` says when its lease ends).
///
/// @param breaker        the breaker.
/// @param permit         receives the permit on OK, to be given to escope_breaker_record once.
/// @param retry_after_ns receives, on a refusal, the time until a call may pass, at least 1, or UINT64_MAX if only
///                       another mode changes that; else 0; may be NULL.
/// @param events         receives the events the call caused, on OK and on a refusal; may be NULL.
/// @return OK: make the call; CIRCUIT_OPEN, HALF_OPEN_FULL, FORCED_OPEN, SERVICE_DEGRADED (a share of the calls is
///         admitted): do not; FAULT_INJECTED, in a library with fault injection: do not, it counts as a failure already;
///         INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks, but in a library with fault injection, where it may wait the
/// injected delay before it returns OK.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_acquire(
    breaker: *mut escope_breaker,
    permit: *mut escope_permit,
    retry_after_ns: *mut u64,
    events: *mut escope_events,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { acquire(breaker, permit, retry_after_ns, events, monotonic_ns) })
}

/// escope_breaker_acquire at a given time.
///
/// Ownership: as escope_breaker_acquire.
///
/// @param breaker        the breaker.
/// @param permit         receives the permit on OK.
/// @param retry_after_ns receives, on a refusal, the time until a call may pass, else 0; may be NULL.
/// @param events         receives the events the call caused, on OK and on a refusal; may be NULL.
/// @param now_ns         the time; one that goes back is never more generous.
/// @return as escope_breaker_acquire.
///
/// Thread safety: any thread, concurrently. Never blocks, with the exception of escope_breaker_acquire.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_acquire_at(
    breaker: *mut escope_breaker,
    permit: *mut escope_permit,
    retry_after_ns: *mut u64,
    events: *mut escope_events,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { acquire(breaker, permit, retry_after_ns, events, || now_ns) })
}

/// Says how the call of a permit ended.
///
/// Ownership: uses the permit up, on every result but INVALID_ARGUMENT; its memory stays the caller's.
///
/// @param breaker the breaker that gave the permit.
/// @param permit  the permit.
/// @param outcome ESCOPE_OUTCOME_*.
/// @param events  receives the events the call caused, on OK and on a refusal; may be NULL.
/// @return OK; STALE: the breaker has changed since, nothing was counted; EXPIRED: the probe's lease had run out and
///         what follows from that was counted already; ALREADY_DONE: recorded before, by another thread perhaps;
///         PERMIT_NOT_FOUND: a probe with made-up fields; INVALID_ARGUMENT: not a permit, a permit of another breaker, no
///         such outcome.
///
/// Thread safety: any thread, concurrently; of several records of one permit one counts. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_record(
    breaker: *mut escope_breaker,
    permit: *mut escope_permit,
    outcome: i32,
    events: *mut escope_events,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { record(breaker, permit, outcome, events, monotonic_ns) })
}

/// escope_breaker_record at a given time.
///
/// Ownership: as escope_breaker_record.
///
/// @param breaker the breaker that gave the permit.
/// @param permit  the permit.
/// @param outcome ESCOPE_OUTCOME_*.
/// @param events  receives the events the call caused, on OK and on a refusal; may be NULL.
/// @param now_ns  the time.
/// @return as escope_breaker_record.
///
/// Thread safety: any thread, concurrently; of several records of one permit one counts. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_record_at(
    breaker: *mut escope_breaker,
    permit: *mut escope_permit,
    outcome: i32,
    events: *mut escope_events,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { record(breaker, permit, outcome, events, || now_ns) })
}

/// Asks whether a call may be made, without a permit: for programs that cannot keep one and, if at all, say by
/// escope_breaker_report how the call went.
///
/// Such a call is never a probe, so a breaker that wants probes refuses it until they have closed it. It counts as
/// admitted and cancelled, and meets no injected fault.
///
/// Ownership: takes nothing.
///
/// @param breaker        the breaker.
/// @param retry_after_ns receives, on a refusal, the least time until a call may pass, at least 1, or UINT64_MAX if only
///                       another mode changes that; else 0; may be NULL.
/// @param events         receives the events the call caused, on OK and on a refusal; may be NULL.
/// @return OK: make the call; CIRCUIT_OPEN, HALF_OPEN_FULL, FORCED_OPEN, SERVICE_DEGRADED: do not; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_ask(
    breaker: *mut escope_breaker,
    retry_after_ns: *mut u64,
    events: *mut escope_events,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { ask(breaker, retry_after_ns, events, monotonic_ns) })
}

/// escope_breaker_ask at a given time.
///
/// Ownership: takes nothing.
///
/// @param breaker        the breaker.
/// @param retry_after_ns receives, on a refusal, the least time until a call may pass, else 0; may be NULL.
/// @param events         receives the events the call caused, on OK and on a refusal; may be NULL.
/// @param now_ns         the time; one that goes back is never more generous.
/// @return as escope_breaker_ask.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_ask_at(
    breaker: *mut escope_breaker,
    retry_after_ns: *mut u64,
    events: *mut escope_events,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { ask(breaker, retry_after_ns, events, || now_ns) })
}

/// Says how a call ended that had no permit, for programs that cannot ask first.
///
/// It counts in the generation that is under way: a report is part of no round of probes, and `slow_call_ns` does
/// not measure it.
///
/// Ownership: takes nothing.
///
/// @param breaker the breaker.
/// @param outcome ESCOPE_OUTCOME_*.
/// @param events  receives the events the call caused, on OK and on a refusal; may be NULL.
/// @return OK; STALE: the breaker is not closed, nothing was counted; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_report(
    breaker: *mut escope_breaker,
    outcome: i32,
    events: *mut escope_events,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { report(breaker, outcome, events, monotonic_ns) })
}

/// escope_breaker_report at a given time.
///
/// Ownership: takes nothing.
///
/// @param breaker the breaker.
/// @param outcome ESCOPE_OUTCOME_*.
/// @param events  receives the events the call caused, on OK and on a refusal; may be NULL.
/// @param now_ns  the time.
/// @return as escope_breaker_report.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_report_at(
    breaker: *mut escope_breaker,
    outcome: i32,
    events: *mut escope_events,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { report(breaker, outcome, events, || now_ns) })
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
#[inline(always)]
unsafe fn acquire(
    breaker: *const escope_breaker,
    permit: *mut escope_permit,
    retry_after_ns: *mut u64,
    events: *mut escope_events,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (breaker, permit, retry_after, events) = unsafe {
        (
            input(breaker, "breaker")?,
            Out::required(permit, "permit")?,
            Out::optional(retry_after_ns, "retry_after_ns")?,
            EventsOut::new(events)?,
        )
    };
    if let Some(admitted) = breaker.core.acquire_at_once() {
        permit.set(escope_permit::new(breaker.id, admitted));
        events.set(&Events::NONE);
        if let Some(out) = retry_after {
            out.set(0);
        }
        return Ok(Status::Ok);
    }
    Ok(acquire_slow(breaker, &permit, retry_after.as_ref(), &events, now))
}

/// Apart, so that the short path saves no registers for this one.
#[inline(never)]
fn acquire_slow(
    breaker: &escope_breaker,
    permit: &Out<escope_permit>,
    retry_after: Option<&Out<u64>>,
    events: &EventsOut,
    now: impl FnOnce() -> u64,
) -> Status {
    let acquired = breaker.core.acquire_slow(now);
    events.set(&acquired.events);
    let (status, retry_after_ns) = match acquired.verdict {
        Ok(admitted) => {
            #[cfg(feature = "fault-injection")]
            super::faults::wait(acquired.delay_ns);
            permit.set(escope_permit::new(breaker.id, admitted));
            (Status::Ok, 0)
        }
        Err(rejection) => (refusal(rejection.reason), rejection.retry_after_ns),
    };
    if let Some(out) = retry_after {
        out.set(retry_after_ns);
    }
    status
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
#[inline(always)]
unsafe fn ask(
    breaker: *const escope_breaker,
    retry_after_ns: *mut u64,
    events: *mut escope_events,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (breaker, retry_after, events) = unsafe {
        (
            input(breaker, "breaker")?,
            Out::optional(retry_after_ns, "retry_after_ns")?,
            EventsOut::new(events)?,
        )
    };
    let asked = breaker.core.ask(now);
    events.set(&asked.events);
    let (status, retry_after_ns) = match asked.verdict {
        Ok(()) => (Status::Ok, 0),
        Err(rejection) => (refusal(rejection.reason), rejection.retry_after_ns),
    };
    if let Some(out) = retry_after {
        out.set(retry_after_ns);
    }
    Ok(status)
}

fn refusal(reason: RejectReason) -> Status {
    match reason {
        RejectReason::Open => Status::CircuitOpen,
        RejectReason::HalfOpenFull => Status::HalfOpenFull,
        RejectReason::ForcedOpen => Status::ForcedOpen,
        RejectReason::Degraded => Status::ServiceDegraded,
        #[cfg(feature = "fault-injection")]
        RejectReason::FaultInjected => Status::FaultInjected,
    }
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
#[inline(always)]
unsafe fn record(
    breaker: *const escope_breaker,
    permit: *mut escope_permit,
    number: i32,
    events: *mut escope_events,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (breaker, events) = unsafe { (input(breaker, "breaker")?, EventsOut::new(events)?) };
    check(permit, "permit")?;
    let outcome = outcome(number)?;
    // SAFETY: not NULL and aligned; initialised and not written by others by the caller's contract.
    let permit = unsafe { escope_permit::take(permit, breaker.id) }?;
    if breaker.core.record_at_once(&permit, outcome) {
        events.set(&Events::NONE);
        return Ok(Status::Ok);
    }
    record_slow(breaker, permit, outcome, &events, now)
}

#[inline(never)]
fn record_slow(
    breaker: &escope_breaker,
    permit: Permit,
    outcome: Outcome,
    events: &EventsOut,
    now: impl FnOnce() -> u64,
) -> Verdict {
    told(&breaker.core.record_slow(permit, outcome, now), events)
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn report(
    breaker: *const escope_breaker,
    number: i32,
    events: *mut escope_events,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (breaker, events) = unsafe { (input(breaker, "breaker")?, EventsOut::new(events)?) };
    told(&breaker.core.report(outcome(number)?, now), &events)
}

/// Writes the events and gives the verdict.
#[inline(always)]
fn told(recorded: &Recorded, events: &EventsOut) -> Result<Status, Failure> {
    events.set(&recorded.events);
    match recorded.verdict {
        RecordVerdict::Applied => Ok(Status::Ok),
        RecordVerdict::Stale => Ok(Status::Stale),
        RecordVerdict::Expired => Ok(Status::Expired),
        RecordVerdict::AlreadyDone => Err(already_done()),
        RecordVerdict::NotFound => Err(not_found()),
    }
}
