//! Gradual degradation and the slow start: R18, and the levels.

use super::*;
use elixirscope::breaker::{GRADUAL_ADMIT_BP, Level, RejectReason};

/// How many of `calls` are admitted, one after the other, without results.
fn admitted_of(breaker: &Breaker, calls: u64, now: u64) -> u64 {
    (0..calls).filter(|_| breaker.acquire(|| now).verdict.is_ok()).count() as u64
}

#[test]
fn r18_a_share_admits_its_floor_or_ceiling_of_any_calls_in_a_row() {
    for share_bp in [0, 1, 1_999, 2_000, 3_333, 5_000, 8_000, 9_999] {
        let breaker = breaker(BreakerConfig { admit_bp: [share_bp, 0, 0, 0], ..config() });
        let verdicts: Vec<_> = (0..30_000).map(|_| breaker.acquire(|| 0).verdict.is_ok()).collect();
        for start in [0, 1, 2, 3, 7, 100, 9_999] {
            let mut admitted = 0;
            for (calls, verdict) in (1..=20_000).zip(&verdicts[start..]) {
                admitted += u64::from(*verdict);
                let (floor, rest) =
                    (calls * u64::from(share_bp) / 10_000, calls * u64::from(share_bp) % 10_000);
                let ceiling = floor + u64::from(rest > 0);
                assert!((floor..=ceiling).contains(&admitted), "{admitted} of {calls} at {share_bp}");
            }
        }
        let snapshot = breaker.snapshot(|| 0).counts;
        assert_eq!(snapshot.admitted + snapshot.rejected_degraded, 30_000);
    }
}

#[test]
fn r18_gradual_degradation_sheds_by_level() {
    let config = BreakerConfig { admit_bp: GRADUAL_ADMIT_BP, ..BreakerConfig::consecutive_failures(10) };
    let breaker = breaker(config);
    for (failures, level, of_1000) in [
        (3, Level::None, 1_000),
        (1, Level::Light, 800),
        (2, Level::Medium, 500),
        (2, Level::Heavy, 200),
        (1, Level::Heavy, 200),
    ] {
        (0..failures).for_each(|_| _ = breaker.report(Outcome::Failure, || 0));
        assert_eq!(breaker.snapshot(|| 0).level, level);
        assert_eq!(admitted_of(&breaker, 1_000, 0), of_1000);
    }
    let degraded = breaker.acquire(|| 0).verdict.unwrap_err();
    assert_eq!(degraded, Rejection { reason: RejectReason::Degraded, retry_after_ns: 1_000_000 });
    breaker.report(Outcome::Success, || 0);
    assert_eq!((breaker.snapshot(|| 0).level, admitted_of(&breaker, 100, 0)), (Level::None, 100));
}

#[test]
fn r18_racing_calls_share_one_accumulator() {
    let breaker = breaker(BreakerConfig { admit_bp: [3_000, 0, 0, 0], ..config() });
    let admitted: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| admitted_of(&breaker, 10_000, 0))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 12_000);
}

fn ramping() -> BreakerConfig {
    BreakerConfig { ramp_ns: 1_000, ramp_from_bp: 2_000, backoff_percent: 200, ..config() }
}

#[test]
fn r18_after_closing_the_admitted_share_grows_to_all() {
    let breaker = opened_as(ramping());
    close(&breaker, 100);
    // 0.2 + 0.8 * elapsed / 1,000
    for (now, of_1000) in [(100, 200), (350, 400), (600, 600), (850, 800)] {
        let admitted = admitted_of(&breaker, 1_000, now);
        assert!(admitted.abs_diff(of_1000) <= 1, "{admitted} at {now}");
    }
    assert!(admitted_of(&breaker, 1_000, 1_099) < 1_000);
    assert_eq!(admitted_of(&breaker, 1_000, 1_100), 1_000);
    // It does not ramp twice.
    assert_eq!(admitted_of(&breaker, 1_000, 200), 1_000);
}

#[test]
fn r18_a_trip_during_the_ramp_keeps_the_back_off() {
    let during = opened_as(ramping());
    close(&during, 100);
    assert_eq!(during.snapshot(|| 1_099).opens, 1);
    (0..3).for_each(|_| _ = during.report(Outcome::Failure, || 1_099));
    assert_eq!((phase(&during), during.snapshot(|| 1_099).opens), (Phase::Open, 2));
    assert_eq!(during.snapshot(|| 1_099).retry_after_ns, 100);

    // At its end, even if no call has noticed that yet, the count starts again.
    let after = opened_as(ramping());
    close(&after, 100);
    assert_eq!(after.snapshot(|| 1_100).opens, 0);
    (0..3).for_each(|_| _ = after.report(Outcome::Failure, || 1_100));
    assert_eq!((phase(&after), after.snapshot(|| 1_100).retry_after_ns), (Phase::Open, 50));
}

#[test]
fn r18_a_ramp_is_for_a_breaker_that_probes_have_closed() {
    let breaker = opened_as(ramping());
    breaker.reset(|| 100);
    assert_eq!(admitted_of(&breaker, 1_000, 100), 1_000);
    let watched = opened_as(ramping());
    close(&watched, 100);
    mode(&watched, Mode::MetricsOnly, 101);
    assert_eq!(admitted_of(&watched, 1_000, 101), 1_000);
    mode(&watched, Mode::Auto, 102);
    assert_eq!(admitted_of(&watched, 1_000, 102), 1_000);
    let limited =
        opened_as(BreakerConfig { half_open_limit_ns: 10, close_at_half_open_limit: true, ..ramping() });
    let _probe = admitted(&limited, 70);
    assert_eq!(admitted_of(&limited, 1_000, 80), 200);
}

#[test]
fn a_level_is_told_once_up_and_down() {
    let breaker = breaker(BreakerConfig::consecutive_failures(10));
    let mut told = vec![];
    for outcome in [[Outcome::Failure; 9].as_slice(), &[Outcome::Success; 3]].concat() {
        let events = call(&breaker, outcome, 7);
        told.extend(events.into_iter().map(|event| {
            assert!(event.cause == Cause::LevelChanged && event.cause.is_of_level());
            (event.sequence, event.from_level, event.to_level)
        }));
    }
    let expected = [
        (1, Level::None, Level::Light),
        (2, Level::Light, Level::Medium),
        (3, Level::Medium, Level::Heavy),
        (4, Level::Heavy, Level::None),
    ];
    assert_eq!(told, expected);
}

/// In time a level falls by itself; whoever calls next tells it.
#[test]
fn a_level_that_fell_with_time_is_told_by_the_next_call() {
    for config in [in_period(3, 40 * MS), rate_in_time(3, 10_000)] {
        let fallen = || {
            let breaker = breaker(BreakerConfig { admit_bp: GRADUAL_ADMIT_BP, ..config });
            (0..2).for_each(|_| _ = breaker.report(Outcome::Failure, || 0));
            breaker.report(Outcome::Success, || 0);
            assert_ne!(breaker.snapshot(|| 0).level, Level::None);
            assert_eq!(breaker.snapshot(|| 50 * MS).level, Level::None);
            breaker
        };
        let down = |events: Vec<Event>| {
            assert_eq!(events.len(), 1);
            assert_eq!((events[0].to_level, events[0].at_ns), (Level::None, 50 * MS));
        };
        down(fallen().settle(|| 50 * MS).iter().collect());
        down(fallen().acquire(|| 50 * MS).events.iter().collect());
        down(fallen().report(Outcome::Success, || 50 * MS).events.iter().collect());
    }
}

#[test]
fn a_level_is_a_share_of_the_budget_of_any_policy() {
    // One of two failing is half of the budget of a rate of 100 %, the whole of it for 50 %.
    for (failure_rate_bp, level) in [(10_000, Level::Light), (8_000, Level::Medium), (6_000, Level::Heavy)] {
        for config in [rate(2, 2, failure_rate_bp), rate_in_time(2, failure_rate_bp)] {
            let breaker = breaker(config);
            fail(&breaker, 0);
            assert_eq!(breaker.snapshot(|| 0).level, Level::None, "fewer calls than the minimum");
            call(&breaker, Outcome::Success, 0);
            assert_eq!(breaker.snapshot(|| 0).level, level);
        }
    }
    let slow = breaker(BreakerConfig { slow_call_ns: MS, ..rate(4, 4, 10_000) });
    [Outcome::Slow, Outcome::Slow, Outcome::Slow, Outcome::Success].into_iter().for_each(|outcome| {
        call(&slow, outcome, 0);
    });
    assert_eq!(slow.snapshot(|| 0).level, Level::Medium);
    let period = breaker(in_period(4, 100));
    for level in [Level::None, Level::Light, Level::Medium, Level::Heavy] {
        fail(&period, 0);
        assert_eq!(period.snapshot(|| 99).level, level);
    }
}
