//! A pool as seen at one instant.

use super::super::boundary::guarded;
use super::super::options::{self, Growing, Report};
use super::super::status::escope_status;
use super::{at_home, escope_pool};
use crate::pool::{Phase, Snapshot};
use crate::status::Status;
use crate::sync::monotonic_ns;

/// The pool takes check-outs.
pub const ESCOPE_POOL_RUNNING: i32 = 0;
/// The pool takes none, and connections or waiting threads are left.
pub const ESCOPE_POOL_DRAINING: i32 = 1;
/// The pool takes none, and nothing is left.
pub const ESCOPE_POOL_CLOSED: i32 = 2;

/// A pool at one instant, and what it has done so far. The numbers reconcile:
/// `requests` is the sum of `granted`, `timed_out`, `cancelled`, `exhausted`, `queue_full`, `closed`, `shed`,
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
    /// Check-outs whose wait was ended because all waits had become too long.
    pub shed: u64,
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
    /// Resets and tests that connections passed.
    pub checks_passed: u64,
    /// Resets and tests that connections failed, those that took too long among them.
    pub checks_failed: u64,
    /// Connections that were tested before they were lent.
    pub pre_pings: u64,
    /// Leases that lasted too long.
    pub leaks: u64,
    /// Time that granted waits took, together.
    pub queue_ns: u64,
    /// Time that the longest of them took.
    pub longest_queue_ns: u64,
    /// Time that ended leases took, together; 0 without `measure` or `leak_after_ns`.
    pub use_ns: u64,
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
    /// Connections being reset or tested.
    pub checking: u32,
    /// Connections being destroyed.
    pub closing: u32,
    /// Threads waiting.
    pub waiting: u32,
    /// Connections above `size`.
    pub overflow: u32,
    /// Creations that failed in a row.
    pub failing: u32,
    /// ESCOPE_POOL_*: where the pool is in its life.
    pub phase: i32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), `struct_size` first, integers only; 23 words and 11 halves and one reserved leave no padding.
unsafe impl Growing for escope_pool_stats {
    const FIRST_SIZE: usize = 232;

    fn set_struct_size(&mut self, size: usize) {
        self.struct_size = size;
    }
}

impl From<Snapshot> for escope_pool_stats {
    fn from(now: Snapshot) -> Self {
        Self {
            struct_size: size_of::<Self>(),
            requests: now.counts.requests,
            granted: now.counts.granted,
            timed_out: now.counts.timed_out,
            cancelled: now.counts.cancelled,
            exhausted: now.counts.exhausted,
            queue_full: now.counts.queue_full,
            closed: now.counts.closed,
            create_failed: now.counts.create_failed,
            shed: now.counts.shed,
            returned: now.counts.returned,
            broken: now.counts.broken,
            created: now.counts.created,
            create_errors: now.counts.create_errors,
            destroyed: now.counts.destroys,
            checks_passed: now.counts.checks_passed,
            checks_failed: now.counts.checks_failed,
            pre_pings: now.counts.pre_pings,
            leaks: now.counts.leaks,
            queue_ns: now.counts.queue_ns,
            longest_queue_ns: now.counts.longest_queue_ns,
            use_ns: now.counts.use_ns,
            next_deadline_ns: now.next_deadline_ns.unwrap_or(u64::MAX),
            size: now.size,
            capacity: now.capacity,
            idle: now.idle,
            leased: now.leased,
            creating: now.creating,
            checking: now.checking,
            closing: now.closing,
            waiting: now.waiting,
            overflow: now.overflow,
            failing: now.failing,
            phase: match now.phase {
                Phase::Running => ESCOPE_POOL_RUNNING,
                Phase::Draining => ESCOPE_POOL_DRAINING,
                Phase::Closed => ESCOPE_POOL_CLOSED,
            },
            reserved: 0,
        }
    }
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
        report.set(this.edge.snapshot(monotonic_ns).into());
        Ok(Status::Ok)
    })
}
