//! Somebody in charge: R24.

use super::*;
use elixirscope::breaker::{Level, RejectReason};

#[test]
fn r24_forced_open_beats_all() {
    let breaker = breaker(config());
    let before = admitted(&breaker, 0);
    let events = mode(&breaker, Mode::ForcedOpen, 10);
    assert_eq!(causes(events.iter().copied()), [(Cause::ModeChanged, 10)]);
    assert_eq!(
        (events[0].from, events[0].to, events[0].mode),
        (Phase::Closed, Phase::Open, Mode::ForcedOpen)
    );
    let forced = Rejection { reason: RejectReason::ForcedOpen, retry_after_ns: u64::MAX };
    for now in [10, 1_000, u64::MAX] {
        assert_eq!(rejection(&breaker, now), forced);
        assert!(breaker.settle(|| now).is_empty());
        assert_eq!(breaker.snapshot(|| now).retry_after_ns, u64::MAX);
    }
    assert!(breaker.reset(|| 20).is_empty());
    assert!(
        breaker.reinstall(&BreakerConfig { skip_half_open: true, ..config() }, || 20).unwrap().is_empty()
    );
    assert!(breaker.reconfigure(&config(), || 20).unwrap().is_empty());
    assert_eq!(breaker.report(Outcome::Success, || 20).verdict, RecordVerdict::Stale);
    assert_eq!(rejection(&breaker, u64::MAX), forced);
    assert_eq!(record(&breaker, before, Outcome::Success, 20), RecordVerdict::Stale);
    assert!(mode(&breaker, Mode::ForcedOpen, 30).is_empty());
    let snapshot = breaker.snapshot(|| 30);
    assert_eq!((snapshot.mode, snapshot.counts.rejected_forced_open), (Mode::ForcedOpen, 4));
}

#[test]
fn r24_back_to_auto_is_closed_with_an_empty_window() {
    for mode_before in [Mode::ForcedOpen, Mode::ForcedClosed, Mode::MetricsOnly] {
        for config in [config(), in_period(2, 1_000), rate(10, 2, 10_000), rate_in_time(2, 10_000)] {
            let breaker = breaker(config);
            fail(&breaker, 0);
            mode(&breaker, mode_before, 1);
            (0..5).for_each(|_| _ = breaker.report(Outcome::Failure, || 2));
            assert_eq!(causes(mode(&breaker, Mode::Auto, 3)), [(Cause::ModeChanged, 3)]);
            let snapshot = breaker.snapshot(|| 3);
            assert_eq!((snapshot.phase, snapshot.failures, snapshot.level), (Phase::Closed, 0, Level::None));
            fail(&breaker, 4);
            assert_eq!(breaker.snapshot(|| 4).failures, 1);
        }
    }
}

#[test]
fn r24_auto_twice_changes_nothing() {
    let breaker = opened();
    let before = breaker.snapshot(|| 30);
    assert!(mode(&breaker, Mode::Auto, 30).is_empty());
    assert_eq!(breaker.snapshot(|| 30), before);
}

#[test]
fn r24_forced_closed_admits_all_and_counts_nothing() {
    let config = BreakerConfig { admit_bp: [0; 4], ..config() };
    let breaker = breaker(config);
    assert_eq!(rejection(&breaker, 0).reason, RejectReason::Degraded);
    mode(&breaker, Mode::ForcedClosed, 0);
    for now in 0..100 {
        assert!(call(&breaker, Outcome::Failure, now).is_empty());
    }
    let snapshot = breaker.snapshot(|| 100);
    assert_eq!((snapshot.phase, snapshot.failures, snapshot.level), (Phase::Closed, 0, Level::None));
    assert_eq!(snapshot.counts.failed, 100);
    breaker.reset(|| 100);
    assert_eq!(breaker.snapshot(|| 100).mode, Mode::ForcedClosed);
}

#[test]
fn r24_forced_closed_opens_an_open_breaker() {
    let breaker = opened();
    mode(&breaker, Mode::ForcedClosed, 30);
    assert!(!admitted(&breaker, 30).is_probe());
}

#[test]
fn r24_metrics_only_never_rejects_and_tells_once_that_it_would_open() {
    let all = [
        BreakerConfig { admit_bp: [0; 4], ..config() },
        in_period(2, 10 * MS),
        rate(4, 3, 5_000),
        rate_in_time(3, 5_000),
    ];
    for config in all {
        let breaker = breaker(config);
        mode(&breaker, Mode::MetricsOnly, 0);
        let mut would_open = vec![];
        for round in 0..3 {
            let start = round * 100 * MS;
            let outcomes = [[Outcome::Failure; 20], [Outcome::Success; 20]].concat();
            for outcome in outcomes {
                let events = call(&breaker, outcome, start);
                would_open.extend(events.into_iter().filter(|event| event.cause == Cause::WouldOpen));
            }
            // Whatever the policy looks at has passed by now.
            call(&breaker, Outcome::Success, start + 90 * MS);
        }
        assert_eq!(would_open.len(), 3, "{config:?}");
        assert!(would_open.iter().all(|event| {
            (event.from, event.to, event.to_level) == (Phase::Closed, Phase::Closed, Level::Exceeded)
        }));
        let snapshot = breaker.snapshot(|| 300 * MS);
        assert_eq!((snapshot.phase, snapshot.counts.admitted), (Phase::Closed, 123));
    }
}
