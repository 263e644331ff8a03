//! Opaque objects with a count of references: what C holds is a pointer to the object.
//!
//! `_new` gives one reference, `_ref` adds one, `_free` gives one back, the last one ends the object. Every
//! other function borrows, so it costs no atomic operation, and may run on any thread at the same time.
//!
//! This is an `Arc` whose count lies behind the object. C's pointer is then the start of the allocation, and a
//! leak checker calls an object that a program keeps until its end reachable, where the inner pointer of
//! [`Arc::into_raw`](std::sync::Arc::into_raw) would be reported as a possible leak.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use super::boundary::guarded;
use crate::status::Status;

/// More references than this are a program that adds in a loop; a count that wrapped would free a live object.
const MOST_REFERENCES: usize = isize::MAX as usize;

#[repr(C)]
struct Counted<T> {
    object: T,
    references: AtomicUsize,
}

/// Moves `object` to the heap and gives its first reference to C.
pub fn give<T: Send + Sync>(object: T) -> *mut T {
    // `object` is the first field of a repr(C) struct, so the pointers are the same.
    Box::into_raw(Box::new(Counted { object, references: AtomicUsize::new(1) })).cast()
}

/// Adds a reference; NULL stays NULL.
///
/// # Safety
/// `handle` is NULL, or it came from [`give`] and a reference to it is alive.
pub unsafe fn share<T: Send + Sync>(handle: *mut T) -> *mut T {
    if !handle.is_null() {
        // SAFETY: from `give`, so there is a `Counted` around it, alive by the caller's contract.
        let references = unsafe { &(*handle.cast::<Counted<T>>()).references };
        // Relaxed: who adds a reference has one already, and how the new one gets to another thread is that
        // program's synchronisation.
        if references.fetch_add(1, Ordering::Relaxed) > MOST_REFERENCES {
            std::process::abort();
        }
    }
    handle
}

/// Gives a reference back; NULL does nothing.
///
/// # Safety
/// `handle` is NULL, or it came from [`give`] and the caller owns a reference, which ends here.
pub unsafe fn release<T: Send + Sync>(handle: *mut T) {
    if handle.is_null() {
        return;
    }
    // SAFETY: from `give`, so there is a `Counted` around it, alive by the caller's contract.
    let references = unsafe { &(*handle.cast::<Counted<T>>()).references };
    // Release: what this thread did with the object happens before its end, by the fence of whoever ends it.
    if references.fetch_sub(1, Ordering::Release) == 1 {
        // Acquire: pairs with the releases of all other threads.
        fence(Ordering::Acquire);
        // SAFETY: that was the last reference.
        unsafe { end(handle) };
    }
}

/// Ends an object whatever its count says.
///
/// # Safety
/// `handle` came from [`give`], and nobody uses it from now on.
#[cold]
pub unsafe fn end<T: Send + Sync>(handle: *mut T) {
    guarded(|| {
        // SAFETY: from `Box::into_raw`, and nobody else uses it by the caller's contract.
        drop(unsafe { Box::from_raw(handle.cast::<Counted<T>>()) });
        Ok(Status::Ok)
    });
}

/// A reference that the library holds itself, given back when dropped.
pub struct Reference<T: Send + Sync>(NonNull<T>);

// SAFETY: a counted reference to an object that is shared between threads already, like an `Arc`.
unsafe impl<T: Send + Sync> Send for Reference<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Reference<T> {}

impl<T: Send + Sync> Reference<T> {
    /// Moves `object` to the heap and keeps its first reference.
    pub fn new(object: T) -> Self {
        // SAFETY: `give` never returns NULL.
        Self(unsafe { NonNull::new_unchecked(give(object)) })
    }

    /// Another reference, for C.
    pub fn share(&self) -> *mut T {
        // SAFETY: from `give`, and this reference is alive.
        unsafe { share(self.0.as_ptr()) }
    }
}

impl<T: Send + Sync> Drop for Reference<T> {
    fn drop(&mut self) {
        // SAFETY: from `give`, and this reference ends here.
        unsafe { release(self.0.as_ptr()) };
    }
}

/// A number for a new object that no other object of this process has or had.
pub fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Relaxed: only the number's uniqueness matters.
    NEXT.fetch_add(1, Ordering::Relaxed)
}
