//! Options of a breaker as a flat map, by the names of the core's fields.
//!
//! Numbers come as 64 bits, so that one which is too large is refused as the core refuses it, by its name, value and
//! range, instead of as a wrong type.

use elixirscope::breaker::{BreakerConfig, GRADUAL_ADMIT_BP, Policy, WHOLE_BP, Weights, Window};
use elixirscope::error::ConfigError;
use rustler::{NifMap, NifUnitEnum};

/// Every option. A field that the policy does not have is not looked at.
#[derive(NifMap)]
pub struct Options {
    policy: PolicyName,
    failure_threshold: u64,
    tolerated_failures: u64,
    period_ns: u64,
    window_size: u64,
    buckets: u64,
    min_calls: u64,
    failure_rate_bp: u64,
    slow_call_rate_bp: u64,

    weight_success: u64,
    weight_failure: u64,
    weight_slow: u64,
    weight_ignored: u64,
    weight_cancelled: u64,
    slow_call_ns: u64,

    open_for_ns: u64,
    backoff_percent: u64,
    max_open_ns: u64,
    jitter_bp: u64,
    seed: u64,
    skip_half_open: bool,

    half_open_permits: u64,
    successes_to_close: u64,
    probe_lease_ns: u64,
    release_expired_probes: bool,
    half_open_limit_ns: u64,
    close_at_half_open_limit: bool,
    max_ignored_probes: u64,

    ramp_ns: u64,
    ramp_from_bp: u64,

    level_light_bp: u64,
    level_medium_bp: u64,
    level_heavy_bp: u64,
    strategy: Strategy,
    // Nil for what the strategy says.
    admit_bp: Option<u64>,
    admit_light_bp: Option<u64>,
    admit_medium_bp: Option<u64>,
    admit_heavy_bp: Option<u64>,

    probe_capacity: u64,
    window_capacity: u64,
}

#[derive(NifUnitEnum, Clone, Copy)]
enum PolicyName {
    ConsecutiveFailures,
    FailuresInPeriod,
    RateCount,
    RateTime,
}

#[derive(NifUnitEnum, Clone, Copy)]
enum Strategy {
    FailFast,
    GradualDegradation,
}

impl Options {
    /// The core's defaults.
    pub fn defaults() -> Self {
        let config = BreakerConfig::default();
        let [level_light_bp, level_medium_bp, level_heavy_bp] = config.level_bp.map(u64::from);
        Self {
            policy: PolicyName::ConsecutiveFailures,
            failure_threshold: Policy::DEFAULT_FAILURE_THRESHOLD.into(),
            tolerated_failures: Policy::DEFAULT_TOLERATED_FAILURES.into(),
            period_ns: Policy::DEFAULT_PERIOD_NS,
            window_size: Policy::DEFAULT_WINDOW_SIZE.into(),
            buckets: Policy::DEFAULT_BUCKETS.into(),
            min_calls: Policy::DEFAULT_MIN_CALLS.into(),
            failure_rate_bp: Policy::DEFAULT_FAILURE_RATE_BP.into(),
            slow_call_rate_bp: Policy::DEFAULT_SLOW_CALL_RATE_BP.into(),
            weight_success: config.weights.success.into(),
            weight_failure: config.weights.failure.into(),
            weight_slow: config.weights.slow.into(),
            weight_ignored: config.weights.ignored.into(),
            weight_cancelled: config.weights.cancelled.into(),
            slow_call_ns: config.slow_call_ns,
            open_for_ns: config.open_for_ns,
            backoff_percent: config.backoff_percent.into(),
            max_open_ns: config.max_open_ns,
            jitter_bp: config.jitter_bp.into(),
            seed: config.seed,
            skip_half_open: config.skip_half_open,
            half_open_permits: config.half_open_permits.into(),
            successes_to_close: config.successes_to_close.into(),
            probe_lease_ns: config.probe_lease_ns,
            release_expired_probes: config.release_expired_probes,
            half_open_limit_ns: config.half_open_limit_ns,
            close_at_half_open_limit: config.close_at_half_open_limit,
            max_ignored_probes: config.max_ignored_probes.into(),
            ramp_ns: config.ramp_ns,
            ramp_from_bp: config.ramp_from_bp.into(),
            level_light_bp,
            level_medium_bp,
            level_heavy_bp,
            strategy: Strategy::FailFast,
            admit_bp: None,
            admit_light_bp: None,
            admit_medium_bp: None,
            admit_heavy_bp: None,
            probe_capacity: config.probe_capacity.into(),
            window_capacity: config.window_capacity.into(),
        }
    }

    /// The core's configuration, or which number is out of its range.
    pub fn config(&self) -> Result<BreakerConfig, ConfigError> {
        let mut fit = Fit::default();
        let config = self.fitted(&mut fit);
        fit.checked(config)
    }

    fn fitted(&self, fit: &mut Fit) -> BreakerConfig {
        BreakerConfig {
            policy: self.policy(fit),
            weights: self.weights(fit),
            slow_call_ns: self.slow_call_ns,
            open_for_ns: self.open_for_ns,
            backoff_percent: fit.count("backoff_percent", self.backoff_percent),
            max_open_ns: self.max_open_ns,
            jitter_bp: fit.count("jitter_bp", self.jitter_bp),
            seed: self.seed,
            skip_half_open: self.skip_half_open,
            half_open_permits: fit.count("half_open_permits", self.half_open_permits),
            successes_to_close: fit.count("successes_to_close", self.successes_to_close),
            probe_lease_ns: self.probe_lease_ns,
            release_expired_probes: self.release_expired_probes,
            half_open_limit_ns: self.half_open_limit_ns,
            close_at_half_open_limit: self.close_at_half_open_limit,
            max_ignored_probes: fit.count("max_ignored_probes", self.max_ignored_probes),
            ramp_ns: self.ramp_ns,
            ramp_from_bp: fit.count("ramp_from_bp", self.ramp_from_bp),
            level_bp: [
                fit.count("level_light_bp", self.level_light_bp),
                fit.count("level_medium_bp", self.level_medium_bp),
                fit.count("level_heavy_bp", self.level_heavy_bp),
            ],
            admit_bp: self.admit_bp(fit),
            probe_capacity: fit.count("probe_capacity", self.probe_capacity),
            window_capacity: fit.count("window_capacity", self.window_capacity),
        }
    }

    fn policy(&self, fit: &mut Fit) -> Policy {
        match self.policy {
            PolicyName::ConsecutiveFailures => Policy::ConsecutiveFailures {
                failure_threshold: fit.count("failure_threshold", self.failure_threshold),
            },
            PolicyName::FailuresInPeriod => Policy::FailuresInPeriod {
                tolerated_failures: fit.count("tolerated_failures", self.tolerated_failures),
                period_ns: self.period_ns,
            },
            PolicyName::RateCount => {
                let size = fit.count("window_size", self.window_size);
                self.rate(Window::Count { size }, fit)
            }
            PolicyName::RateTime => {
                let buckets = fit.count("buckets", self.buckets);
                self.rate(Window::Time { period_ns: self.period_ns, buckets }, fit)
            }
        }
    }

    fn rate(&self, window: Window, fit: &mut Fit) -> Policy {
        Policy::Rate {
            window,
            min_calls: fit.count("min_calls", self.min_calls),
            failure_rate_bp: fit.count("failure_rate_bp", self.failure_rate_bp),
            slow_call_rate_bp: fit.count("slow_call_rate_bp", self.slow_call_rate_bp),
        }
    }

    fn weights(&self, fit: &mut Fit) -> Weights {
        Weights {
            success: fit.weight("weight_success", self.weight_success),
            failure: fit.weight("weight_failure", self.weight_failure),
            slow: fit.weight("weight_slow", self.weight_slow),
            ignored: fit.weight("weight_ignored", self.weight_ignored),
            cancelled: fit.weight("weight_cancelled", self.weight_cancelled),
        }
    }

    fn admit_bp(&self, fit: &mut Fit) -> [u32; 4] {
        let mut admit_bp = match self.strategy {
            Strategy::FailFast => [WHOLE_BP; 4],
            Strategy::GradualDegradation => GRADUAL_ADMIT_BP,
        };
        let given = [
            ("admit_bp", self.admit_bp),
            ("admit_light_bp", self.admit_light_bp),
            ("admit_medium_bp", self.admit_medium_bp),
            ("admit_heavy_bp", self.admit_heavy_bp),
        ];
        for (share, (argument, value)) in admit_bp.iter_mut().zip(given) {
            if let Some(value) = value {
                *share = fit.count(argument, value);
            }
        }
        admit_bp
    }
}

/// Narrows numbers to the core's fields. One that is too large becomes the field's largest, which the core refuses by
/// its range; the refusal then tells the number that was given.
#[derive(Default)]
struct Fit {
    too_large: Vec<(&'static str, u64)>,
}

impl Fit {
    fn count(&mut self, argument: &'static str, value: u64) -> u32 {
        u32::try_from(value).unwrap_or_else(|_| {
            self.too_large.push((argument, value));
            u32::MAX
        })
    }

    fn weight(&mut self, argument: &'static str, value: u64) -> u8 {
        u8::try_from(value).unwrap_or_else(|_| {
            self.too_large.push((argument, value));
            u8::MAX
        })
    }

    fn checked(self, config: BreakerConfig) -> Result<BreakerConfig, ConfigError> {
        if let Err(error) = config.validate() {
            let given = self.too_large.iter().find(|(argument, _)| *argument == error.argument);
            return Err(ConfigError { value: given.map_or(error.value, |(_, value)| *value), ..error });
        }
        match self.too_large.first() {
            // Only where the core allows all that its field holds: the calls of a time window.
            Some((argument, value)) => {
                Err(ConfigError { argument, value: *value, allowed: "1 to 4294967295" })
            }
            None => Ok(config),
        }
    }
}
