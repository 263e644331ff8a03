//! Atomics and locks of loom.

use super::Ordering;
pub use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence};
/// A word of which loom tries no orders: for the many words of a block that is read as a whole, beside some
/// that loom does watch.
pub use std::sync::atomic::AtomicU64 as UnwatchedU64;

/// Shows loom the orders of a wide word that it leaves out.
///
/// To find the orders worth trying, loom keeps one last access of each location. A thread that loads and
/// then replaces hides the earlier loads of other threads behind its own, so loom never tries that
/// replacement between such a load and what its thread does next. The turn is replaced before every access,
/// relaxed, so that it orders no memory. That multiplies the orders: a model with three threads does
/// without it, by [`search_like_loom`].
#[derive(Debug)]
pub struct Turn(AtomicBool);

thread_local! {
    static TAKE_TURNS: std::cell::Cell<bool> = const { std::cell::Cell::new(true) };
}

/// Runs the models of this test with loom's own choice of orders.
pub fn search_like_loom() {
    TAKE_TURNS.set(false);
}

impl Turn {
    pub(super) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    pub(super) fn take(&self) {
        if TAKE_TURNS.get() {
            self.0.swap(true, Ordering::Relaxed);
        }
    }
}

/// loom's mutex behind the same interface.
///
/// loom does not treat an unlock as an event that a failed `try_lock` depends on, so it would never show
/// one. `held` stands for the lock word and makes it one.
#[derive(Debug, Default)]
pub struct Mutex<T> {
    held: AtomicBool,
    value: loom::sync::Mutex<T>,
}

/// Access to what a [`Mutex`] protects.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    held: &'a AtomicBool,
    value: loom::sync::MutexGuard<'a, T>,
}

impl<T> Mutex<T> {
    /// A mutex that holds `value`.
    pub fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: loom::sync::Mutex::new(value) }
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.guard(self.value.lock().expect("no model panics while it holds the lock"))
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        // Relaxed, like the look of a real `try_lock` that fails.
        if self.held.load(Ordering::Relaxed) {
            return None;
        }
        self.value.try_lock().ok().map(|value| self.guard(value))
    }

    fn guard<'a>(&'a self, value: loom::sync::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.held.store(true, Ordering::Relaxed);
        MutexGuard { held: &self.held, value }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        // Release, like a real unlock.
        self.held.store(false, Ordering::Release);
    }
}

impl<T> std::ops::Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> std::ops::DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
