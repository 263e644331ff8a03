//! Faults on purpose: chosen calls of a closed breaker fail, or wait first. For development and tests only; a
//! library that is built without the feature `fault-injection` does not hold this.
//!
//! Which call is chosen follows from a seed and the number of the call, so a run can be repeated.

use super::config::{MAX_DURATION_NS, WHOLE_BP};
use crate::error::ConfigError;
use crate::sync::{AtomicU64, Ordering};

/// What [`Breaker::inject_faults`](super::Breaker::inject_faults) makes of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Share of calls that fail without being made, in basis points, 0 to 10,000.
    pub failure_bp: u32,
    /// Share of the others that wait before they are made, in basis points, 0 to 10,000.
    pub delay_bp: u32,
    /// How long they wait, up to 2^62 - 1.
    pub delay_ns: u64,
    /// Equal seeds choose the same calls.
    pub seed: u64,
}

/// What was drawn for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) fails: bool,
    pub(super) delay_ns: u64,
}

impl Fault {
    pub(super) const NONE: Self = Self { fails: false, delay_ns: 0 };
}

/// The faults of one breaker. Each word stands for itself, and all accesses are relaxed: they order nothing.
#[derive(Debug)]
pub(super) struct Injector {
    shares: AtomicU64,
    delay_ns: AtomicU64,
    seed: AtomicU64,
    calls: AtomicU64,
}

impl Injector {
    pub(super) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { shares: zero(), delay_ns: zero(), seed: zero(), calls: zero() }
    }

    pub(super) fn set(&self, faults: &Faults) -> Result<(), ConfigError> {
        let Faults { failure_bp, delay_bp, delay_ns, seed } = *faults;
        for (argument, share) in [("failure_bp", failure_bp), ("delay_bp", delay_bp)] {
            if share > WHOLE_BP {
                let allowed = "0 to 10000 basis points";
                return Err(ConfigError { argument, value: share.into(), allowed });
            }
        }
        if delay_ns > MAX_DURATION_NS {
            return Err(ConfigError { argument: "delay_ns", value: delay_ns, allowed: "0 to 2^62 - 1" });
        }
        self.delay_ns.store(delay_ns, Ordering::Relaxed);
        self.seed.store(seed, Ordering::Relaxed);
        self.calls.store(0, Ordering::Relaxed);
        self.shares.store(u64::from(failure_bp) << 32 | u64::from(delay_bp), Ordering::Relaxed);
        Ok(())
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.shares.load(Ordering::Relaxed) != 0
    }

    pub(super) fn draw(&self) -> Fault {
        let shares = self.shares.load(Ordering::Relaxed);
        if shares == 0 {
            return Fault::NONE;
        }
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let bits = crate::random::draw(self.seed.load(Ordering::Relaxed), call);
        let (fails, waits) = (in_basis_points(bits >> 32), in_basis_points(bits & 0xFFFF_FFFF));
        if fails < shares >> 32 {
            Fault { fails: true, delay_ns: 0 }
        } else if waits < shares & 0xFFFF_FFFF {
            Fault { fails: false, delay_ns: self.delay_ns.load(Ordering::Relaxed) }
        } else {
            Fault::NONE
        }
    }
}

/// 32 random bits as a number below [`WHOLE_BP`].
fn in_basis_points(bits: u64) -> u64 {
    (bits * u64::from(WHOLE_BP)) >> 32
}
