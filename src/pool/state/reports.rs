//! What the edge reports about connections that it was asked to make or to close.

use super::State;
use crate::pool::actions::{DestroyReason, WakeOutcome};
use crate::pool::config::CreateFailure;
use crate::pool::lease::StaleReport;
use crate::pool::slots::SlotState;
use crate::pool::waiters::End;

impl State {
    pub(in crate::pool) fn created(
        &mut self,
        slot: u32,
        epoch: u64,
        result: Result<(), u64>,
        now_ns: u64,
    ) -> Result<(), StaleReport> {
        if !self.slots.is(slot, epoch, |state| state == SlotState::Creating) {
            return Err(StaleReport);
        }
        match result {
            Ok(()) => {
                self.counts.created += 1;
                self.backoff.succeeded();
                let evicted = self.slots.get(slot).is_some_and(|slot| slot.evicted);
                let expires_ns = if evicted { 0 } else { self.end_of_life(now_ns) };
                self.slots.stamp_created(slot, now_ns, expires_ns);
                match self.reason_to_retire(slot, now_ns) {
                    Some(reason) => self.close_slot(slot, reason),
                    None => self.offer(slot, now_ns),
                }
            }
            Err(code) => {
                self.counts.create_errors += 1;
                self.slots.vacate(slot);
                self.backoff.failed(code, now_ns);
                self.fail_head(code);
            }
        }
        self.create_as_due(now_ns);
        Ok(())
    }

    fn fail_head(&mut self, code: u64) {
        while let Some(cell) = self.waiters.head() {
            if self.words.end(self.waiters.ticket(cell)).is_some() {
                self.drop_given_up(cell);
                continue;
            }
            if self.config.create_failure == CreateFailure::FailFast || self.waiters.cell(cell).for_creation {
                self.end_wait(cell, End::CreateFailed, WakeOutcome::CreateFailed(code));
            }
            return;
        }
    }

    pub(in crate::pool) fn destroyed(
        &mut self,
        slot: u32,
        epoch: u64,
        now_ns: u64,
    ) -> Result<(), StaleReport> {
        if !self.slots.is(slot, epoch, |state| matches!(state, SlotState::Closing(_))) {
            return Err(StaleReport);
        }
        self.slots.vacate(slot);
        self.create_as_due(now_ns);
        Ok(())
    }

    pub(in crate::pool) fn lost(&mut self, slot: u32, now_ns: u64) -> bool {
        match self.slots.get(slot).map(|slot| (slot.state, slot.cell)) {
            Some((SlotState::Leased, cell))
                if self.waiters.is_waking(cell) && !cfg!(escope_sabotage = "pool_lost_untold") =>
            {
                return false;
            }
            Some((SlotState::Leased, _)) => {
                self.release_cell(slot);
                self.counts.broken += 1;
                self.count_use(slot, now_ns);
            }
            Some((SlotState::Idle | SlotState::Checking(_), _)) => {}
            _ => return true,
        }
        self.close_slot(slot, DestroyReason::Lost);
        self.create_as_due(now_ns);
        true
    }
}
