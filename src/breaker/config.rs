//! What a circuit breaker is told at its creation, and may be told anew while it runs.

use super::control::{MAX_FAILURE_THRESHOLD, MAX_PERMITS};
use crate::error::ConfigError;

/// Longest duration that a configuration may name: 2^62 - 1 ns, 146 years.
pub const MAX_DURATION_NS: u64 = (1 << 62) - 1;
/// All of something, in basis points.
pub const WHOLE_BP: u32 = 10_000;

/// Most failures that a period may tolerate, and most results that a count window may hold.
pub const MAX_WINDOW: u32 = 65_535;
/// Most buckets of a time window.
pub const MAX_BUCKETS: u32 = 256;
/// Shortest bucket of a time window: 1 ms.
pub const MIN_BUCKET_NS: u64 = 1_000_000;
/// Most ignored probes that a round may be told to bear.
pub const MAX_IGNORED: u32 = 4_095;
/// Largest weight of an outcome.
pub const MAX_WEIGHT: u8 = 15;
/// Smallest growth of the open time that is one: with it the cap is reached within 255 opens, which is as far
/// as a breaker counts them.
const MIN_GROWTH_PERCENT: u32 = 120;
const MAX_GROWTH_PERCENT: u32 = 10_000;

/// When a closed breaker opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// At the `failure_threshold`th failure in a row.
    ConsecutiveFailures {
        /// 1 to 536,870,911.
        failure_threshold: u32,
    },
    /// At the first failure beyond `tolerated_failures` within `period_ns`. A failure counts while it is younger than that:
    /// one exactly so old does not.
    FailuresInPeriod {
        /// 0 to 65,535.
        tolerated_failures: u32,
        /// 1 to 2^62 - 1 nanoseconds.
        period_ns: u64,
    },
    /// When of the calls in a window too large a share failed or was slow, looked at after every result.
    Rate {
        /// The calls that are looked at.
        window: Window,
        /// With fewer calls in the window it never opens; at most the size of a count window.
        min_calls: u32,
        /// Share of failed calls that opens, in basis points: 1 to 10,000.
        failure_rate_bp: u32,
        /// Share of slow calls that opens, in basis points: 1 to 10,000; looked at if `slow_call_ns` is not 0.
        slow_call_rate_bp: u32,
    },
}

/// Which calls a rate is taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The last `size` results, 1 to 65,535.
    Count {
        /// Results.
        size: u32,
    },
    /// The results of the last `period_ns`, held in buckets: up to one bucket's length older ones may be counted
    /// too, no younger one is missed. A bucket counts its first 4,194,303 calls, or those before their weights come near
    /// that sum.
    Time {
        /// At least 1 ms a bucket.
        period_ns: u64,
        /// 1 to 256.
        buckets: u32,
    },
}

/// How many failures a result counts as, by its outcome: 0 to 15. An outcome with a weight is a failure of that
/// weight. Without one, ignored and cancelled results count as nothing, the others as successes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// 0 by default.
    pub success: u8,
    /// 1 by default; at least 1. A rate is taken in units of it.
    pub failure: u8,
    /// A success that was slow. 0 by default.
    pub slow: u8,
    /// 0 by default.
    pub ignored: u8,
    /// 0 by default.
    pub cancelled: u8,
}

/// Configuration of a [`Breaker`](super::Breaker).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// When it opens. Five consecutive failures by default.
    pub policy: Policy,
    /// What each outcome counts.
    pub weights: Weights,
    /// A call that takes longer is slow; 0, the default, measures none. Measuring reads the clock twice a call.
    pub slow_call_ns: u64,

    /// How long an open breaker rejects before it admits a probe. 30 s by default.
    pub open_for_ns: u64,
    /// Growth of the open time with each re-opening since the breaker was last closed, in per cent: 100, the
    /// default, for none, or 120 to 10,000. Each step is rounded up to a nanosecond.
    pub backoff_percent: u32,
    /// The open time grows up to here, at least `open_for_ns`; 0, the default, for no cap of its own.
    pub max_open_ns: u64,
    /// The open time is spread by up to this share to either side, in basis points: 0, the default, to 9,999.
    pub jitter_bp: u32,
    /// Where the spread comes from: breakers with the same seed and history open for the same times. 0 by default.
    pub seed: u64,
    /// Whether an open breaker closes when its time is over, without probes. No by default.
    pub skip_half_open: bool,

    /// Probes that a half-open round admits, 1 to 64. 1 by default.
    pub half_open_permits: u32,
    /// Successful probes that close a half-open breaker, 1 to `half_open_permits`. 1 by default.
    pub successes_to_close: u32,
    /// How long a probe may stay without a result. 60 s by default.
    pub probe_lease_ns: u64,
    /// Whether a probe whose lease is over gives its place back, instead of counting as failed. No by default.
    pub release_expired_probes: bool,
    /// A round without a verdict ends so long after it began; 0, the default, for never.
    pub half_open_limit_ns: u64,
    /// Whether such a round ends closed, instead of open. No by default.
    pub close_at_half_open_limit: bool,
    /// The so-manyth ignored probe of a round opens the breaker again; 0, the default, for never. At most 4,095.
    pub max_ignored_probes: u32,

    /// After a round of probes has closed the breaker, its admitted share grows linearly over this time; 0, the default,
    /// admits all at once.
    pub ramp_ns: u64,
    /// Share that is admitted when the ramp begins, in basis points: 1 to 10,000. 1,000 by default.
    pub ramp_from_bp: u32,

    /// Shares of the trip budget from which on a closed breaker is degraded: light, medium, heavy, in basis points,
    /// none below the one before. 4,000, 6,000 and 8,000 by default.
    pub level_bp: [u32; 3],
    /// Shares of calls that a closed breaker admits without degradation and at light, medium and heavy, in basis points.
    /// All by default: the levels are only told.
    pub admit_bp: [u32; 4],

    /// Probes that a later reconfiguration may ask for, at most 64; 0, the default, for `half_open_permits` and at
    /// least 8. Fixed at creation.
    pub probe_capacity: u32,
    /// Results that a later reconfiguration may ask a window to hold; 0, the default, for those that `policy`
    /// needs. Fixed at creation. Sixteen bytes each.
    pub window_capacity: u32,
}

/// [`BreakerConfig::admit_bp`] of gradual degradation: all, 80 %, 50 %, 20 %.
pub const GRADUAL_ADMIT_BP: [u32; 4] = [WHOLE_BP, 8_000, 5_000, 2_000];

/// What the fields of a policy are where somebody names the policy and not them: for a language whose options have
/// defaults.
impl Policy {
    /// The fifth failure in a row opens.
    pub const DEFAULT_FAILURE_THRESHOLD: u32 = 5;
    /// So does the fifth within a period.
    pub const DEFAULT_TOLERATED_FAILURES: u32 = Self::DEFAULT_FAILURE_THRESHOLD - 1;
    /// A minute.
    pub const DEFAULT_PERIOD_NS: u64 = 60_000_000_000;
    /// Results of a count window.
    pub const DEFAULT_WINDOW_SIZE: u32 = 100;
    /// Parts of a time window.
    pub const DEFAULT_BUCKETS: u32 = 10;
    /// Calls without which a rate is none.
    pub const DEFAULT_MIN_CALLS: u32 = 10;
    /// Half of the calls.
    pub const DEFAULT_FAILURE_RATE_BP: u32 = 5_000;
    /// All of them.
    pub const DEFAULT_SLOW_CALL_RATE_BP: u32 = WHOLE_BP;
}

impl Default for Policy {
    fn default() -> Self {
        Self::ConsecutiveFailures { failure_threshold: Self::DEFAULT_FAILURE_THRESHOLD }
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self { success: 0, failure: 1, slow: 0, ignored: 0, cancelled: 0 }
    }
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            weights: Weights::default(),
            slow_call_ns: 0,
            open_for_ns: 30_000_000_000,
            backoff_percent: 100,
            max_open_ns: 0,
            jitter_bp: 0,
            seed: 0,
            skip_half_open: false,
            half_open_permits: 1,
            successes_to_close: 1,
            probe_lease_ns: 60_000_000_000,
            release_expired_probes: false,
            half_open_limit_ns: 0,
            close_at_half_open_limit: false,
            max_ignored_probes: 0,
            ramp_ns: 0,
            ramp_from_bp: 1_000,
            level_bp: [4_000, 6_000, 8_000],
            admit_bp: [WHOLE_BP; 4],
            probe_capacity: 0,
            window_capacity: 0,
        }
    }
}

impl BreakerConfig {
    /// The default policy with another threshold.
    pub fn consecutive_failures(failure_threshold: u32) -> Self {
        Self { policy: Policy::ConsecutiveFailures { failure_threshold }, ..Self::default() }
    }

    /// Refuses a value that is out of range, naming the first one.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_policy()?;
        self.validate_weights()?;
        self.validate_open()?;
        self.validate_half_open()?;
        self.validate_shares()?;
        check("probe_capacity", self.probe_capacity, 0..=MAX_PERMITS, "0 to 64")?;
        if self.probe_capacity != 0 {
            let permits = self.half_open_permits;
            check("probe_capacity", self.probe_capacity, permits..=MAX_PERMITS, "half_open_permits to 64")?;
        }
        check("window_capacity", self.window_capacity, 0..=MAX_WINDOW + 1, "0 to 65536")?;
        let needed = self.policy.entries();
        let is_enough = self.window_capacity == 0 || self.window_capacity >= needed;
        require(is_enough, "window_capacity", self.window_capacity, "0, or what the policy needs, to 65536")
    }

    /// Places for probes that a breaker of this configuration gets.
    pub fn probe_places(&self) -> usize {
        let places =
            if self.probe_capacity == 0 { self.half_open_permits.max(8) } else { self.probe_capacity };
        places as usize
    }

    /// Words of window memory that a breaker of this configuration gets: one, and a power of two of entries.
    pub fn window_places(&self) -> usize {
        match self.window_capacity.max(self.policy.entries()) {
            0 => 0,
            entries => 1 + entries.next_power_of_two() as usize,
        }
    }

    fn validate_policy(&self) -> Result<(), ConfigError> {
        const SHARE: &str = "1 to 10000 basis points";
        match self.policy {
            Policy::ConsecutiveFailures { failure_threshold } => {
                check("failure_threshold", failure_threshold, 1..=MAX_FAILURE_THRESHOLD, "1 to 536870911")
            }
            Policy::FailuresInPeriod { tolerated_failures, period_ns } => {
                check("tolerated_failures", tolerated_failures, 0..=MAX_WINDOW, "0 to 65535")?;
                duration("period_ns", period_ns, 1)
            }
            Policy::Rate { window, min_calls, failure_rate_bp, slow_call_rate_bp } => {
                match window {
                    Window::Count { size } => {
                        check("window_size", size, 1..=MAX_WINDOW, "1 to 65535")?;
                        check("min_calls", min_calls, 1..=size, "1 to window_size")?;
                    }
                    Window::Time { period_ns, buckets } => {
                        check("buckets", buckets, 1..=MAX_BUCKETS, "1 to 256")?;
                        duration("period_ns", period_ns, 1)?;
                        let bucket_ns = period_ns / u64::from(buckets);
                        require(
                            bucket_ns >= MIN_BUCKET_NS,
                            "period_ns",
                            period_ns,
                            "at least 1000000 for each bucket",
                        )?;
                        require(min_calls >= 1, "min_calls", min_calls, "1 to 4294967295")?;
                    }
                }
                check("failure_rate_bp", failure_rate_bp, 1..=WHOLE_BP, SHARE)?;
                check("slow_call_rate_bp", slow_call_rate_bp, 1..=WHOLE_BP, SHARE)
            }
        }
    }

    fn validate_weights(&self) -> Result<(), ConfigError> {
        let Weights { success, failure, slow, ignored, cancelled } = self.weights;
        let allowed = 0..=MAX_WEIGHT;
        check("weight_success", success, allowed.clone(), "0 to 15")?;
        check("weight_failure", failure, 1..=MAX_WEIGHT, "1 to 15")?;
        check("weight_slow", slow, allowed.clone(), "0 to 15")?;
        check("weight_ignored", ignored, allowed.clone(), "0 to 15")?;
        check("weight_cancelled", cancelled, allowed, "0 to 15")?;
        duration("slow_call_ns", self.slow_call_ns, 0)
    }

    fn validate_open(&self) -> Result<(), ConfigError> {
        duration("open_for_ns", self.open_for_ns, 0)?;
        let grows = (MIN_GROWTH_PERCENT..=MAX_GROWTH_PERCENT).contains(&self.backoff_percent);
        require(
            self.backoff_percent == 100 || grows,
            "backoff_percent",
            self.backoff_percent,
            "100, or 120 to 10000",
        )?;
        duration("max_open_ns", self.max_open_ns, 0)?;
        let is_cap = self.max_open_ns == 0 || self.max_open_ns >= self.open_for_ns;
        require(is_cap, "max_open_ns", self.max_open_ns, "0, or open_for_ns to 2^62 - 1")?;
        check("jitter_bp", self.jitter_bp, 0..=WHOLE_BP - 1, "0 to 9999 basis points")
    }

    fn validate_half_open(&self) -> Result<(), ConfigError> {
        check("half_open_permits", self.half_open_permits, 1..=MAX_PERMITS, "1 to 64")?;
        let successes = 1..=self.half_open_permits;
        check("successes_to_close", self.successes_to_close, successes, "1 to half_open_permits")?;
        duration("probe_lease_ns", self.probe_lease_ns, 1)?;
        duration("half_open_limit_ns", self.half_open_limit_ns, 0)?;
        check("max_ignored_probes", self.max_ignored_probes, 0..=MAX_IGNORED, "0 to 4095")
    }

    fn validate_shares(&self) -> Result<(), ConfigError> {
        duration("ramp_ns", self.ramp_ns, 0)?;
        check("ramp_from_bp", self.ramp_from_bp, 1..=WHOLE_BP, "1 to 10000 basis points")?;
        let [light, medium, heavy] = self.level_bp;
        check("level_light_bp", light, 1..=WHOLE_BP, "1 to 10000 basis points")?;
        check("level_medium_bp", medium, light..=WHOLE_BP, "level_light_bp to 10000 basis points")?;
        check("level_heavy_bp", heavy, medium..=WHOLE_BP, "level_medium_bp to 10000 basis points")?;
        let names = ["admit_bp", "admit_light_bp", "admit_medium_bp", "admit_heavy_bp"];
        let shares = names.into_iter().zip(self.admit_bp);
        shares
            .into_iter()
            .try_for_each(|(name, share)| check(name, share, 0..=WHOLE_BP, "0 to 10000 basis points"))
    }
}

impl Policy {
    /// Entries of window memory that the policy needs.
    pub(super) fn entries(&self) -> u32 {
        match *self {
            Self::ConsecutiveFailures { .. } => 0,
            Self::FailuresInPeriod { tolerated_failures, .. } => tolerated_failures + 1,
            Self::Rate { window: Window::Count { size }, .. } => size,
            // The bucket that `now` lies in, besides those of the whole period before it.
            Self::Rate { window: Window::Time { buckets, .. }, .. } => buckets + 1,
        }
    }
}

fn require(
    ok: bool,
    argument: &'static str,
    value: impl Into<u64>,
    allowed: &'static str,
) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(ConfigError { argument, value: value.into(), allowed }) }
}

fn check<T: PartialOrd + Copy + Into<u64>>(
    argument: &'static str,
    value: T,
    range: std::ops::RangeInclusive<T>,
    allowed: &'static str,
) -> Result<(), ConfigError> {
    require(range.contains(&value), argument, value, allowed)
}

fn duration(argument: &'static str, value: u64, least: u64) -> Result<(), ConfigError> {
    let allowed = if least == 0 { "0 to 2^62 - 1" } else { "1 to 2^62 - 1" };
    check(argument, value, least..=MAX_DURATION_NS, allowed)
}
