//! What the library must answer where the model says this or that.

use elixirscope::breaker::{BreakerConfig, Policy, RecordVerdict, RejectReason, Snapshot, Window};
use elixirscope::capi::breaker::stats::escope_breaker_stats;
use elixirscope::status::Status;

/// The statistics of a snapshot.
pub(super) fn statistics(now: &Snapshot) -> escope_breaker_stats {
    escope_breaker_stats {
        struct_size: size_of::<escope_breaker_stats>(),
        retry_after_ns: now.retry_after_ns,
        last_change_ns: now.last_change_ns,
        window_calls: now.window_calls,
        failures: now.failures,
        slow_calls: now.slow_calls,
        admitted: now.counts.admitted,
        succeeded: now.counts.succeeded,
        failed: now.counts.failed,
        ignored: now.counts.ignored,
        cancelled: now.counts.cancelled,
        stale: now.counts.stale,
        expired: now.counts.expired,
        reported: now.counts.reported,
        rejected_open: now.counts.rejected_open,
        rejected_half_open: now.counts.rejected_half_open,
        rejected_forced_open: now.counts.rejected_forced_open,
        rejected_degraded: now.counts.rejected_degraded,
        injected: 0,
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

/// The status of a rejection.
pub(super) fn refusal(reason: RejectReason) -> i32 {
    #[allow(unreachable_patterns)] // a build with fault injection has a reason more
    let status = match reason {
        RejectReason::Open => Status::CircuitOpen,
        RejectReason::HalfOpenFull => Status::HalfOpenFull,
        RejectReason::ForcedOpen => Status::ForcedOpen,
        RejectReason::Degraded => Status::ServiceDegraded,
        _ => unreachable!("nothing is injected"),
    };
    status as i32
}

/// The status of a verdict.
pub(super) fn told(verdict: RecordVerdict) -> i32 {
    let status = match verdict {
        RecordVerdict::Applied => Status::Ok,
        RecordVerdict::Stale => Status::Stale,
        RecordVerdict::Expired => Status::Expired,
        RecordVerdict::AlreadyDone => Status::AlreadyDone,
        RecordVerdict::NotFound => Status::PermitNotFound,
    };
    status as i32
}

/// Whether results are held in buckets of time.
pub(super) fn is_in_time(config: &BreakerConfig) -> bool {
    matches!(config.policy, Policy::Rate { window: Window::Time { .. }, .. })
}
