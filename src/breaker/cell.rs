//! The protocol of the breaker's cell: which compare-and-swap does what, and who completes it.
//!
//! Every verdict is decided by the control word. In a half-open round a permit's single use is decided by its
//! slot first, then the result is counted in the control word, then the slot is marked as counted, then the
//! decided tally becomes a transition. Each of these is one compare-and-swap which anybody can make next, so a
//! thread or process that stops between two of them holds nobody up and loses nothing. [`Cell::advance`] is that
//! anybody.
//!
//! Orderings: every compare-and-swap is AcqRel and every load Acquire. A load of the control word pairs with the
//! swap that wrote it; a load of a slot pairs with the swap that wrote the slot, whose writer had loaded a control
//! word of that round. So who sees a slot of a newer round also sees a newer control word when it looks again,
//! which is what [`Cell::probe`] does before it takes a slot for one left from an earlier round.

use super::config::BreakerConfig;
use super::control::{Control, Phase};
use super::event::{Cause, Event, Events};
use super::permit::{NO_SLOT, Outcome, Permit, RecordVerdict, RejectReason, Rejection};
use super::probe::{FIRST_EPOCH, Probe, State};
use crate::sync::{AtomicWide, Ordering, Wide};

/// The part of a breaker that decides. No pointer, no lock: the same in a mapped file.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Head {
    control: AtomicWide,
    config: BreakerConfig,
}

impl Head {
    pub(super) fn new(config: BreakerConfig) -> Self {
        Self { control: AtomicWide::new(Control::NEW.word()), config }
    }

    #[inline]
    pub(super) fn control(&self) -> Control {
        // Acquire pairs with the Release of the swap that wrote the word.
        Control::from_word(self.control.load(Ordering::Acquire))
    }

    #[inline]
    pub(super) fn swap(&self, from: Control, to: Control) -> bool {
        self.control.compare_exchange(from.word(), to.word(), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// A head and its probe slots, wherever they lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell<'a> {
    pub(super) head: &'a Head,
    pub(super) slots: &'a [AtomicWide],
}

/// Where [`Cell::advance`] left a round.
enum Round {
    /// Something was changed, by this call or by another one: look again.
    Moved,
    /// All results are counted, no lease is over, no verdict is due.
    Settled {
        /// A slot that can be claimed, with its word.
        free: Option<(usize, Wide, Probe)>,
        /// End of the lease that ends first.
        next_deadline: Option<u64>,
    },
}

impl Cell<'_> {
    pub(super) fn acquire(self, now: impl FnOnce() -> u64, events: &mut Events) -> Result<Permit, Rejection> {
        let mut now = Lazy::new(now);
        loop {
            if events.is_full() {
                // Only callers whose clocks are far behind this one's can keep a round moving for so long. The
                // next call goes on from here.
                return Err(Rejection { reason: RejectReason::HalfOpenFull, retry_after_ns: 1 });
            }
            let control = self.head.control();
            match control.phase() {
                Phase::Closed => return Ok(Permit::closed(control.generation())),
                Phase::Open if now.get() < control.instant() => {
                    let retry_after_ns = control.instant() - now.get();
                    return Err(Rejection { reason: RejectReason::Open, retry_after_ns });
                }
                Phase::Open => {
                    let next = control.half_open(now.get());
                    if self.transition(control, next, Cause::OpenElapsed, now.get(), events) {
                        return Ok(Permit { generation: next.generation(), slot: 0, epoch: FIRST_EPOCH });
                    }
                }
                Phase::HalfOpen => match self.advance(control, now.get(), events) {
                    Round::Moved => {}
                    Round::Settled { free: Some((slot, word, probe)), .. } => {
                        let claimed = probe.claim(now.get().saturating_add(self.head.config.probe_lease_ns));
                        // The round may have ended before the slot was claimed; then the claim lies in a round
                        // that nobody reads any more.
                        if self.write(slot, word, claimed)
                            && self.head.control().generation() == control.generation()
                        {
                            let Probe { generation, epoch, .. } = claimed;
                            return Ok(Permit { generation, slot: slot as u32, epoch });
                        }
                    }
                    Round::Settled { free: None, next_deadline } => {
                        let deadline =
                            next_deadline.expect("a round without a verdict has a live or free slot");
                        let retry_after_ns = deadline - now.get();
                        return Err(Rejection { reason: RejectReason::HalfOpenFull, retry_after_ns });
                    }
                },
            }
        }
    }

    pub(super) fn record(
        self,
        permit: Permit,
        outcome: Outcome,
        now: impl FnOnce() -> u64,
        events: &mut Events,
    ) -> RecordVerdict {
        if permit.slot == NO_SLOT {
            self.record_closed(permit.generation, outcome, now, events)
        } else {
            self.record_probe(permit, outcome, now, events)
        }
    }

    /// Closes the breaker in a new generation, whatever it was.
    pub(super) fn reset(self, now: impl FnOnce() -> u64, events: &mut Events) {
        let now = now();
        loop {
            let control = self.head.control();
            if control.phase() == Phase::HalfOpen
                && events.len() < 2
                && matches!(self.advance(control, now, events), Round::Moved)
            {
                continue;
            }
            if self.transition(control, control.close(), Cause::Reset, now, events) {
                return;
            }
        }
    }

    /// Probes that hold a live lease at `now`, and nanoseconds until an acquire may be admitted: until the
    /// first lease ends, if no slot is free.
    pub(super) fn live_probes(self, control: Control, now: u64) -> (u32, u64) {
        let probes = (0..self.slots.len()).filter_map(|slot| self.probe(slot, control));
        let (mut live, mut wait_ns) = (0, u64::MAX);
        for (_, probe) in probes.filter(|(_, probe)| matches!(probe.state, State::Live | State::Free)) {
            let left = if probe.state == State::Live { probe.instant.saturating_sub(now) } else { 0 };
            live += u32::from(left > 0);
            wait_ns = wait_ns.min(left);
        }
        // Without either, the round's verdict is due.
        (live, if wait_ns == u64::MAX { 0 } else { wait_ns })
    }

    fn record_closed(
        self,
        generation: u32,
        outcome: Outcome,
        now: impl FnOnce() -> u64,
        events: &mut Events,
    ) -> RecordVerdict {
        let mut now = Lazy::new(now);
        loop {
            let control = self.head.control();
            if control.generation() != generation || control.phase() != Phase::Closed {
                return RecordVerdict::Stale;
            }
            let failures = control.consecutive_failures();
            let done = match outcome {
                Outcome::Ignored => true,
                Outcome::Success => {
                    failures == 0 || self.head.swap(control, control.with_consecutive_failures(0))
                }
                Outcome::Failure if failures + 1 < self.head.config.failure_threshold => {
                    self.head.swap(control, control.with_consecutive_failures(failures + 1))
                }
                Outcome::Failure => {
                    let next = control.open(now.get().saturating_add(self.head.config.open_for_ns));
                    self.transition(control, next, Cause::FailureThreshold, now.get(), events)
                }
            };
            if done {
                return RecordVerdict::Applied;
            }
        }
    }

    fn record_probe(
        self,
        permit: Permit,
        outcome: Outcome,
        now: impl FnOnce() -> u64,
        events: &mut Events,
    ) -> RecordVerdict {
        let slot = permit.slot as usize;
        if slot >= self.slots.len() {
            return RecordVerdict::AlreadyDone;
        }
        let mut now = Lazy::new(now);
        loop {
            let control = self.head.control();
            if control.generation() != permit.generation || control.phase() != Phase::HalfOpen {
                return RecordVerdict::Stale;
            }
            // Leases that are over count before this result does, this permit's own among them.
            if matches!(self.advance(control, now.get(), events), Round::Moved) {
                continue;
            }
            let Some((word, probe)) = self.probe(slot, control) else { continue };
            match probe.state {
                State::Live if probe.epoch == permit.epoch => {}
                State::Expired if probe.epoch == permit.epoch => return RecordVerdict::Expired,
                _ => return RecordVerdict::AlreadyDone,
            }
            let state = match outcome {
                Outcome::Success => State::Succeeded,
                Outcome::Failure => State::Failed,
                Outcome::Ignored => State::Free,
            };
            if self.write(slot, word, Probe { state, instant: now.get(), ..probe }) {
                return match outcome {
                    // The slot may be another caller's by now, so this result has had its effect.
                    Outcome::Ignored => RecordVerdict::Applied,
                    Outcome::Success | Outcome::Failure => self.complete(permit, now.get(), events),
                };
            }
        }
    }

    /// Brings the result that was just written to the permit's slot into the tally.
    fn complete(self, permit: Permit, now: u64, events: &mut Events) -> RecordVerdict {
        let slot = permit.slot as usize;
        loop {
            let control = self.head.control();
            let probe = Probe::from_word(self.slots[slot].load(Ordering::Acquire));
            let mine = probe.generation == permit.generation && probe.epoch == permit.epoch;
            if control.generation() != permit.generation {
                // The round has ended. A result is marked as counted before the round that it decides ends.
                return if mine && probe.counted { RecordVerdict::Applied } else { RecordVerdict::Stale };
            }
            match self.advance(control, now, events) {
                Round::Moved => {}
                Round::Settled { .. } => return RecordVerdict::Applied,
            }
        }
    }

    /// Makes the next step that is due in the round of `control`, if one is.
    fn advance(self, control: Control, now: u64, events: &mut Events) -> Round {
        if let Some(slot) = control.pending() {
            let Some((word, probe)) = self.probe(slot, control) else { return Round::Moved };
            if probe.uncounted_result() {
                self.write(slot, word, Probe { counted: true, ..probe });
                return Round::Moved;
            }
            if self.decide(control, probe, events) {
                return Round::Moved;
            }
        }
        let mut free = None;
        let mut first: Option<(usize, Wide, Probe)> = None;
        for slot in 0..self.slots.len() {
            let Some((word, probe)) = self.probe(slot, control) else { return Round::Moved };
            match probe.state {
                State::Free => free = free.or(Some((slot, word, probe))),
                State::Live if first.is_none_or(|(_, _, other)| probe.instant < other.instant) => {
                    first = Some((slot, word, probe));
                }
                _ if probe.uncounted_result() => {
                    self.head.swap(control, control.count(slot, probe.state == State::Succeeded));
                    return Round::Moved;
                }
                _ => {}
            }
        }
        match first {
            Some((slot, word, probe)) if probe.instant <= now => {
                self.write(slot, word, Probe { state: State::Expired, ..probe });
                Round::Moved
            }
            // A result that was counted during the scan is neither in this tally nor uncounted any more.
            _ if self.head.control() != control && !cfg!(escope_sabotage = "breaker_no_third_look") => {
                Round::Moved
            }
            _ => Round::Settled { free, next_deadline: first.map(|(_, _, probe)| probe.instant) },
        }
    }

    /// Turns a tally that has reached its verdict into a transition, dated at the result that decided it.
    fn decide(self, control: Control, last: Probe, events: &mut Events) -> bool {
        let config = &self.head.config;
        if control.successes() >= config.successes_to_close {
            self.transition(control, control.close(), Cause::ProbesSucceeded, last.instant, events);
        } else if control.failures() >= config.failures_to_open() {
            let expired = last.state == State::Expired;
            let cause = if expired { Cause::ProbeExpired } else { Cause::ProbesFailed };
            let next = control.open(last.instant.saturating_add(config.open_for_ns));
            self.transition(control, next, cause, last.instant, events);
        } else {
            return false;
        }
        true
    }

    fn transition(self, from: Control, to: Control, cause: Cause, at_ns: u64, events: &mut Events) -> bool {
        let done = self.head.swap(from, to);
        if done {
            events.push(Event::new(from, to, cause, at_ns));
        }
        done
    }

    /// The slot's word and what it means in the round of `control`; none if that round is over.
    fn probe(self, slot: usize, control: Control) -> Option<(Wide, Probe)> {
        // Acquire pairs with the Release of `write`.
        let word = self.slots[slot].load(Ordering::Acquire);
        let probe = Probe::from_word(word);
        if probe.generation == control.generation() {
            return Some((word, probe));
        }
        let left_over = cfg!(escope_sabotage = "breaker_no_second_look")
            || self.head.control().generation() == control.generation();
        left_over.then(|| (word, Probe::untouched(slot, control, self.head.config.probe_lease_ns)))
    }

    fn write(self, slot: usize, from: Wide, to: Probe) -> bool {
        // AcqRel: Release pairs with the load in `probe`; Acquire keeps the order of the round's writes.
        let order = (Ordering::AcqRel, Ordering::Acquire);
        self.slots[slot].compare_exchange(from, to.word(), order.0, order.1).is_ok()
    }
}

/// A clock that is read at most once, and only when a verdict needs it.
enum Lazy<F> {
    Unread(Option<F>),
    Read(u64),
}

impl<F: FnOnce() -> u64> Lazy<F> {
    fn new(now: F) -> Self {
        Self::Unread(Some(now))
    }

    fn get(&mut self) -> u64 {
        if let Self::Unread(now) = self {
            *self = Self::Read(now.take().expect("`Unread` holds the clock until it is read")());
        }
        match self {
            Self::Read(now) => *now,
            Self::Unread(_) => unreachable!("the clock was read above"),
        }
    }
}
