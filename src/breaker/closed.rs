//! A closed breaker: whom it admits, and what a result counts.

use super::cell::{Cell, View};
use super::config::WHOLE_BP;
use super::control::Mode;
use super::count_window::Sample;
use super::event::{Cause, Events};
use super::level::Level;
use super::permit::{DEGRADED_RETRY_NS, Outcome, Permit, RecordVerdict, RejectReason, Rejection};
use super::rate::Tally;
use super::settings::{Kind, Settings};

/// A clock that is read at most once, and only when a verdict needs it.
pub(super) enum Lazy<F> {
    Unread(Option<F>),
    Read(u64),
}

/// What one result is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Worth {
    pub(super) weight: u64,
    pub(super) slow: bool,
    /// Whether it says anything about the service.
    pub(super) counts: bool,
}

/// What one attempt to count came to.
enum Counted {
    /// It counts, the breaker stays closed, and this is its level, if that was looked at.
    Stays(Option<Level>),
    /// It counts, and has opened the breaker.
    Opened,
    /// Something changed meanwhile: look again.
    Again,
}

impl<F: FnOnce() -> u64> Lazy<F> {
    pub(super) fn new(now: F) -> Self {
        Self::Unread(Some(now))
    }

    pub(super) fn get(&mut self) -> u64 {
        if let Self::Unread(now) = self {
            *self = Self::Read(now.take().expect("`Unread` holds the clock until it is read")());
        }
        match self {
            Self::Read(now) => *now,
            Self::Unread(_) => unreachable!("the clock was read above"),
        }
    }
}

impl Worth {
    /// Of a call that began at `started_ns`.
    pub(super) fn of(
        settings: &Settings,
        outcome: Outcome,
        started_ns: u64,
        now: &mut Lazy<impl FnOnce() -> u64>,
    ) -> Self {
        let tells = matches!(outcome, Outcome::Success | Outcome::Failure | Outcome::Slow);
        let took_too_long = |limit| now.get().saturating_sub(started_ns) > limit;
        let slow = outcome == Outcome::Slow || tells && settings.slow_call_ns().is_some_and(took_too_long);
        let class = if slow && outcome == Outcome::Success { Outcome::Slow } else { outcome };
        let weight = settings.weight(class);
        Self { weight, slow, counts: tells || weight > 0 }
    }

    /// Whether a probe with this result has failed.
    pub(super) fn fails_probe(&self, settings: &Settings) -> bool {
        self.weight > 0 || self.slow && settings.trips_on_slow()
    }
}

impl Cell<'_> {
    /// Admits a call of a closed breaker, or not; none if something changed meanwhile.
    pub(super) fn acquire_closed(
        self,
        view: &View,
        now: &mut Lazy<impl FnOnce() -> u64>,
        events: &mut Events,
    ) -> Option<Result<Permit, Rejection>> {
        if view.control.mode() == Mode::Auto {
            let mut share_bp = u64::from(WHOLE_BP);
            if view.control.is_ramping() {
                let Some(ramp_bp) = self.ramp_share_bp(view, now.get()) else {
                    self.head.swap(view.control, view.control.ramp_over());
                    return None;
                };
                share_bp = ramp_bp;
            }
            if view.settings.sheds() {
                let level = self.level(view, now)?;
                if level != self.told_level(view.control) {
                    self.tell_level(now, events);
                }
                share_bp = share_bp.min(view.settings.admit_bp(level as u32));
            }
            if !self.is_admitted(share_bp) {
                return Some(Err(Rejection::new(RejectReason::Degraded, DEGRADED_RETRY_NS)));
            }
        }
        let started_ns = view.started_ns(now);
        Some(Ok(Permit { started_ns, ..Permit::closed(view.control.generation()) }))
    }

    /// Counts the result of a permit that is no probe.
    #[inline]
    pub(super) fn record_closed(
        self,
        permit: &Permit,
        outcome: Outcome,
        now: &mut Lazy<impl FnOnce() -> u64>,
        events: &mut Events,
    ) -> RecordVerdict {
        loop {
            let view = self.view();
            if view.control.generation() != permit.generation || !view.control.is_closed() {
                return RecordVerdict::Stale;
            }
            if view.control.mode() == Mode::ForcedClosed {
                return RecordVerdict::Applied;
            }
            let worth = Worth::of(&view.settings, outcome, permit.started_ns, now);
            if !worth.counts {
                return RecordVerdict::Applied;
            }
            match self.count(&view, worth, now, events) {
                Counted::Again => {}
                Counted::Opened => return RecordVerdict::Applied,
                Counted::Stays(level) => {
                    let told = self.told_level(view.control);
                    // A level that was not looked at can only have fallen.
                    if level.map_or(told != Level::None, |level| level != told) {
                        self.tell_level(now, events);
                    }
                    return RecordVerdict::Applied;
                }
            }
        }
    }

    #[inline]
    fn count(
        self,
        view: &View,
        worth: Worth,
        now: &mut Lazy<impl FnOnce() -> u64>,
        events: &mut Events,
    ) -> Counted {
        match view.settings.kind() {
            Kind::Consecutive => self.count_consecutive(view, worth.weight, now, events),
            Kind::Period => self.count_in_period(view, worth.weight, now, events),
            Kind::CountWindow => {
                let sample = Sample { weight: worth.weight, slow: worth.slow };
                match self.count_result(view, sample) {
                    None => Counted::Again,
                    Some((before, after)) => self.judge(view, [before, after], now, events),
                }
            }
            Kind::TimeWindow => {
                let sample = Sample { weight: worth.weight, slow: worth.slow };
                match self.count_in_bucket(view, sample, now.get()) {
                    None => Counted::Again,
                    Some(after) => self.judge(view, [after, after], now, events),
                }
            }
        }
    }

    fn count_consecutive(
        self,
        view: &View,
        weight: u64,
        now: &mut Lazy<impl FnOnce() -> u64>,
        events: &mut Events,
    ) -> Counted {
        let (control, threshold) = (view.control, view.settings.size());
        let failures = u64::from(control.consecutive_failures());
        let counted = if weight == 0 { 0 } else { failures + weight };
        if counted >= threshold && control.mode() == Mode::Auto {
            return self.trip(view, Cause::FailureThreshold, now, events);
        }
        let next = control.with_consecutive_failures(counted.min(threshold) as u32);
        if next == control || self.head.swap(control, next) {
            Counted::Stays(Some(Level::of(counted, threshold, &view.settings)))
        } else {
            Counted::Again
        }
    }

    fn count_in_period(
        self,
        view: &View,
        weight: u64,
        now: &mut Lazy<impl FnOnce() -> u64>,
        events: &mut Events,
    ) -> Counted {
        if weight == 0 {
            return Counted::Stays(None);
        }
        let Some(next) = self.next_failure(view, weight, now.get()) else { return Counted::Again };
        if next.opens && view.control.mode() == Mode::Auto {
            return self.trip(view, Cause::FailureThreshold, now, events);
        }
        if self.head.swap(view.control, next.counted) {
            Counted::Stays(Some(self.level(&self.view(), now).unwrap_or(Level::None)))
        } else {
            Counted::Again
        }
    }

    /// The sums of a window at now; none if something changed meanwhile.
    pub(super) fn window_tally(self, view: &View, now: &mut Lazy<impl FnOnce() -> u64>) -> Option<Tally> {
        match view.settings.kind() {
            Kind::TimeWindow => self.bucket_tally(view, now.get()),
            _ => self.count_tally(view),
        }
    }

    /// Opens the breaker if one of the sums says so: those after the result, or those before it, which a process that
    /// died, or a reconfiguration, may have left.
    #[inline]
    fn judge(
        self,
        view: &View,
        tallies: [Tally; 2],
        now: &mut Lazy<impl FnOnce() -> u64>,
        events: &mut Events,
    ) -> Counted {
        let [before, after] = tallies.map(|tally| tally.verdict(&view.settings));
        match after.or(before) {
            Some(cause) if view.control.mode() == Mode::Auto => self.trip_counted(view, cause, now, events),
            _ => Counted::Stays(Some(tallies[1].level(&view.settings))),
        }
    }

    /// Opens by a result that is counted already, whatever else changes in this generation meanwhile.
    #[cold]
    fn trip_counted(
        self,
        view: &View,
        cause: Cause,
        now: &mut Lazy<impl FnOnce() -> u64>,
        events: &mut Events,
    ) -> Counted {
        let mut latest = *view;
        while latest.control.generation() == view.control.generation() {
            if let Counted::Opened = self.trip(&latest, cause, now, events) {
                break;
            }
            latest = self.view();
        }
        Counted::Opened
    }

    #[cold]
    fn trip(
        self,
        view: &View,
        cause: Cause,
        now: &mut Lazy<impl FnOnce() -> u64>,
        events: &mut Events,
    ) -> Counted {
        let opens = self.opens_before_ramp(view, now.get()).saturating_add(1);
        if self.open(view, opens, cause, now.get(), events) { Counted::Opened } else { Counted::Again }
    }
}
