//! Atomics and locks of the product.

#[path = "wide.rs"]
mod wide;

pub use std::sync::atomic::AtomicU64 as UnwatchedU64;
pub use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence};
pub use wide::{AtomicWide, Wide, wide_is_lock_free};

/// One half of a [`Wide`].
pub type Half = u64;
/// Bits in one half of a [`Wide`].
pub const HALF: u32 = 64;

/// Mutual exclusion for the pool; no user code runs while it is held.
#[derive(Debug, Default)]
pub struct Mutex<T>(parking_lot::Mutex<T>);

impl<T> Mutex<T> {
    /// A mutex that holds `value`.
    pub const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> parking_lot::MutexGuard<'_, T> {
        self.0.lock()
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<parking_lot::MutexGuard<'_, T>> {
        self.0.try_lock()
    }
}
