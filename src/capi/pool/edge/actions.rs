//! What the core wants done, done: wakes and creations are passed on at once, callbacks run afterwards.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use super::{Edge, Time};
use crate::capi::pool::callbacks::{CreateError, escope_leak};
use crate::capi::pool::desk::Chore;
use crate::pool::{Action, Actions, CheckKind, Lease, SlotInfo, SlotUse};

/// What a thread does by itself once it has told others what they wait for.
#[derive(Debug, Clone, Copy)]
enum Later {
    Destroy {
        slot: u32,
        epoch: u64,
    },
    Check {
        slot: u32,
        epoch: u64,
        kind: CheckKind,
        deadline_ns: u64,
    },
    Tell(escope_leak),
    /// A creation that a closed desk did not take.
    Abandon(Chore),
}

impl Edge {
    pub(super) fn ask_maintain(&self, now: impl Time, actions: &mut Actions) {
        // The core counts the returned time as told, so it must not be forgotten.
        if let Some(at_ns) = self.core.maintain(now, actions) {
            self.desk.set_alarm(at_ns);
        }
    }

    /// Carries out `actions` and all that follows from them, but for creations; leaves the buffer empty.
    #[inline]
    pub(super) fn settle(&self, now: impl Time, actions: &mut Actions) {
        if !actions.is_done() {
            self.settle_all(now, actions);
        }
    }

    #[cold]
    fn settle_all(&self, now: impl Time, actions: &mut Actions) {
        let mut later = VecDeque::new();
        loop {
            self.take_up(now, actions, &mut later);
            match later.pop_front() {
                None => return,
                Some(Later::Destroy { slot, epoch }) => self.destroy(slot, epoch, now, actions),
                Some(Later::Check { slot, epoch, kind, deadline_ns }) => {
                    self.check(slot, epoch, kind, deadline_ns, now, actions);
                }
                Some(Later::Tell(leak)) => self.callbacks.leaked(&leak),
                Some(Later::Abandon(chore)) => self.abandon_chore(chore, now, actions),
            }
        }
    }

    /// Empties the buffer, and the pool's lists behind it: what others wait for is passed on at once, since callbacks may
    /// take long; the rest is put off.
    fn take_up(&self, now: impl Time, actions: &mut Actions, later: &mut VecDeque<Later>) {
        loop {
            for action in actions.iter() {
                match action {
                    Action::Wake { waiter_token, outcome } => self.desk.wake(waiter_token, outcome),
                    Action::Create { slot, epoch } => {
                        if let Err(chore) = self.desk.leave_chore(Chore { slot, epoch }) {
                            later.push_back(Later::Abandon(chore));
                        }
                    }
                    Action::Destroy { slot, epoch, .. } => later.push_back(Later::Destroy { slot, epoch }),
                    Action::Check { slot, epoch, kind, deadline_ns } => {
                        later.push_back(Later::Check { slot, epoch, kind, deadline_ns });
                    }
                    Action::Leaked { lease, since_ns, .. } => {
                        later.push_back(Later::Tell(self.leak(lease, since_ns)));
                    }
                }
            }
            if let Some(at_ns) = actions.alarm_ns() {
                self.desk.set_alarm(at_ns);
            }
            let more = actions.more();
            actions.clear();
            if !more {
                return;
            }
            self.ask_maintain(now, actions);
        }
    }

    pub(super) fn create(&self, chore: Chore, deadline_ns: u64, now: impl Time, actions: &mut Actions) {
        let made = self.callbacks.create(deadline_ns).map(|connection| {
            // Relaxed: see `connection`.
            self.connections[chore.slot as usize].store(connection, Ordering::Relaxed);
        });
        self.report(chore, made, now, actions);
    }

    pub(super) fn abandon_chore(&self, chore: Chore, now: impl Time, actions: &mut Actions) {
        self.report(chore, Err(CreateError::Null), now, actions);
    }

    fn report(&self, chore: Chore, result: Result<(), CreateError>, now: impl Time, actions: &mut Actions) {
        let result = result.map_err(u64::from);
        let reported = self.core.created(chore.slot, chore.epoch, result, now, actions);
        reported.expect("a slot that was announced for creation waits for its one report");
        self.stir();
    }

    /// Resets and tests a connection, unless the core has given that up before it began.
    fn check(
        &self,
        slot: u32,
        epoch: u64,
        kind: CheckKind,
        deadline_ns: u64,
        now: impl Time,
        actions: &mut Actions,
    ) {
        let is_due = || {
            let seen = self.core.slot(slot, now, actions);
            matches!(seen, Some(SlotInfo { state: SlotUse::Checking, epoch: now, .. }) if now == epoch)
        };
        if !self.checks.begin(slot, is_due) {
            return;
        }
        let connection = self.connection(slot);
        let healthy = match kind {
            CheckKind::Idle => self.callbacks.check(connection, deadline_ns),
            CheckKind::Return => {
                self.callbacks.reset(connection, deadline_ns)
                    && (!self.tests_on_return || self.callbacks.check(connection, deadline_ns))
            }
        };
        match self.checks.end(slot) {
            Some(epoch) => self.destroy(slot, epoch, now, actions),
            // Stale where the time was up just now.
            None => _ = self.core.checked(slot, epoch, healthy, now, actions),
        }
        self.stir();
    }

    fn leak(&self, lease: Lease, since_ns: u64) -> escope_leak {
        escope_leak { connection: self.connection(lease.slot), since_ns, holder: self.holders.of(lease) }
    }

    fn destroy(&self, slot: u32, epoch: u64, now: impl Time, actions: &mut Actions) {
        if self.checks.leave_destruction(slot, epoch) {
            return;
        }
        // Relaxed: the pool's lock lies between the creation and this.
        let connection = self.connections[slot as usize].swap(std::ptr::null_mut(), Ordering::Relaxed);
        self.callbacks.destroy(connection);
        let reported = self.core.destroyed(slot, epoch, now, actions);
        reported.expect("a slot that was announced for destruction waits for its one report");
        self.stir();
    }
}
