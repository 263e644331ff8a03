//! Checks: on return, of idle connections, and the end of those that take too long.
//!
//! A leased connection is never checked. Idle ones are taken in the order of their last use or check: when that was
//! `keepalive_ns` ago, and in rounds, each of which has a quota and takes no connection that was touched since it began.

use super::{State, limit};
use crate::pool::actions::{CheckKind, DestroyReason};
use crate::pool::config::HealthChecks;
use crate::pool::idle::MAX_IDLE_CHECKS;
use crate::pool::lease::StaleReport;
use crate::pool::slots::SlotState;

/// Where the rounds of active checks are.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// When the next one begins; the first `maintain` sets it.
    next_ns: Option<u64>,
    began_ns: u64,
    left: u32,
}

impl State {
    pub(in crate::pool) fn checked(
        &mut self,
        slot: u32,
        epoch: u64,
        healthy: bool,
        now_ns: u64,
    ) -> Result<(), StaleReport> {
        if !self.slots.is(slot, epoch, |state| matches!(state, SlotState::Checking(_))) {
            return Err(StaleReport);
        }
        let idle =
            self.slots.get(slot).is_some_and(|slot| slot.state == SlotState::Checking(CheckKind::Idle));
        if !healthy {
            self.fail_check(slot);
        } else {
            self.counts.checks_passed += 1;
            if let Some(reason) = self.reason_to_retire(slot, now_ns) {
                self.close_slot(slot, reason);
            } else if idle && self.waiters.waiting() == 0 {
                self.slots.return_from_check(slot, now_ns);
                self.close_surplus(now_ns);
                self.close_aged(now_ns);
            } else {
                self.offer(slot, now_ns);
            }
        }
        self.create_as_due(now_ns);
        self.check_idle(now_ns);
        Ok(())
    }

    fn fail_check(&mut self, slot: u32) {
        self.counts.checks_failed += 1;
        self.close_slot(slot, DestroyReason::CheckFailed);
    }

    /// Ends the checks that took too long.
    pub(super) fn end_late_checks(&mut self, now_ns: u64) {
        while let Some((slot, limit_ns)) = self.slots.next_check_limit() {
            if now_ns < limit_ns {
                return;
            }
            self.fail_check(slot);
        }
    }

    /// Begins a round when it is time.
    pub(super) fn begin_round(&mut self, now_ns: u64) {
        if !self.config.checks_in_rounds() || self.shut.is_some() {
            return;
        }
        let interval_ns = self.config.health_interval_ns;
        match self.rounds.next_ns {
            Some(next_ns) if now_ns < next_ns => return,
            Some(_) => {
                let idle = self.slots.idle();
                self.rounds.began_ns = now_ns;
                self.rounds.left =
                    if self.config.health == HealthChecks::Mixed { idle.div_ceil(2) } else { idle };
            }
            None => {}
        }
        self.rounds.next_ns = Some(now_ns.saturating_add(interval_ns));
    }

    /// Begins the checks of idle connections that are due.
    pub(super) fn check_idle(&mut self, now_ns: u64) {
        while let Some((slot, touched_ns)) = self.next_to_check() {
            let in_round = self.rounds.left > 0 && touched_ns <= self.rounds.began_ns;
            if in_round {
                self.rounds.left -= 1;
            } else if self.keepalive_due().is_none_or(|due_ns| now_ns < due_ns) {
                return;
            }
            let limit_ns = limit(now_ns, self.config.check_limit_ns);
            self.slots.begin_check(slot, CheckKind::Idle, limit_ns);
        }
    }

    fn next_to_check(&self) -> Option<(u32, u64)> {
        if self.slots.idle.away() >= MAX_IDLE_CHECKS { None } else { self.slots.least_touched() }
    }

    pub(super) fn keepalive_due(&self) -> Option<u64> {
        let keepalive_ns = self.config.keepalive_ns;
        let (_, touched_ns) = self.next_to_check().filter(|_| keepalive_ns > 0)?;
        Some(touched_ns.saturating_add(keepalive_ns))
    }

    pub(super) fn round_due(&self) -> Option<u64> {
        self.rounds.next_ns.filter(|_| self.shut.is_none())
    }
}
