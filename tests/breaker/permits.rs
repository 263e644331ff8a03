//! What a permit may still say: R12 and R13.

use super::*;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

#[test]
fn r12_a_probe_is_recorded_once_even_when_its_fields_are_copied() {
    let breaker = opened();
    let raw = admitted(&breaker, 70).into_raw();
    let again = |outcome, now| record(&breaker, Permit::from_raw(raw), outcome, now);
    assert_eq!(again(Outcome::Success, 80), RecordVerdict::Applied);
    assert_eq!(again(Outcome::Success, 81), RecordVerdict::AlreadyDone);
    assert_eq!(phase(&breaker), Phase::HalfOpen);
    call(&breaker, Outcome::Success, 82);
    // Done comes before stale.
    assert_eq!((phase(&breaker), again(Outcome::Failure, 83)), (Phase::Closed, RecordVerdict::AlreadyDone));
    assert_eq!(breaker.snapshot(|| 83).counts.stale, 0);
}

#[test]
fn r12_an_ignored_probe_is_recorded_once() {
    let breaker = opened();
    let raw = admitted(&breaker, 70).into_raw();
    let again = |now| record(&breaker, Permit::from_raw(raw), Outcome::Ignored, now);
    assert_eq!((again(71), again(71)), (RecordVerdict::Applied, RecordVerdict::AlreadyDone));
    let next = admitted(&breaker, 72);
    assert_eq!(again(73), RecordVerdict::AlreadyDone);
    assert_eq!(record(&breaker, next, Outcome::Ignored, 74), RecordVerdict::Applied);
    breaker.reset(|| 75);
    assert_eq!((again(76), breaker.snapshot(|| 76).counts.ignored), (RecordVerdict::AlreadyDone, 2));
}

/// A slot counts its ignored probes to 4,095; what comes after that is no lease that ended.
#[test]
fn r12_an_ignored_probe_is_done_however_many_there_were() {
    let breaker = opened();
    let raw = admitted(&breaker, 70).into_raw();
    let again = || record(&breaker, Permit::from_raw(raw), Outcome::Ignored, 71);
    assert_eq!(again(), RecordVerdict::Applied);
    for _ in 0..5_000 {
        assert_eq!(call(&breaker, Outcome::Ignored, 71).len(), 0);
        assert_eq!(again(), RecordVerdict::AlreadyDone);
    }
    breaker.reset(|| 72);
    assert_eq!((again(), breaker.snapshot(|| 72).counts.expired), (RecordVerdict::AlreadyDone, 0));
}

#[test]
fn r12_racing_copies_of_a_probe_count_once() {
    for _ in 0..200 {
        let breaker = opened();
        let raw = admitted(&breaker, 70).into_raw();
        let applied = AtomicU32::new(0);
        thread::scope(|scope| {
            for outcome in [Outcome::Success, Outcome::Success, Outcome::Ignored] {
                let (breaker, applied) = (&breaker, &applied);
                scope.spawn(move || {
                    let verdict = record(breaker, Permit::from_raw(raw), outcome, 71);
                    applied.fetch_add(u32::from(verdict == RecordVerdict::Applied), Ordering::Relaxed);
                });
            }
        });
        assert_eq!(applied.into_inner(), 1);
    }
}

#[test]
fn r12_a_probe_past_its_lease_is_expired() {
    let breaker = opened_as(BreakerConfig { successes_to_close: 1, ..config() });
    let (late, timely) = (admitted(&breaker, 70), admitted(&breaker, 90));
    assert_eq!(record(&breaker, late, Outcome::Success, 100), RecordVerdict::Expired);
    assert_eq!(record(&breaker, timely, Outcome::Success, 101), RecordVerdict::Applied);
    assert_eq!(phase(&breaker), Phase::Closed);
    assert_eq!(breaker.snapshot(|| 101).counts.expired, 1);
}

#[test]
fn r12_a_made_up_probe_changes_nothing() {
    let breaker = opened();
    let raw = admitted(&breaker, 70).into_raw();
    let before = breaker.snapshot(|| 71);
    for (slot, epoch) in [(64, 1), (8, 1), (7, 1), (2, 1), (1, 1), (0, 2), (0, 0), (1, 0), (u32::MAX - 1, 1)]
    {
        let made_up = Permit::from_raw(elixirscope::breaker::RawPermit { slot, epoch, ..raw });
        assert_eq!(
            record(&breaker, made_up, Outcome::Success, 71),
            RecordVerdict::NotFound,
            "{slot} {epoch}"
        );
    }
    assert_eq!(breaker.snapshot(|| 71), before);
}

/// A permit of a closed breaker has no lease, and none is stored: any number may be out.
#[test]
fn r12_permits_of_a_closed_breaker_cost_it_nothing() {
    let breaker = breaker(config());
    let permits: Vec<_> = (0..100_000).map(|_| admitted(&breaker, 0)).collect();
    for permit in permits {
        assert_eq!(record(&breaker, permit, Outcome::Success, u64::MAX), RecordVerdict::Applied);
    }
}

#[test]
fn r13_a_result_of_an_earlier_generation_decides_nothing() {
    let breaker = breaker(config());
    let (success, failure) = (admitted(&breaker, 0), admitted(&breaker, 0));
    [1, 2, 3].into_iter().for_each(|now| fail(&breaker, now));
    let _probe = admitted(&breaker, 53);
    assert_eq!(record(&breaker, success, Outcome::Success, 60), RecordVerdict::Stale);
    assert_eq!(record(&breaker, failure, Outcome::Failure, 60), RecordVerdict::Stale);
    let snapshot = breaker.snapshot(|| 60);
    assert_eq!((snapshot.phase, snapshot.live_probes, snapshot.counts.stale), (Phase::HalfOpen, 1, 2));
}

#[test]
fn r13_the_generation_grows_with_everything_that_ends_one() {
    let breaker = breaker(config());
    let generation = |breaker: &Breaker| breaker.snapshot(|| 0).generation;
    let mut expected = 1;
    let mut grown = |what: &str| {
        expected += 1;
        assert_eq!(generation(&breaker), expected, "{what}");
    };
    breaker.reset(|| 0);
    grown("reset");
    (0..3).for_each(|now| fail(&breaker, now));
    grown("opened");
    let probe = admitted(&breaker, 100);
    grown("half-open");
    record(&breaker, probe, Outcome::Success, 100);
    call(&breaker, Outcome::Success, 100);
    grown("closed");
    mode(&breaker, Mode::MetricsOnly, 100);
    grown("mode");
    breaker.reinstall(&config(), || 100).unwrap();
    grown("reinstalled");
    breaker.reconfigure(&BreakerConfig::consecutive_failures(9), || 100).unwrap();
    mode(&breaker, Mode::MetricsOnly, 100);
    assert_eq!(generation(&breaker), expected, "a reconfiguration or the same mode ends none");
}

/// The results of a window belong to its generation.
#[test]
fn r13_a_new_generation_begins_with_an_empty_window() {
    for config in [config(), in_period(2, 100), rate(10, 3, 10_000), rate_in_time(3, 10_000)] {
        let breaker = breaker(config);
        for round in 0..70 {
            fail(&breaker, round);
            fail(&breaker, round);
            assert_eq!((phase(&breaker), breaker.snapshot(|| round).failures), (Phase::Closed, 2));
            breaker.reset(|| round);
            assert_eq!(breaker.snapshot(|| round).failures, 0);
        }
    }
}

#[test]
fn r13_a_success_of_an_earlier_generation_is_stale_where_the_window_would_not_notice_it() {
    let breaker = breaker(rate(2, 2, 10_000));
    let early = admitted(&breaker, 0);
    breaker.reset(|| 1);
    (0..4).for_each(|now| drop(call(&breaker, Outcome::Success, now)));
    assert_eq!(record(&breaker, early, Outcome::Success, 5), RecordVerdict::Stale);
}
