//! A half-open round: probes, their results, and its verdict.
//!
//! A permit's single use is decided by its slot first, then the result is counted in the control word, then the slot
//! is marked as counted, then the decided tally becomes a transition. Each of these is one compare-and-swap
//! which anybody can make next; [`Cell::advance`] is that anybody.

use super::cell::{Cell, View};
use super::closed::{Lazy, Worth};
use super::control::{Control, Phase};
use super::event::{Cause, Events};
use super::permit::{Outcome, Permit, RecordVerdict};
use super::probe::{Probe, State};
use crate::sync::{Ordering, Wide};

/// A slot that can be claimed, with its word.
pub(super) type Place = (usize, Wide, Probe);

/// Where [`Cell::advance`] left a round.
pub(super) enum Round {
    /// Something was changed, by this call or by another one: look again.
    Moved,
    /// All results are counted, no lease is over, no verdict is due.
    Settled {
        /// A slot that can be claimed.
        free: Option<Place>,
        /// When the first lease, or the round, ends; the end of time if nothing does.
        next_deadline: u64,
    },
}

impl Cell<'_> {
    /// Claims a free slot of a settled round.
    pub(super) fn claim(
        self,
        view: &View,
        (slot, word, probe): Place,
        now: &mut Lazy<impl FnOnce() -> u64>,
    ) -> Option<Permit> {
        let claimed = probe.claim(now.get().saturating_add(view.settings.probe_lease_ns()));
        let started_ns = view.started_ns(now);
        // The round may have ended before the slot was claimed; then the claim lies in a round that nobody reads
        // any more.
        let granted =
            self.write(slot, word, claimed) && self.head.control().generation() == view.control.generation();
        let Probe { generation, epoch, .. } = claimed;
        granted.then_some(Permit { generation, slot: slot as u32, epoch, started_ns })
    }

    /// Counts the result of a probe.
    pub(super) fn record_probe(
        self,
        permit: &Permit,
        outcome: Outcome,
        now: &mut Lazy<impl FnOnce() -> u64>,
        events: &mut Events,
    ) -> RecordVerdict {
        let slot = permit.slot as usize;
        if slot >= self.probes.len() {
            return RecordVerdict::NotFound;
        }
        loop {
            let view = self.view();
            if view.control.generation() != permit.generation || view.control.phase() != Phase::HalfOpen {
                return self.late_verdict(permit);
            }
            // Leases that are over count before this result does, this permit's own among them.
            if matches!(self.advance(&view, now.get(), events), Round::Moved) {
                continue;
            }
            let Some((word, probe)) = self.probe(slot, &view) else { continue };
            match probe.state {
                _ if permit.epoch == 0 || probe.epoch < permit.epoch => return RecordVerdict::NotFound,
                // The slot has been handed on: its lease was over, or it was ignored and is recorded once more.
                _ if probe.epoch > permit.epoch && probe.was_released() => return RecordVerdict::Expired,
                _ if probe.epoch > permit.epoch => return RecordVerdict::AlreadyDone,
                State::Live => {}
                State::Expired | State::Released => return RecordVerdict::Expired,
                State::Free | State::Succeeded | State::Failed => return RecordVerdict::AlreadyDone,
            }
            let worth = Worth::of(&view.settings, outcome, permit.started_ns, now);
            let done = match worth {
                Worth { counts: false, .. } => probe.ignore(),
                worth if worth.fails_probe(&view.settings) => probe.finish(State::Failed, now.get()),
                _ => probe.finish(State::Succeeded, now.get()),
            };
            if self.write(slot, word, done) {
                let settled = self.settle_round(permit, now.get(), events);
                // An ignored result has had its effect: the slot may be another caller's by now.
                return if done.state == State::Free { RecordVerdict::Applied } else { settled };
            }
        }
    }

    /// Makes the next step that is due in the round of `view`, if one is.
    pub(super) fn advance(self, view: &View, now: u64, events: &mut Events) -> Round {
        let View { control, settings, .. } = view;
        if control.phase() != Phase::HalfOpen {
            return Round::Moved;
        }
        if let Some(slot) = control.pending() {
            let Some((word, probe)) = self.probe(slot, view) else { return Round::Moved };
            if probe.uncounted_result() {
                self.write(slot, word, Probe { counted: true, ..probe });
                return Round::Moved;
            }
            if self.decide(view, probe, events) {
                return Round::Moved;
            }
        }
        let mut free = None;
        let mut first: Option<Place> = None;
        let mut ignored = 0;
        for slot in 0..settings.permits() {
            let Some((word, probe)) = self.probe(slot, view) else { return Round::Moved };
            ignored += u64::from(probe.ignored);
            match probe.state {
                State::Free | State::Released => free = free.or(Some((slot, word, probe))),
                State::Live if first.is_none_or(|(_, _, other)| probe.instant < other.instant) => {
                    first = Some((slot, word, probe));
                }
                _ if probe.uncounted_result() => {
                    self.head.swap(*control, control.count(slot, probe.state == State::Succeeded));
                    return Round::Moved;
                }
                _ => {}
            }
        }
        if settings.max_ignored_probes().is_some_and(|most| ignored >= most) {
            // No result of the service, so the open time does not grow.
            self.open(view, control.opens(), Cause::ProbesIgnored, now, events);
            return Round::Moved;
        }
        let limit = settings.half_open_limit_ns().map(|limit_ns| control.instant().saturating_add(limit_ns));
        match (first, limit) {
            (Some((slot, word, probe)), _)
                if probe.instant <= now && limit.is_none_or(|limit| probe.instant <= limit) =>
            {
                let state = if settings.releases_expired() { State::Released } else { State::Expired };
                self.write(slot, word, Probe { state, ..probe });
                Round::Moved
            }
            (_, Some(limit)) if limit <= now => {
                self.end_at_limit(view, limit, events);
                Round::Moved
            }
            // A result that was counted during the scan is neither in this tally nor uncounted any more.
            _ if self.head.control() != *control && cfg!(not(escope_sabotage = "breaker_no_third_look")) => {
                Round::Moved
            }
            _ => {
                let lease = first.map_or(u64::MAX, |(_, _, probe)| probe.instant);
                Round::Settled { free, next_deadline: lease.min(limit.unwrap_or(u64::MAX)) }
            }
        }
    }

    /// Probes that hold a live lease at `now`, and nanoseconds until an acquire may be admitted: until the first
    /// lease, or the round, ends, if no slot is free.
    pub(super) fn live_probes(self, view: &View, now: u64) -> (u32, u64) {
        let probes = (0..view.settings.permits()).filter_map(|slot| self.probe(slot, view));
        let limit = view.settings.half_open_limit_ns();
        let mut wait_ns = limit
            .map_or(u64::MAX, |limit_ns| view.control.instant().saturating_add(limit_ns).saturating_sub(now));
        let mut live = 0;
        for (_, probe) in probes {
            match probe.state {
                State::Live => {
                    let left_ns = probe.instant.saturating_sub(now);
                    live += u32::from(left_ns > 0);
                    wait_ns = wait_ns.min(left_ns);
                }
                State::Free | State::Released => wait_ns = 0,
                State::Succeeded | State::Failed | State::Expired => {}
            }
        }
        // Without any, the round's verdict is due.
        (live, if wait_ns == u64::MAX { 0 } else { wait_ns })
    }

    /// Brings a result that was just written to the permit's slot into the tally, and the round to rest.
    fn settle_round(self, permit: &Permit, now: u64, events: &mut Events) -> RecordVerdict {
        let slot = permit.slot as usize;
        let mut is_counted = false;
        loop {
            let view = self.view();
            let probe = Probe::from_word(self.probes[slot].load(Ordering::Acquire));
            let mine = probe.generation == permit.generation && probe.epoch == permit.epoch;
            let is_running = view.control.generation() == permit.generation;
            // A slot has one result a round, so if the tally counted this slot's last, it counted this one.
            is_counted |= mine && (probe.counted || is_running && view.control.pending() == Some(slot));
            if !is_running {
                // The round has ended. A result is marked as counted before the round that it decides ends. Where
                // a later round has handed the slot on since, only what was seen before can tell.
                return if is_counted { RecordVerdict::Applied } else { RecordVerdict::Stale };
            }
            match self.advance(&view, now, events) {
                Round::Moved => {}
                Round::Settled { .. } => return RecordVerdict::Applied,
            }
        }
    }

    /// What to say of a probe whose round is over: whether it was recorded in it, as far as its slot still tells.
    fn late_verdict(self, permit: &Permit) -> RecordVerdict {
        let probe = Probe::from_word(self.probes[permit.slot as usize].load(Ordering::Acquire));
        let recorded = match probe.epoch.cmp(&permit.epoch) {
            _ if probe.generation != permit.generation => false,
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => {
                matches!(probe.state, State::Succeeded | State::Failed | State::Free)
            }
            // It was ignored, if no permit of this slot gave it back otherwise.
            std::cmp::Ordering::Greater => !probe.was_released(),
        };
        if recorded { RecordVerdict::AlreadyDone } else { RecordVerdict::Stale }
    }

    /// Turns a tally that has reached its verdict into a transition, dated at the result that decided it.
    fn decide(self, view: &View, last: Probe, events: &mut Events) -> bool {
        let View { control, settings, .. } = view;
        if control.successes() >= settings.successes_to_close() {
            let next = self.closed_by_probes(*control, settings, last.instant);
            self.transition(view, next, Cause::ProbesSucceeded, last.instant, events);
        } else if control.failures() >= settings.failures_to_open() {
            let expired = last.state == State::Expired;
            let cause = if expired { Cause::ProbeExpired } else { Cause::ProbesFailed };
            self.open(view, next_open(*control), cause, last.instant, events);
        } else {
            return false;
        }
        true
    }

    /// Ends a round without a verdict.
    fn end_at_limit(self, view: &View, at: u64, events: &mut Events) {
        if view.settings.closes_at_limit() {
            let next = self.closed_by_probes(view.control, &view.settings, at);
            self.transition(view, next, Cause::HalfOpenLimit, at, events);
        } else {
            self.open(view, next_open(view.control), Cause::HalfOpenLimit, at, events);
        }
    }

    /// The slot's word and what it means in the round of `view`; none if that round is over.
    fn probe(self, slot: usize, view: &View) -> Option<(Wide, Probe)> {
        // Acquire pairs with the Release of `write`.
        let word = self.probes[slot].load(Ordering::Acquire);
        let probe = Probe::from_word(word);
        if probe.generation == view.control.generation() {
            return Some((word, probe));
        }
        let left_over = cfg!(escope_sabotage = "breaker_no_second_look")
            || self.head.control().generation() == view.control.generation();
        left_over.then(|| (word, Probe::untouched(slot, view)))
    }

    fn write(self, slot: usize, from: Wide, to: Probe) -> bool {
        // AcqRel: Release pairs with the load in `probe`; Acquire keeps the order of the round's writes.
        let order = (Ordering::AcqRel, Ordering::Acquire);
        self.probes[slot].compare_exchange(from, to.word(), order.0, order.1).is_ok()
    }
}

fn next_open(control: Control) -> u32 {
    control.opens().saturating_add(1)
}

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::*;
    use crate::breaker::cell::Head;
    use crate::breaker::{BreakerConfig, RawPermit};
    use crate::sync::AtomicWide;

    #[test]
    fn a_place_that_was_claimed_or_whose_round_is_over_gives_no_permit() {
        let config = BreakerConfig { half_open_permits: 4, ..BreakerConfig::consecutive_failures(1) };
        let head = Head::new(&BreakerConfig { open_for_ns: 10, ..config });
        let probes: [AtomicWide; 4] = std::array::from_fn(|_| AtomicWide::new(0));
        let cell = Cell::over(&head, &probes, &[]);
        let mut events = Events::NONE;
        cell.report(Outcome::Failure, || 0, &mut events);
        assert!(cell.acquire(|| 10, &mut events).is_ok());
        let view = cell.view();
        let free = || match cell.advance(&view, 11, &mut Events::default()) {
            Round::Settled { free: Some(place), .. } => place,
            _ => panic!("nothing is due and three slots are free"),
        };
        let claim = |place| cell.claim(&view, place, &mut Lazy::new(|| 11));
        let place = free();
        assert!(claim(place).is_some());
        assert!(claim(place).is_none());
        let place = free();
        cell.reset(12, &mut events);
        assert!(claim(place).is_none());
    }

    #[test]
    fn a_result_that_the_round_ended_without_is_stale() {
        let config = BreakerConfig { half_open_permits: 2, ..BreakerConfig::consecutive_failures(1) };
        let head = Head::new(&BreakerConfig { open_for_ns: 10, ..config });
        let probes: [AtomicWide; 2] = std::array::from_fn(|_| AtomicWide::new(0));
        let cell = Cell::over(&head, &probes, &[]);
        let mut events = Events::NONE;
        cell.report(Outcome::Failure, || 0, &mut events);
        let permit = cell.acquire(|| 10, &mut events).expect("its time is over");
        // Both have a result; the other one is counted, and decides.
        let view = cell.view();
        for (slot, counted) in [(0, false), (1, true)] {
            let probe = Probe::untouched(slot, &view);
            let done = Probe { epoch: 1, counted, ..probe.finish(State::Succeeded, 11) };
            probes[slot].store(done.word(), Ordering::Release);
        }
        assert!(head.swap(view.control, view.control.count(1, true)));
        assert_eq!(cell.settle_round(&permit, 12, &mut events), RecordVerdict::Stale);
        assert_eq!(events.iter().last().map(|event| event.cause), Some(Cause::ProbesSucceeded));
    }

    /// Whoever counts a probe's result may also end the round, before the one who recorded it looks again.
    #[test]
    fn a_result_that_others_counted_is_applied_until_a_later_round_has_its_slot() {
        let head = Head::new(&BreakerConfig { open_for_ns: 10, ..BreakerConfig::consecutive_failures(1) });
        let probes = [AtomicWide::new(0)];
        let cell = Cell::over(&head, &probes, &[]);
        let mut events = Events::NONE;
        let trip = |now| {
            let mut events = Events::NONE;
            cell.report(Outcome::Failure, || now, &mut events);
            cell.acquire(|| now + 10, &mut events).expect("its time is over").into_raw()
        };
        let first = trip(0);
        cell.record(Permit::from_raw(first), Outcome::Success, || 11, &mut events);
        assert_eq!(cell.settle_round(&Permit::from_raw(first), 12, &mut events), RecordVerdict::Applied);
        let second: RawPermit = trip(20);
        cell.record(Permit::from_raw(second), Outcome::Success, || 31, &mut events);
        assert_eq!(cell.settle_round(&Permit::from_raw(first), 32, &mut events), RecordVerdict::Stale);
        assert_eq!(cell.settle_round(&Permit::from_raw(second), 32, &mut events), RecordVerdict::Applied);
    }
}
