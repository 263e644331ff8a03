//! The connection pool in C: a blocking check-out for threads, over connections that the program makes.
//!
//! * [`edge`] carries out what the core decides, [`desk`] is where threads wait, [`fork`] notices a child;
//!   [`waiter`] is the check-out of a program that waits in slices.
//! * This file is the surface.
//!
//! Life of a pool: the program's references are counted apart, and are one reference to the memory together. The
//! last `_free` closes the pool; each lease on loan keeps the memory, as a statement keeps a closed SQLite database, and the last
//! check-in ends it. In a forked child the last `_free` only drops memory.

mod desk;
mod edge;
mod fork;
pub mod waiter;

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::edge::{Callbacks, CreateFn, DestroyFn, Edge, NoConnection};
use self::fork::Generation;
use super::boundary::{Failure, Out, Verdict, fail, guarded, input, invalid};
use super::handle;
use super::options::{self, Growing, Report};
use super::status::escope_status;
use crate::pool::{Condition, CreateFailure, IdleOrder, Lease, Pool, PoolConfig};
use crate::status::Status;
use crate::sync::monotonic_ns;

/// A connection pool. Opaque; shared by any number of threads of one process.
pub struct escope_pool {
    edge: Edge,
    home: Generation,
    users: AtomicUsize,
}

/// The connection that was returned last goes out first.
pub const ESCOPE_ORDER_LIFO: i32 = 0;
/// The connection that was returned first goes out first.
pub const ESCOPE_ORDER_FIFO: i32 = 1;

/// The connection is fit for the next holder.
pub const ESCOPE_CONDITION_GOOD: i32 = 0;
/// The connection is to be destroyed.
pub const ESCOPE_CONDITION_BROKEN: i32 = 1;

/// Makes a connection. It may block; it should give up at `deadline_ns`, by the clock of escope_clock_now_ns
/// (UINT64_MAX: none). It writes the connection and returns 0, or returns another number; then what it wrote is
/// not looked at. Any thread may call it, several at the same time. It may call the pool, but not check out from it. It must
/// not throw, longjmp, or return in a process that it forked.
pub type escope_pool_create_fn = Option<
    unsafe extern "C" fn(userdata: *mut c_void, deadline_ns: u64, connection: *mut *mut c_void) -> i32,
>;

/// Destroys a connection that nobody holds. It may block. Any thread may call it, several at the same time. It may
/// call the pool, but not check out from it. It must not throw, longjmp, or return in a process that it forked.
pub type escope_pool_destroy_fn =
    Option<unsafe extern "C" fn(userdata: *mut c_void, connection: *mut c_void)>;

/// How a pool behaves. Set it up with escope_pool_options_init, then set at least `create` and `destroy`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct escope_pool_options {
    /// Size of this struct as the program was compiled.
    pub struct_size: usize,
    /// Makes a connection; required.
    pub create: escope_pool_create_fn,
    /// Destroys a connection; required.
    pub destroy: escope_pool_destroy_fn,
    /// First argument of both; may be NULL. It must outlive the pool and the connections on loan.
    pub userdata: *mut c_void,
    /// How long a connection above `size` stays idle before it is destroyed; 0 destroys it on return. Default 0.
    pub overflow_ttl_ns: u64,
    /// Pause after a failed creation, doubling with each further one; 1 or more. Default 100 ms.
    pub create_backoff_ns: u64,
    /// Longest such pause. Default 10 s.
    pub create_backoff_cap_ns: u64,
    /// Connections that are kept. Default 5.
    pub size: u32,
    /// Connections above `size` that a burst may add; both together 1 to 65,536. Default 10.
    pub max_overflow: u32,
    /// Threads that may wait at a time, those that make a connection among them; 1 to 1,000,000. Default 10,000.
    pub max_waiters: u32,
    /// ESCOPE_ORDER_LIFO (the default) or ESCOPE_ORDER_FIFO.
    pub order: i32,
}

// SAFETY: repr(C), `struct_size` first, integers, a pointer and nullable function pointers only; seven words and
// four halves leave no padding. A bit pattern that is no function is the program's word that it is one.
unsafe impl Growing for escope_pool_options {
    const FIRST_SIZE: usize = 72;

    fn set_struct_size(&mut self, size: usize) {
        self.struct_size = size;
    }
}

impl Default for escope_pool_options {
    fn default() -> Self {
        let config = PoolConfig::default();
        Self {
            struct_size: size_of::<Self>(),
            create: None,
            destroy: None,
            userdata: std::ptr::null_mut(),
            overflow_ttl_ns: config.overflow_ttl_ns,
            create_backoff_ns: config.create_backoff_ns,
            create_backoff_cap_ns: config.create_backoff_cap_ns,
            size: config.size,
            max_overflow: config.max_overflow,
            max_waiters: config.max_waiters,
            order: ESCOPE_ORDER_LIFO,
        }
    }
}

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

/// A pool at one instant, and what it has done so far. The numbers reconcile:
/// `requests` is the sum of `granted`, `timed_out`, `cancelled`, `exhausted`, `queue_full`, `closed`,
/// `create_failed` and `waiting`; `granted` is the sum of `returned`, `broken` and `leased`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct escope_pool_stats {
    /// Size of this struct as the program was compiled; set it before the call.
    pub struct_size: usize,
    /// Check-outs asked for.
    pub requests: u64,
    /// Connections lent.
    pub granted: u64,
    /// Check-outs that ran out of time.
    pub timed_out: u64,
    /// Check-outs that were given up.
    pub cancelled: u64,
    /// Check-outs that did not wait and found nothing.
    pub exhausted: u64,
    /// Check-outs that found too many waiting.
    pub queue_full: u64,
    /// Check-outs that found the pool closed or were waiting when it was.
    pub closed: u64,
    /// Check-outs that a failed creation ended.
    pub create_failed: u64,
    /// Connections returned good.
    pub returned: u64,
    /// Connections returned broken.
    pub broken: u64,
    /// Connections made.
    pub created: u64,
    /// Creations that failed.
    pub create_errors: u64,
    /// Connections destroyed or being destroyed.
    pub destroyed: u64,
    /// When escope_pool_maintain has something to do; UINT64_MAX for never.
    pub next_deadline_ns: u64,
    /// Connections that are kept.
    pub size: u32,
    /// Most connections: `size` and `max_overflow`.
    pub capacity: u32,
    /// Free connections.
    pub idle: u32,
    /// Connections on loan.
    pub leased: u32,
    /// Connections being made.
    pub creating: u32,
    /// Connections being destroyed.
    pub closing: u32,
    /// Threads waiting.
    pub waiting: u32,
    /// Connections above `size`.
    pub overflow: u32,
    /// Creations that failed in a row.
    pub failing: u32,
    /// 1 if the pool is closed, else 0.
    pub is_closed: u32,
}

// SAFETY: repr(C), `struct_size` first, integers only; 15 words and 10 halves leave no padding.
unsafe impl Growing for escope_pool_stats {
    const FIRST_SIZE: usize = 160;

    fn set_struct_size(&mut self, size: usize) {
        self.struct_size = size;
    }
}

/// Fills pool options with the defaults, without callbacks.
///
/// Ownership: `options` stays the caller's.
///
/// @param options the struct to fill.
/// @param size    `sizeof *options`.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_options_init(
    options: *mut escope_pool_options,
    size: usize,
) -> escope_status {
    // SAFETY: the caller gives NULL or `size` writable bytes.
    guarded(|| unsafe { options::init(options, size, "options") }.map(|()| Status::Ok))
}

/// Makes a pool without connections; they are made when somebody asks for one.
///
/// Ownership: `*out` is one reference, the caller's; give it back with escope_pool_free. `options` stays the caller's
/// and is not needed after the call; its `userdata` is.
///
/// @param options how it behaves; `create` and `destroy` must be set.
/// @param out     receives the pool.
/// @return OK; INVALID_ARGUMENT naming the option; OUT_OF_MEMORY.
///
/// Thread safety: any thread, concurrently. Never blocks; allocates.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_new(
    options: *const escope_pool_options,
    out: *mut *mut escope_pool,
) -> escope_status {
    guarded(|| {
        // SAFETY: the caller gives NULL or a writable place.
        let out = unsafe { Out::required(out, "out") }?;
        // SAFETY: the caller gives NULL or a struct as large as it states.
        let options = unsafe { options::read(options, "options") }?;
        let callbacks = callbacks(&options)?;
        let order = match options.order {
            ESCOPE_ORDER_LIFO => IdleOrder::Lifo,
            ESCOPE_ORDER_FIFO => IdleOrder::Fifo,
            other => {
                return Err(invalid("order", other, "0 (last in, first out) or 1 (first in, first out)"));
            }
        };
        // At this edge a thread waits for the connection that it makes.
        if options.max_waiters == 0 {
            return Err(invalid("max_waiters", 0, "1 to 1000000"));
        }
        let config = PoolConfig {
            size: options.size,
            max_overflow: options.max_overflow,
            order,
            max_waiters: options.max_waiters,
            overflow_ttl_ns: options.overflow_ttl_ns,
            create_failure: CreateFailure::FailFast,
            create_backoff_ns: options.create_backoff_ns,
            create_backoff_cap_ns: options.create_backoff_cap_ns,
            jitter_seed: monotonic_ns(),
            ..PoolConfig::default()
        };
        config.validate()?;
        // A valid configuration fails for want of memory only.
        let core = Pool::new(&config).map_err(|error| fail(Status::OutOfMemory, format_args!("{error}")))?;
        let home = Generation::watched()?;
        let edge = Edge::new(core, config.capacity(), callbacks);
        out.set(handle::give(escope_pool { edge, home, users: AtomicUsize::new(1) }));
        Ok(Status::Ok)
    })
}

/// Adds a reference.
///
/// Ownership: the result is a reference of its own, to be given back with escope_pool_free.
///
/// @param pool a pool, or NULL.
/// @return `pool`.
///
/// Thread safety: any thread, concurrently; also in a forked child. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_ref(pool: *mut escope_pool) -> *mut escope_pool {
    if !pool.is_null() {
        // SAFETY: the caller gives a live handle. Relaxed: who adds a reference has one already, and how it
        // passes on the new one is the program's synchronisation.
        unsafe { &*pool }.users.fetch_add(1, Ordering::Relaxed);
    }
    pool
}

/// Gives a reference back; the last one closes the pool.
///
/// Connections on loan stay with their holders: after the last escope_pool_free the pool may be used for
/// escope_pool_checkin only, until the last of them is back; each is destroyed when it comes. The memory ends
/// with the last lease. In a forked child nothing is destroyed; the child's copy of the memory is dropped.
///
/// Ownership: takes the caller's reference.
///
/// @param pool a pool; NULL does nothing.
///
/// Thread safety: any thread, but not concurrently with a call that relies on the same reference, a waiting
/// check-out among them: escope_pool_close ends those. May block: runs `destroy`.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_free(pool: *mut escope_pool) {
    if pool.is_null() {
        return;
    }
    guarded(|| {
        // SAFETY: the caller gives a reference that it owns, so the memory is alive.
        let this = unsafe { &*pool };
        // AcqRel: the last user sees all that the others did before they gave back theirs.
        if this.users.fetch_sub(1, Ordering::AcqRel) > 1 {
            return Ok(Status::Ok);
        }
        if this.home.is_current() {
            this.edge.close();
            // SAFETY: this reference stands for all users, and there is none left.
            unsafe { handle::release(pool) };
        } else {
            // SAFETY: the child's last user is gone, and the leases that keep the parent's pool alive are refused
            // here, so nothing refers to this copy.
            unsafe { handle::end(pool) };
        }
        Ok(Status::Ok)
    });
}

/// Lends a connection: a free one, else a new one, else the next that comes back.
///
/// Threads are served in the order of their calls. Connections are made by the threads that wait, each with its own
/// deadline; one that is ready goes to the thread that has waited longest, whoever made it. A failed creation ends
/// that thread's wait and is followed by a pause, during which only returned connections are lent. `create` is not
/// interrupted: the call can overrun its time by what `create` takes beyond its deadline.
///
/// Ownership: the connection is the caller's until escope_pool_checkin; it stays the pool's to destroy.
///
/// @param pool       the pool.
/// @param timeout_ns longest wait; 0: take a free connection or one that is being made for this call, but do not wait
///                   for one on loan; UINT64_MAX: for ever.
/// @param lease      receives the lease.
/// @param connection receives what `create` made.
/// @return OK; POOL_TIMEOUT; POOL_EXHAUSTED: the time-out is 0, no connection is free and none may be made now;
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
    guarded(|| {
        // SAFETY: the caller gives a live handle and writable places, or NULL.
        let (this, lease, connection) = unsafe {
            (at_home(pool)?, Out::required(lease, "lease")?, Out::required(connection, "connection")?)
        };
        match this.edge.checkout(timeout_ns) {
            Ok((granted, made)) => {
                // SAFETY: the handle is alive.
                unsafe { lend(pool, granted, made, &lease, &connection) };
                Ok(Status::Ok)
            }
            Err(reason) => no_connection(reason),
        }
    })
}

/// Returns a connection.
///
/// It goes to the thread that has waited longest; else it is kept, or destroyed if it is broken, above the
/// pool's size or the pool is closed. What a broken one leaves room for is made by a waiting thread, not by this
/// one.
///
/// Ownership: ends the lease; the connection must not be used any more. `lease` stays the caller's memory.
///
/// @param pool      the pool.
/// @param lease     what escope_pool_checkout gave.
/// @param condition ESCOPE_CONDITION_GOOD or ESCOPE_CONDITION_BROKEN.
/// @return OK; STALE_LEASE: returned before, or another pool's, and nothing happened; FORKED; INVALID_ARGUMENT.
///
/// Thread safety: any thread, not only the one that checked out; concurrently. May block: runs `destroy`.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_checkin(
    pool: *mut escope_pool,
    lease: *const escope_lease,
    condition: i32,
) -> escope_status {
    guarded(|| {
        // SAFETY: the caller gives a live handle and a lease, or NULL.
        let (this, lease) = unsafe { (at_home(pool)?, input(lease, "lease")?) };
        let condition = match condition {
            ESCOPE_CONDITION_GOOD => Condition::Good,
            ESCOPE_CONDITION_BROKEN => Condition::Broken,
            other => return Err(invalid("condition", other, "0 (good) or 1 (broken)")),
        };
        let escope_lease { private_pool: pool_id, private_epoch: epoch, private_slot: slot, .. } = *lease;
        let returned = this.edge.checkin(Lease { pool: pool_id, slot, epoch }, condition);
        returned.map_err(|_| stale(pool_id, slot, epoch))?;
        // SAFETY: the reference that the check-out took for this lease, which ended just now and only once.
        unsafe { handle::release(pool) };
        Ok(Status::Ok)
    })
}

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
    guarded(|| {
        // SAFETY: the caller gives a live handle or NULL.
        unsafe { at_home(pool) }?.edge.close();
        Ok(Status::Ok)
    })
}

/// Does what time asks for: destroys connections above the pool's size that were idle for `overflow_ttl_ns`, and
/// makes connections that waiting threads are owed.
///
/// No program has to call it: calls and waiting threads do the same when they come by. A program that wants idle
/// connections gone at once calls it at `next_deadline_ns`, from a timer or a thread of its own.
///
/// Ownership: takes nothing.
///
/// @param pool             the pool.
/// @param next_deadline_ns receives when to call it next, UINT64_MAX for not before the pool changes; may be NULL.
/// @return OK; FORKED; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. May block: runs `create` and `destroy`.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_maintain(
    pool: *mut escope_pool,
    next_deadline_ns: *mut u64,
) -> escope_status {
    guarded(|| {
        // SAFETY: the caller gives a live handle and a writable place, or NULL.
        let (this, next) = unsafe { (at_home(pool)?, Out::optional(next_deadline_ns, "next_deadline_ns")?) };
        let at_ns = this.edge.maintain();
        if let Some(next) = next {
            next.set(at_ns.unwrap_or(u64::MAX));
        }
        Ok(Status::Ok)
    })
}

/// Sets a statistics struct to zero and to its size.
///
/// Ownership: `stats` stays the caller's.
///
/// @param stats the struct to set.
/// @param size  `sizeof *stats`.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_stats_init(stats: *mut escope_pool_stats, size: usize) -> escope_status {
    // SAFETY: the caller gives NULL or `size` writable bytes.
    guarded(|| unsafe { options::init(stats, size, "stats") }.map(|()| Status::Ok))
}

/// Reads a pool's state and counters, all of one instant.
///
/// Ownership: `stats` stays the caller's.
///
/// @param pool  the pool.
/// @param stats receives the numbers; escope_pool_stats_init sets it up.
/// @return OK; FORKED; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. May block: runs `destroy` where a close in another thread left more
/// than it could carry at once.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_snapshot(
    pool: *const escope_pool,
    stats: *mut escope_pool_stats,
) -> escope_status {
    guarded(|| {
        // SAFETY: the caller gives a live handle and a struct as large as it states, or NULL.
        let (this, report) = unsafe { (at_home(pool)?, Report::new(stats, "stats")?) };
        let now = this.edge.snapshot();
        report.set(escope_pool_stats {
            struct_size: 0,
            requests: now.counts.requests,
            granted: now.counts.granted,
            timed_out: now.counts.timed_out,
            cancelled: now.counts.cancelled,
            exhausted: now.counts.exhausted,
            queue_full: now.counts.queue_full,
            closed: now.counts.closed,
            create_failed: now.counts.create_failed,
            returned: now.counts.returned,
            broken: now.counts.broken,
            created: now.counts.created,
            create_errors: now.counts.create_errors,
            destroyed: now.counts.destroys,
            next_deadline_ns: now.next_deadline_ns.unwrap_or(u64::MAX),
            size: now.size,
            capacity: now.capacity,
            idle: now.idle,
            leased: now.leased,
            creating: now.creating,
            closing: now.closing,
            waiting: now.waiting,
            overflow: now.overflow,
            failing: now.failing,
            is_closed: u32::from(now.is_closed),
        });
        Ok(Status::Ok)
    })
}

/// Writes a granted lease and its connection.
///
/// # Safety
/// `pool` is a live handle.
unsafe fn lend(
    pool: *mut escope_pool,
    granted: Lease,
    made: *mut c_void,
    lease: &Out<escope_lease>,
    connection: &Out<*mut c_void>,
) {
    // SAFETY: alive by the caller's contract. This is the lease's own reference.
    unsafe { handle::share(pool) };
    lease.set(granted.into());
    connection.set(made);
}

fn no_connection(reason: NoConnection) -> Verdict {
    match reason {
        NoConnection::Refused(refusal) => Ok(refusal.status()),
        NoConnection::CreateFailed(Some(code)) => Err(fail(
            Status::CreateFailed,
            format_args!("`create` returned {code}, allowed is 0 with a connection"),
        )),
        NoConnection::CreateFailed(None) => Err(fail(
            Status::CreateFailed,
            format_args!("`create` returned 0 and `connection` is NULL, allowed is 0 with a connection"),
        )),
    }
}

fn foreign() -> Failure {
    fail(
        Status::Forked,
        format_args!("`pool` is a pool of the parent process, allowed is one made after the fork"),
    )
}

/// Borrows a pool in the process that made it.
///
/// # Safety
/// `pool` is NULL or a live handle, for `'a`.
unsafe fn at_home<'a>(pool: *const escope_pool) -> Result<&'a escope_pool, Failure> {
    // SAFETY: the caller's contract.
    let this: &escope_pool = unsafe { input(pool, "pool") }?;
    if this.home.is_current() {
        return Ok(this);
    }
    Err(foreign())
}

fn callbacks(options: &escope_pool_options) -> Result<Callbacks, Failure> {
    let missing = |name| invalid(name, "NULL", "a function");
    let create: CreateFn = options.create.ok_or_else(|| missing("create"))?;
    let destroy: DestroyFn = options.destroy.ok_or_else(|| missing("destroy"))?;
    Ok(Callbacks { create, destroy, userdata: options.userdata })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_programs_were_compiled_with() {
        assert_eq!(size_of::<escope_pool_options>(), escope_pool_options::FIRST_SIZE);
        assert_eq!(size_of::<escope_pool_stats>(), escope_pool_stats::FIRST_SIZE);
        assert_eq!(size_of::<escope_lease>(), 24);
    }
}
