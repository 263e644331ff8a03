//! Check-out and check-in.

use std::ffi::c_void;

use super::super::boundary::{Failure, Out, Verdict, fail, guarded, input, invalid};
use super::super::status::escope_status;
use super::edge::Time;
use super::{at_home, end_of_leases, escope_pool, lend, no_connection};
use crate::pool::{Condition, Lease};
use crate::status::Status;
use crate::sync::monotonic_ns;

/// The connection is fit for the next holder.
pub const ESCOPE_CONDITION_GOOD: i32 = 0;
/// The connection is to be destroyed.
pub const ESCOPE_CONDITION_BROKEN: i32 = 1;

/// The right to use one connection until it is checked in. A plain value; it may be copied, and a copy is the
/// same lease: of several check-ins the first one counts.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct escope_lease {
    /// Private.
    pub private_pool: u64,
    /// Private.
    pub private_epoch: u64,
    /// Private.
    pub private_slot: u32,
    /// Private.
    pub private_reserved: u32,
}

impl From<Lease> for escope_lease {
    fn from(lease: Lease) -> Self {
        Self {
            private_pool: lease.pool,
            private_epoch: lease.epoch,
            private_slot: lease.slot,
            private_reserved: 0,
        }
    }
}

/// Lends a connection: a free one, else a new one, else the next that comes back.
///
/// Threads are served in the order of their calls. Connections are made by the threads that wait, each with its own
/// deadline; one that is ready goes to the thread that has waited longest, whoever made it. A failed creation ends
/// that thread's wait and is followed by a pause, during which only returned connections are lent. `create` is not
/// interrupted: the call can overrun its time by what `create` takes beyond its deadline.
///
/// A connection that was neither used nor tested for longer than `pre_ping_after_ns` is tested first; one that fails is
/// destroyed, and the call goes on with the next.
///
/// Ownership: the connection is the caller's until escope_pool_checkin; it stays the pool's to destroy.
///
/// @param pool       the pool.
/// @param timeout_ns longest wait; 0: take a free connection or one that is being made for this call, but do not wait
///                   for one on loan; UINT64_MAX: for ever.
/// @param lease      receives the lease.
/// @param connection receives what `create` made.
/// @return OK; POOL_TIMEOUT; SHED: all waits had become too long; POOL_EXHAUSTED: the time-out is 0, no connection is free and none may be made now;
///         QUEUE_FULL; POOL_CLOSED; CREATE_FAILED: the message has what `create` returned; FORKED; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently; not in a signal handler. May block. A signal does not end the wait.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_checkout(
    pool: *mut escope_pool,
    timeout_ns: u64,
    lease: *mut escope_lease,
    connection: *mut *mut c_void,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { checkout(pool, timeout_ns, lease, connection, monotonic_ns) })
}

/// escope_pool_checkout with the time-out 0, at a given time: for simulations and tests, which move their own clock.
///
/// A pool that is called at given times is called so throughout: its connections and waits have ages by that clock.
///
/// Ownership: as escope_pool_checkout.
///
/// @param pool       the pool.
/// @param lease      receives the lease.
/// @param connection receives what `create` made.
/// @param now_ns     the time.
/// @return as escope_pool_checkout with the time-out 0.
///
/// Thread safety: any thread, concurrently; not in a signal handler. May block: runs `create`, `check` and `destroy`.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_checkout_at(
    pool: *mut escope_pool,
    lease: *mut escope_lease,
    connection: *mut *mut c_void,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { checkout(pool, 0, lease, connection, || now_ns) })
}

/// # Safety
/// Each pointer is NULL or what [`escope_pool_checkout`] says.
#[inline(always)]
unsafe fn checkout(
    pool: *mut escope_pool,
    timeout_ns: u64,
    lease: *mut escope_lease,
    connection: *mut *mut c_void,
    now: impl Time,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (this, lease, connection) =
        unsafe { (at_home(pool)?, Out::required(lease, "lease")?, Out::required(connection, "connection")?) };
    match this.edge.checkout(timeout_ns, now) {
        Ok(lent) => {
            lend(lent, &lease, &connection);
            Ok(Status::Ok)
        }
        Err(reason) => no_connection(reason),
    }
}

/// Returns a connection.
///
/// It is reset and tested, if the pool is set so. Then it goes to the thread that has waited longest; else it is kept, or
/// destroyed if it is broken, too old, above the pool's size or the pool is closed. What a broken one leaves room for is made by a waiting thread, not by this
/// one.
///
/// Ownership: ends the lease; the connection must not be used any more. `lease` stays the caller's memory.
///
/// @param pool      the pool.
/// @param lease     what escope_pool_checkout gave.
/// @param condition ESCOPE_CONDITION_GOOD or ESCOPE_CONDITION_BROKEN.
/// @return OK; STALE_LEASE: returned before, or another pool's, and nothing happened; FORKED; INVALID_ARGUMENT.
///
/// Thread safety: any thread, not only the one that checked out; concurrently. May block: runs `reset`, `check` and
/// `destroy`.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_checkin(
    pool: *mut escope_pool,
    lease: *const escope_lease,
    condition: i32,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { checkin(pool, lease, condition, monotonic_ns) })
}

/// escope_pool_checkin at a given time; see escope_pool_checkout_at.
///
/// Ownership: as escope_pool_checkin.
///
/// @param pool      the pool.
/// @param lease     what escope_pool_checkout gave.
/// @param condition ESCOPE_CONDITION_GOOD or ESCOPE_CONDITION_BROKEN.
/// @param now_ns    the time.
/// @return as escope_pool_checkin.
///
/// Thread safety: any thread, not only the one that checked out; concurrently. May block: runs `reset`, `check` and
/// `destroy`.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_checkin_at(
    pool: *mut escope_pool,
    lease: *const escope_lease,
    condition: i32,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { checkin(pool, lease, condition, || now_ns) })
}

/// # Safety
/// Each pointer is NULL or what [`escope_pool_checkin`] says.
#[inline(always)]
unsafe fn checkin(
    pool: *mut escope_pool,
    lease: *const escope_lease,
    condition: i32,
    now: impl Time,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (this, lease) = unsafe { (at_home(pool)?, input(lease, "lease")?) };
    let condition = match condition {
        ESCOPE_CONDITION_GOOD => Condition::Good,
        ESCOPE_CONDITION_BROKEN => Condition::Broken,
        other => return Err(invalid("condition", other, "0 (good) or 1 (broken)")),
    };
    let escope_lease { private_pool: pool_id, private_epoch: epoch, private_slot: slot, .. } = *lease;
    let returned = this.edge.checkin(Lease { pool: pool_id, slot, epoch }, condition, now);
    let last = returned.map_err(|_| stale(pool_id, slot, epoch))?;
    // SAFETY: the leases' reference is alive, since this was the last of them where `last` says so.
    unsafe { end_of_leases(pool, last) };
    Ok(Status::Ok)
}

#[cold]
fn stale(pool: u64, slot: u32, epoch: u64) -> Failure {
    fail(
        Status::StaleLease,
        format_args!(
            "`lease` is of pool {pool}, slot {slot}, epoch {epoch}, allowed is one of this pool that was not returned"
        ),
    )
}
