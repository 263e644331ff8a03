//! R05: a configuration that is out of range is refused, and nothing has changed.

use super::*;
use elixirscope::breaker::{Head, Weights};

fn refused(config: BreakerConfig) -> String {
    Breaker::new(&config).unwrap_err().to_string()
}

fn rated(window: Window, min_calls: u32, failure_rate_bp: u32, slow_call_rate_bp: u32) -> BreakerConfig {
    let policy = Policy::Rate { window, min_calls, failure_rate_bp, slow_call_rate_bp };
    BreakerConfig { policy, ..config() }
}

#[test]
fn r05_a_policy_out_of_range_names_argument_value_and_range() {
    let consecutive = BreakerConfig::consecutive_failures;
    assert_eq!(refused(consecutive(0)), "`failure_threshold` is 0, allowed is 1 to 536870911");
    assert!(Breaker::new(&consecutive(536_870_911)).is_ok());
    assert!(refused(consecutive(536_870_912)).starts_with("`failure_threshold` is 536870912"));
    assert_eq!(refused(in_period(65_536, 1)), "`tolerated_failures` is 65536, allowed is 0 to 65535");
    assert_eq!(refused(in_period(1, 0)), "`period_ns` is 0, allowed is 1 to 2^62 - 1");
    assert!(refused(in_period(1, 1 << 62)).starts_with("`period_ns` is 4611686018427387904"));
    let count = |size| Window::Count { size };
    assert_eq!(refused(rated(count(0), 1, 1, 1)), "`window_size` is 0, allowed is 1 to 65535");
    assert_eq!(refused(rated(count(65_536), 1, 1, 1)), "`window_size` is 65536, allowed is 1 to 65535");
    assert_eq!(refused(rated(count(9), 0, 1, 1)), "`min_calls` is 0, allowed is 1 to window_size");
    assert_eq!(refused(rated(count(9), 10, 1, 1)), "`min_calls` is 10, allowed is 1 to window_size");
    assert!(refused(rated(count(9), 9, 0, 1)).starts_with("`failure_rate_bp` is 0, allowed is 1 to 10000"));
    assert!(refused(rated(count(9), 9, 10_001, 1)).starts_with("`failure_rate_bp` is 10001"));
    assert!(refused(rated(count(9), 9, 1, 0)).starts_with("`slow_call_rate_bp` is 0"));
    assert!(refused(rated(count(9), 9, 1, 10_001)).starts_with("`slow_call_rate_bp` is 10001"));
    let time = |period_ns, buckets| Window::Time { period_ns, buckets };
    assert_eq!(refused(rated(time(MS, 0), 1, 1, 1)), "`buckets` is 0, allowed is 1 to 256");
    assert_eq!(refused(rated(time(300 * MS, 257), 1, 1, 1)), "`buckets` is 257, allowed is 1 to 256");
    let short = refused(rated(time(2 * MS - 1, 2), 1, 1, 1));
    assert_eq!(short, "`period_ns` is 1999999, allowed is at least 1000000 for each bucket");
    assert!(refused(rated(time(MS, 1), 0, 1, 1)).starts_with("`min_calls` is 0"));
    for config in [rated(time(256 * MS, 256), u32::MAX, 1, 10_000), rated(count(65_535), 65_535, 10_000, 1)] {
        assert!(Breaker::new(&config).is_ok());
    }
}

#[test]
fn r05_open_and_half_open_out_of_range() {
    let with = |change: fn(&mut BreakerConfig)| {
        let mut config = config();
        change(&mut config);
        Breaker::new(&config).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(
        with(|config| config.open_for_ns = 1 << 62),
        "`open_for_ns` is 4611686018427387904, allowed is 0 to 2^62 - 1"
    );
    assert_eq!(
        with(|config| config.backoff_percent = 119),
        "`backoff_percent` is 119, allowed is 100, or 120 to 10000"
    );
    assert!(with(|config| config.backoff_percent = 99).starts_with("`backoff_percent`"));
    assert!(with(|config| config.backoff_percent = 10_001).starts_with("`backoff_percent`"));
    assert_eq!(
        with(|config| config.max_open_ns = 49),
        "`max_open_ns` is 49, allowed is 0, or open_for_ns to 2^62 - 1"
    );
    assert!(with(|config| config.max_open_ns = 1 << 62).starts_with("`max_open_ns`"));
    assert_eq!(
        with(|config| config.jitter_bp = 10_000),
        "`jitter_bp` is 10000, allowed is 0 to 9999 basis points"
    );
    assert_eq!(with(|config| config.half_open_permits = 65), "`half_open_permits` is 65, allowed is 1 to 64");
    assert!(with(|config| config.half_open_permits = 0).starts_with("`half_open_permits` is 0"));
    let successes = "`successes_to_close` is 3, allowed is 1 to half_open_permits";
    assert_eq!(with(|config| config.successes_to_close = 3), successes);
    assert!(with(|config| config.successes_to_close = 0).starts_with("`successes_to_close` is 0"));
    assert_eq!(with(|config| config.probe_lease_ns = 0), "`probe_lease_ns` is 0, allowed is 1 to 2^62 - 1");
    assert!(with(|config| config.half_open_limit_ns = 1 << 62).starts_with("`half_open_limit_ns`"));
    assert_eq!(
        with(|config| config.max_ignored_probes = 4_096),
        "`max_ignored_probes` is 4096, allowed is 0 to 4095"
    );
    for (change, name) in [
        ((|config| config.ramp_ns = 1 << 62) as fn(&mut BreakerConfig), "ramp_ns"),
        (|config| config.slow_call_ns = 1 << 62, "slow_call_ns"),
        (|config| config.probe_lease_ns = 1 << 62, "probe_lease_ns"),
        (|config| config.ramp_from_bp = 0, "ramp_from_bp"),
        (|config| config.ramp_from_bp = 10_001, "ramp_from_bp"),
        (|config| config.level_bp = [0, 6_000, 8_000], "level_light_bp"),
        (|config| config.level_bp = [4_000, 3_999, 8_000], "level_medium_bp"),
        (|config| config.level_bp = [4_000, 6_000, 5_999], "level_heavy_bp"),
        (|config| config.level_bp = [4_000, 6_000, 10_001], "level_heavy_bp"),
        (|config| config.admit_bp = [10_001, 0, 0, 0], "admit_bp"),
        (|config| config.admit_bp = [0, 10_001, 0, 0], "admit_light_bp"),
        (|config| config.admit_bp = [0, 0, 10_001, 0], "admit_medium_bp"),
        (|config| config.admit_bp = [0, 0, 0, 10_001], "admit_heavy_bp"),
        (|config| config.weights = Weights { failure: 0, ..Weights::default() }, "weight_failure"),
        (|config| config.weights = Weights { failure: 16, ..Weights::default() }, "weight_failure"),
        (|config| config.weights = Weights { success: 16, ..Weights::default() }, "weight_success"),
        (|config| config.weights = Weights { slow: 16, ..Weights::default() }, "weight_slow"),
        (|config| config.weights = Weights { ignored: 16, ..Weights::default() }, "weight_ignored"),
        (|config| config.weights = Weights { cancelled: 16, ..Weights::default() }, "weight_cancelled"),
        (|config| config.probe_capacity = 65, "probe_capacity"),
        (|config| config.probe_capacity = 1, "probe_capacity"),
        (|config| config.window_capacity = 65_537, "window_capacity"),
    ] {
        let error = with(change);
        assert!(error.starts_with(&format!("`{name}` is ")), "{name}: {error}");
    }
}

#[test]
fn r05_the_ends_of_each_range_are_taken() {
    let longest = (1 << 62) - 1;
    let most = BreakerConfig {
        weights: Weights { success: 15, failure: 15, slow: 15, ignored: 15, cancelled: 15 },
        slow_call_ns: longest,
        open_for_ns: longest,
        backoff_percent: 10_000,
        max_open_ns: longest,
        jitter_bp: 9_999,
        half_open_permits: 64,
        successes_to_close: 64,
        probe_lease_ns: longest,
        half_open_limit_ns: longest,
        max_ignored_probes: 4_095,
        ramp_ns: longest,
        ramp_from_bp: 10_000,
        level_bp: [10_000; 3],
        admit_bp: [10_000; 4],
        probe_capacity: 64,
        window_capacity: 65_536,
        ..in_period(65_535, longest)
    };
    let least = BreakerConfig {
        weights: Weights { success: 0, failure: 1, slow: 0, ignored: 0, cancelled: 0 },
        open_for_ns: 0,
        backoff_percent: 120,
        half_open_permits: 1,
        successes_to_close: 1,
        probe_lease_ns: 1,
        ramp_from_bp: 1,
        level_bp: [1; 3],
        admit_bp: [0; 4],
        probe_capacity: 1,
        window_capacity: 1,
        ..in_period(0, 1)
    };
    for config in [most, least] {
        assert_eq!(config.validate(), Ok(()));
        assert!(Breaker::new(&config).is_ok());
    }
}

/// The largest window, of the heaviest results: the last one opens, as it would in a small one.
#[test]
fn r03_the_largest_window_adds_up_the_heaviest_results() {
    let weights = Weights { failure: 15, ..Weights::default() };
    for outcome in [Outcome::Failure, Outcome::Slow] {
        let config = BreakerConfig { weights, slow_call_ns: 1, ..rate(65_535, 65_535, 10_000) };
        let breaker = breaker(config);
        (0..65_534).for_each(|_| _ = breaker.report(outcome, || 0));
        assert_eq!((phase(&breaker), breaker.snapshot(|| 0).window_calls), (Phase::Closed, 65_534));
        breaker.report(outcome, || 0);
        assert_eq!(phase(&breaker), Phase::Open, "{outcome:?}");
    }
}

/// The numbers that the documentation of every language gives.
#[test]
fn what_nobody_asks_for_is_as_documented() {
    let BreakerConfig { policy, weights, .. } = BreakerConfig::default();
    assert_eq!(policy, Policy::ConsecutiveFailures { failure_threshold: 5 });
    assert_eq!(weights, Weights { success: 0, failure: 1, slow: 0, ignored: 0, cancelled: 0 });
    let expected = BreakerConfig {
        policy,
        weights,
        slow_call_ns: 0,
        open_for_ns: 30_000 * MS,
        backoff_percent: 100,
        max_open_ns: 0,
        jitter_bp: 0,
        seed: 0,
        skip_half_open: false,
        half_open_permits: 1,
        successes_to_close: 1,
        probe_lease_ns: 60_000 * MS,
        release_expired_probes: false,
        half_open_limit_ns: 0,
        close_at_half_open_limit: false,
        max_ignored_probes: 0,
        ramp_ns: 0,
        ramp_from_bp: 1_000,
        level_bp: [4_000, 6_000, 8_000],
        admit_bp: [10_000; 4],
        probe_capacity: 0,
        window_capacity: 0,
    };
    assert_eq!(BreakerConfig::default(), expected);
    assert_eq!(Policy::DEFAULT_TOLERATED_FAILURES, 4);
    assert_eq!(Policy::DEFAULT_PERIOD_NS, 60_000 * MS);
    assert_eq!(
        (Policy::DEFAULT_WINDOW_SIZE, Policy::DEFAULT_BUCKETS, Policy::DEFAULT_MIN_CALLS),
        (100, 10, 10)
    );
    assert_eq!((Policy::DEFAULT_FAILURE_RATE_BP, Policy::DEFAULT_SLOW_CALL_RATE_BP), (5_000, 10_000));
    assert_eq!(elixirscope::breaker::GRADUAL_ADMIT_BP, [10_000, 8_000, 5_000, 2_000]);
}

#[test]
fn r05_a_capacity_below_what_the_policy_needs_is_refused() {
    let capacity = |window_capacity, policy| BreakerConfig { window_capacity, policy, ..config() };
    let period = Policy::FailuresInPeriod { tolerated_failures: 4, period_ns: 1 };
    assert!(Breaker::new(&capacity(65_536, period)).is_ok());
    assert!(refused(capacity(4, period)).starts_with("`window_capacity` is 4"));
    assert!(Breaker::new(&capacity(5, period)).is_ok());
}

#[test]
fn r05_a_refused_reconfiguration_changes_nothing() {
    let breaker = breaker(in_period(3, 100));
    fail(&breaker, 0);
    let before = breaker.snapshot(|| 1);
    for wrong in [BreakerConfig { half_open_permits: 0, ..config() }, rate(9, 9, 1), in_period(4, 1)] {
        assert!(breaker.reconfigure(&wrong, || 1).is_err());
        assert!(breaker.reinstall(&wrong, || 1).is_err());
    }
    let many = BreakerConfig { half_open_permits: 9, ..in_period(3, 100) };
    let error = breaker.reconfigure(&many, || 1).unwrap_err().to_string();
    assert_eq!(error, "`half_open_permits` is 9, allowed is 1 to the probe_capacity of its creation");
    let error = breaker.reconfigure(&in_period(4, 1), || 1).unwrap_err().to_string();
    assert_eq!(error, "`policy` is 5, allowed is results up to the window_capacity of its creation");
    assert_eq!(breaker.snapshot(|| 1), before);
    (1..4).for_each(|now| fail(&breaker, now));
    assert_eq!((phase(&breaker), breaker.snapshot(|| 3).retry_after_ns), (Phase::Open, 50));
}

#[test]
fn r05_the_longest_durations_are_durations() {
    let longest = elixirscope::breaker::MAX_DURATION_NS;
    let config = BreakerConfig {
        open_for_ns: longest,
        probe_lease_ns: longest,
        half_open_limit_ns: longest,
        ramp_ns: longest,
        slow_call_ns: longest,
        ..in_period(0, longest)
    };
    let breaker = breaker(config);
    fail(&breaker, u64::MAX - 1);
    assert_eq!(rejection(&breaker, u64::MAX - 1).retry_after_ns, 1);
    close_one(&breaker);
}

/// At the end of time everything is over at once, and nothing wraps.
fn close_one(breaker: &Breaker) {
    let probe = breaker.acquire(|| u64::MAX);
    assert!(probe.verdict.unwrap().is_probe());
    assert_eq!(breaker.snapshot(|| u64::MAX).phase, Phase::HalfOpen);
}

#[test]
fn r19_a_breaker_has_the_size_it_promises() {
    assert_eq!(Head::CELL_BYTES, 64);
    assert!(
        breaker(BreakerConfig::default()).bytes() <= 512,
        "{}",
        breaker(BreakerConfig::default()).bytes()
    );
    // A window of 100 is a head and 128 entries of 16 bytes.
    // Eight places for probes, of 16 bytes each.
    assert_eq!(breaker(BreakerConfig::default()).bytes(), size_of::<Head>() + 8 * 16);
    let window = breaker(rate(100, 10, 5_000)).bytes() - breaker(config()).bytes();
    assert_eq!(window, 129 * 16);
}
