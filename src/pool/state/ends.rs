//! What ends a wait or a lease from outside: giving up, death, time and the end of the pool.

use super::State;
use crate::pool::actions::{DestroyReason, WakeOutcome};
use crate::pool::config::OwnerDeath;
use crate::pool::lease::{CancelOutcome, GiveUp, Owner, Ticket};
use crate::pool::slots::SlotState;
use crate::pool::waiters::End;

/// How a pool ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shut {
    /// When leases end, and the waits that are still served.
    deadline_ns: u64,
    /// Whether those who wait are served still.
    serves: bool,
}

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
            (End::Shed, _) => CancelOutcome::Shed,
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
            self.count_use(slot, now_ns);
            match self.config.owner_death {
                OwnerDeath::Destroy => self.close_slot(slot, DestroyReason::OwnerGone),
                OwnerDeath::Check => self.take_back(slot, true, now_ns),
            }
        }
        self.create_as_due(now_ns);
    }

    pub(in crate::pool) fn maintain(&mut self, now_ns: u64) -> Option<u64> {
        while let Some((cell, deadline_ns)) = self.waiters.next_deadline() {
            if now_ns < deadline_ns {
                break;
            }
            self.end_wait(cell, End::TimedOut, WakeOutcome::TimedOut);
        }
        self.shed(now_ns);
        self.end_late_checks(now_ns);
        self.close_surplus(now_ns);
        self.close_aged(now_ns);
        self.end_leases(now_ns);
        self.find_leaks(now_ns);
        self.create_as_due(now_ns);
        self.begin_round(now_ns);
        self.check_idle(now_ns);
        self.alarm_ns = self.own_deadline().unwrap_or(u64::MAX);
        self.next_deadline()
    }

    /// Ends waits that CoDel finds too long.
    pub(super) fn shed(&mut self, now_ns: u64) {
        if !self.codel.is_on() {
            return;
        }
        while let Some(cell) = self.waiters.head() {
            if self.words.end(self.waiters.ticket(cell)).is_some() {
                self.drop_given_up(cell);
            } else if self.codel.sheds(Some(self.waiters.cell(cell).since_ns), now_ns) {
                self.end_wait(cell, End::Shed, WakeOutcome::Shed);
            } else {
                return;
            }
        }
        self.codel.sheds(None, now_ns);
    }

    pub(in crate::pool) fn close(&mut self, deadline_ns: u64, now_ns: u64) {
        self.shut_down(Shut { deadline_ns, serves: false }, now_ns);
    }

    pub(in crate::pool) fn drain(&mut self, deadline_ns: u64, now_ns: u64) {
        self.shut_down(Shut { deadline_ns, serves: true }, now_ns);
    }

    /// A drain may become a close; nothing else changes a shut pool.
    fn shut_down(&mut self, shut: Shut, now_ns: u64) {
        match self.shut {
            Some(before) if shut.serves || !before.serves => return,
            Some(before) => {
                let deadline_ns = before.deadline_ns.min(shut.deadline_ns);
                self.shut = Some(Shut { deadline_ns, ..shut });
            }
            None => self.shut = Some(shut),
        }
        if !shut.serves {
            self.close_waits();
        }
        while let Some((slot, _)) = self.slots.oldest_idle() {
            self.close_slot(slot, DestroyReason::PoolClosed);
        }
        self.end_leases(now_ns);
    }

    fn close_waits(&mut self) {
        while let Some(cell) = self.waiters.head() {
            self.end_wait(cell, End::Closed, WakeOutcome::Closed);
        }
        self.slots.withdraw_creations();
    }

    /// Ends what a shut pool does not wait for any longer. A holder that was not told of its lease yet is told first.
    fn end_leases(&mut self, now_ns: u64) {
        if self.shut.is_none_or(|shut| now_ns < shut.deadline_ns) {
            return;
        }
        self.close_waits();
        for slot in 0..self.slots.count() {
            let Some(&entry) = self.slots.get(slot) else { return };
            match entry.state {
                SlotState::Leased if !self.waiters.is_waking(entry.cell) => {
                    self.release_cell(slot);
                    self.counts.reclaimed += 1;
                    self.count_use(slot, now_ns);
                    self.close_slot(slot, DestroyReason::PoolClosed);
                }
                SlotState::Checking(_) => self.close_slot(slot, DestroyReason::PoolClosed),
                _ => {}
            }
        }
    }

    /// When leases end, while there are any.
    pub(super) fn shut_due(&self) -> Option<u64> {
        let left = self.slots.leased() + self.slots.checking() + self.waiters.waiting();
        let deadline_ns = self.shut.filter(|_| left > 0)?.deadline_ns;
        (deadline_ns != u64::MAX).then_some(deadline_ns)
    }
}
