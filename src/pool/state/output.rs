//! What leaves the lock: actions, deadlines and the snapshot.

use super::State;
use crate::pool::actions::{Action, Actions};
use crate::pool::lease::{SlotInfo, SlotUse};
use crate::pool::slots::SlotState;
use crate::pool::snapshot::{Phase, Snapshot};

impl State {
    /// Hands out what was decided, as far as there is room.
    #[inline]
    pub(in crate::pool) fn flush(&mut self, actions: &mut Actions) {
        if self.has_output() {
            self.flush_lists(actions);
        }
        actions.set_more(self.has_output());
        if self.slots.surplus() > 0 || self.backoff.failures() > 0 || self.is_timed() {
            self.ring(actions);
        }
    }

    #[inline]
    fn has_output(&self) -> bool {
        self.waiters.has_wakes() || self.slots.has_pending() || self.slots.has_leaks()
    }

    /// Whether something beyond surplus and back-off may ask for `maintain`.
    #[inline]
    fn is_timed(&self) -> bool {
        self.ages()
            || self.shut.is_some()
            || self.config.leak_after_ns > 0
            || self.config.keepalive_ns > 0
            || self.slots.checking() > 0
            || (self.codel.is_on() && self.waiters.waiting() > 0)
    }

    #[cold]
    #[inline(never)]
    fn flush_lists(&mut self, actions: &mut Actions) {
        while actions.room() {
            let Some((waiter_token, outcome)) = self.waiters.announce() else { break };
            actions.push(Action::Wake { waiter_token, outcome });
        }
        while actions.room() {
            let Some((slot, entry)) = self.slots.announce() else { break };
            let epoch = entry.epoch;
            match entry.state {
                SlotState::Checking(kind) => {
                    let deadline_ns = self.slots.check_limit(slot);
                    actions.push(Action::Check { slot, epoch, kind, deadline_ns });
                }
                SlotState::Closing(reason) => actions.push(Action::Destroy { slot, epoch, reason }),
                _ => {
                    self.counts.creates += 1;
                    actions.push(Action::Create { slot, epoch });
                }
            }
        }
        while actions.room() {
            let Some((slot, entry, owner)) = self.slots.announce_leak() else { break };
            let lease = self.lease(slot, entry.epoch);
            actions.push(Action::Leaked { lease, owner, since_ns: entry.leased_at_ns });
        }
    }

    #[cold]
    #[inline(never)]
    fn ring(&mut self, actions: &mut Actions) {
        if let Some(at_ns) = self.own_deadline()
            && at_ns < self.alarm_ns
        {
            self.alarm_ns = at_ns;
            actions.ring_at(at_ns);
        }
    }

    pub(in crate::pool) fn snapshot(&self) -> Snapshot {
        Snapshot {
            size: self.config.size,
            capacity: self.config.capacity(),
            idle: self.slots.idle(),
            leased: self.slots.leased(),
            creating: self.slots.creating(),
            checking: self.slots.checking(),
            closing: self.slots.closing(),
            waiting: self.waiters.waiting(),
            overflow: self.slots.surplus(),
            is_closed: self.shut.is_some(),
            phase: self.phase(),
            failing: self.backoff.failures(),
            last_error: self.backoff.last_error(),
            next_deadline_ns: self.next_deadline(),
            counts: self.counts,
        }
    }

    fn phase(&self) -> Phase {
        let slots = &self.slots;
        let left = slots.idle() + slots.leased() + slots.creating() + slots.checking() + slots.closing();
        match self.shut {
            None => Phase::Running,
            Some(_) if left + self.waiters.waiting() > 0 => Phase::Draining,
            Some(_) => Phase::Closed,
        }
    }

    /// What is known about a slot.
    pub(in crate::pool) fn slot_info(&self, slot: u32) -> Option<SlotInfo> {
        let entry = self.slots.get(slot)?;
        let state = match entry.state {
            SlotState::Empty => SlotUse::Empty,
            SlotState::Creating => SlotUse::Creating,
            SlotState::Idle => SlotUse::Idle { since_ns: entry.idle_since_ns },
            SlotState::Leased => {
                SlotUse::Leased { owner: self.slots.owner_of(slot), since_ns: entry.leased_at_ns }
            }
            SlotState::Checking(_) => SlotUse::Checking,
            SlotState::Closing(_) => SlotUse::Closing,
        };
        Some(SlotInfo { state, epoch: entry.epoch, created_ns: entry.created_ns, leases: entry.leases })
    }

    /// When anything but a waiter's deadline asks for `maintain`.
    pub(super) fn own_deadline(&self) -> Option<u64> {
        let surplus = self.surplus_due().map(|(_, due_ns)| due_ns);
        let held_back = self.slots.creating() == 0 && self.wants_creation();
        let retry = (held_back && self.backoff.failures() > 0).then(|| self.backoff.retry_at_ns());
        let head = self.waiters.head().filter(|_| self.codel.is_on());
        let shed = head.map(|cell| self.codel.due(self.waiters.cell(cell).since_ns));
        let times = [
            surplus,
            retry,
            shed,
            self.idle_due().map(|(_, due_ns)| due_ns),
            self.slots.next_expiry().map(|(_, due_ns)| due_ns),
            self.slots.next_check_limit().map(|(_, due_ns)| due_ns),
            self.leak_due().map(|(_, due_ns)| due_ns),
            self.keepalive_due(),
            self.round_due(),
            self.shut_due(),
        ];
        earliest(times)
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        let waiter = self.waiters.next_deadline().map(|(_, at_ns)| at_ns);
        earliest([waiter, self.own_deadline()])
    }
}

/// By way of an instant that never comes, so that no comparison reads what an absent time leaves unwritten: compiled
/// code may do so where the result does not matter, and checkers of memory report it.
fn earliest<const N: usize>(times: [Option<u64>; N]) -> Option<u64> {
    let at_ns = times.iter().map(|time| time.unwrap_or(u64::MAX)).fold(u64::MAX, u64::min);
    (at_ns != u64::MAX).then_some(at_ns)
}
