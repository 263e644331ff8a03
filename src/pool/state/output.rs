//! What leaves the lock: actions, deadlines and the snapshot.

use super::State;
use crate::pool::actions::{Action, Actions};
use crate::pool::slots::SlotState;
use crate::pool::snapshot::Snapshot;

impl State {
    /// Hands out what was decided, as far as there is room.
    #[inline]
    pub(in crate::pool) fn flush(&mut self, actions: &mut Actions) {
        if self.waiters.has_wakes() || self.slots.has_pending() {
            self.flush_lists(actions);
        }
        actions.set_more(self.waiters.has_wakes() || self.slots.has_pending());
        if self.slots.surplus() > 0 || self.backoff.failures() > 0 {
            self.ring(actions);
        }
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
                SlotState::Closing(reason) => actions.push(Action::Destroy { slot, epoch, reason }),
                _ => {
                    self.counts.creates += 1;
                    actions.push(Action::Create { slot, epoch });
                }
            }
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
            closing: self.slots.closing(),
            waiting: self.waiters.waiting(),
            overflow: self.slots.surplus(),
            is_closed: self.closed,
            failing: self.backoff.failures(),
            last_error: self.backoff.last_error(),
            next_deadline_ns: self.next_deadline(),
            counts: self.counts,
        }
    }

    /// When idle time or back-off asks for `maintain`.
    pub(super) fn own_deadline(&self) -> Option<u64> {
        let surplus = self.surplus_due().map(|(_, due_ns)| due_ns);
        let held_back = self.slots.creating() == 0 && self.wants_creation();
        let retry = (held_back && self.backoff.failures() > 0).then(|| self.backoff.retry_at_ns());
        surplus.into_iter().chain(retry).min()
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        let waiter = self.waiters.next_deadline().map(|(_, at_ns)| at_ns);
        waiter.into_iter().chain(self.own_deadline()).min()
    }
}
