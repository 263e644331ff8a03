//! Rates: what a window of results adds up to, and whether that opens the breaker. Pure.

use super::event::Cause;
use super::level::Level;
use super::settings::Settings;

/// Sums over the results of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// Results.
    pub(super) calls: u64,
    /// Their weights as failures.
    pub(super) failures: u64,
    /// Slow ones.
    pub(super) slow: u64,
}

impl Tally {
    /// Why these results open a breaker, if they do: `failures / calls >= rate`, in integers.
    #[inline]
    pub(super) fn verdict(&self, settings: &Settings) -> Option<Cause> {
        if self.calls < settings.min_calls() {
            None
        } else if self.failures * 10_000 >= settings.failure_rate_bp() * self.full_calls(settings) {
            Some(Cause::FailureRate)
        } else if settings.trips_on_slow() && self.slow * 10_000 >= settings.slow_call_rate_bp() * self.calls
        {
            Some(Cause::SlowCallRate)
        } else {
            None
        }
    }

    /// The level that the larger of the two rates has reached, each as a share of the rate that opens.
    #[inline]
    pub(super) fn level(&self, settings: &Settings) -> Level {
        if self.calls < settings.min_calls() {
            return Level::None;
        }
        // Budgets in units of a ten-thousandth of a call, so that they are whole numbers.
        let failures = settings.failure_rate_bp() * self.full_calls(settings);
        let failing = Level::of(self.failures * 10_000, failures, settings);
        if !settings.trips_on_slow() {
            return failing;
        }
        failing.max(Level::of(self.slow * 10_000, settings.slow_call_rate_bp() * self.calls, settings))
    }

    /// Share of failures in basis points, in units of a full failure.
    pub(super) fn failure_rate_bp(&self, settings: &Settings) -> u32 {
        rate_bp(self.failures, self.full_calls(settings))
    }

    /// Share of slow calls in basis points.
    pub(super) fn slow_call_rate_bp(&self) -> u32 {
        rate_bp(self.slow, self.calls)
    }

    /// What `failures` would be if every call had failed.
    #[inline]
    fn full_calls(&self, settings: &Settings) -> u64 {
        self.calls * settings.weight(super::permit::Outcome::Failure)
    }
}

fn rate_bp(part: u64, whole: u64) -> u32 {
    (part * 10_000).checked_div(whole).map_or(0, |rate| rate as u32)
}
