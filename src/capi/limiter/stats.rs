//! What a limiter has counted.

use std::sync::atomic::Ordering;

use super::super::boundary::{Out, Verdict, guarded, input};
use super::super::options::{self, Growing, Report};
use super::super::status::escope_status;
use super::escope_limiter;
use crate::status::Status;
use crate::sync::monotonic_ns;

/// What a limiter has done so far, and how big it is.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct escope_limiter_stats {
    /// Size of this struct as the program was compiled; set it before the call.
    pub struct_size: usize,
    /// Checks admitted; a reservation counts as one, and so does a group.
    pub allowed: u64,
    /// Checks refused for now.
    pub limited: u64,
    /// Checks whose cost is above the burst.
    pub never: u64,
    /// Checks of a new key that found no place.
    pub table_full: u64,
    /// Keys that lost their place while they owed tokens.
    pub evicted: u64,
    /// Checks that were admitted by the overflow bucket.
    pub overflowed: u64,
    /// Refunds, cancellations and settlements that gave nothing back.
    pub forfeited: u64,
    /// Groups, among the refused, whose debits were given back: a member was used up in the middle of the call.
    pub rolled_back: u64,
    /// Threads that wait in escope_limiter_acquire now.
    pub waiting: u64,
    /// Keys that the table is meant for, at least `max_keys`.
    pub capacity: u64,
    /// Bytes of memory in all.
    pub bytes: u64,
}

// SAFETY: repr(C), `struct_size` first, integers only; twelve words leave no padding.
unsafe impl Growing for escope_limiter_stats {
    const FIRST_SIZE: usize = 96;

    fn set_struct_size(&mut self, size: usize) {
        self.struct_size = size;
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
pub unsafe extern "C" fn escope_limiter_stats_init(
    stats: *mut escope_limiter_stats,
    size: usize,
) -> escope_status {
    // SAFETY: the caller gives NULL or `size` writable bytes.
    guarded(|| unsafe { options::init(stats, size, "stats") }.map(|()| Status::Ok))
}

/// Reads a limiter's counters and sizes. The counters are exact while no call is under way.
///
/// Ownership: `stats` stays the caller's.
///
/// @param limiter the limiter.
/// @param stats   receives the numbers; escope_limiter_stats_init sets it up.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_snapshot(
    limiter: *const escope_limiter,
    stats: *mut escope_limiter_stats,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { snapshot(limiter, stats) })
}

/// Counts the keys that owe tokens now. Reads the whole table.
///
/// Ownership: `keys` stays the caller's.
///
/// @param limiter the limiter.
/// @param keys    receives their number.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_live_keys(
    limiter: *const escope_limiter,
    keys: *mut u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { live_keys(limiter, keys, monotonic_ns) })
}

/// escope_limiter_live_keys at a given time.
///
/// Ownership: `keys` stays the caller's.
///
/// @param limiter the limiter.
/// @param keys    receives their number.
/// @param now_ns  the time.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_live_keys_at(
    limiter: *const escope_limiter,
    keys: *mut u64,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { live_keys(limiter, keys, || now_ns) })
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn snapshot(limiter: *const escope_limiter, stats: *mut escope_limiter_stats) -> Verdict {
    // SAFETY: the caller's contract.
    let (limiter, report) =
        unsafe { (input::<escope_limiter>(limiter, "limiter")?, Report::new(stats, "stats")?) };
    let now = limiter.core.stats();
    report.set(escope_limiter_stats {
        struct_size: 0,
        allowed: now.allowed,
        limited: now.limited,
        never: now.never,
        table_full: now.table_full,
        evicted: now.evicted,
        overflowed: now.overflowed,
        forfeited: now.forfeited,
        rolled_back: now.rolled_back,
        // Relaxed: a number for people.
        waiting: limiter.waiting.load(Ordering::Relaxed).into(),
        capacity: now.capacity,
        bytes: now.bytes,
    });
    Ok(Status::Ok)
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn live_keys(limiter: *const escope_limiter, keys: *mut u64, now: impl FnOnce() -> u64) -> Verdict {
    // SAFETY: the caller's contract.
    let (limiter, keys) =
        unsafe { (input::<escope_limiter>(limiter, "limiter")?, Out::required(keys, "keys")?) };
    keys.set(limiter.core.live_keys(now));
    Ok(Status::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_have_the_size_that_programs_were_compiled_with() {
        assert_eq!(size_of::<escope_limiter_stats>(), escope_limiter_stats::FIRST_SIZE);
    }
}
