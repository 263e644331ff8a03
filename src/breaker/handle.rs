//! The process-local handle of a breaker: a cell on the heap, and counters beside it.

use super::cell::{Cell, Head};
use super::config::BreakerConfig;
use super::control::Mode;
use super::event::Events;
#[cfg(feature = "fault-injection")]
use super::faults::{Faults, Injector};
use super::permit::{Outcome, Permit, RecordVerdict, RejectReason, Rejection};
use super::snapshot::{Counts, Snapshot};
use crate::counters::Counters;
use crate::error::ConfigError;
use crate::sync::{AtomicWide, Mutex};

/// A circuit breaker. Any thread may call anything at any time; nothing blocks, but for a short lock between
/// two calls that configure.
///
/// ```
/// use elixirscope::breaker::{Breaker, BreakerConfig, Outcome};
/// use elixirscope::clock::{Clock, Monotonic};
///
/// let breaker = Breaker::new(&BreakerConfig::consecutive_failures(1))?;
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
    probes: Box<[AtomicWide]>,
    window: Box<[AtomicWide]>,
    counters: Counters<COUNTERS>,
    configuring: Mutex<()>,
    #[cfg(feature = "fault-injection")]
    injector: Injector,
}

/// Verdict of [`Breaker::acquire`] and the changes it caused.
#[derive(Debug)]
pub struct Acquired {
    /// A permit to make the call, or why not.
    pub verdict: Result<Permit, Rejection>,
    /// Changes to publish.
    pub events: Events,
    /// How long the caller is to wait before it makes the call: an injected delay, in nanoseconds.
    #[cfg(feature = "fault-injection")]
    pub delay_ns: u64,
}

/// Verdict of [`Breaker::ask`] and the changes it caused.
#[derive(Debug)]
pub struct Asked {
    /// Whether the call may be made, or why not.
    pub verdict: Result<(), Rejection>,
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

// The first two share a cache line with the others that a healthy breaker counts.
const ADMITTED: usize = 0;
const SUCCEEDED: usize = 1;
const FAILED: usize = 2;
const IGNORED: usize = 3;
const CANCELLED: usize = 4;
const STALE: usize = 5;
const EXPIRED: usize = 6;
const REPORTED: usize = 7;
const REJECTED_OPEN: usize = 8;
const REJECTED_HALF_OPEN: usize = 9;
const REJECTED_FORCED_OPEN: usize = 10;
const REJECTED_DEGRADED: usize = 11;
const INJECTED: usize = 12;
const COUNTERS: usize = 13;

impl Breaker {
    /// A closed breaker, or which argument is out of range.
    pub fn new(config: &BreakerConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let zeroed = |places| (0..places).map(|_| AtomicWide::new(0)).collect();
        Ok(Self {
            head: Head::new(config),
            probes: zeroed(config.probe_places()),
            window: zeroed(config.window_places()),
            counters: Counters::new(),
            configuring: Mutex::new(()),
            #[cfg(feature = "fault-injection")]
            injector: Injector::new(),
        })
    }

    /// Asks to make a call. `now` is read only if the verdict depends on it.
    #[inline]
    pub fn acquire(&self, now: impl FnOnce() -> u64) -> Acquired {
        match self.acquire_at_once() {
            Some(permit) => Acquired::new(Ok(permit), Events::NONE),
            None => self.acquire_slow(now),
        }
    }

    /// The permit of a closed breaker that is far from anything; `None` says nothing and counts nothing.
    #[inline(always)]
    pub(crate) fn acquire_at_once(&self) -> Option<Permit> {
        let control = self.head.control();
        if !control.admits_at_once() || self.injects_faults() {
            return None;
        }
        self.counters.increment(ADMITTED);
        Some(Permit::closed(control.generation()))
    }

    /// Says how the call of `permit` went. `now` is read only if something depends on it.
    #[inline]
    pub fn record(&self, permit: Permit, outcome: Outcome, now: impl FnOnce() -> u64) -> Recorded {
        if self.record_at_once(&permit, outcome) {
            return Recorded { verdict: RecordVerdict::Applied, events: Events::NONE };
        }
        self.record_slow(permit, outcome, now)
    }

    /// Counts a success that changes nothing else; false says nothing and counts nothing.
    #[inline(always)]
    pub(crate) fn record_at_once(&self, permit: &Permit, outcome: Outcome) -> bool {
        let changes_nothing =
            outcome == Outcome::Success && !permit.is_probe() && self.ignores_success(permit.generation);
        if changes_nothing {
            self.counters.increment(SUCCEEDED);
        }
        changes_nothing
    }

    /// Says how a call went that had no permit, in the generation that is under way: for callers that cannot ask first.
    /// Stale, without effect, unless the breaker is closed.
    pub fn report(&self, outcome: Outcome, now: impl FnOnce() -> u64) -> Recorded {
        let mut events = Events::NONE;
        let verdict = self.cell().report(outcome, now, &mut events);
        self.counters.increment(REPORTED);
        Recorded { verdict, events }
    }

    /// Asks whether a call may be made, without a permit: for callers that cannot keep one and, if at all, say by
    /// [`report`](Self::report) how the call went. Such a call is never a probe, so a breaker that wants probes rejects it
    /// until they have closed it. Counted as admitted and cancelled. `now` is read only if the verdict depends on it.
    #[inline]
    pub fn ask(&self, now: impl FnOnce() -> u64) -> Asked {
        let mut asked = Asked { verdict: Ok(()), events: Events::NONE };
        if !self.head.control().admits_at_once() {
            asked.verdict = self.cell().ask(now, &mut asked.events);
        }
        match &asked.verdict {
            Ok(()) => {
                self.counters.increment(ADMITTED);
                self.counters.increment(CANCELLED);
            }
            Err(rejection) => self.counters.increment(counter_of(rejection.reason)),
        }
        asked
    }

    /// Does what is due: ends leases and rounds that are over, and closes an open breaker without half-open. Every
    /// other call does so too; this is for whoever wants to hear of it without one.
    pub fn settle(&self, now: impl FnOnce() -> u64) -> Events {
        let mut events = Events::NONE;
        self.cell().settle(now(), &mut events);
        events
    }

    /// Closes the breaker and forgets its results. Permits granted before change nothing any more. The mode stays; a
    /// breaker that is forced open stays so, without an event.
    pub fn reset(&self, now: impl FnOnce() -> u64) -> Events {
        let mut events = Events::NONE;
        self.cell().reset(now(), &mut events);
        events
    }

    /// Puts somebody, or the results again, in charge. Another mode begins closed and without results, or open
    /// where it is forced; the same one changes nothing.
    pub fn set_mode(&self, mode: Mode, now: impl FnOnce() -> u64) -> Events {
        let mut events = Events::NONE;
        self.cell().set_mode(mode, now(), &mut events);
        events
    }

    /// Replaces the configuration and keeps the state: phase, open time, mode, and the results so far unless they
    /// are of another kind of policy, or of time buckets of another length. A half-open breaker whose permits, successes,
    /// lease or limit change begins a new round. Capacities stay those of the creation.
    pub fn reconfigure(
        &self,
        config: &BreakerConfig,
        now: impl FnOnce() -> u64,
    ) -> Result<Events, ConfigError> {
        // The clock is the caller's code: nothing is held while it runs.
        let (now, mut events) = (now(), Events::NONE);
        let _one_at_a_time = self.configuring.lock();
        self.cell().reconfigure(config, now, &mut events)?;
        Ok(events)
    }

    /// Replaces the configuration and begins anew: closed, without results, in the mode that it has. A breaker that
    /// is forced open stays so.
    pub fn reinstall(
        &self,
        config: &BreakerConfig,
        now: impl FnOnce() -> u64,
    ) -> Result<Events, ConfigError> {
        // The clock is the caller's code: nothing is held while it runs.
        let (now, mut events) = (now(), Events::NONE);
        let _one_at_a_time = self.configuring.lock();
        self.cell().reinstall(config, now, &mut events)?;
        Ok(events)
    }

    /// The breaker as it is now, without changing it.
    pub fn snapshot(&self, now: impl FnOnce() -> u64) -> Snapshot {
        let sum = |index| self.counters.sum(index);
        let counts = Counts {
            admitted: sum(ADMITTED),
            succeeded: sum(SUCCEEDED),
            failed: sum(FAILED),
            ignored: sum(IGNORED),
            cancelled: sum(CANCELLED),
            stale: sum(STALE),
            expired: sum(EXPIRED),
            reported: sum(REPORTED),
            rejected_open: sum(REJECTED_OPEN),
            rejected_half_open: sum(REJECTED_HALF_OPEN),
            rejected_forced_open: sum(REJECTED_FORCED_OPEN),
            rejected_degraded: sum(REJECTED_DEGRADED),
            injected: sum(INJECTED),
        };
        Snapshot { counts, ..self.cell().snapshot(now()) }
    }

    /// Bytes of the cell with configuration, probes and results; the counters come on top.
    pub fn bytes(&self) -> usize {
        size_of::<Head>() + size_of_val(&*self.probes) + size_of_val(&*self.window)
    }

    /// From now on makes calls of a closed breaker fail or wait as `faults` says, but for those that only
    /// [`ask`](Self::ask). For development and tests: only built with the feature `fault-injection`.
    #[cfg(feature = "fault-injection")]
    pub fn inject_faults(&self, faults: &Faults) -> Result<(), ConfigError> {
        self.injector.set(faults)
    }

    /// Whether a success of `generation` changes nothing.
    #[inline(always)]
    fn ignores_success(&self, generation: u32) -> bool {
        let control = self.head.control();
        control.ignores_success(generation)
            || control.counts_in_window(generation) && self.cell().window_ignores_success(control)
    }

    /// What [`Breaker::acquire`] does where [`Breaker::acquire_at_once`] says nothing.
    pub(crate) fn acquire_slow(&self, now: impl FnOnce() -> u64) -> Acquired {
        let mut events = Events::NONE;
        #[cfg(feature = "fault-injection")]
        let mut now = super::closed::Lazy::new(now);
        #[cfg(feature = "fault-injection")]
        let acquired = self.acquire_with_faults(&mut now, &mut events);
        #[cfg(not(feature = "fault-injection"))]
        let acquired = Acquired::new(self.cell().acquire(now, &mut events), events);
        self.counters.increment(match &acquired.verdict {
            Ok(_) => ADMITTED,
            Err(rejection) => counter_of(rejection.reason),
        });
        acquired
    }

    /// What [`Breaker::record`] does where [`Breaker::record_at_once`] says nothing.
    pub(crate) fn record_slow(
        &self,
        permit: Permit,
        outcome: Outcome,
        now: impl FnOnce() -> u64,
    ) -> Recorded {
        let mut events = Events::NONE;
        let verdict = self.cell().record(permit, outcome, now, &mut events);
        let counter = match (verdict, outcome) {
            (RecordVerdict::Applied, Outcome::Success | Outcome::Slow) => SUCCEEDED,
            (RecordVerdict::Applied, Outcome::Failure) => FAILED,
            (RecordVerdict::Applied, Outcome::Ignored) => IGNORED,
            (RecordVerdict::Applied, Outcome::Cancelled) => CANCELLED,
            (RecordVerdict::Stale, _) => STALE,
            (RecordVerdict::Expired, _) => EXPIRED,
            // A second record, or that of a permit which was never granted, is no call.
            (RecordVerdict::AlreadyDone | RecordVerdict::NotFound, _) => return Recorded { verdict, events },
        };
        self.counters.increment(counter);
        Recorded { verdict, events }
    }

    /// Draws a fault for a call that a closed breaker admits. A call that is made to fail counts as a failure.
    #[cfg(feature = "fault-injection")]
    fn acquire_with_faults(
        &self,
        now: &mut super::closed::Lazy<impl FnOnce() -> u64>,
        events: &mut Events,
    ) -> Acquired {
        let verdict = self.cell().acquire(|| now.get(), events);
        // A call that fails may open the breaker, which must be told too.
        let closed = !events.is_full() && matches!(&verdict, Ok(permit) if !permit.is_probe());
        let fault = if closed { self.injector.draw() } else { super::faults::Fault::NONE };
        match verdict {
            Ok(permit) if fault.fails => {
                let failure = Outcome::Failure;
                self.cell().record(permit, failure, || now.get(), events);
                let rejection = Rejection::new(RejectReason::FaultInjected, 1);
                Acquired::new(Err(rejection), *events)
            }
            verdict => Acquired { delay_ns: fault.delay_ns, ..Acquired::new(verdict, *events) },
        }
    }

    #[cfg(feature = "fault-injection")]
    fn injects_faults(&self) -> bool {
        self.injector.is_on()
    }

    #[cfg(not(feature = "fault-injection"))]
    #[inline]
    const fn injects_faults(&self) -> bool {
        false
    }

    /// What the head of the window holds.
    #[cfg(all(test, not(escope_model)))]
    pub(super) fn window_head(&self) -> crate::sync::Wide {
        self.window[0].load(crate::sync::Ordering::Relaxed)
    }

    fn cell(&self) -> Cell<'_> {
        Cell::over(&self.head, &self.probes, &self.window)
    }
}

const fn counter_of(reason: RejectReason) -> usize {
    match reason {
        RejectReason::Open => REJECTED_OPEN,
        RejectReason::HalfOpenFull => REJECTED_HALF_OPEN,
        RejectReason::ForcedOpen => REJECTED_FORCED_OPEN,
        RejectReason::Degraded => REJECTED_DEGRADED,
        #[cfg(feature = "fault-injection")]
        RejectReason::FaultInjected => INJECTED,
    }
}

impl Acquired {
    #[inline]
    fn new(verdict: Result<Permit, Rejection>, events: Events) -> Self {
        Self {
            verdict,
            events,
            #[cfg(feature = "fault-injection")]
            delay_ns: 0,
        }
    }
}
