//! Atomics and locks of shuttle.

pub use shuttle::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence};
/// As under loom: no schedule switches threads at such a word.
pub use std::sync::atomic::AtomicU64 as UnwatchedU64;

/// Nothing: shuttle switches threads at every access.
#[derive(Debug)]
pub struct Turn;

impl Turn {
    pub(super) fn new() -> Self {
        Self
    }

    pub(super) fn take(&self) {}
}

/// shuttle's mutex behind the same interface.
#[derive(Debug, Default)]
pub struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// A mutex that holds `value`.
    pub const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
        self.0.lock().expect("no model panics while it holds the lock")
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<shuttle::sync::MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}
