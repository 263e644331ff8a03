//! Time at the edges: monotonic nanoseconds as `u64`.
//!
//! The core takes `now: impl FnOnce() -> u64` and calls it only when a verdict needs it. [`Monotonic`]
//! reads `CLOCK_MONOTONIC`, which is the same for every process of a machine and does not count suspended
//! time; [`Manual`] is moved by a test.

use crate::sync::{AtomicU64, Ordering, monotonic_ns};

/// Source of monotonic nanoseconds. Only [`Manual::set`] makes one go backwards.
pub trait Clock {
    /// Nanoseconds since an origin that all handles of one state share.
    fn now_ns(&self) -> u64;
}

/// `CLOCK_MONOTONIC` through the vDSO.
#[derive(Debug, Clone, Copy, Default)]
pub struct Monotonic;

impl Clock for Monotonic {
    #[inline]
    fn now_ns(&self) -> u64 {
        monotonic_ns()
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub struct Manual(AtomicU64);

impl Manual {
    /// A clock that reads `now_ns`.
    pub fn new(now_ns: u64) -> Self {
        Self(AtomicU64::new(now_ns))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by_ns: u64) {
        // Relaxed: a reading orders nothing but itself.
        self.0.fetch_add(by_ns, Ordering::Relaxed);
    }

    /// Sets the clock, backwards too.
    pub fn set(&self, now_ns: u64) {
        self.0.store(now_ns, Ordering::Relaxed);
    }
}

impl Clock for Manual {
    #[inline]
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
