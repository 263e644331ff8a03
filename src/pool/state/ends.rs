//! What ends a wait or a lease from outside: giving up, death, time and the end of the pool.

use super::State;
use crate::pool::actions::{DestroyReason, WakeOutcome};
use crate::pool::lease::{CancelOutcome, GiveUp, Owner, Ticket};
use crate::pool::slots::SlotState;
use crate::pool::waiters::End;

impl State {
    /// The second half of a cancel; `won` says whether the first, the compare-and-swap, succeeded.
    pub(in crate::pool) fn cancel(&mut self, ticket: Ticket, won: bool, reason: GiveUp) -> CancelOutcome {
        if won {
            // A granter that met the cell in the meantime has removed and counted it.
            if self.waiters.is_queued(ticket) {
                self.count_end(reason.into());
                self.waiters.drop_queued(ticket.index);
            }
            return CancelOutcome::Cancelled;
        }
        let Some(end) = self.words.end(ticket) else { return CancelOutcome::Stale };
        match (end, self.waiters.cell(ticket.index).outcome) {
            (End::Granted, WakeOutcome::Granted(lease)) => {
                let live = |state| state == SlotState::Leased;
                if self.slots.is(lease.slot, lease.epoch, live) {
                    CancelOutcome::Granted(lease)
                } else {
                    CancelOutcome::Stale
                }
            }
            (End::TimedOut, WakeOutcome::TimedOut) => CancelOutcome::TimedOut,
            (End::Closed, _) => CancelOutcome::Closed,
            (End::CreateFailed, WakeOutcome::CreateFailed(code)) => CancelOutcome::CreateFailed(code),
            _ => CancelOutcome::Stale,
        }
    }

    pub(in crate::pool) fn owner_gone(&mut self, owner: Owner, now_ns: u64) {
        while let Some(cell) = self.waiters.wait_of(owner) {
            if self.words.decide(self.waiters.ticket(cell), End::Cancelled) {
                self.count_end(End::Cancelled);
                self.waiters.drop_queued(cell);
            } else {
                self.drop_given_up(cell);
            }
        }
        while let Some(slot) = self.slots.lease_of(owner) {
            self.release_cell(slot);
            self.counts.reclaimed += 1;
            self.close_slot(slot, DestroyReason::OwnerGone);
        }
        self.create_for_waiters(now_ns);
    }

    pub(in crate::pool) fn maintain(&mut self, now_ns: u64) -> Option<u64> {
        while let Some((cell, deadline_ns)) = self.waiters.next_deadline() {
            if now_ns < deadline_ns {
                break;
            }
            self.end_wait(cell, End::TimedOut, WakeOutcome::TimedOut);
        }
        self.close_surplus(now_ns);
        self.create_for_waiters(now_ns);
        self.alarm_ns = self.own_deadline().unwrap_or(u64::MAX);
        self.next_deadline()
    }

    pub(in crate::pool) fn close(&mut self) {
        if self.closed {
            return;
        }
        self.closed = true;
        while let Some(cell) = self.waiters.head() {
            self.end_wait(cell, End::Closed, WakeOutcome::Closed);
        }
        self.slots.withdraw_creations();
        while let Some((slot, _)) = self.slots.oldest_idle() {
            self.close_slot(slot, DestroyReason::PoolClosed);
        }
    }
}
