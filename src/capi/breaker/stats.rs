//! A breaker as seen at one moment.

use super::super::boundary::{Verdict, guarded, input};
use super::super::options::{self, Growing, Report};
use super::super::status::escope_status;
use super::escope_breaker;
use crate::breaker::Snapshot;
use crate::status::Status;
use crate::sync::monotonic_ns;

/// Where a breaker stands, and what it has seen so far.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct escope_breaker_stats {
    /// Size of this struct as the program was compiled; set it before the call.
    pub struct_size: usize,
    /// Nanoseconds until an acquire may be admitted: 0 if it may be now, UINT64_MAX if only another mode can.
    pub retry_after_ns: u64,
    /// When the generation began; 0 for the first.
    pub last_change_ns: u64,
    /// Results in the window of a closed breaker, where its policy has one.
    pub window_calls: u64,
    /// Failures that count toward a trip, by their weights: in a row, within the period, or in the window.
    pub failures: u64,
    /// Slow results in the window.
    pub slow_calls: u64,
    /// Calls admitted, probes among them.
    pub admitted: u64,
    /// Outcomes recorded as success, slow ones among them.
    pub succeeded: u64,
    /// Outcomes recorded as failure.
    pub failed: u64,
    /// Outcomes recorded as ignored.
    pub ignored: u64,
    /// Outcomes recorded as cancelled.
    pub cancelled: u64,
    /// Records whose permit was of an earlier generation.
    pub stale: u64,
    /// Records of probes whose lease had run out.
    pub expired: u64,
    /// Outcomes reported without a permit.
    pub reported: u64,
    /// Calls refused because the breaker was open.
    pub rejected_open: u64,
    /// Calls refused because all probes were taken.
    pub rejected_half_open: u64,
    /// Calls refused because the breaker was forced open.
    pub rejected_forced_open: u64,
    /// Calls refused because the breaker was degraded or ramping up.
    pub rejected_degraded: u64,
    /// Calls that were chosen to fail; 0 in a library without fault injection.
    pub injected: u64,
    /// ESCOPE_PHASE_*.
    pub phase: i32,
    /// ESCOPE_MODE_*.
    pub mode: i32,
    /// ESCOPE_LEVEL_*: how much of its trip budget a closed breaker has used.
    pub level: i32,
    /// ESCOPE_CAUSE_*: why the generation began; 0 for the first.
    pub last_cause: i32,
    /// 1 at first; grows by one at each change but those of the level, modulo 2^28.
    pub generation: u32,
    /// Times the breaker opened since it was last closed; stays at 255.
    pub opens: u32,
    /// Probes that are admitted and not yet recorded.
    pub live_probes: u32,
    /// Share of failures in the window, in basis points.
    pub failure_rate_bp: u32,
    /// Share of slow calls in the window, in basis points.
    pub slow_call_rate_bp: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), `struct_size` first, integers only; 19 * 8 + 10 * 4 bytes leave no padding.
unsafe impl Growing for escope_breaker_stats {
    const FIRST_SIZE: usize = 192;

    fn set_struct_size(&mut self, size: usize) {
        self.struct_size = size;
    }
}

impl From<Snapshot> for escope_breaker_stats {
    fn from(now: Snapshot) -> Self {
        let counts = now.counts;
        Self {
            struct_size: size_of::<Self>(),
            retry_after_ns: now.retry_after_ns,
            last_change_ns: now.last_change_ns,
            window_calls: now.window_calls,
            failures: now.failures,
            slow_calls: now.slow_calls,
            admitted: counts.admitted,
            succeeded: counts.succeeded,
            failed: counts.failed,
            ignored: counts.ignored,
            cancelled: counts.cancelled,
            stale: counts.stale,
            expired: counts.expired,
            reported: counts.reported,
            rejected_open: counts.rejected_open,
            rejected_half_open: counts.rejected_half_open,
            rejected_forced_open: counts.rejected_forced_open,
            rejected_degraded: counts.rejected_degraded,
            injected: counts.injected,
            phase: now.phase as i32,
            mode: now.mode as i32,
            level: now.level as i32,
            last_cause: now.last_cause.map_or(0, |cause| cause as i32),
            generation: now.generation,
            opens: now.opens,
            live_probes: now.live_probes,
            failure_rate_bp: now.failure_rate_bp,
            slow_call_rate_bp: now.slow_call_rate_bp,
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
pub unsafe extern "C" fn escope_breaker_stats_init(
    stats: *mut escope_breaker_stats,
    size: usize,
) -> escope_status {
    // SAFETY: the caller gives NULL or `size` writable bytes.
    guarded(|| unsafe { options::init(stats, size, "stats") }.map(|()| Status::Ok))
}

/// Reads a breaker's state and counters without changing it.
///
/// An open breaker whose time has passed still reads open: the next acquire changes it. The counters are
/// exact while no call is under way; then `admitted` minus `succeeded`, `failed`, `ignored`, `cancelled`, `stale` and
/// `expired` is the number of permits that were not recorded.
///
/// Ownership: `stats` stays the caller's.
///
/// @param breaker the breaker.
/// @param stats   receives the numbers; escope_breaker_stats_init sets it up.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_snapshot(
    breaker: *const escope_breaker,
    stats: *mut escope_breaker_stats,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { snapshot(breaker, stats, monotonic_ns) })
}

/// escope_breaker_snapshot at a given time.
///
/// Ownership: `stats` stays the caller's.
///
/// @param breaker the breaker.
/// @param stats   receives the numbers; escope_breaker_stats_init sets it up.
/// @param now_ns  the time.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_snapshot_at(
    breaker: *const escope_breaker,
    stats: *mut escope_breaker_stats,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { snapshot(breaker, stats, || now_ns) })
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn snapshot(
    breaker: *const escope_breaker,
    stats: *mut escope_breaker_stats,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (breaker, report) = unsafe { (input(breaker, "breaker")?, Report::new(stats, "stats")?) };
    report.set(breaker.core.snapshot(now).into());
    Ok(Status::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_have_the_size_that_programs_were_compiled_with() {
        assert_eq!(size_of::<escope_breaker_stats>(), escope_breaker_stats::FIRST_SIZE);
    }
}
