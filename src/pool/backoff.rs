//! When a creation may be tried again after one failed.
//!
//! The pause after the n-th failure in a row is min(base × 2^(n-1), cap) plus a random quarter of it at most,
//! so attempts are never closer than the sequence says. While creations fail, one probe at a time is in
//! flight; the first success ends all of it.

use super::config::PoolConfig;
use super::random::Random;

#[derive(Debug)]
pub(super) struct Backoff {
    base_ns: u64,
    cap_ns: u64,
    random: Random,
    failures: u32,
    retry_at_ns: u64,
    last_error: Option<u64>,
}

impl Backoff {
    pub(super) fn new(config: &PoolConfig) -> Self {
        Self {
            base_ns: config.create_backoff_ns,
            cap_ns: config.create_backoff_cap_ns,
            random: Random::new(config.jitter_seed),
            failures: 0,
            retry_at_ns: 0,
            last_error: None,
        }
    }

    /// Whether a creation may start while `creating` others are in flight.
    #[inline]
    pub(super) fn allows(&self, creating: u32, now_ns: u64) -> bool {
        self.failures == 0 || (creating == 0 && now_ns >= self.retry_at_ns)
    }

    pub(super) fn failed(&mut self, code: u64, now_ns: u64) {
        self.last_error = Some(code);
        // Creations that were in flight when the first one failed belong to the same failure.
        if self.failures > 0 && now_ns < self.retry_at_ns {
            return;
        }
        let doubled =
            1u64.checked_shl(self.failures).map_or(u64::MAX, |factor| self.base_ns.saturating_mul(factor));
        let pause = doubled.min(self.cap_ns);
        self.failures = self.failures.saturating_add(1);
        let jitter = self.random.up_to(pause / 4);
        self.retry_at_ns = now_ns.saturating_add(pause).saturating_add(jitter);
    }

    /// A creation succeeded. The last error stays readable: it may explain a time-out that is yet to come.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn retry_at_ns(&self) -> u64 {
        self.retry_at_ns
    }

    pub(super) fn last_error(&self) -> Option<u64> {
        self.last_error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(base: u64, cap: u64) -> Backoff {
        Backoff::new(&PoolConfig {
            create_backoff_ns: base,
            create_backoff_cap_ns: cap,
            ..PoolConfig::default()
        })
    }

    #[test]
    fn p16_a_failure_after_a_success_is_a_first_one() {
        let mut backoff = backoff(100, 1_000);
        backoff.failed(7, 5);
        let first = backoff.retry_at_ns();
        backoff.succeeded();
        backoff.failed(8, first - 1);
        assert_eq!((backoff.failures(), backoff.last_error()), (1, Some(8)));
        assert!(backoff.retry_at_ns() >= first - 1 + 100);
    }

    #[test]
    fn p16_pauses_double_up_to_the_cap_and_jitter_only_adds() {
        let mut backoff = backoff(100, 1_000);
        let mut now = 5;
        for expected in [100, 200, 400, 800, 1_000, 1_000] {
            backoff.failed(7, now);
            let pause = backoff.retry_at_ns() - now;
            assert!((expected..=expected + expected / 4).contains(&pause), "{pause} after {expected}");
            assert!(!backoff.allows(0, backoff.retry_at_ns() - 1));
            assert!(backoff.allows(0, backoff.retry_at_ns()));
            assert!(!backoff.allows(1, backoff.retry_at_ns()), "one probe at a time");
            now = backoff.retry_at_ns();
        }
        backoff.succeeded();
        assert!(backoff.allows(9, 0));
        assert_eq!(backoff.last_error(), Some(7));
    }

    #[test]
    fn p16_pools_of_different_seeds_do_not_try_in_step() {
        let retries: std::collections::HashSet<u64> = (0..16)
            .map(|jitter_seed| {
                let mut backoff = Backoff::new(&PoolConfig { jitter_seed, ..PoolConfig::default() });
                backoff.failed(7, 0);
                backoff.retry_at_ns()
            })
            .collect();
        assert!(retries.len() > 8, "{retries:?}");
    }

    #[test]
    fn p16_failures_that_were_in_flight_together_count_once() {
        let mut backoff = backoff(100, 1_000);
        backoff.failed(1, 10);
        let retry = backoff.retry_at_ns();
        backoff.failed(2, 11);
        assert_eq!((backoff.retry_at_ns(), backoff.failures(), backoff.last_error()), (retry, 1, Some(2)));
    }

    #[test]
    fn p16_endless_failures_do_not_overflow() {
        let mut backoff = backoff(1 << 62, u64::MAX);
        for _ in 0..200 {
            backoff.failed(1, backoff.retry_at_ns());
        }
        assert_eq!(backoff.retry_at_ns(), u64::MAX);
    }
}
