//! A breaker as seen at one moment, as a flat map by the names of the core's fields.

use elixirscope::breaker::Snapshot;
use rustler::{Atom, NifMap};

use crate::events::{cause_atom, level_atom, mode_atom, phase_atom};

#[derive(NifMap)]
pub struct Stats {
    state: Atom,
    mode: Atom,
    level: Atom,
    generation: u32,
    opens: u32,
    live_probes: u32,
    window_calls: u64,
    failures: u64,
    slow_calls: u64,
    failure_rate_bp: u32,
    slow_call_rate_bp: u32,
    retry_after_ns: u64,
    last_cause: Option<Atom>,
    last_change_ns: u64,

    admitted: u64,
    succeeded: u64,
    failed: u64,
    ignored: u64,
    cancelled: u64,
    stale: u64,
    expired: u64,
    reported: u64,
    rejected_open: u64,
    rejected_half_open: u64,
    rejected_forced_open: u64,
    rejected_degraded: u64,
    injected: u64,

    bytes: u64,
}

impl Stats {
    /// Of a breaker that takes so many bytes.
    pub fn of(now: Snapshot, bytes: usize) -> Self {
        let counts = now.counts;
        Self {
            state: phase_atom(now.phase),
            mode: mode_atom(now.mode),
            level: level_atom(now.level),
            generation: now.generation,
            opens: now.opens,
            live_probes: now.live_probes,
            window_calls: now.window_calls,
            failures: now.failures,
            slow_calls: now.slow_calls,
            failure_rate_bp: now.failure_rate_bp,
            slow_call_rate_bp: now.slow_call_rate_bp,
            retry_after_ns: now.retry_after_ns,
            last_cause: now.last_cause.map(cause_atom),
            last_change_ns: now.last_change_ns,
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
            bytes: bytes as u64,
        }
    }
}
