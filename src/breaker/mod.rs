//! Circuit breaker: a call is admitted or rejected by what recent calls came to.
//!
//! The state machine is Nygard's (*Release It!*, 2007): closed until consecutive failures reach a threshold,
//! then open for a time, then half-open, where single-use probes decide. Two things are stricter here than in
//! most libraries: a probe is a *lease*, so a caller that never reports cannot wedge the breaker, and every
//! permit carries the *generation* that granted it, so a late result of an earlier state decides nothing.
//!
//! * [`control`] is the packed word that decides, [`probe`] the word of one half-open permit;
//! * [`cell`] is the protocol over these words;
//! * [`Breaker`] is the process-local handle: a cell on the heap, and counters beside it.
//!
//! Invariants: at most `half_open_permits` probes of a generation are live or decided; exactly one call returns
//! each [`Event`]; a success that changes nothing writes nothing; a closed breaker reads no clock but to open.

mod cell;
mod config;
mod control;
mod event;
mod permit;
mod probe;

pub use config::{BreakerConfig, MAX_DURATION_NS};
pub use control::Phase;
pub use event::{Cause, Event, Events};
pub use permit::{Outcome, Permit, RawPermit, RecordVerdict, RejectReason, Rejection};

use crate::counters::Counters;
use crate::error::ConfigError;
use crate::sync::AtomicWide;
use cell::{Cell, Head};

/// A circuit breaker. Any thread may call anything at any time; nothing blocks.
///
/// ```
/// use elixirscope::breaker::{Breaker, BreakerConfig, Outcome};
/// use elixirscope::clock::{Clock, Monotonic};
///
/// let breaker = Breaker::new(&BreakerConfig { failure_threshold: 1, ..Default::default() })?;
/// let now = || Monotonic.now_ns();
///
/// let permit = breaker.acquire(now).verdict.expect("a new breaker is closed");
/// let recorded = breaker.record(permit, Outcome::Failure, now);
/// assert_eq!(recorded.events.len(), 1); // closed -> open
/// assert!(breaker.acquire(now).verdict.is_err());
/// # Ok::<(), elixirscope::error::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Breaker {
    head: Head,
    slots: Box<[AtomicWide]>,
    counters: Counters<8>,
}

/// Verdict of [`Breaker::acquire`] and the changes it caused.
#[derive(Debug)]
pub struct Acquired {
    /// A permit to make the call, or why not.
    pub verdict: Result<Permit, Rejection>,
    /// Changes to publish.
    pub events: Events,
}

/// Verdict of [`Breaker::record`] and the changes it caused.
#[derive(Debug)]
pub struct Recorded {
    /// Whether the result counted.
    pub verdict: RecordVerdict,
    /// Changes to publish.
    pub events: Events,
}

/// A breaker as seen at one moment. Taking it changes nothing: an open time that has passed reads as open with
/// `retry_after_ns` 0.
///
/// While no call is under way, `admitted - (succeeded + failed + ignored + stale + expired)` is the number of permits
/// that were not recorded: those of calls that still run, and those that were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Phase now.
    pub phase: Phase,
    /// Grows at each change of phase and at each reset.
    pub generation: u32,
    /// Consecutive failures of a closed breaker.
    pub consecutive_failures: u32,
    /// How often it opened since it was last closed; stays at its maximum, 255.
    pub opens: u32,
    /// Probes whose lease is not over.
    pub live_probes: u32,
    /// Nanoseconds until an acquire may be admitted; 0 if it may be now.
    pub retry_after_ns: u64,
    /// Calls admitted.
    pub admitted: u64,
    /// Results recorded as success.
    pub succeeded: u64,
    /// Results recorded as failure.
    pub failed: u64,
    /// Results recorded as ignored.
    pub ignored: u64,
    /// Calls rejected because the breaker was open.
    pub rejected_open: u64,
    /// Calls rejected because all probes were taken.
    pub rejected_half_open: u64,
    /// Results that came in a later generation.
    pub stale: u64,
    /// Results of probes whose lease had run out.
    pub expired: u64,
}

const ADMITTED: usize = 0;
const SUCCEEDED: usize = 1;
const FAILED: usize = 2;
const IGNORED: usize = 3;
const REJECTED_OPEN: usize = 4;
const REJECTED_HALF_OPEN: usize = 5;
const STALE: usize = 6;
const EXPIRED: usize = 7;

impl Breaker {
    /// A closed breaker, or which argument is out of range.
    pub fn new(config: &BreakerConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let slots = (0..config.half_open_permits).map(|_| AtomicWide::new(0)).collect();
        Ok(Self { head: Head::new(*config), slots, counters: Counters::new() })
    }

    /// Asks to make a call. `now` is read only if the breaker is not closed.
    #[inline]
    pub fn acquire(&self, now: impl FnOnce() -> u64) -> Acquired {
        let control = self.head.control();
        if control.phase() == Phase::Closed {
            self.counters.increment(ADMITTED);
            return Acquired { verdict: Ok(Permit::closed(control.generation())), events: Events::NONE };
        }
        self.acquire_slow(now)
    }

    /// Says how the call of `permit` went. `now` is read only if that may change the phase.
    #[inline]
    pub fn record(&self, permit: Permit, outcome: Outcome, now: impl FnOnce() -> u64) -> Recorded {
        if outcome == Outcome::Success
            && !permit.is_probe()
            && self.head.control().is_untroubled(permit.generation)
        {
            self.counters.increment(SUCCEEDED);
            return Recorded { verdict: RecordVerdict::Applied, events: Events::NONE };
        }
        self.record_slow(permit, outcome, now)
    }

    /// Closes the breaker and forgets its failures. Permits granted before change nothing any more.
    pub fn reset(&self, now: impl FnOnce() -> u64) -> Events {
        let mut events = Events::NONE;
        self.cell().reset(now, &mut events);
        events
    }

    /// The breaker as it is now, without changing it.
    pub fn snapshot(&self, now: impl FnOnce() -> u64) -> Snapshot {
        let now = now();
        let control = self.head.control();
        let (live_probes, retry_after_ns) = match control.phase() {
            Phase::Closed => (0, 0),
            Phase::Open => (0, control.instant().saturating_sub(now)),
            Phase::HalfOpen => self.cell().live_probes(control, now),
        };
        let consecutive_failures = match control.phase() {
            Phase::Closed => control.consecutive_failures(),
            Phase::Open | Phase::HalfOpen => 0,
        };
        let sum = |index| self.counters.sum(index);
        Snapshot {
            phase: control.phase(),
            generation: control.generation(),
            consecutive_failures,
            opens: control.opens(),
            live_probes,
            retry_after_ns,
            admitted: sum(ADMITTED),
            succeeded: sum(SUCCEEDED),
            failed: sum(FAILED),
            ignored: sum(IGNORED),
            rejected_open: sum(REJECTED_OPEN),
            rejected_half_open: sum(REJECTED_HALF_OPEN),
            stale: sum(STALE),
            expired: sum(EXPIRED),
        }
    }

    #[cold]
    fn acquire_slow(&self, now: impl FnOnce() -> u64) -> Acquired {
        let mut events = Events::NONE;
        let verdict = self.cell().acquire(now, &mut events);
        self.counters.increment(match &verdict {
            Ok(_) => ADMITTED,
            Err(Rejection { reason: RejectReason::Open, .. }) => REJECTED_OPEN,
            Err(Rejection { reason: RejectReason::HalfOpenFull, .. }) => REJECTED_HALF_OPEN,
        });
        Acquired { verdict, events }
    }

    #[cold]
    fn record_slow(&self, permit: Permit, outcome: Outcome, now: impl FnOnce() -> u64) -> Recorded {
        let mut events = Events::NONE;
        let verdict = self.cell().record(permit, outcome, now, &mut events);
        match (verdict, outcome) {
            (RecordVerdict::Applied, Outcome::Success) => self.counters.increment(SUCCEEDED),
            (RecordVerdict::Applied, Outcome::Failure) => self.counters.increment(FAILED),
            (RecordVerdict::Applied, Outcome::Ignored) => self.counters.increment(IGNORED),
            (RecordVerdict::Stale, _) => self.counters.increment(STALE),
            (RecordVerdict::Expired, _) => self.counters.increment(EXPIRED),
            // A second record is no call.
            (RecordVerdict::AlreadyDone, _) => {}
        }
        Recorded { verdict, events }
    }

    fn cell(&self) -> Cell<'_> {
        Cell { head: &self.head, slots: &self.slots }
    }
}
