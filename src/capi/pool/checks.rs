//! Which connections are being reset or tested, so that none is destroyed under the hands of its tester.
//!
//! The core gives up a test that takes too long, and then wants the connection destroyed while the callback may still run
//! in another thread. Whoever tests enters the slot here before the callback and leaves it afterwards; a destruction
//! that finds the slot here is left to that thread.
//!
//! Invariant: a slot stands here at most once. It is entered only while the core says that its check is due, and from then
//! until it is left no other check of it can become due: the core asks for one after a report or a destruction.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
struct Running {
    slot: u32,
    /// What to report a destruction with that was left here.
    destruction: Option<u64>,
}

/// The checks of one pool that are running.
#[derive(Debug, Default)]
pub struct Checks(Mutex<Vec<Running>>);

impl Checks {
    /// Enters a slot, unless its check is not due any more. `is_due` may take the pool's lock; nothing takes this
    /// one under that.
    pub fn begin(&self, slot: u32, is_due: impl FnOnce() -> bool) -> bool {
        let mut running = self.lock();
        let due = is_due();
        if due {
            running.push(Running { slot, destruction: None });
        }
        due
    }

    /// Leaves a slot; the epoch of a destruction that was left to the caller.
    pub fn end(&self, slot: u32) -> Option<u64> {
        let mut running = self.lock();
        let place = running.iter().position(|check| check.slot == slot)?;
        running.swap_remove(place).destruction
    }

    /// Leaves a destruction to the thread that tests the slot's connection; false if none does.
    pub fn leave_destruction(&self, slot: u32, epoch: u64) -> bool {
        let mut running = self.lock();
        let check = running.iter_mut().find(|check| check.slot == slot);
        check.map(|check| check.destruction = Some(epoch)).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        // No code that can panic halfway through a change runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destruction_waits_for_the_test() {
        let checks = Checks::default();
        assert!(!checks.leave_destruction(3, 7));
        assert!(checks.begin(3, || true));
        assert!(checks.leave_destruction(3, 7) && !checks.leave_destruction(4, 7));
        assert_eq!(checks.end(3), Some(7));
        assert!(!checks.leave_destruction(3, 8));
    }

    #[test]
    fn what_is_not_due_does_not_begin() {
        let checks = Checks::default();
        assert!(!checks.begin(3, || false));
        assert_eq!(checks.end(3), None);
    }
}
