//! What somebody in charge of a pool may do.

use super::super::boundary::{Out, Verdict, guarded};
use super::super::status::escope_status;
use super::edge::Time;
use super::{at_home, escope_pool};
use crate::status::Status;
use crate::sync::monotonic_ns;

/// Closes a pool for good: waiting threads get POOL_CLOSED, free connections are destroyed, those on loan when
/// they come back. Closing again does nothing.
///
/// Ownership: takes nothing; the pool is still to be freed.
///
/// @param pool the pool.
/// @return OK; FORKED; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. May block: runs `destroy`.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_close(pool: *mut escope_pool) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { close(pool, monotonic_ns) })
}

/// escope_pool_close at a given time; see escope_pool_checkout_at.
///
/// Ownership: takes nothing.
///
/// @param pool   the pool.
/// @param now_ns the time.
/// @return as escope_pool_close.
///
/// Thread safety: any thread, concurrently. May block: runs `destroy`.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_close_at(pool: *mut escope_pool, now_ns: u64) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { close(pool, || now_ns) })
}

/// # Safety
/// As [`escope_pool_close`].
unsafe fn close(pool: *mut escope_pool, now: impl Time) -> Verdict {
    // SAFETY: the caller's contract.
    unsafe { at_home(pool) }?.edge.close(now);
    Ok(Status::Ok)
}

/// Closes a pool to new callers and waits until it is empty: threads that wait are served, connections that come
/// back destroyed.
///
/// If the time is up first, the pool stays as it is, closed to new callers: call it again, or escope_pool_close, which ends
/// the waits. No connection is ever destroyed while somebody holds it.
///
/// Ownership: takes nothing; the pool is still to be freed.
///
/// @param pool       the pool.
/// @param timeout_ns longest wait; 0: do not wait; UINT64_MAX: for ever.
/// @return OK: nothing is left; POOL_TIMEOUT; FORKED; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently; not in a signal handler. May block: waits, and runs `create` for those who
/// wait and `destroy`. A signal does not end the wait.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_drain(pool: *mut escope_pool, timeout_ns: u64) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { drain(pool, timeout_ns, monotonic_ns) })
}

/// escope_pool_drain with the time-out 0, at a given time; see escope_pool_checkout_at.
///
/// Ownership: takes nothing.
///
/// @param pool   the pool.
/// @param now_ns the time.
/// @return as escope_pool_drain.
///
/// Thread safety: any thread, concurrently. May block: runs `create` for those who wait, and `destroy`.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_drain_at(pool: *mut escope_pool, now_ns: u64) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { drain(pool, 0, || now_ns) })
}

/// # Safety
/// As [`escope_pool_drain`].
unsafe fn drain(pool: *mut escope_pool, timeout_ns: u64, now: impl Time) -> Verdict {
    // SAFETY: the caller's contract.
    let is_empty = unsafe { at_home(pool) }?.edge.drain(timeout_ns, now);
    Ok(if is_empty { Status::Ok } else { Status::PoolTimeout })
}

/// Changes the size of a pool while it lives.
///
/// A larger pool makes connections for those who wait. A smaller one destroys free connections above its capacity at once
/// and others when they come back, and lends none before.
///
/// Ownership: takes nothing.
///
/// @param pool         the pool.
/// @param size         connections that are kept.
/// @param max_overflow connections above them that a burst may add; both together 1 to `max_slots` of its options.
/// @return OK; FORKED; INVALID_ARGUMENT naming the argument.
///
/// Thread safety: any thread, concurrently. May block: runs `destroy`.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_resize(
    pool: *mut escope_pool,
    size: u32,
    max_overflow: u32,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { resize(pool, size, max_overflow, monotonic_ns) })
}

/// escope_pool_resize at a given time; see escope_pool_checkout_at.
///
/// Ownership: takes nothing.
///
/// @param pool         the pool.
/// @param size         connections that are kept.
/// @param max_overflow connections above them that a burst may add.
/// @param now_ns       the time.
/// @return as escope_pool_resize.
///
/// Thread safety: any thread, concurrently. May block: runs `destroy`.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_resize_at(
    pool: *mut escope_pool,
    size: u32,
    max_overflow: u32,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { resize(pool, size, max_overflow, || now_ns) })
}

/// # Safety
/// As [`escope_pool_resize`].
unsafe fn resize(pool: *mut escope_pool, size: u32, max_overflow: u32, now: impl Time) -> Verdict {
    // SAFETY: the caller's contract.
    unsafe { at_home(pool) }?.edge.resize(size, max_overflow, now)?;
    Ok(Status::Ok)
}

/// Has every connection replaced that there is now, as after a password has changed: each is not lent any more from a random
/// instant on, and destroyed when nobody holds it.
///
/// Ownership: takes nothing.
///
/// @param pool      the pool.
/// @param spread_ns the instants lie within so much time, that not all are replaced at once; 0: now.
/// @return OK; FORKED; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. May block: runs `destroy`.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_evict(pool: *mut escope_pool, spread_ns: u64) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { evict(pool, spread_ns, monotonic_ns) })
}

/// escope_pool_evict at a given time; see escope_pool_checkout_at.
///
/// Ownership: takes nothing.
///
/// @param pool      the pool.
/// @param spread_ns the instants lie within so much time from `now_ns` on.
/// @param now_ns    the time.
/// @return as escope_pool_evict.
///
/// Thread safety: any thread, concurrently. May block: runs `destroy`.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_evict_at(
    pool: *mut escope_pool,
    spread_ns: u64,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { evict(pool, spread_ns, || now_ns) })
}

/// # Safety
/// As [`escope_pool_evict`].
unsafe fn evict(pool: *mut escope_pool, spread_ns: u64, now: impl Time) -> Verdict {
    // SAFETY: the caller's contract.
    unsafe { at_home(pool) }?.edge.evict(spread_ns, now);
    Ok(Status::Ok)
}

/// Does what time asks for: destroys connections that are surplus, idle or old, tests idle ones, tells of leaks, ends waits
/// that take too long, and makes connections that waiting threads are owed or that `min_idle` asks for.
///
/// Calls and waiting threads do the same when they come by. A program that wants it done in time calls this once after the
/// pool was made and then at `next_deadline_ns`, from a timer or a thread of its own.
///
/// Ownership: takes nothing.
///
/// @param pool             the pool.
/// @param next_deadline_ns receives when to call it next, UINT64_MAX for not before the pool changes; may be NULL.
/// @return OK; FORKED; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. May block: runs all callbacks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_maintain(
    pool: *mut escope_pool,
    next_deadline_ns: *mut u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { maintain(pool, next_deadline_ns, monotonic_ns) })
}

/// escope_pool_maintain at a given time; see escope_pool_checkout_at.
///
/// Ownership: takes nothing.
///
/// @param pool             the pool.
/// @param next_deadline_ns receives when to call it next; may be NULL.
/// @param now_ns           the time.
/// @return as escope_pool_maintain.
///
/// Thread safety: any thread, concurrently. May block: runs all callbacks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_maintain_at(
    pool: *mut escope_pool,
    next_deadline_ns: *mut u64,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { maintain(pool, next_deadline_ns, || now_ns) })
}

/// # Safety
/// As [`escope_pool_maintain`].
unsafe fn maintain(pool: *mut escope_pool, next_deadline_ns: *mut u64, now: impl Time) -> Verdict {
    // SAFETY: the caller's contract.
    let (this, next) = unsafe { (at_home(pool)?, Out::optional(next_deadline_ns, "next_deadline_ns")?) };
    let at_ns = this.edge.maintain(now);
    if let Some(next) = next {
        next.set(at_ns.unwrap_or(u64::MAX));
    }
    Ok(Status::Ok)
}
