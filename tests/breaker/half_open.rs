//! A round of probes: R08 to R11, R14 to R16.

use super::*;
use elixirscope::breaker::RejectReason;

fn full(retry_after_ns: u64) -> Rejection {
    Rejection { reason: RejectReason::HalfOpenFull, retry_after_ns }
}

#[test]
fn r08_live_and_decided_probes_never_exceed_the_permits() {
    let breaker = opened();
    let (first, _second) = (admitted(&breaker, 70), admitted(&breaker, 71));
    assert_eq!(rejection(&breaker, 72), full(28));
    record(&breaker, first, Outcome::Success, 73);
    assert_eq!(rejection(&breaker, 74), full(27));
    assert_eq!(breaker.snapshot(|| 74).live_probes, 1);
}

/// Whatever comes back, and how often: two permits stay two.
#[test]
fn r08_no_release_stale_or_second_result_raises_the_limit() {
    let breaker = breaker(config());
    let early = admitted(&breaker, 0);
    [0, 10, 20].into_iter().for_each(|now| fail(&breaker, now));
    let (released, live) = (admitted(&breaker, 70).into_raw(), admitted(&breaker, 70));
    let again = |outcome| record(&breaker, Permit::from_raw(released), outcome, 71);
    assert_eq!(again(Outcome::Ignored), RecordVerdict::Applied);
    for outcome in [Outcome::Ignored, Outcome::Cancelled, Outcome::Success] {
        assert_eq!(again(outcome), RecordVerdict::AlreadyDone);
    }
    assert_eq!(record(&breaker, early, Outcome::Ignored, 71), RecordVerdict::Stale);
    let second = admitted(&breaker, 72);
    assert_eq!(rejection(&breaker, 72).reason, RejectReason::HalfOpenFull);
    assert_eq!(again(Outcome::Ignored), RecordVerdict::AlreadyDone);
    assert_eq!(rejection(&breaker, 72).reason, RejectReason::HalfOpenFull);
    // A result takes its place for good.
    record(&breaker, second, Outcome::Success, 73);
    assert_eq!(rejection(&breaker, 73).reason, RejectReason::HalfOpenFull);
    record(&breaker, live, Outcome::Success, 74);
    assert_eq!(phase(&breaker), Phase::Closed);
}

#[test]
fn r08_all_64_probes_can_be_out() {
    let config = BreakerConfig { half_open_permits: 64, successes_to_close: 64, ..config() };
    let breaker = opened_as(config);
    let probes: Vec<_> = (0..64).map(|_| admitted(&breaker, 70)).collect();
    assert_eq!(rejection(&breaker, 70), full(30));
    assert_eq!(breaker.snapshot(|| 70).live_probes, 64);
    for probe in probes {
        assert_eq!(record(&breaker, probe, Outcome::Success, 71), RecordVerdict::Applied);
    }
    assert_eq!(phase(&breaker), Phase::Closed);
}

/// A snapshot tells the wait that an acquire at the same time would be told.
#[test]
fn r08_a_snapshot_waits_for_the_first_lease_when_no_slot_is_free() {
    let breaker = opened();
    let (first, _second) = (admitted(&breaker, 70), admitted(&breaker, 71));
    assert_eq!(breaker.snapshot(|| 72).retry_after_ns, 28);
    record(&breaker, first, Outcome::Success, 73);
    assert_eq!(breaker.snapshot(|| 74).retry_after_ns, 27);
    assert_eq!(rejection(&breaker, 74), full(27));
    // A lease that is over may let the next acquire in.
    assert_eq!(breaker.snapshot(|| 101).retry_after_ns, 0);
    assert_eq!(breaker.snapshot(|| 101).live_probes, 0);
}

#[test]
fn r08_a_snapshot_with_a_free_slot_tells_no_wait() {
    let breaker = opened();
    let (first, _second) = (admitted(&breaker, 70), admitted(&breaker, 71));
    record(&breaker, first, Outcome::Ignored, 73);
    assert_eq!(breaker.snapshot(|| 74).retry_after_ns, 0);
    assert!(admitted(&breaker, 74).is_probe());
}

#[test]
fn r09_the_last_needed_success_closes() {
    let breaker = opened();
    let (first, second) = (admitted(&breaker, 70), admitted(&breaker, 71));
    assert!(breaker.record(first, Outcome::Success, || 80).events.is_empty());
    let events = breaker.record(second, Outcome::Success, || 81).events;
    let event = events.iter().next().unwrap();
    assert_eq!((event.from, event.to, event.cause), (Phase::HalfOpen, Phase::Closed, Cause::ProbesSucceeded));
    assert_eq!((event.generation, event.at_ns), (4, 81));
}

#[test]
fn r09_a_slow_probe_fails_only_where_slow_calls_open() {
    let slow_at = |policy, at| {
        let config = BreakerConfig {
            policy,
            slow_call_ns: 5,
            half_open_permits: 1,
            successes_to_close: 1,
            ..config()
        };
        let breaker = opened_as(config);
        let probe = admitted(&breaker, 70);
        record(&breaker, probe, Outcome::Success, at);
        phase(&breaker)
    };
    let rated = rate(3, 3, 10_000).policy;
    let in_a_row = Policy::ConsecutiveFailures { failure_threshold: 3 };
    assert_eq!([slow_at(in_a_row, 80), slow_at(in_a_row, 75)], [Phase::Closed; 2]);
    assert_eq!([slow_at(rated, 80), slow_at(rated, 75)], [Phase::Open, Phase::Closed]);
}

#[test]
fn r09_opens_as_soon_as_the_round_cannot_close() {
    let config = BreakerConfig { half_open_permits: 5, successes_to_close: 4, ..config() };
    let breaker = opened_as(config);
    fail(&breaker, 70);
    assert_eq!(phase(&breaker), Phase::HalfOpen);
    assert_eq!(causes(call(&breaker, Outcome::Failure, 71)), [(Cause::ProbesFailed, 71)]);
    assert_eq!((phase(&breaker), breaker.snapshot(|| 71).opens), (Phase::Open, 2));

    let other = opened_as(config);
    fail(&other, 70);
    (0..4).for_each(|_| _ = call(&other, Outcome::Success, 71));
    assert_eq!(phase(&other), Phase::Closed);
}

#[test]
fn r09_one_success_of_64_is_waited_for() {
    let config = BreakerConfig { half_open_permits: 64, successes_to_close: 1, ..config() };
    let breaker = opened_as(config);
    (0..63).for_each(|_| fail(&breaker, 70));
    assert_eq!(phase(&breaker), Phase::HalfOpen);
    assert_eq!(causes(call(&breaker, Outcome::Failure, 71)), [(Cause::ProbesFailed, 71)]);
}

#[test]
fn r10_a_lost_probe_counts_as_failed_when_its_lease_ends() {
    let breaker = opened();
    drop((admitted(&breaker, 70), admitted(&breaker, 71)));
    assert_eq!(rejection(&breaker, 99), full(1));
    let acquired = breaker.acquire(|| 100);
    let open = Rejection { reason: RejectReason::Open, retry_after_ns: 50 };
    assert_eq!(acquired.verdict.unwrap_err(), open);
    assert_eq!(causes(acquired.events.iter()), [(Cause::ProbeExpired, 100)]);
}

#[test]
fn r10_one_acquire_settles_an_expiry_and_the_open_time_after_it() {
    let breaker = opened();
    drop((admitted(&breaker, 70), admitted(&breaker, 71)));
    let acquired = breaker.acquire(|| 1000);
    assert!(acquired.verdict.unwrap().is_probe());
    assert_eq!(causes(acquired.events.iter()), [(Cause::ProbeExpired, 100), (Cause::OpenElapsed, 1000)]);
}

/// The reset of a breaker whose probes were lost long ago tells all that happened.
#[test]
fn r10_a_settlement_tells_what_was_due() {
    let breaker = opened();
    drop((admitted(&breaker, 70), admitted(&breaker, 71)));
    assert_eq!(causes(breaker.settle(|| 500).iter()), [(Cause::ProbeExpired, 100)]);
    let other = opened_as(BreakerConfig { skip_half_open: false, ..config() });
    drop((admitted(&other, 70), admitted(&other, 71)));
    assert_eq!(causes(other.reset(|| 500).iter()), [(Cause::ProbeExpired, 100), (Cause::Reset, 500)]);
}

#[test]
fn r10_a_lost_probe_gives_its_place_back_where_that_is_chosen() {
    let breaker = opened_as(BreakerConfig { release_expired_probes: true, ..config() });
    let late = [admitted(&breaker, 70), admitted(&breaker, 71)];
    assert_eq!(rejection(&breaker, 99), full(1));
    // The first lease ends at 100, the second at 101.
    let first = admitted(&breaker, 100);
    assert_eq!(rejection(&breaker, 100), full(1));
    let probes = [first, admitted(&breaker, 101)];
    assert_eq!(rejection(&breaker, 101), full(29));
    for permit in late {
        assert_eq!(record(&breaker, permit, Outcome::Failure, 102), RecordVerdict::Expired);
    }
    for permit in probes {
        assert_eq!(record(&breaker, permit, Outcome::Success, 103), RecordVerdict::Applied);
    }
    assert_eq!((phase(&breaker), breaker.snapshot(|| 103).counts.expired), (Phase::Closed, 2));
}

#[test]
fn r11_every_breaker_admits_again_whatever_was_lost() {
    let lossy = |release_expired_probes, half_open_limit_ns, jitter_bp| BreakerConfig {
        release_expired_probes,
        half_open_limit_ns,
        jitter_bp,
        half_open_permits: 3,
        ..config()
    };
    for config in [lossy(false, 0, 0), lossy(true, 0, 9_999), lossy(false, 40, 0), lossy(true, 40, 0)] {
        for lost in 0..4 {
            for ignored in 0..2 {
                let breaker = opened_as(config);
                let start = 70 + breaker.snapshot(|| 70).retry_after_ns;
                let probes: Vec<_> = (0..lost).map(|_| breaker.acquire(|| start)).collect();
                for probe in probes.into_iter().take(ignored).filter_map(|acquired| acquired.verdict.ok()) {
                    record(&breaker, probe, Outcome::Ignored, start);
                }
                let later = start + config.probe_lease_ns.max(config.half_open_limit_ns);
                breaker.settle(|| later);
                assert!(breaker.acquire(|| later + 2 * config.open_for_ns).verdict.is_ok());
            }
        }
    }
}

#[test]
fn r14_ignored_probes_return_their_slot_and_decide_nothing() {
    for outcome in [Outcome::Ignored, Outcome::Cancelled] {
        let breaker = opened();
        for _ in 0..20 {
            let probe = admitted(&breaker, 70);
            assert_eq!(record(&breaker, probe, outcome, 70), RecordVerdict::Applied);
        }
        assert_eq!((phase(&breaker), breaker.snapshot(|| 70).generation), (Phase::HalfOpen, 3));
        close(&breaker, 71);
    }
}

#[test]
fn r14_ignored_results_are_in_no_window() {
    for config in [config(), in_period(2, 100), rate(10, 3, 5_000), rate_in_time(3, 5_000)] {
        let breaker = breaker(config);
        fail(&breaker, 0);
        for now in 0..100 {
            call(&breaker, Outcome::Ignored, now);
            call(&breaker, Outcome::Cancelled, now);
        }
        let snapshot = breaker.snapshot(|| 50);
        assert_eq!((snapshot.phase, snapshot.failures), (Phase::Closed, 1));
        assert!(snapshot.window_calls <= 1);
        assert_eq!((snapshot.counts.ignored, snapshot.counts.cancelled), (100, 100));
    }
}

#[test]
fn r14_too_many_ignored_probes_open_again_for_as_long_as_before() {
    let config = BreakerConfig { max_ignored_probes: 3, backoff_percent: 200, ..config() };
    let breaker = opened_as(config);
    for now in [70, 71] {
        assert!(call(&breaker, Outcome::Ignored, now).len() <= 1);
    }
    let events = call(&breaker, Outcome::Cancelled, 72);
    assert_eq!(causes(events), [(Cause::ProbesIgnored, 72)]);
    let snapshot = breaker.snapshot(|| 72);
    assert_eq!((snapshot.phase, snapshot.opens, snapshot.retry_after_ns), (Phase::Open, 1, 50));
}

/// Also when one slot has ignored them all.
#[test]
fn r14_the_largest_limit_of_ignored_probes_is_reached() {
    let one = BreakerConfig { half_open_permits: 1, successes_to_close: 1, ..config() };
    let breaker = opened_as(BreakerConfig { max_ignored_probes: 4_095, ..one });
    (0..4_094).for_each(|_| _ = call(&breaker, Outcome::Ignored, 70));
    assert_eq!(phase(&breaker), Phase::HalfOpen);
    assert_eq!(causes(call(&breaker, Outcome::Ignored, 71)), [(Cause::ProbesIgnored, 71)]);
}

/// An owner that dies, or code that panics, has the edge record a failure, once; giving up counts as nothing.
#[test]
fn r15_an_abandoned_probe_is_a_failure_and_a_cancelled_one_is_not() {
    let abandoned = opened();
    let probe = admitted(&abandoned, 70).into_raw();
    assert_eq!(record(&abandoned, Permit::from_raw(probe), Outcome::Failure, 71), RecordVerdict::Applied);
    assert_eq!(record(&abandoned, Permit::from_raw(probe), Outcome::Failure, 71), RecordVerdict::AlreadyDone);
    assert_eq!((phase(&abandoned), abandoned.snapshot(|| 71).counts.failed), (Phase::Open, 4));

    let cancelled = opened();
    let probe = admitted(&cancelled, 70);
    assert_eq!(record(&cancelled, probe, Outcome::Cancelled, 71), RecordVerdict::Applied);
    assert_eq!((phase(&cancelled), cancelled.snapshot(|| 71).counts.cancelled), (Phase::HalfOpen, 1));
    close(&cancelled, 72);
}

#[test]
fn r16_a_round_without_a_verdict_ends() {
    let config = BreakerConfig { half_open_limit_ns: 25, backoff_percent: 200, ..config() };
    let opens = opened_as(config);
    let _probe = admitted(&opens, 70);
    assert_eq!(opens.snapshot(|| 71).retry_after_ns, 0);
    assert!(opens.settle(|| 94).is_empty());
    // Dated at its end: open for 100 from 95 on.
    assert_eq!(causes(opens.settle(|| 100).iter()), [(Cause::HalfOpenLimit, 95)]);
    assert_eq!(rejection(&opens, 100).retry_after_ns, 95);

    let closes = opened_as(BreakerConfig { close_at_half_open_limit: true, ..config });
    let (_one, _two) = (admitted(&closes, 70), admitted(&closes, 80));
    assert_eq!(rejection(&closes, 90), full(5));
    assert_eq!(closes.snapshot(|| 90).retry_after_ns, 5);
    let acquired = closes.acquire(|| 95);
    assert!(!acquired.verdict.unwrap().is_probe());
    assert_eq!(causes(acquired.events.iter()), [(Cause::HalfOpenLimit, 95)]);
}

#[test]
fn r16_a_round_without_a_limit_does_not_end() {
    let breaker = opened();
    call(&breaker, Outcome::Ignored, 70);
    assert!(breaker.settle(|| u64::MAX).is_empty());
    assert_eq!(phase(&breaker), Phase::HalfOpen);
    assert!(admitted(&breaker, u64::MAX).is_probe());
}

#[test]
fn r16_a_lease_that_ends_with_the_round_ends_first() {
    let config =
        BreakerConfig { half_open_limit_ns: 30, half_open_permits: 1, successes_to_close: 1, ..config() };
    let tie = opened_as(config);
    let _probe = admitted(&tie, 70);
    assert_eq!(causes(tie.settle(|| 100).iter()), [(Cause::ProbeExpired, 100)]);
    let later = opened_as(BreakerConfig { half_open_limit_ns: 29, ..config });
    let _probe = admitted(&later, 70);
    assert_eq!(causes(later.settle(|| 100).iter()), [(Cause::HalfOpenLimit, 99)]);
}
