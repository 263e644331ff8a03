//! The open phase: R06, R07 and R17.

use super::*;
use elixirscope::breaker::RejectReason;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

#[test]
fn r06_open_rejects_until_its_instant_and_late_results_do_not_move_it() {
    let breaker = breaker(config());
    let late = [admitted(&breaker, 0), admitted(&breaker, 0)];
    [0, 10, 20].into_iter().for_each(|now| fail(&breaker, now));
    for (permit, outcome) in late.into_iter().zip([Outcome::Failure, Outcome::Success]) {
        assert_eq!(record(&breaker, permit, outcome, 60), RecordVerdict::Stale);
    }
    assert_eq!(breaker.report(Outcome::Failure, || 60).verdict, RecordVerdict::Stale);
    let open = Rejection { reason: RejectReason::Open, retry_after_ns: 1 };
    assert_eq!(rejection(&breaker, 69), open);
    assert_eq!(breaker.snapshot(|| 69).retry_after_ns, 1);
    assert_eq!(breaker.snapshot(|| 71).phase, Phase::Open);
    let acquired = breaker.acquire(|| 70);
    assert_eq!(causes(acquired.events.iter()), [(Cause::OpenElapsed, 70)]);
    assert!(acquired.verdict.unwrap().is_probe());
}

#[test]
fn r06_a_breaker_without_half_open_closes_when_its_time_is_over() {
    let config = BreakerConfig { skip_half_open: true, backoff_percent: 200, ..config() };
    let by_acquire = opened_as(config);
    assert_eq!(rejection(&by_acquire, 69).retry_after_ns, 1);
    let acquired = by_acquire.acquire(|| 75);
    assert_eq!(causes(acquired.events.iter()), [(Cause::OpenElapsed, 75)]);
    assert!(!acquired.verdict.unwrap().is_probe());
    assert_eq!((phase(&by_acquire), by_acquire.snapshot(|| 75).opens), (Phase::Closed, 0));
    // Fuse's timer, without one: whoever settles hears of it.
    let by_settle = opened_as(config);
    assert!(by_settle.settle(|| 69).is_empty());
    assert_eq!(causes(by_settle.settle(|| 70).iter()), [(Cause::OpenElapsed, 70)]);
    let by_report = opened_as(config);
    assert_eq!(by_report.report(Outcome::Failure, || 70).verdict, RecordVerdict::Applied);
    assert_eq!(by_report.snapshot(|| 70).failures, 1);
}

/// Settling an open breaker that has probes waits for one.
#[test]
fn r06_only_an_acquire_begins_a_round_of_probes() {
    let breaker = opened();
    assert!(breaker.settle(|| 1_000).is_empty());
    assert_eq!((phase(&breaker), breaker.snapshot(|| 1_000).retry_after_ns), (Phase::Open, 0));
}

#[test]
fn r07_racing_acquires_at_the_deadline_make_one_transition_and_admit_the_permits() {
    // More callers than permits, and fewer.
    for permits in [2, 64].repeat(100) {
        let breaker = opened_as(BreakerConfig { half_open_permits: permits, ..config() });
        let (events, admitted) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let acquired = breaker.acquire(|| 70);
                    events.fetch_add(acquired.events.len() as u32, Ordering::Relaxed);
                    match acquired.verdict {
                        Ok(permit) => {
                            assert!(permit.is_probe());
                            admitted.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(rejection) => assert_eq!(rejection.reason, RejectReason::HalfOpenFull),
                    }
                });
            }
        });
        assert_eq!(events.into_inner(), 1);
        assert_eq!(admitted.into_inner(), permits.min(4));
    }
}

/// Opens again with each probe, and returns for how long.
fn open_times(breaker: &Breaker, opens: usize) -> Vec<u64> {
    let mut now = 0;
    while phase(breaker) == Phase::Closed {
        fail(breaker, now);
    }
    let mut times = vec![];
    for _ in 0..opens {
        let time = breaker.snapshot(|| now).retry_after_ns;
        times.push(time);
        now += time;
        fail(breaker, now);
    }
    times
}

fn backing_off() -> BreakerConfig {
    BreakerConfig {
        half_open_permits: 1,
        successes_to_close: 1,
        backoff_percent: 200,
        max_open_ns: 400,
        ..config()
    }
}

#[test]
fn r17_each_re_opening_lasts_longer_up_to_the_cap() {
    let breaker = breaker(backing_off());
    assert_eq!(open_times(&breaker, 6), [50, 100, 200, 400, 400, 400]);
    assert_eq!(breaker.snapshot(|| 0).opens, 7);
}

#[test]
fn r17_only_closing_and_a_reset_start_the_back_off_again() {
    let breaker = breaker(backing_off());
    open_times(&breaker, 3);
    breaker.reset(|| 0);
    assert_eq!(breaker.snapshot(|| 0).opens, 0);
    assert_eq!(open_times(&breaker, 2), [50, 100]);
    let later = 100_000;
    call(&breaker, Outcome::Success, later);
    assert_eq!((phase(&breaker), breaker.snapshot(|| later).opens), (Phase::Closed, 0));
    (0..3).for_each(|_| fail(&breaker, later));
    assert_eq!(breaker.snapshot(|| later).retry_after_ns, 50);
}

#[test]
fn r17_the_open_time_of_any_number_of_opens_is_its_cap() {
    let breaker = breaker(BreakerConfig { backoff_percent: 120, max_open_ns: 1 << 40, ..backing_off() });
    let times = open_times(&breaker, 300);
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1]));
    assert_eq!(times[299], 1 << 40);
    assert_eq!(breaker.snapshot(|| 0).opens, 255);
}

#[test]
fn r17_jitter_stays_in_its_range_and_equal_seeds_give_equal_times() {
    let config = |seed| BreakerConfig {
        jitter_bp: 2_500,
        seed,
        open_for_ns: 1_000,
        max_open_ns: 8_000,
        ..backing_off()
    };
    let times = |seed| open_times(&breaker(config(seed)), 50);
    assert_eq!(times(1), times(1));
    assert_ne!(times(1), times(2));
    let bases = [1_000, 2_000, 4_000].into_iter().chain(std::iter::repeat(8_000));
    for (time, base) in times(7).into_iter().zip(bases) {
        assert!((base * 3 / 4..=base * 5 / 4).contains(&time), "{time} for {base}");
    }
    let capped = times(9).split_off(3);
    assert!(capped.iter().any(|time| *time < 8_000) && capped.iter().any(|time| *time > 8_000));
}

#[test]
fn r22_an_open_breaker_shows_no_failures_also_at_the_beginning_of_time() {
    let breaker = breaker(BreakerConfig { open_for_ns: 0, ..BreakerConfig::consecutive_failures(1) });
    fail(&breaker, 0);
    let snapshot = breaker.snapshot(|| 0);
    assert_eq!((snapshot.phase, snapshot.failures), (Phase::Open, 0));
}
