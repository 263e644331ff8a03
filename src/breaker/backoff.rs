//! How long a breaker stays open: exponential back-off with a cap and a jitter that a seed repeats. Pure.

use super::config::WHOLE_BP;
use super::settings::Settings;
use crate::random::draw;

/// Nanoseconds that the `opens`th opening since the breaker was last closed lasts, when it begins `generation`.
pub(super) fn open_for_ns(settings: &Settings, opens: u32, generation: u32) -> u64 {
    let base = base_ns(settings, opens);
    let spread = (u128::from(base) * u128::from(settings.jitter_bp()) / u128::from(WHOLE_BP)) as u64;
    base - spread + draw_up_to(2 * spread, settings.seed(), generation)
}

/// `open_for_ns` grown `opens - 1` times, rounded up each time, at most `max_open_ns`.
fn base_ns(settings: &Settings, opens: u32) -> u64 {
    let (percent, cap) = (u128::from(settings.backoff_percent()), settings.max_open_ns());
    let mut base = settings.open_for_ns();
    for _ in 1..opens {
        if percent == 100 || base == 0 || base == cap {
            break;
        }
        let grown = (u128::from(base) * percent).div_ceil(100);
        base = u64::try_from(grown).unwrap_or(u64::MAX).min(cap);
    }
    base
}

/// A number from 0 to `most`: the same for the same seed and generation.
fn draw_up_to(most: u64, seed: u64, generation: u32) -> u64 {
    let scaled = u128::from(draw(seed, generation.into())) * (u128::from(most) + 1);
    (scaled >> 64) as u64
}

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::*;
    use crate::breaker::{BreakerConfig, MAX_DURATION_NS};

    fn open_for(config: BreakerConfig, opens: u32, generation: u32) -> u64 {
        config.validate().unwrap();
        open_for_ns(&Settings::of(&config, 0), opens, generation)
    }

    #[test]
    fn r17_the_open_time_grows_to_its_cap_for_any_number_of_opens() {
        let config = BreakerConfig {
            open_for_ns: 50,
            backoff_percent: 200,
            max_open_ns: 400,
            ..BreakerConfig::default()
        };
        let times: Vec<_> = (1..=6).map(|opens| open_for(config, opens, 2)).collect();
        assert_eq!(times, [50, 100, 200, 400, 400, 400]);
        assert_eq!(open_for(config, u32::MAX, 2), 400);
        let slowest = BreakerConfig { open_for_ns: 1, backoff_percent: 120, ..BreakerConfig::default() };
        assert_eq!(open_for(slowest, u32::MAX, 2), MAX_DURATION_NS);
        assert_eq!(open_for(slowest, 255, 2), MAX_DURATION_NS);
        let none = BreakerConfig { open_for_ns: 0, backoff_percent: 10_000, ..BreakerConfig::default() };
        assert_eq!(open_for(none, u32::MAX, 2), 0);
    }

    #[test]
    fn r17_the_jitter_stays_in_its_range_reaches_both_ends_and_repeats() {
        let config = BreakerConfig { open_for_ns: 10, jitter_bp: 5_000, seed: 7, ..BreakerConfig::default() };
        let times: Vec<_> = (0..1_000).map(|generation| open_for(config, 1, generation)).collect();
        assert!(times.iter().all(|time| (5..=15).contains(time)));
        assert!(times.contains(&5) && times.contains(&15));
        assert_eq!(times, (0..1_000).map(|generation| open_for(config, 1, generation)).collect::<Vec<_>>());
        let other = BreakerConfig { seed: 8, ..config };
        assert_ne!(times, (0..1_000).map(|generation| open_for(other, 1, generation)).collect::<Vec<_>>());
    }

    #[test]
    fn a_spread_of_the_longest_time_does_not_overflow() {
        let config =
            BreakerConfig { open_for_ns: MAX_DURATION_NS, jitter_bp: 9_999, ..BreakerConfig::default() };
        assert!((0..1_000).all(|generation| open_for(config, 1, generation) < 1 << 63));
    }
}
