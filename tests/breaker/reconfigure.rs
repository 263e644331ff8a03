//! R23: another configuration for a breaker that runs.

use super::*;

#[test]
fn r23_a_reconfiguration_keeps_the_state_and_makes_no_transition() {
    let capacity = BreakerConfig { probe_capacity: 64, ..config() };
    let open = opened_as(capacity);
    let before = open.snapshot(|| 30);
    let other =
        BreakerConfig { open_for_ns: 1_000, half_open_permits: 64, ..BreakerConfig::consecutive_failures(9) };
    assert!(open.reconfigure(&other, || 30).unwrap().is_empty());
    assert_eq!(open.snapshot(|| 30), before);
    // The instant stands; the round that follows is the new one.
    assert_eq!(rejection(&open, 69).retry_after_ns, 1);
    (0..64).for_each(|_| _ = admitted(&open, 70));
    assert!(open.acquire(|| 70).verdict.is_err());
}

#[test]
fn r23_results_that_mean_the_same_still_count() {
    let kept = [
        (config(), BreakerConfig::consecutive_failures(4), 3),
        (in_period(3, 100), in_period(2, 1_000), 1),
        (in_period(3, 100), in_period(3, 1_000), 2),
        (rate(8, 8, 10_000), rate(3, 3, 10_000), 1),
        (rate_in_time(8, 10_000), rate_in_time(3, 10_000), 1),
    ];
    for (old, new, more) in kept {
        let breaker = breaker(old);
        fail(&breaker, 0);
        fail(&breaker, 0);
        assert!(breaker.reconfigure(&new, || 0).unwrap().iter().all(|event| event.cause.is_of_level()));
        assert_eq!(breaker.snapshot(|| 0).failures, 2);
        let permit = breaker.report(Outcome::Failure, || 1);
        assert_eq!(permit.verdict, RecordVerdict::Applied);
        let opens_at_once = more == 1;
        assert_eq!(phase(&breaker) == Phase::Open, opens_at_once, "{new:?}");
        (0..more).for_each(|_| _ = breaker.report(Outcome::Failure, || 1));
        assert_eq!(phase(&breaker), Phase::Open);
    }
}

#[test]
fn r23_results_of_another_kind_are_forgotten() {
    let capacity = |config| BreakerConfig { window_capacity: 16, ..config };
    let longer = BreakerConfig {
        policy: Policy::Rate {
            window: Window::Time { period_ns: 80 * MS, buckets: 4 },
            min_calls: 3,
            failure_rate_bp: 10_000,
            slow_call_rate_bp: 10_000,
        },
        ..config()
    };
    let kinds =
        [config(), in_period(2, 100), rate(5, 3, 10_000), rate_in_time(3, 10_000), longer].map(capacity);
    for old in kinds {
        for new in kinds {
            if old == new {
                continue;
            }
            let breaker = breaker(old);
            fail(&breaker, 0);
            fail(&breaker, 0);
            let held = admitted(&breaker, 0);
            breaker.reconfigure(&new, || 0).unwrap();
            assert_eq!(breaker.snapshot(|| 0).failures, 0);
            // The generation goes on: what is under way counts by the new policy.
            assert_eq!(record(&breaker, held, Outcome::Failure, 1), RecordVerdict::Applied);
            assert_eq!(breaker.snapshot(|| 1).failures, 1);
            // And back, with nothing left from before.
            breaker.reconfigure(&old, || 1).unwrap();
            assert_eq!(breaker.snapshot(|| 1).failures, 0);
            (0..3).for_each(|_| fail(&breaker, 1));
            assert_eq!(phase(&breaker), Phase::Open);
        }
    }
}

#[test]
fn r23_a_window_is_trimmed_to_its_latest_results() {
    let capacity = BreakerConfig { window_capacity: 20, ..rate(20, 20, 10_000) };
    let breaker = breaker(capacity);
    for now in 0..30 {
        call(&breaker, if now < 25 { Outcome::Failure } else { Outcome::Success }, now);
        if now == 10 {
            breaker.reset(|| now);
        }
    }
    // 14 failures, then 5 successes.
    let calls_and_failures = |breaker: &Breaker| {
        let snapshot = breaker.snapshot(|| 30);
        (snapshot.window_calls, snapshot.failures)
    };
    assert_eq!(calls_and_failures(&breaker), (19, 14));
    // What has left does not come back.
    for (size, expected) in [(7, (7, 2)), (5, (5, 0)), (6, (5, 0)), (20, (5, 0)), (1, (1, 0))] {
        breaker.reconfigure(&rate(size, size, 10_000), || 30).unwrap();
        assert_eq!(calls_and_failures(&breaker), expected, "window of {size}");
        assert_eq!(phase(&breaker), Phase::Closed);
    }
    // And grows from there.
    breaker.reconfigure(&rate(6, 6, 5_000), || 30).unwrap();
    for held in 2..=5 {
        call(&breaker, Outcome::Success, 30);
        assert_eq!(calls_and_failures(&breaker), (held, 0));
    }
    call(&breaker, Outcome::Failure, 31);
    assert_eq!(calls_and_failures(&breaker), (6, 1));
    call(&breaker, Outcome::Failure, 31);
    assert_eq!((phase(&breaker), calls_and_failures(&breaker)), (Phase::Closed, (6, 2)));
    call(&breaker, Outcome::Failure, 31);
    assert_eq!(phase(&breaker), Phase::Open);
}

/// A lower threshold is looked at with the next result.
#[test]
fn r23_a_window_above_its_new_threshold_opens_with_the_next_result() {
    let breaker = breaker(rate(4, 4, 10_000));
    (0..3).for_each(|now| fail(&breaker, now));
    call(&breaker, Outcome::Success, 3);
    assert!(
        breaker.reconfigure(&rate(4, 4, 7_500), || 4).unwrap().iter().all(|event| event.from == event.to)
    );
    assert_eq!(phase(&breaker), Phase::Closed);
    assert_eq!(causes(call(&breaker, Outcome::Success, 5)), [(Cause::FailureRate, 5)]);
}

#[test]
fn r23_another_round_begins_where_the_old_one_could_wedge() {
    let changes: [fn(&mut BreakerConfig); 4] = [
        |config| (config.half_open_permits, config.successes_to_close) = (1, 1),
        |config| config.successes_to_close = 1,
        |config| config.probe_lease_ns = 31,
        |config| config.half_open_limit_ns = 1_000,
    ];
    for change in changes {
        let breaker = opened_as(BreakerConfig { backoff_percent: 200, ..config() });
        let probe = admitted(&breaker, 70);
        let mut other = BreakerConfig { backoff_percent: 200, ..config() };
        change(&mut other);
        let events = breaker.reconfigure(&other, || 75).unwrap();
        assert_eq!(causes(events.iter()), [(Cause::Reconfigured, 75)]);
        let snapshot = breaker.snapshot(|| 75);
        assert_eq!((snapshot.phase, snapshot.generation, snapshot.opens), (Phase::HalfOpen, 4, 1));
        assert_eq!((snapshot.live_probes, snapshot.retry_after_ns), (0, 0));
        assert_eq!(record(&breaker, probe, Outcome::Success, 76), RecordVerdict::Stale);
        let probes: Vec<_> = (0..other.half_open_permits).map(|_| admitted(&breaker, 77)).collect();
        assert!(breaker.acquire(|| 77).verdict.is_err());
        for probe in probes.into_iter().take(other.successes_to_close as usize) {
            assert_eq!(record(&breaker, probe, Outcome::Success, 78), RecordVerdict::Applied);
        }
        assert_eq!(phase(&breaker), Phase::Closed);
    }
}

#[test]
fn r23_a_round_that_means_the_same_goes_on() {
    let breaker = opened();
    let probe = admitted(&breaker, 70);
    let other = BreakerConfig { open_for_ns: 1, max_ignored_probes: 4, ..config() };
    assert!(breaker.reconfigure(&other, || 75).unwrap().is_empty());
    assert_eq!(record(&breaker, probe, Outcome::Success, 76), RecordVerdict::Applied);
    call(&breaker, Outcome::Success, 77);
    assert_eq!(phase(&breaker), Phase::Closed);
}

#[test]
fn r23_a_lower_limit_of_ignored_probes_ends_the_round_with_the_next_call() {
    let breaker = opened();
    (70..73).for_each(|now| _ = call(&breaker, Outcome::Ignored, now));
    let _live = [admitted(&breaker, 73), admitted(&breaker, 73)];
    assert!(
        breaker.reconfigure(&BreakerConfig { max_ignored_probes: 3, ..config() }, || 74).unwrap().is_empty()
    );
    let acquired = breaker.acquire(|| 80);
    assert_eq!(causes(acquired.events.iter()), [(Cause::ProbesIgnored, 80)]);
    assert_eq!(acquired.verdict.unwrap_err().retry_after_ns, 50);
}

#[test]
fn r23_reinstall_closes_with_an_empty_window_and_keeps_the_mode() {
    for state in 0..3 {
        let breaker = breaker(in_period(2, 100));
        (0..=state).for_each(|_| fail(&breaker, 0));
        if state == 2 {
            assert_eq!(phase(&breaker), Phase::Open);
        }
        let events = breaker.reinstall(&in_period(1, 100), || 1).unwrap();
        assert_eq!(causes(events.iter()), [(Cause::Reinstalled, 1)]);
        assert_eq!((phase(&breaker), breaker.snapshot(|| 1).failures), (Phase::Closed, 0));
        fail(&breaker, 2);
        fail(&breaker, 2);
        assert_eq!(phase(&breaker), Phase::Open);
    }
    let watched = breaker(config());
    mode(&watched, Mode::MetricsOnly, 0);
    watched.reinstall(&config(), || 1).unwrap();
    assert_eq!(watched.snapshot(|| 1).mode, Mode::MetricsOnly);
}

/// What was due under the old configuration happens under it.
#[test]
fn r23_reinstall_settles_the_old_round_first() {
    let breaker = opened();
    drop((admitted(&breaker, 70), admitted(&breaker, 71)));
    let other = BreakerConfig { release_expired_probes: true, ..config() };
    let events = breaker.reinstall(&other, || 200).unwrap();
    assert_eq!(causes(events.iter()), [(Cause::ProbeExpired, 100), (Cause::Reinstalled, 200)]);
}

/// Two threads that configure and two that call: nothing is torn.
#[test]
fn r23_settings_are_seen_whole() {
    let few =
        BreakerConfig { open_for_ns: 1_000, probe_lease_ns: 1_000, ..BreakerConfig::consecutive_failures(1) };
    let many =
        BreakerConfig { open_for_ns: 7_000, probe_lease_ns: 7_000, ..BreakerConfig::consecutive_failures(2) };
    let breaker = breaker(few);
    std::thread::scope(|scope| {
        for config in [few, many] {
            let breaker = &breaker;
            scope.spawn(move || (0..5_000).for_each(|_| _ = breaker.reconfigure(&config, || 0).unwrap()));
        }
        scope.spawn(|| {
            for _ in 0..20_000 {
                breaker.reset(|| 0);
                while phase(&breaker) == Phase::Closed {
                    fail_if_closed(&breaker);
                }
                let wait = breaker.snapshot(|| 0).retry_after_ns;
                assert!([1_000, 7_000].contains(&wait), "{wait}");
            }
        });
    });
}

fn fail_if_closed(breaker: &Breaker) {
    if let Ok(permit) = breaker.acquire(|| 0).verdict {
        record(breaker, permit, Outcome::Failure, 0);
    }
}
