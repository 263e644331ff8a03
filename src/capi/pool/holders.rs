//! Which thread holds which lease, for reports of leaks.
//!
//! A thread notes itself when it takes a connection, with the lease's epoch. So nobody has to wipe a note out, and one
//! that is of an earlier lease, or that a stale check-in would have taken away, is never told of a later one.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::pool::Lease;

/// A note a slot: the lower half of the lease's epoch above the thread. None without leak detection.
#[derive(Debug)]
pub struct Holders(Box<[AtomicU64]>);

impl Holders {
    /// For so many slots.
    pub fn new(slots: u32) -> Self {
        Self((0..slots).map(|_| AtomicU64::new(0)).collect())
    }

    /// The calling thread holds this lease from now on.
    #[inline]
    pub fn note(&self, lease: Lease) {
        if let Some(note) = self.0.get(lease.slot as usize) {
            // SAFETY: it takes no argument and cannot fail.
            let thread = unsafe { libc::gettid() };
            // Relaxed: for people.
            note.store(lease.epoch << 32 | u64::from(thread as u32), Ordering::Relaxed);
        }
    }

    /// The thread that holds a lease; 0 while it does not know yet that it does.
    pub fn of(&self, lease: Lease) -> u64 {
        // Relaxed: for people.
        let note = self.0.get(lease.slot as usize).map_or(0, |note| note.load(Ordering::Relaxed));
        if (note >> 32) as u32 == lease.epoch as u32 { u64::from(note as u32) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_of_one_lease() {
        let holders = Holders::new(1);
        let lease = |epoch| Lease { pool: 1, slot: 0, epoch };
        holders.note(lease(1 << 40 | 7));
        // SAFETY: it takes no argument and cannot fail.
        assert_eq!(holders.of(lease(1 << 40 | 7)), unsafe { libc::gettid() } as u64);
        assert_eq!(holders.of(lease(1 << 40 | 8)), 0);
    }

    #[test]
    fn without_leak_detection_nobody_is_known() {
        let (holders, lease) = (Holders::new(0), Lease { pool: 1, slot: 0, epoch: 7 });
        holders.note(lease);
        assert_eq!(holders.of(lease), 0);
    }
}
