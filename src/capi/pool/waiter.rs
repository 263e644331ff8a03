//! A check-out for programs that cannot sleep through: an interpreter that must run its signal handlers now and
//! then, an event loop with a thread to spare.
//!
//! Giving up and asking again would cost the caller its place in the queue, so the place is an object of
//! its own: begin, wait in slices of any length, free.

use std::ffi::{c_int, c_void};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

use super::calls::escope_lease;
use super::desk::Desk;
use super::edge::{Asked, Edge, NoConnection, Place, Time};
use super::fork::Generation;
use super::{at_home, end_of_leases, escope_pool, foreign, lend, no_connection};
use crate::capi::boundary::{Failure, Out, Verdict, fail, guarded, input, invalid};
use crate::capi::handle;
use crate::capi::status::escope_status;
use crate::status::Status;
use crate::sync::monotonic_ns;

/// A place in the queue of a pool. Opaque; belongs to one caller.
pub struct escope_waiter {
    // Beside the pool, whose memory a forked child may have dropped.
    home: Generation,
    /// `None` once the wait has ended.
    place: Mutex<Option<Place<Kept>>>,
    /// The latest time that it was called at, or [`MACHINE`].
    given_ns: AtomicU64,
    pool: Kept,
}

/// No time was given: the machine's clock counts.
const MACHINE: u64 = u64::MAX;

/// A reference to the memory of a pool, and through it a hold on the pool's desk.
struct Kept(*mut escope_pool);

// SAFETY: a pool may be used and given up by any thread.
unsafe impl Send for Kept {}
// SAFETY: as above.
unsafe impl Sync for Kept {}

impl escope_waiter {
    fn place(&self) -> Result<MutexGuard<'_, Option<Place<Kept>>>, Failure> {
        match self.place.try_lock() {
            Ok(place) => Ok(place),
            // A panic left the place as it was.
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                Err(invalid("waiter", "one that another thread waits at", "one thread at a time"))
            }
        }
    }
}

fn ended() -> Failure {
    invalid("waiter", "one whose wait has ended", "one that waits")
}

impl Kept {
    /// # Safety
    /// `pool` is a live handle.
    unsafe fn new(pool: *mut escope_pool) -> Self {
        // SAFETY: the caller's contract.
        Self(unsafe { handle::share(pool) })
    }

    fn edge(&self) -> &Edge {
        // SAFETY: this reference keeps the memory alive.
        unsafe { &(*self.0).edge }
    }
}

impl Deref for Kept {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.edge().desk
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: the reference of `new`.
        unsafe { handle::release(self.0) };
    }
}

/// Lends a free connection, or gives a place in the queue at once.
///
/// It neither waits nor calls `create`; a connection that is to be tested before it is lent is tested. With POOL_EXHAUSTED `*waiter` is a place in the queue, in the order of
/// the calls of this function and of escope_pool_checkout; go on with escope_waiter_wait. With any other status
/// `waiter` is not written.
///
/// Ownership: the connection is the caller's until escope_pool_checkin. The place is the caller's; give it back with
/// escope_waiter_free. It keeps the memory of the pool, not the pool: the last escope_pool_free ends the wait.
///
/// @param pool       the pool.
/// @param timeout_ns longest wait from now on, over all slices, 1 or more; UINT64_MAX: for ever.
/// @param lease      receives the lease, if OK.
/// @param connection receives what `create` made, if OK.
/// @param waiter     receives the place, if POOL_EXHAUSTED.
/// @return OK; POOL_EXHAUSTED: none is free; QUEUE_FULL; POOL_CLOSED; FORKED; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently; not in a signal handler. May block: runs `check`, and `destroy` where a close
/// in another thread left more than it could carry at once.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_checkout_begin(
    pool: *mut escope_pool,
    timeout_ns: u64,
    lease: *mut escope_lease,
    connection: *mut *mut c_void,
    waiter: *mut *mut escope_waiter,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { begin(pool, timeout_ns, lease, connection, waiter, MACHINE, monotonic_ns) })
}

/// escope_pool_checkout_begin at a given time; see escope_pool_checkout_at. Go on with escope_waiter_wait_at.
///
/// Ownership: as escope_pool_checkout_begin. A place that was begun so is given up at the latest time that was given.
///
/// @param pool       the pool.
/// @param timeout_ns longest wait from `now_ns` on, 1 or more; UINT64_MAX: for ever.
/// @param lease      receives the lease, if OK.
/// @param connection receives what `create` made, if OK.
/// @param waiter     receives the place, if POOL_EXHAUSTED.
/// @param now_ns     the time.
/// @return as escope_pool_checkout_begin.
///
/// Thread safety: any thread, concurrently; not in a signal handler. May block: runs `check` and `destroy`.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_checkout_begin_at(
    pool: *mut escope_pool,
    timeout_ns: u64,
    lease: *mut escope_lease,
    connection: *mut *mut c_void,
    waiter: *mut *mut escope_waiter,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { begin(pool, timeout_ns, lease, connection, waiter, now_ns, || now_ns) })
}

/// # Safety
/// Each pointer is NULL or what [`escope_pool_checkout_begin`] says.
unsafe fn begin(
    pool: *mut escope_pool,
    timeout_ns: u64,
    lease: *mut escope_lease,
    connection: *mut *mut c_void,
    waiter: *mut *mut escope_waiter,
    given_ns: u64,
    now: impl Time,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (this, lease, connection, waiter) = unsafe {
        (
            at_home(pool)?,
            Out::required(lease, "lease")?,
            Out::required(connection, "connection")?,
            Out::required(waiter, "waiter")?,
        )
    };
    if timeout_ns == 0 {
        return Err(invalid("timeout_ns", 0, "1 or more; escope_pool_checkout takes 0"));
    }
    match this.edge.begin(timeout_ns, now) {
        Asked::Lent(granted) | Asked::Untested(granted, _) => {
            lend(this.edge.lent(granted), &lease, &connection);
            Ok(Status::Ok)
        }
        Asked::Queued(place) => {
            // SAFETY: the handle is alive.
            let (desk, pool) = unsafe { (Kept::new(pool), Kept::new(pool)) };
            let place = Mutex::new(Some(place.held_by(desk)));
            let given_ns = AtomicU64::new(given_ns);
            waiter.set(handle::give(escope_waiter { home: this.home, place, given_ns, pool }));
            Ok(Status::PoolExhausted)
        }
        Asked::Refused(refusal) => no_connection(NoConnection::Refused(refusal)),
    }
}

/// Waits for a connection for a while.
///
/// The thread that waits also runs `create` for connections that are to be made, which can make the slice longer. So does
/// one with a slice of 0: a program that only ever polls gets its connections made as well.
///
/// Ownership: the place stays the caller's, to be freed, whatever the status.
///
/// @param waiter     the place.
/// @param slice_ns   longest wait of this call; UINT64_MAX: until the time of the check-out is up.
/// @param lease      receives the lease, if OK.
/// @param connection receives what `create` made, if OK.
/// @return OK; POOL_EXHAUSTED: the slice is over and the place is kept; POOL_TIMEOUT: the time of the check-out is up;
///         POOL_CLOSED; CREATE_FAILED: the message has what `create` returned; FORKED; INVALID_ARGUMENT: NULL, or
///         the wait has ended before, or another thread is in this call.
///
/// Thread safety: any thread, one at a time; not in a signal handler. May block. A signal does not end the slice.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_waiter_wait(
    waiter: *mut escope_waiter,
    slice_ns: u64,
    lease: *mut escope_lease,
    connection: *mut *mut c_void,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { wait(waiter, slice_ns, lease, connection, monotonic_ns) })
}

/// escope_waiter_wait with a slice of 0, at a given time; see escope_pool_checkout_at.
///
/// Ownership: as escope_waiter_wait.
///
/// @param waiter     the place.
/// @param lease      receives the lease, if OK.
/// @param connection receives what `create` made, if OK.
/// @param now_ns     the time.
/// @return as escope_waiter_wait.
///
/// Thread safety: any thread, one at a time; not in a signal handler. May block: runs all callbacks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_waiter_wait_at(
    waiter: *mut escope_waiter,
    lease: *mut escope_lease,
    connection: *mut *mut c_void,
    now_ns: u64,
) -> escope_status {
    guarded(|| {
        // SAFETY: the same contract.
        unsafe {
            let this: &escope_waiter = input(waiter, "waiter")?;
            // Relaxed: as in `escope_waiter_free`.
            this.given_ns.store(now_ns, Ordering::Relaxed);
            wait(waiter, 0, lease, connection, || now_ns)
        }
    })
}

/// # Safety
/// Each pointer is NULL or what [`escope_waiter_wait`] says.
unsafe fn wait(
    waiter: *mut escope_waiter,
    slice_ns: u64,
    lease: *mut escope_lease,
    connection: *mut *mut c_void,
    now: impl Time,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (this, lease, connection): (&escope_waiter, _, _) = unsafe {
        (input(waiter, "waiter")?, Out::required(lease, "lease")?, Out::required(connection, "connection")?)
    };
    if !this.home.is_current() {
        return Err(foreign());
    }
    let mut place = this.place()?;
    let Some(waiting) = place.as_ref() else { return Err(ended()) };
    let Some(ended) = this.pool.edge().resume(waiting, now().saturating_add(slice_ns), now) else {
        return Ok(Status::PoolExhausted);
    };
    *place = None;
    match ended {
        Ok(lent) => lend(lent, &lease, &connection),
        Err(reason) => return no_connection(reason),
    }
    Ok(Status::Ok)
}

/// Gives a descriptor for an event loop: readable when escope_waiter_wait should be called, with a slice of 0.
///
/// It becomes readable when the wait has ended, when its time is up, and when there is a connection to make. It is so at
/// first, and again after each call of escope_waiter_wait with a slice that is not over yet. Wait for it with poll(2), epoll(7) or
/// select(2), level-triggered; neither read, nor write, nor close it.
///
/// Ownership: the descriptor is the library's, and closed by the end of the wait or by escope_waiter_free, whichever comes first:
/// take it out of the event loop before either.
///
/// @param waiter     the place.
/// @param descriptor receives the descriptor; the same in every call.
/// @return OK; FORKED; INVALID_ARGUMENT: NULL, or the wait has ended before, or another thread waits at the place;
///         UNSUPPORTED: the system gave none, the message says why.
///
/// Thread safety: any thread, one at a time; not in a signal handler. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_waiter_descriptor(
    waiter: *mut escope_waiter,
    descriptor: *mut c_int,
) -> escope_status {
    guarded(|| {
        // SAFETY: the caller gives a live place and a writable place, or NULL.
        let (this, out): (&escope_waiter, _) =
            unsafe { (input(waiter, "waiter")?, Out::required(descriptor, "descriptor")?) };
        if !this.home.is_current() {
            return Err(foreign());
        }
        let place = this.place()?;
        let waiting = place.as_ref().ok_or_else(ended)?;
        let none = |error| fail(Status::Unsupported, format_args!("timerfd_create failed: {error}"));
        out.set(waiting.descriptor().map_err(none)?);
        Ok(Status::Ok)
    })
}

/// Gives a place back. A wait that has not ended is given up, and what it was granted meanwhile goes to the next.
///
/// In a forked child the place is the parent's: the child's copy stays as it is.
///
/// @param waiter the place; NULL does nothing.
///
/// Thread safety: any thread, once no other uses the place; not in a signal handler. May block: runs `destroy` on a connection
/// that it was granted and that nobody is to have any more.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_waiter_free(waiter: *mut escope_waiter) {
    guarded(|| {
        if waiter.is_null() {
            return Ok(Status::Ok);
        }
        // SAFETY: the caller gives a live place.
        let this: &escope_waiter = unsafe { input(waiter, "waiter") }?;
        if !this.home.is_current() {
            return Ok(Status::Ok);
        }
        let place = this.place.lock().map_or_else(|poisoned| poisoned.into_inner().take(), |mut p| p.take());
        if let Some(place) = place {
            // Relaxed: whoever frees the place comes after all who used it, and knows by the program's means.
            let last = match this.given_ns.load(Ordering::Relaxed) {
                MACHINE => this.pool.edge().give_up(&place, monotonic_ns),
                now_ns => this.pool.edge().give_up(&place, || now_ns),
            };
            // SAFETY: this place holds a reference of its own.
            unsafe { end_of_leases(this.pool.0, last) };
        }
        // SAFETY: the reference of `escope_pool_checkout_begin`, which is the caller's to give.
        unsafe { handle::release(waiter) };
        Ok(Status::Ok)
    });
}

#[cfg(test)]
mod tests;
