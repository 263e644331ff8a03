//! What a breaker is told at its creation, and by a reconfiguration.
//!
//! The core's configuration has its policy as an enum; here its fields lie side by side, and `policy` says which of
//! them are looked at. The core checks the values; what is checked here is what the core's types cannot hold.

use super::super::boundary::{Failure, guarded, invalid};
use super::super::options::{self, Growing};
use super::super::status::escope_status;
use crate::breaker::{BreakerConfig, GRADUAL_ADMIT_BP, MAX_WEIGHT, Policy, Weights, Window};
use crate::status::Status;

/// Opens at the `failure_threshold`th failure in a row.
pub const ESCOPE_POLICY_CONSECUTIVE_FAILURES: i32 = 0;
/// Opens at the first failure beyond `tolerated_failures` within `period_ns`; one exactly so old does not count.
pub const ESCOPE_POLICY_FAILURES_IN_PERIOD: i32 = 1;
/// Opens when of the last `window_size` results too large a share failed or was slow.
pub const ESCOPE_POLICY_RATE_COUNT: i32 = 2;
/// Opens when of the results within `period_ns` too large a share failed or was slow.
pub const ESCOPE_POLICY_RATE_TIME: i32 = 3;

/// A closed breaker admits every call whatever its level: the levels are only told.
pub const ESCOPE_STRATEGY_FAIL_FAST: i32 = 0;
/// A closed breaker admits `admit_bp` of the calls, or at a level `admit_light_bp`, `_medium_bp` or `_heavy_bp`; the
/// others get SERVICE_DEGRADED.
pub const ESCOPE_STRATEGY_GRADUAL_DEGRADATION: i32 = 1;

/// How a breaker behaves. Set it up with escope_breaker_options_init, then change what you need.
///
/// Times are nanoseconds up to 2^62 - 1. Shares (`_bp`) are basis points: 10000 is all. A switch is 0 or 1.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct escope_breaker_options {
    /// Size of this struct as the program was compiled.
    pub struct_size: usize,
    /// How far a policy looks back in time, FAILURES_IN_PERIOD and RATE_TIME. Default 60 s.
    pub period_ns: u64,
    /// A call that takes longer is slow; 0, the default, measures none. Measuring reads the clock twice a call.
    pub slow_call_ns: u64,
    /// How long an open breaker refuses every call. Default 30 s.
    pub open_for_ns: u64,
    /// The open time grows up to here, at least `open_for_ns`; 0, the default, for no cap of its own.
    pub max_open_ns: u64,
    /// Where jitter comes from: breakers with the same seed and history open for the same times. Default 0.
    pub seed: u64,
    /// How long a probe may stay without a result. Default 60 s.
    pub probe_lease_ns: u64,
    /// A half-open round without a verdict ends so long after it began; 0, the default, for never.
    pub half_open_limit_ns: u64,
    /// After probes have closed the breaker, its admitted share grows linearly over this time; 0, the default, admits
    /// all at once.
    pub ramp_ns: u64,
    /// ESCOPE_POLICY_*: when a closed breaker opens. Default CONSECUTIVE_FAILURES.
    pub policy: i32,
    /// ESCOPE_STRATEGY_*: what the levels do. Default FAIL_FAST.
    pub strategy: i32,
    /// CONSECUTIVE_FAILURES: failures in a row that open, 1 to 536870911. Default 5.
    pub failure_threshold: u32,
    /// FAILURES_IN_PERIOD: failures that do not open yet, 0 to 65535. Default 4.
    pub tolerated_failures: u32,
    /// RATE_COUNT: results that are looked at, 1 to 65535. Default 100.
    pub window_size: u32,
    /// RATE_TIME: parts of the period, 1 to 256, of at least 1 ms each; results older by up to one part may count.
    /// Default 10.
    pub buckets: u32,
    /// RATE_*: with fewer results in the window the breaker never opens; 1 or more, up to `window_size`. Default 10.
    pub min_calls: u32,
    /// RATE_*: share of failed calls that opens, 1 to 10000. Default 5000.
    pub failure_rate_bp: u32,
    /// RATE_*: share of slow calls that opens, 1 to 10000; looked at if `slow_call_ns` is not 0. Default 10000.
    pub slow_call_rate_bp: u32,
    /// How many failures a success counts as, 0 to 15. Default 0.
    pub weight_success: u32,
    /// How many failures a failure counts as, 1 to 15. Default 1.
    pub weight_failure: u32,
    /// How many failures a slow success counts as, 0 to 15. Default 0.
    pub weight_slow: u32,
    /// How many failures an ignored result counts as, 0 to 15. Default 0.
    pub weight_ignored: u32,
    /// How many failures a cancelled call counts as, 0 to 15. Default 0.
    pub weight_cancelled: u32,
    /// Growth of the open time with each re-opening since the breaker was last closed, in per cent: 100, the default,
    /// for none, or 120 to 10000.
    pub backoff_percent: u32,
    /// The open time is spread by up to this share to either side, 0, the default, to 9999.
    pub jitter_bp: u32,
    /// Switch: an open breaker closes when its time is over, without probes. Default 0.
    pub skip_half_open: u32,
    /// Probes that a half-open round admits, 1 to 64. Default 1.
    pub half_open_permits: u32,
    /// Successful probes that close the breaker, 1 to `half_open_permits`. Default 1.
    pub successes_to_close: u32,
    /// Switch: a probe whose lease is over gives its place back, instead of counting as failed. Default 0.
    pub release_expired_probes: u32,
    /// Switch: a round that reaches `half_open_limit_ns` ends closed, instead of open. Default 0.
    pub close_at_half_open_limit: u32,
    /// The so-manyth ignored probe of a round opens the breaker again; 0, the default, for never; up to 4095.
    pub max_ignored_probes: u32,
    /// Share that is admitted when a ramp begins, 1 to 10000. Default 1000.
    pub ramp_from_bp: u32,
    /// Used share of the trip budget from which on a closed breaker is degraded lightly, 1 to 10000. Default 4000.
    pub level_light_bp: u32,
    /// The same for medium, `level_light_bp` or more. Default 6000.
    pub level_medium_bp: u32,
    /// The same for heavy, `level_medium_bp` or more. Default 8000.
    pub level_heavy_bp: u32,
    /// GRADUAL_DEGRADATION: share of calls admitted without degradation, 0 to 10000. Default 10000.
    pub admit_bp: u32,
    /// GRADUAL_DEGRADATION: the same at level light. Default 8000.
    pub admit_light_bp: u32,
    /// GRADUAL_DEGRADATION: the same at level medium. Default 5000.
    pub admit_medium_bp: u32,
    /// GRADUAL_DEGRADATION: the same at level heavy. Default 2000.
    pub admit_heavy_bp: u32,
    /// Probes that escope_breaker_reconfigure may ask for later, up to 64; 0, the default, for `half_open_permits` and
    /// at least 8. Fixed at creation.
    pub probe_capacity: u32,
    /// Results that escope_breaker_reconfigure may ask a window to hold later, up to 65536; 0, the default, for those
    /// that the policy needs. Fixed at creation. Sixteen bytes each.
    pub window_capacity: u32,
}

// SAFETY: repr(C), `struct_size` first, integers only; 9 * 8 + 32 * 4 bytes leave no padding.
unsafe impl Growing for escope_breaker_options {
    const FIRST_SIZE: usize = 200;

    fn set_struct_size(&mut self, size: usize) {
        self.struct_size = size;
    }
}

impl Default for escope_breaker_options {
    fn default() -> Self {
        let config = BreakerConfig::default();
        let Weights { success, failure, slow, ignored, cancelled } = config.weights;
        let [level_light_bp, level_medium_bp, level_heavy_bp] = config.level_bp;
        let [admit_bp, admit_light_bp, admit_medium_bp, admit_heavy_bp] = GRADUAL_ADMIT_BP;
        Self {
            struct_size: size_of::<Self>(),
            period_ns: Policy::DEFAULT_PERIOD_NS,
            slow_call_ns: config.slow_call_ns,
            open_for_ns: config.open_for_ns,
            max_open_ns: config.max_open_ns,
            seed: config.seed,
            probe_lease_ns: config.probe_lease_ns,
            half_open_limit_ns: config.half_open_limit_ns,
            ramp_ns: config.ramp_ns,
            policy: ESCOPE_POLICY_CONSECUTIVE_FAILURES,
            strategy: ESCOPE_STRATEGY_FAIL_FAST,
            failure_threshold: Policy::DEFAULT_FAILURE_THRESHOLD,
            tolerated_failures: Policy::DEFAULT_TOLERATED_FAILURES,
            window_size: Policy::DEFAULT_WINDOW_SIZE,
            buckets: Policy::DEFAULT_BUCKETS,
            min_calls: Policy::DEFAULT_MIN_CALLS,
            failure_rate_bp: Policy::DEFAULT_FAILURE_RATE_BP,
            slow_call_rate_bp: Policy::DEFAULT_SLOW_CALL_RATE_BP,
            weight_success: success.into(),
            weight_failure: failure.into(),
            weight_slow: slow.into(),
            weight_ignored: ignored.into(),
            weight_cancelled: cancelled.into(),
            backoff_percent: config.backoff_percent,
            jitter_bp: config.jitter_bp,
            skip_half_open: config.skip_half_open.into(),
            half_open_permits: config.half_open_permits,
            successes_to_close: config.successes_to_close,
            release_expired_probes: config.release_expired_probes.into(),
            close_at_half_open_limit: config.close_at_half_open_limit.into(),
            max_ignored_probes: config.max_ignored_probes,
            ramp_from_bp: config.ramp_from_bp,
            level_light_bp,
            level_medium_bp,
            level_heavy_bp,
            admit_bp,
            admit_light_bp,
            admit_medium_bp,
            admit_heavy_bp,
            probe_capacity: config.probe_capacity,
            window_capacity: config.window_capacity,
        }
    }
}

impl escope_breaker_options {
    /// The core's configuration.
    pub(super) fn config(&self) -> Result<BreakerConfig, Failure> {
        Ok(BreakerConfig {
            policy: self.policy()?,
            weights: self.weights()?,
            slow_call_ns: self.slow_call_ns,
            open_for_ns: self.open_for_ns,
            backoff_percent: self.backoff_percent,
            max_open_ns: self.max_open_ns,
            jitter_bp: self.jitter_bp,
            seed: self.seed,
            skip_half_open: switch("skip_half_open", self.skip_half_open)?,
            half_open_permits: self.half_open_permits,
            successes_to_close: self.successes_to_close,
            probe_lease_ns: self.probe_lease_ns,
            release_expired_probes: switch("release_expired_probes", self.release_expired_probes)?,
            half_open_limit_ns: self.half_open_limit_ns,
            close_at_half_open_limit: switch("close_at_half_open_limit", self.close_at_half_open_limit)?,
            max_ignored_probes: self.max_ignored_probes,
            ramp_ns: self.ramp_ns,
            ramp_from_bp: self.ramp_from_bp,
            level_bp: [self.level_light_bp, self.level_medium_bp, self.level_heavy_bp],
            admit_bp: self.admitted_shares()?,
            probe_capacity: self.probe_capacity,
            window_capacity: self.window_capacity,
        })
    }

    fn policy(&self) -> Result<Policy, Failure> {
        let rate = |window| Policy::Rate {
            window,
            min_calls: self.min_calls,
            failure_rate_bp: self.failure_rate_bp,
            slow_call_rate_bp: self.slow_call_rate_bp,
        };
        match self.policy {
            ESCOPE_POLICY_CONSECUTIVE_FAILURES => {
                Ok(Policy::ConsecutiveFailures { failure_threshold: self.failure_threshold })
            }
            ESCOPE_POLICY_FAILURES_IN_PERIOD => Ok(Policy::FailuresInPeriod {
                tolerated_failures: self.tolerated_failures,
                period_ns: self.period_ns,
            }),
            ESCOPE_POLICY_RATE_COUNT => Ok(rate(Window::Count { size: self.window_size })),
            ESCOPE_POLICY_RATE_TIME => {
                Ok(rate(Window::Time { period_ns: self.period_ns, buckets: self.buckets }))
            }
            other => Err(invalid(
                "policy",
                other,
                "0 (consecutive failures), 1 (failures in period), 2 (rate, count window) or 3 (rate, time window)",
            )),
        }
    }

    fn weights(&self) -> Result<Weights, Failure> {
        Ok(Weights {
            success: weight("weight_success", self.weight_success, 0)?,
            failure: weight("weight_failure", self.weight_failure, 1)?,
            slow: weight("weight_slow", self.weight_slow, 0)?,
            ignored: weight("weight_ignored", self.weight_ignored, 0)?,
            cancelled: weight("weight_cancelled", self.weight_cancelled, 0)?,
        })
    }

    fn admitted_shares(&self) -> Result<[u32; 4], Failure> {
        match self.strategy {
            ESCOPE_STRATEGY_FAIL_FAST => Ok(BreakerConfig::default().admit_bp),
            ESCOPE_STRATEGY_GRADUAL_DEGRADATION => {
                Ok([self.admit_bp, self.admit_light_bp, self.admit_medium_bp, self.admit_heavy_bp])
            }
            other => Err(invalid("strategy", other, "0 (fail fast) or 1 (gradual degradation)")),
        }
    }
}

fn switch(argument: &str, value: u32) -> Result<bool, Failure> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(invalid(argument, other, "0 or 1")),
    }
}

/// A weight as the core holds it; `least` is only for the sentence, the core checks it.
fn weight(argument: &str, value: u32, least: u8) -> Result<u8, Failure> {
    u8::try_from(value).map_err(|_| invalid(argument, value, format_args!("{least} to {MAX_WEIGHT}")))
}

/// Fills breaker options with the defaults.
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
pub unsafe extern "C" fn escope_breaker_options_init(
    options: *mut escope_breaker_options,
    size: usize,
) -> escope_status {
    // SAFETY: the caller gives NULL or `size` writable bytes.
    guarded(|| unsafe { options::init(options, size, "options") }.map(|()| Status::Ok))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_cores() {
        let options = escope_breaker_options::default();
        assert_eq!(options.config(), Ok(BreakerConfig::default()));
        assert_eq!(size_of::<escope_breaker_options>(), escope_breaker_options::FIRST_SIZE);
    }

    #[test]
    fn what_another_policy_begins_with_is_valid() {
        for policy in ESCOPE_POLICY_CONSECUTIVE_FAILURES..=ESCOPE_POLICY_RATE_TIME {
            for strategy in ESCOPE_STRATEGY_FAIL_FAST..=ESCOPE_STRATEGY_GRADUAL_DEGRADATION {
                let options = escope_breaker_options { policy, strategy, ..Default::default() };
                let config = options.config().expect("each field has a default");
                assert_eq!(config.validate(), Ok(()));
            }
        }
    }

    #[test]
    fn gradual_degradation_begins_with_the_cores_shares() {
        let strategy = ESCOPE_STRATEGY_GRADUAL_DEGRADATION;
        let options = escope_breaker_options { strategy, ..Default::default() };
        assert_eq!(options.config().map(|config| config.admit_bp), Ok(GRADUAL_ADMIT_BP));
    }
}
