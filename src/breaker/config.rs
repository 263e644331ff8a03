//! What a circuit breaker is told at its creation.

use super::control::{MAX_FAILURE_THRESHOLD, MAX_PERMITS};
use crate::error::ConfigError;

/// Longest duration that a configuration may name: 2^62 - 1 ns, 146 years.
pub const MAX_DURATION_NS: u64 = (1 << 62) - 1;

/// Configuration of a [`Breaker`](super::Breaker).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct BreakerConfig {
    /// How long an open breaker rejects before it admits a probe, in nanoseconds. 30 s by default.
    pub open_for_ns: u64,
    /// How long a probe may stay without a result before it counts as failed, in nanoseconds. 60 s by default.
    pub probe_lease_ns: u64,
    /// Consecutive failures that open a closed breaker: the call that makes it so many opens it. 5 by default.
    pub failure_threshold: u32,
    /// Probes that a half-open round admits, 1 to 64. 1 by default.
    pub half_open_permits: u32,
    /// Successful probes that close a half-open breaker, 1 to `half_open_permits`. 1 by default.
    pub successes_to_close: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            open_for_ns: 30_000_000_000,
            probe_lease_ns: 60_000_000_000,
            failure_threshold: 5,
            half_open_permits: 1,
            successes_to_close: 1,
        }
    }
}

impl BreakerConfig {
    /// Refuses a value that is out of range, naming the first one.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = |ok: bool, argument, value: u64, allowed| match ok {
            true => Ok(()),
            false => Err(ConfigError { argument, value, allowed }),
        };
        let Self { open_for_ns, probe_lease_ns, failure_threshold, half_open_permits, successes_to_close } =
            *self;
        check(
            (1..=MAX_FAILURE_THRESHOLD).contains(&failure_threshold),
            "failure_threshold",
            failure_threshold.into(),
            "1 to 536870911",
        )?;
        check(open_for_ns <= MAX_DURATION_NS, "open_for_ns", open_for_ns, "0 to 2^62 - 1")?;
        check(
            (1..=MAX_DURATION_NS).contains(&probe_lease_ns),
            "probe_lease_ns",
            probe_lease_ns,
            "1 to 2^62 - 1",
        )?;
        check(
            (1..=MAX_PERMITS).contains(&half_open_permits),
            "half_open_permits",
            half_open_permits.into(),
            "1 to 64",
        )?;
        check(
            (1..=half_open_permits).contains(&successes_to_close),
            "successes_to_close",
            successes_to_close.into(),
            "1 to half_open_permits",
        )
    }

    /// Failed probes after which a round can no longer close.
    pub(super) fn failures_to_open(&self) -> u32 {
        self.half_open_permits - self.successes_to_close + 1
    }
}
