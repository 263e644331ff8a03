//! When a closed breaker opens: R01 to R04, and the weights of outcomes.

use super::*;
use elixirscope::breaker::Weights;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

#[test]
fn r01_the_failure_that_reaches_the_threshold_opens() {
    let breaker = breaker(BreakerConfig::default());
    (0..4).for_each(|now| fail(&breaker, now));
    assert_eq!(phase(&breaker), Phase::Closed);
    fail(&breaker, 4);
    assert_eq!(phase(&breaker), Phase::Open);
}

#[test]
fn r01_a_success_starts_the_count_in_a_row_again() {
    let breaker = breaker(config());
    fail(&breaker, 0);
    fail(&breaker, 1);
    call(&breaker, Outcome::Success, 2);
    fail(&breaker, 3);
    fail(&breaker, 4);
    assert_eq!((phase(&breaker), breaker.snapshot(|| 4).failures), (Phase::Closed, 2));
}

#[test]
fn r01_m_failures_within_the_period_are_tolerated_and_one_more_opens() {
    for tolerated in [0, 1, 2, 3, 7, 8, 1_000, 65_535] {
        let breaker = breaker(in_period(tolerated, 1_000_000));
        for now in 0..u64::from(tolerated) {
            fail(&breaker, now);
            // A success between them changes nothing.
            call(&breaker, Outcome::Success, now);
        }
        let before = breaker.snapshot(|| 70_000);
        assert_eq!((before.phase, before.failures), (Phase::Closed, tolerated.into()));
        assert_eq!(causes(call(&breaker, Outcome::Failure, 70_000)), [(Cause::FailureThreshold, 70_000)]);
        assert_eq!(phase(&breaker), Phase::Open);
    }
}

/// More failures than the ring holds, each time just too old to open.
#[test]
fn r01_within_the_default_period_the_fifth_failure_opens_as_it_does_in_a_row() {
    let breaker = breaker(in_period(Policy::DEFAULT_TOLERATED_FAILURES, Policy::DEFAULT_PERIOD_NS));
    (0..4).for_each(|now| fail(&breaker, now));
    assert_eq!(phase(&breaker), Phase::Closed);
    fail(&breaker, Policy::DEFAULT_PERIOD_NS - 1);
    assert_eq!(phase(&breaker), Phase::Open);
}

#[test]
fn r01_the_ring_of_failures_turns_over() {
    let breaker = breaker(in_period(2, 100));
    for now in (0..10_000).step_by(50) {
        fail(&breaker, now);
        assert_eq!(phase(&breaker), Phase::Closed, "at {now}");
        assert_eq!(breaker.snapshot(|| now).failures, if now == 0 { 1 } else { 2 });
    }
    fail(&breaker, 9_999);
    assert_eq!(phase(&breaker), Phase::Open);
}

#[test]
fn r01_racing_failures_open_exactly_once() {
    let policies = [
        BreakerConfig { half_open_permits: 2, ..BreakerConfig::consecutive_failures(4) },
        in_period(3, 100),
        rate(4, 4, 10_000),
        rate_in_time(4, 10_000),
    ];
    for config in policies {
        for _ in 0..200 {
            let breaker = breaker(config);
            let opened = AtomicU32::new(0);
            let permits: Vec<_> = (0..4).map(|_| admitted(&breaker, 0)).collect();
            thread::scope(|scope| {
                for permit in permits {
                    scope.spawn(|| {
                        let events = breaker.record(permit, Outcome::Failure, || 1).events;
                        let opens = events.iter().filter(|event| event.to == Phase::Open).count();
                        opened.fetch_add(opens as u32, Ordering::Relaxed);
                    });
                }
            });
            assert_eq!(opened.into_inner(), 1, "{config:?}");
            assert_eq!(phase(&breaker), Phase::Open);
        }
    }
}

#[test]
fn r01_racing_failures_that_are_tolerated_never_open() {
    let policies = [
        BreakerConfig::consecutive_failures(5),
        in_period(4, 100),
        rate(5, 5, 10_000),
        rate_in_time(5, 10_000),
    ];
    for config in policies {
        for _ in 0..100 {
            let breaker = breaker(config);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| fail(&breaker, 1));
                }
            });
            let snapshot = breaker.snapshot(|| 1);
            assert_eq!((snapshot.phase, snapshot.failures), (Phase::Closed, 4));
        }
    }
}

#[test]
fn r02_a_failure_as_old_as_the_period_does_not_count() {
    let old = breaker(in_period(1, 100));
    fail(&old, 0);
    fail(&old, 100);
    assert_eq!((phase(&old), old.snapshot(|| 199).failures), (Phase::Closed, 1));
    assert_eq!(old.snapshot(|| 200).failures, 0);
    let young = breaker(in_period(1, 100));
    fail(&young, 0);
    fail(&young, 99);
    assert_eq!(phase(&young), Phase::Open);
}

#[test]
fn r02_time_buckets_miss_none_and_keep_none_for_longer_than_one_more() {
    for start in 0..20 {
        let began = start * MS;
        let breaker = breaker(rate_in_time(2, 10_000));
        fail(&breaker, began);
        for age in 0..60 {
            let seen = breaker.snapshot(|| began + age * MS).window_calls;
            match age {
                // Any age below the period counts, none from a bucket more on.
                0..40 => assert_eq!(seen, 1, "{age} ms after {start}"),
                40..50 => assert!(seen <= 1),
                _ => assert_eq!(seen, 0, "{age} ms after {start}"),
            }
        }
    }
}

/// A ring of buckets is longer than the window, so what it still holds of earlier turns must not count.
#[test]
fn r02_buckets_of_earlier_turns_do_not_count() {
    let breaker = breaker(rate_in_time(1_000, 10_000));
    for bucket in 0..100 {
        for _ in 0..=bucket % 3 {
            fail(&breaker, bucket * 10 * MS);
        }
        let expected: u64 = (bucket.saturating_sub(4)..=bucket).map(|bucket| bucket % 3 + 1).sum();
        let snapshot = breaker.snapshot(|| bucket * 10 * MS + 9 * MS);
        assert_eq!((snapshot.window_calls, snapshot.failures), (expected, expected), "bucket {bucket}");
        assert_eq!((snapshot.failure_rate_bp, snapshot.slow_call_rate_bp), (10_000, 0));
    }
}

#[test]
fn r02_a_count_window_holds_exactly_the_last_results() {
    // Failures 11 apart never are two within 10 results.
    let breaker = breaker(rate(10, 10, 2_000));
    for number in 0..200 {
        let outcome = if number % 11 == 0 { Outcome::Failure } else { Outcome::Success };
        call(&breaker, outcome, number);
        let snapshot = breaker.snapshot(|| number);
        assert_eq!(snapshot.window_calls, (number + 1).min(10));
        assert_eq!(snapshot.failures, u64::from(number % 11 < 10), "after result {number}");
    }
    assert_eq!(phase(&breaker), Phase::Closed);
    // The latest failure was number 198.
    (200..209).for_each(|now| _ = call(&breaker, Outcome::Success, now));
    assert_eq!(breaker.snapshot(|| 0).failures, 0);
}

#[test]
fn r03_a_rate_is_looked_at_after_every_result_from_the_minimum_on() {
    for config in [rate(100, 10, 5_000), rate_in_time(10, 5_000)] {
        let breaker = breaker(config);
        let outcomes = [[Outcome::Failure; 6].as_slice(), &[Outcome::Success; 3]].concat();
        for outcome in outcomes {
            call(&breaker, outcome, 0);
            assert_eq!(phase(&breaker), Phase::Closed);
        }
        // The tenth result is a success, and there are enough failures.
        assert_eq!(causes(call(&breaker, Outcome::Success, 1)), [(Cause::FailureRate, 1)]);
        assert_eq!(phase(&breaker), Phase::Open);
    }
}

#[test]
fn r03_the_rate_is_exact() {
    // 3 of 9 are a third, 3,333 basis points and a bit.
    for (rate_bp, opens) in [(3_333, true), (3_334, false)] {
        let breaker = breaker(rate(9, 9, rate_bp));
        (0..6).for_each(|now| _ = call(&breaker, Outcome::Success, now));
        (6..9).for_each(|now| fail(&breaker, now));
        assert_eq!(phase(&breaker) == Phase::Open, opens);
        assert_eq!(breaker.snapshot(|| 9).failure_rate_bp, if opens { 0 } else { 3_333 });
    }
}

#[test]
fn r03_fewer_results_than_the_minimum_never_open() {
    let breaker = breaker(rate_in_time(5, 1));
    for bucket in 0..50 {
        // One failure in each bucket: four of five are in at a time, one too few.
        if bucket % 5 != 0 {
            fail(&breaker, bucket * 10 * MS);
        }
        assert_eq!(phase(&breaker), Phase::Closed);
    }
}

#[test]
fn r04_a_call_that_takes_longer_is_slow_whatever_came_of_it() {
    for outcome in [Outcome::Success, Outcome::Failure] {
        for config in [rate(10, 10, 10_000), rate_in_time(10, 10_000)] {
            let breaker = breaker(BreakerConfig { slow_call_ns: 10, ..config });
            let calls = [admitted(&breaker, 0), admitted(&breaker, 0), admitted(&breaker, 0)];
            let [equal, slow, ignored] = calls;
            record(&breaker, equal, outcome, 10);
            record(&breaker, slow, outcome, 11);
            record(&breaker, ignored, Outcome::Ignored, 100);
            let snapshot = breaker.snapshot(|| 100);
            assert_eq!((snapshot.window_calls, snapshot.slow_calls), (2, 1));
            assert_eq!(snapshot.slow_call_rate_bp, 5_000);
        }
    }
}

#[test]
fn r04_too_many_slow_calls_open() {
    let config = BreakerConfig { slow_call_ns: 10, ..rate(10, 2, 10_000) };
    let breaker = breaker(config);
    for start in [0, 100] {
        let slow = admitted(&breaker, start);
        let events = breaker.record(slow, Outcome::Success, || start + 11).events;
        let expected: &[_] = if start == 0 { &[] } else { &[(Cause::SlowCallRate, 111)] };
        assert_eq!(causes(events.iter()), expected);
    }
    assert_eq!(phase(&breaker), Phase::Open);
}

/// As for failures: from the minimum on, and a share that is just below does not open.
#[test]
fn r04_the_rate_of_slow_calls_is_exact() {
    let windows = [Window::Count { size: 9 }, Window::Time { period_ns: 40 * MS, buckets: 4 }];
    for (window, (slow_call_rate_bp, opens)) in
        windows.into_iter().flat_map(|window| [(window, (3_333, true)), (window, (3_334, false))])
    {
        let policy = Policy::Rate { window, min_calls: 9, failure_rate_bp: 10_000, slow_call_rate_bp };
        let breaker = breaker(BreakerConfig { policy, slow_call_ns: MS, ..config() });
        for outcome in [[Outcome::Slow; 3].as_slice(), &[Outcome::Success; 5]].concat() {
            call(&breaker, outcome, 0);
            assert_eq!(phase(&breaker), Phase::Closed, "fewer calls than the minimum");
        }
        call(&breaker, Outcome::Success, 0);
        assert_eq!(phase(&breaker) == Phase::Open, opens, "{window:?} at {slow_call_rate_bp}");
    }
}

/// What the caller says is slow is slow, too; without a limit it opens nothing.
#[test]
fn r04_a_caller_may_say_that_a_call_was_slow() {
    let measured = breaker(BreakerConfig { slow_call_ns: 1_000, ..rate(10, 2, 10_000) });
    (0..2).for_each(|now| _ = call(&measured, Outcome::Slow, now));
    assert_eq!(phase(&measured), Phase::Open);
    let unmeasured = breaker(rate(10, 2, 10_000));
    (0..9).for_each(|now| _ = call(&unmeasured, Outcome::Slow, now));
    assert_eq!((phase(&unmeasured), unmeasured.snapshot(|| 9).slow_calls), (Phase::Closed, 9));
    assert_eq!(unmeasured.snapshot(|| 9).counts.succeeded, 9);
}

#[test]
fn r04_a_slow_probe_fails_where_slow_calls_open() {
    let config = BreakerConfig { slow_call_ns: 10, open_for_ns: 50, ..rate(10, 1, 10_000) };
    let breaker = breaker(config);
    fail(&breaker, 0);
    let probe = admitted(&breaker, 50);
    let events = breaker.record(probe, Outcome::Success, || 61).events;
    assert_eq!(causes(events.iter()), [(Cause::ProbesFailed, 61)]);
}

#[test]
fn r01_an_outcome_weighs_as_many_failures_as_it_is_told_to() {
    let weights = elixirscope::breaker::Weights { success: 0, failure: 2, slow: 1, ignored: 3, cancelled: 0 };
    let config = BreakerConfig { weights, ..BreakerConfig::consecutive_failures(8) };
    let row = breaker(config);
    for (outcome, failures) in [
        (Outcome::Failure, 2),
        (Outcome::Cancelled, 2),
        (Outcome::Ignored, 5),
        (Outcome::Slow, 6),
        (Outcome::Failure, 0),
    ] {
        call(&row, outcome, 0);
        assert_eq!(row.snapshot(|| 0).failures, failures);
    }
    assert_eq!(phase(&row), Phase::Open);

    let period = breaker(BreakerConfig { weights, ..in_period(4, 100) });
    fail(&period, 0);
    call(&period, Outcome::Ignored, 50);
    assert_eq!(phase(&period), Phase::Open);

    // A rate is in units of a full failure: slow calls count half.
    let window = breaker(BreakerConfig { weights, ..rate(4, 4, 5_000) });
    (0..3).for_each(|now| _ = call(&window, Outcome::Slow, now));
    assert_eq!(window.snapshot(|| 3).failure_rate_bp, 5_000);
    call(&window, Outcome::Success, 3);
    assert_eq!((phase(&window), window.snapshot(|| 3).failure_rate_bp), (Phase::Closed, 3_750));
}

#[test]
fn r01_the_heaviest_outcome_weighs_fifteen() {
    let weights = Weights { failure: 15, ..Weights::default() };
    let policies = [
        BreakerConfig::consecutive_failures(1_000),
        in_period(1_000, 100),
        rate(10, 10, 10_000),
        rate_in_time(10, 10_000),
    ];
    for config in policies {
        let breaker = breaker(BreakerConfig { weights, ..config });
        fail(&breaker, 0);
        fail(&breaker, 0);
        assert_eq!((phase(&breaker), breaker.snapshot(|| 0).failures), (Phase::Closed, 30), "{config:?}");
    }
}

#[test]
fn r02_the_heaviest_result_leaves_a_count_window_as_it_came() {
    let weights = Weights { failure: 15, ..Weights::default() };
    let breaker = breaker(BreakerConfig { weights, ..rate(2, 2, 10_000) });
    fail(&breaker, 0);
    for failures in [15, 0] {
        call(&breaker, Outcome::Success, 1);
        assert_eq!(breaker.snapshot(|| 1).failures, failures);
    }
}

/// A success that weighs as a failure is one, also for a breaker that no failure has troubled yet.
#[test]
fn r01_a_success_with_a_weight_counts() {
    let weights = elixirscope::breaker::Weights { success: 1, ..Default::default() };
    let breaker = breaker(BreakerConfig { weights, ..config() });
    (0..3).for_each(|now| _ = call(&breaker, Outcome::Success, now));
    assert_eq!(phase(&breaker), Phase::Open);
}

#[test]
fn r01_a_report_counts_without_a_permit() {
    let breaker = breaker(config());
    for now in 0..2 {
        let reported = breaker.report(Outcome::Failure, || now);
        assert_eq!(
            (reported.verdict, reported.events.len()),
            (RecordVerdict::Applied, usize::from(now == 1))
        );
    }
    assert_eq!(causes(breaker.report(Outcome::Failure, || 2).events.iter()), [(Cause::FailureThreshold, 2)]);
    assert_eq!(breaker.report(Outcome::Failure, || 3).verdict, RecordVerdict::Stale);
    // Whoever reports does not begin a round of probes.
    assert_eq!(breaker.report(Outcome::Success, || 1_000).verdict, RecordVerdict::Stale);
    assert_eq!((phase(&breaker), breaker.snapshot(|| 0).counts.reported), (Phase::Open, 5));
}

/// A full bucket takes no result of any kind: if it took those that weigh nothing, the rate would only fall.
#[test]
fn r03_a_full_bucket_keeps_its_rate() {
    let config = rate_in_time(1, 10_000);
    let weights = Weights { failure: 15, ..Weights::default() };
    let breaker = breaker(BreakerConfig { weights, ..config });
    call(&breaker, Outcome::Success, 0);
    (0..280_000).for_each(|_| fail(&breaker, 0));
    let full = breaker.snapshot(|| 0);
    (0..280_000).for_each(|_| drop(call(&breaker, Outcome::Success, 0)));
    assert_eq!(breaker.snapshot(|| 0).failure_rate_bp, full.failure_rate_bp);
}
