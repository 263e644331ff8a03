//! The circuit breaker in C.
//!
//! A permit lives in 32 bytes of the caller's memory. Its last word is an atomic state, so that of several
//! records of one permit exactly one reaches the core, also when threads race. It names its breaker by a
//! number that is never reused within a process; an address would be.

use std::sync::atomic::{AtomicU32, Ordering};

use super::boundary::{Failure, Out, Verdict, check, fail, guarded, input, invalid, require_wide_words};
use super::handle;
use super::options::{self, Growing, Report};
use super::status::escope_status;
use crate::breaker::{
    Breaker, BreakerConfig, Event, Events, Outcome, Permit, RawPermit, RecordVerdict, RejectReason,
};
use crate::status::Status;
use crate::sync::monotonic_ns;

/// A circuit breaker. Opaque; shared by any number of threads.
pub struct escope_breaker {
    id: u64,
    core: Breaker,
}

/// The call succeeded.
pub const ESCOPE_OUTCOME_SUCCESS: i32 = 0;
/// The call failed.
pub const ESCOPE_OUTCOME_FAILURE: i32 = 1;
/// The call says nothing about the health of what it called, such as a refused argument.
pub const ESCOPE_OUTCOME_IGNORED: i32 = 2;

/// Calls pass, failures are counted.
pub const ESCOPE_PHASE_CLOSED: i32 = 0;
/// Calls are refused.
pub const ESCOPE_PHASE_OPEN: i32 = 1;
/// A few calls pass as probes.
pub const ESCOPE_PHASE_HALF_OPEN: i32 = 2;

/// So many failures in a row that the breaker opened.
pub const ESCOPE_CAUSE_FAILURE_THRESHOLD: i32 = 1;
/// The open time elapsed; the first acquire after it lets probes in.
pub const ESCOPE_CAUSE_OPEN_ELAPSED: i32 = 2;
/// Enough probes succeeded.
pub const ESCOPE_CAUSE_PROBES_SUCCEEDED: i32 = 3;
/// Too many probes failed.
pub const ESCOPE_CAUSE_PROBES_FAILED: i32 = 4;
/// A probe was not recorded within its lease.
pub const ESCOPE_CAUSE_PROBE_EXPIRED: i32 = 5;
/// escope_breaker_reset was called.
pub const ESCOPE_CAUSE_RESET: i32 = 6;

/// How a breaker behaves. Set it up with escope_breaker_options_init, then change what you need.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct escope_breaker_options {
    /// Size of this struct as the program was compiled.
    pub struct_size: usize,
    /// How long an open breaker refuses every call, in nanoseconds. Default 30 s.
    pub open_for_ns: u64,
    /// How long a probe may take before it counts as failed, in nanoseconds. Default 60 s.
    pub probe_lease_ns: u64,
    /// Failures in a row that open the breaker. Default 5.
    pub failure_threshold: u32,
    /// Probes that a half-open breaker admits, 1 to 64. Default 1.
    pub half_open_permits: u32,
    /// Successful probes that close the breaker, 1 to `half_open_permits`. Default 1.
    pub successes_to_close: u32,
    /// Must be 0.
    pub reserved: u32,
}

// SAFETY: repr(C), `struct_size` first, integers only; 8 + 2 * 8 + 4 * 4 bytes leave no padding.
unsafe impl Growing for escope_breaker_options {
    const FIRST_SIZE: usize = 40;

    fn set_struct_size(&mut self, size: usize) {
        self.struct_size = size;
    }
}

impl Default for escope_breaker_options {
    fn default() -> Self {
        let config = BreakerConfig::default();
        Self {
            struct_size: size_of::<Self>(),
            open_for_ns: config.open_for_ns,
            probe_lease_ns: config.probe_lease_ns,
            failure_threshold: config.failure_threshold,
            half_open_permits: config.half_open_permits,
            successes_to_close: config.successes_to_close,
            reserved: 0,
        }
    }
}

/// The right to make one call, in the caller's memory. Its fields are private to the library; do not copy
/// the struct, for a copy is a second permit that only a half-open breaker would notice.
#[repr(C)]
#[derive(Debug)]
pub struct escope_permit {
    /// Private.
    pub private_breaker: u64,
    /// Private.
    pub private_generation: u32,
    /// Private.
    pub private_slot: u32,
    /// Private.
    pub private_epoch: u32,
    /// Private.
    pub private_reserved: [u32; 2],
    /// Private; an atomic.
    pub private_state: u32,
}

/// State of a permit that may be recorded. Neither this nor [`DONE`] is likely in memory that is not a permit.
const LIVE: u32 = 0x5045_524d;
/// State of a permit that was recorded.
const DONE: u32 = 0x646f_6e65;

impl escope_permit {
    fn new(breaker: u64, permit: Permit) -> Self {
        let raw = permit.into_raw();
        Self {
            private_breaker: breaker,
            private_generation: raw.generation,
            private_slot: raw.slot,
            private_epoch: raw.epoch,
            private_reserved: [0; 2],
            private_state: LIVE,
        }
    }

    /// Takes the permit out of the caller's memory; of several racing calls one gets it.
    ///
    /// # Safety
    /// `this` points to initialised memory that no other thread writes, but by this function.
    unsafe fn take(this: *mut Self, breaker: u64) -> Result<Permit, Failure> {
        // SAFETY: in bounds of `*this`, aligned, and changed only through this atomic while calls race.
        let state = unsafe { AtomicU32::from_ptr(&raw mut (*this).private_state) };
        // Acquire pairs with the AcqRel exchange below; the other fields were written by this caller's own
        // acquire, and how the permit came to this thread is the program's synchronisation.
        match state.load(Ordering::Acquire) {
            LIVE => {}
            DONE => return Err(already_done()),
            word => {
                let value = format_args!("memory without a permit (state {word:#x})");
                return Err(invalid("permit", value, "a permit that escope_breaker_acquire filled"));
            }
        }
        // SAFETY: initialised, and no call writes the fields but `private_state`, by the caller's contract.
        let (owner, raw) = unsafe {
            let raw = RawPermit {
                generation: (*this).private_generation,
                slot: (*this).private_slot,
                epoch: (*this).private_epoch,
            };
            ((*this).private_breaker, raw)
        };
        if owner != breaker {
            let value = format_args!("a permit of breaker number {owner}");
            return Err(invalid("permit", value, format_args!("a permit of this breaker, number {breaker}")));
        }
        // AcqRel: of all exchanges one succeeds, and what its thread did before it is visible to the losers,
        // which may free the memory after they have seen ALREADY_DONE.
        match state.compare_exchange(LIVE, DONE, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(Permit::from_raw(raw)),
            Err(_) => Err(already_done()),
        }
    }
}

#[cold]
fn already_done() -> Failure {
    fail(Status::AlreadyDone, format_args!("`permit` was recorded before, allowed is one record per permit"))
}

/// A change of a breaker's phase. A reset of a closed breaker is an event from closed to closed.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct escope_event {
    /// Time of the call that caused it.
    pub at_ns: u64,
    /// 1 for a breaker's first event, then one more each, without gaps.
    pub sequence: u32,
    /// Generation that the breaker entered.
    pub generation: u32,
    /// ESCOPE_PHASE_* before.
    pub from: i32,
    /// ESCOPE_PHASE_* after.
    pub to: i32,
    /// ESCOPE_CAUSE_*.
    pub cause: i32,
    /// 0.
    pub reserved: u32,
}

/// The events that one call caused, oldest first.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct escope_events {
    /// Number of valid items, 0 to 3; the others are left as they were.
    pub count: u32,
    /// 0.
    pub reserved: u32,
    /// The events.
    pub items: [escope_event; 3],
}

impl From<Event> for escope_event {
    fn from(event: Event) -> Self {
        Self {
            at_ns: event.at_ns,
            sequence: event.sequence,
            generation: event.generation,
            from: event.from as i32,
            to: event.to as i32,
            cause: event.cause as i32,
            reserved: 0,
        }
    }
}

/// Where a caller wants its events, if it does.
struct EventsOut(Option<Out<escope_events>>);

impl EventsOut {
    /// # Safety
    /// As for [`Out::optional`].
    unsafe fn new(events: *mut escope_events) -> Result<Self, Failure> {
        // SAFETY: the caller's contract.
        unsafe { Out::optional(events, "events") }.map(Self)
    }

    #[inline]
    fn set(&self, events: &Events) {
        let Some(out) = &self.0 else { return };
        let out = out.as_ptr();
        let mut count = 0;
        for event in events.iter() {
            // SAFETY: `out` is writable by the contract of `new`; the core returns at most three events, and
            // the index is checked. No reference to memory that C left uninitialised is made.
            unsafe { (&raw mut (*out).items).cast::<escope_event>().add(count).write(event.into()) };
            count += 1;
        }
        // SAFETY: as above.
        unsafe {
            (&raw mut (*out).count).write(count as u32);
            (&raw mut (*out).reserved).write(0);
        }
    }
}

/// What a breaker has seen so far, and where it stands.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct escope_breaker_stats {
    /// Size of this struct as the program was compiled; set it before the call.
    pub struct_size: usize,
    /// Nanoseconds until an acquire may be admitted; 0 if it may be now.
    pub retry_after_ns: u64,
    /// Calls admitted, probes among them.
    pub admitted: u64,
    /// Outcomes recorded as success.
    pub succeeded: u64,
    /// Outcomes recorded as failure.
    pub failed: u64,
    /// Outcomes recorded as ignored.
    pub ignored: u64,
    /// Calls refused because the breaker was open.
    pub rejected_open: u64,
    /// Calls refused because all probes were taken.
    pub rejected_half_open: u64,
    /// Records whose permit was of an earlier generation.
    pub stale: u64,
    /// Records of probes whose lease had run out.
    pub expired: u64,
    /// ESCOPE_PHASE_*.
    pub phase: i32,
    /// 1 at first; grows by one at each change of phase and at each reset, modulo 2^28.
    pub generation: u32,
    /// Failures in a row.
    pub consecutive_failures: u32,
    /// Times the breaker opened since it was last closed.
    pub opens: u32,
    /// Probes that are admitted and not yet recorded.
    pub live_probes: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), `struct_size` first, integers only; 8 + 9 * 8 + 6 * 4 bytes leave no padding.
unsafe impl Growing for escope_breaker_stats {
    const FIRST_SIZE: usize = 104;

    fn set_struct_size(&mut self, size: usize) {
        self.struct_size = size;
    }
}

/// Fills breaker options with the defaults.
///
/// Ownership: `options` stays the caller's.
///
/// @param options the struct to fill.
/// @param size    `sizeof *options`.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_options_init(
    options: *mut escope_breaker_options,
    size: usize,
) -> escope_status {
    // SAFETY: the caller gives NULL or `size` writable bytes.
    guarded(|| unsafe { options::init(options, size, "options") }.map(|()| Status::Ok))
}

/// Makes a closed breaker.
///
/// Ownership: `*out` is one reference, the caller's; give it back with escope_breaker_free. `options` stays
/// the caller's and is not needed after the call.
///
/// @param options how it behaves; NULL for the defaults.
/// @param out     receives the breaker.
/// @return OK; INVALID_ARGUMENT naming the option; UNSUPPORTED on a machine without a lock-free 128-bit atomic.
///
/// Thread safety: any thread, concurrently. Never blocks; allocates.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_new(
    options: *const escope_breaker_options,
    out: *mut *mut escope_breaker,
) -> escope_status {
    guarded(|| {
        // SAFETY: the caller gives NULL or a writable place.
        let out = unsafe { Out::required(out, "out") }?;
        // SAFETY: the caller gives NULL or a struct as large as it states.
        let options = unsafe { options::read(options, "options") }?;
        require_wide_words()?;
        if options.reserved != 0 {
            return Err(invalid("reserved", options.reserved, 0));
        }
        let core = Breaker::new(&BreakerConfig {
            open_for_ns: options.open_for_ns,
            probe_lease_ns: options.probe_lease_ns,
            failure_threshold: options.failure_threshold,
            half_open_permits: options.half_open_permits,
            successes_to_close: options.successes_to_close,
        })?;
        out.set(handle::give(escope_breaker { id: handle::next_id(), core }));
        Ok(Status::Ok)
    })
}

/// Adds a reference.
///
/// Ownership: the result is a reference of its own, to be given back with escope_breaker_free.
///
/// @param breaker a breaker, or NULL.
/// @return `breaker`.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_ref(breaker: *mut escope_breaker) -> *mut escope_breaker {
    // SAFETY: the caller gives NULL or a live handle.
    unsafe { handle::share(breaker) }
}

/// Gives a reference back; the last one ends the breaker.
///
/// Ownership: takes the caller's reference; using it afterwards is undefined. Permits are plain memory and
/// need no end.
///
/// @param breaker a breaker; NULL does nothing.
///
/// Thread safety: any thread, but not concurrently with a call that relies on the same reference. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_free(breaker: *mut escope_breaker) {
    // SAFETY: the caller gives NULL or a reference that it owns.
    unsafe { handle::release(breaker) }
}

/// Asks whether a call may be made now.
///
/// Ownership: `permit` is the caller's memory, 32 bytes; it may move to another thread, and it may be dropped
/// without a record (a dropped probe counts as failed when its lease ends).
///
/// @param breaker        the breaker.
/// @param permit         receives the permit on OK, to be given to escope_breaker_record once.
/// @param retry_after_ns receives, on a refusal, the time until a call may pass, else 0; may be NULL.
/// @param events         receives the events the call caused, on OK and on a refusal; may be NULL.
/// @return OK: make the call; CIRCUIT_OPEN, HALF_OPEN_FULL: do not; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
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
/// @param breaker        the breaker.
/// @param permit         receives the permit on OK.
/// @param retry_after_ns receives, on a refusal, the time until a call may pass, else 0; may be NULL.
/// @param events         receives the events the call caused, on OK and on a refusal; may be NULL.
/// @param now_ns         the time; one that goes back is never more generous.
/// @return as escope_breaker_acquire.
///
/// Thread safety: any thread, concurrently. Never blocks.
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
/// @param outcome ESCOPE_OUTCOME_SUCCESS, _FAILURE or _IGNORED.
/// @param events  receives the events the call caused, on OK and on a refusal; may be NULL.
/// @return OK; STALE: the breaker has changed since, nothing was counted; EXPIRED: the probe's lease had run out and
///         it counted as failed already; ALREADY_DONE: recorded before, by another thread perhaps;
///         INVALID_ARGUMENT: not a permit, a permit of another breaker, no such outcome.
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
/// @param breaker the breaker that gave the permit.
/// @param permit  the permit.
/// @param outcome ESCOPE_OUTCOME_SUCCESS, _FAILURE or _IGNORED.
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

/// Closes a breaker and forgets its failures. Permits given out before become stale.
///
/// Ownership: takes nothing.
///
/// @param breaker the breaker.
/// @param events  receives the event; may be NULL.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_reset(
    breaker: *mut escope_breaker,
    events: *mut escope_events,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { reset(breaker, events, monotonic_ns) })
}

/// escope_breaker_reset at a given time.
///
/// @param breaker the breaker.
/// @param events  receives the event; may be NULL.
/// @param now_ns  the time.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_reset_at(
    breaker: *mut escope_breaker,
    events: *mut escope_events,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { reset(breaker, events, || now_ns) })
}

/// Sets a statistics struct to zero and to its size.
///
/// Ownership: `stats` stays the caller's.
///
/// @param stats the struct to set.
/// @param size  `sizeof *stats`.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_stats_init(
    stats: *mut escope_breaker_stats,
    size: usize,
) -> escope_status {
    // SAFETY: the caller gives NULL or `size` writable bytes.
    guarded(|| unsafe { options::init(stats, size, "stats") }.map(|()| Status::Ok))
}

/// Reads a breaker's state and counters without changing it.
///
/// An open breaker whose time has passed still reads open: the next acquire changes it. The counters are
/// exact while no call is under way.
///
/// Ownership: `stats` stays the caller's.
///
/// @param breaker the breaker.
/// @param stats   receives the numbers; escope_breaker_stats_init sets it up.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_snapshot(
    breaker: *const escope_breaker,
    stats: *mut escope_breaker_stats,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { snapshot(breaker, stats, monotonic_ns) })
}

/// escope_breaker_snapshot at a given time.
///
/// @param breaker the breaker.
/// @param stats   receives the numbers; escope_breaker_stats_init sets it up.
/// @param now_ns  the time.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_snapshot_at(
    breaker: *const escope_breaker,
    stats: *mut escope_breaker_stats,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { snapshot(breaker, stats, || now_ns) })
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
#[inline]
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
    let acquired = breaker.core.acquire(now);
    events.set(&acquired.events);
    let (status, retry_after_ns) = match acquired.verdict {
        Ok(admitted) => {
            permit.set(escope_permit::new(breaker.id, admitted));
            (Status::Ok, 0)
        }
        Err(rejection) => {
            let status = match rejection.reason {
                RejectReason::Open => Status::CircuitOpen,
                RejectReason::HalfOpenFull => Status::HalfOpenFull,
            };
            (status, rejection.retry_after_ns)
        }
    };
    if let Some(out) = retry_after {
        out.set(retry_after_ns);
    }
    Ok(status)
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
#[inline]
unsafe fn record(
    breaker: *const escope_breaker,
    permit: *mut escope_permit,
    outcome: i32,
    events: *mut escope_events,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (breaker, events) = unsafe { (input(breaker, "breaker")?, EventsOut::new(events)?) };
    check(permit, "permit")?;
    let outcome = match outcome {
        ESCOPE_OUTCOME_SUCCESS => Outcome::Success,
        ESCOPE_OUTCOME_FAILURE => Outcome::Failure,
        ESCOPE_OUTCOME_IGNORED => Outcome::Ignored,
        other => return Err(invalid("outcome", other, "0 (success), 1 (failure) or 2 (ignored)")),
    };
    // SAFETY: not NULL and aligned; initialised and not written by others by the caller's contract.
    let permit = unsafe { escope_permit::take(permit, breaker.id) }?;
    let recorded = breaker.core.record(permit, outcome, now);
    events.set(&recorded.events);
    match recorded.verdict {
        RecordVerdict::Applied => Ok(Status::Ok),
        RecordVerdict::Stale => Ok(Status::Stale),
        RecordVerdict::Expired => Ok(Status::Expired),
        RecordVerdict::AlreadyDone => Err(already_done()),
    }
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn reset(
    breaker: *const escope_breaker,
    events: *mut escope_events,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (breaker, events) = unsafe { (input(breaker, "breaker")?, EventsOut::new(events)?) };
    events.set(&breaker.core.reset(now));
    Ok(Status::Ok)
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn snapshot(
    breaker: *const escope_breaker,
    stats: *mut escope_breaker_stats,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (breaker, report) = unsafe { (input(breaker, "breaker")?, Report::new(stats, "stats")?) };
    let now = breaker.core.snapshot(now);
    report.set(escope_breaker_stats {
        struct_size: 0,
        retry_after_ns: now.retry_after_ns,
        admitted: now.admitted,
        succeeded: now.succeeded,
        failed: now.failed,
        ignored: now.ignored,
        rejected_open: now.rejected_open,
        rejected_half_open: now.rejected_half_open,
        stale: now.stale,
        expired: now.expired,
        phase: now.phase as i32,
        generation: now.generation,
        consecutive_failures: now.consecutive_failures,
        opens: now.opens,
        live_probes: now.live_probes,
        reserved: 0,
    });
    Ok(Status::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::{Cause, Phase};

    /// The header's constants are literals, because cbindgen copies them; the core's numbers are the truth.
    #[test]
    fn constants_are_the_cores() {
        assert_eq!(
            [ESCOPE_OUTCOME_SUCCESS, ESCOPE_OUTCOME_FAILURE, ESCOPE_OUTCOME_IGNORED],
            [Outcome::Success as i32, Outcome::Failure as i32, Outcome::Ignored as i32]
        );
        assert_eq!(
            [ESCOPE_PHASE_CLOSED, ESCOPE_PHASE_OPEN, ESCOPE_PHASE_HALF_OPEN],
            [Phase::Closed as i32, Phase::Open as i32, Phase::HalfOpen as i32]
        );
        let causes = [
            (ESCOPE_CAUSE_FAILURE_THRESHOLD, Cause::FailureThreshold),
            (ESCOPE_CAUSE_OPEN_ELAPSED, Cause::OpenElapsed),
            (ESCOPE_CAUSE_PROBES_SUCCEEDED, Cause::ProbesSucceeded),
            (ESCOPE_CAUSE_PROBES_FAILED, Cause::ProbesFailed),
            (ESCOPE_CAUSE_PROBE_EXPIRED, Cause::ProbeExpired),
            (ESCOPE_CAUSE_RESET, Cause::Reset),
        ];
        for (constant, cause) in causes {
            assert_eq!(constant, cause as i32);
        }
    }

    #[test]
    fn sizes_are_what_programs_were_compiled_with() {
        assert_eq!(size_of::<escope_permit>(), 32);
        assert_eq!(std::mem::offset_of!(escope_permit, private_state), 28);
        assert_eq!(size_of::<escope_breaker_options>(), escope_breaker_options::FIRST_SIZE);
        assert_eq!(size_of::<escope_breaker_stats>(), escope_breaker_stats::FIRST_SIZE);
        assert_eq!((size_of::<escope_event>(), size_of::<escope_events>()), (32, 104));
    }
}
