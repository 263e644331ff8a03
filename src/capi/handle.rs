//! Opaque objects, owned by an `Arc` each: what C holds is the pointer of [`Arc::into_raw`].
//!
//! `_new` gives one reference, `_ref` adds one, `_free` gives one back, the last one ends the object. Every
//! other function borrows, so it costs no atomic operation, and may run on any thread at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::boundary::guarded;
use crate::status::Status;

/// Moves `object` to the heap and gives its first reference to C.
pub fn give<T: Send + Sync>(object: T) -> *mut T {
    Arc::into_raw(Arc::new(object)).cast_mut()
}

/// Adds a reference; NULL stays NULL.
///
/// # Safety
/// `handle` is NULL, or it came from [`give`] and a reference to it is alive.
pub unsafe fn share<T: Send + Sync>(handle: *const T) -> *mut T {
    if !handle.is_null() {
        // SAFETY: from `Arc::into_raw`, with a live reference, by the caller's contract.
        unsafe { Arc::increment_strong_count(handle) };
    }
    handle.cast_mut()
}

/// Gives a reference back; NULL does nothing.
///
/// # Safety
/// `handle` is NULL, or it came from [`give`] and the caller owns a reference, which ends here.
pub unsafe fn release<T: Send + Sync>(handle: *mut T) {
    if !handle.is_null() {
        guarded(|| {
            // SAFETY: from `Arc::into_raw`; the reference is the caller's to give.
            drop(unsafe { Arc::from_raw(handle.cast_const()) });
            Ok(Status::Ok)
        });
    }
}

/// A number for a new object that no other object of this process has or had.
pub fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Relaxed: only the number's uniqueness matters.
    NEXT.fetch_add(1, Ordering::Relaxed)
}
