//! The rules of the circuit breaker, one test a rule. Times are explicit; nothing sleeps.
#![cfg(not(escope_model))]

use elixirscope::breaker::{
    Breaker, BreakerConfig, Cause, Outcome, Permit, Phase, RecordVerdict, RejectReason, Rejection,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

const CONFIG: BreakerConfig = BreakerConfig {
    open_for_ns: 50,
    probe_lease_ns: 30,
    failure_threshold: 3,
    half_open_permits: 2,
    successes_to_close: 2,
};

fn breaker(config: BreakerConfig) -> Breaker {
    Breaker::new(&config).unwrap()
}

fn admitted(breaker: &Breaker, now: u64) -> Permit {
    breaker.acquire(|| now).verdict.unwrap()
}

fn rejection(breaker: &Breaker, now: u64) -> Rejection {
    breaker.acquire(|| now).verdict.unwrap_err()
}

fn fail(breaker: &Breaker, now: u64) {
    let permit = admitted(breaker, now);
    breaker.record(permit, Outcome::Failure, || now);
}

/// A breaker that opened at 20 and stays so until 70.
fn opened() -> Breaker {
    let breaker = breaker(CONFIG);
    [0, 10, 20].into_iter().for_each(|now| fail(&breaker, now));
    breaker
}

fn phase(breaker: &Breaker) -> Phase {
    breaker.snapshot(|| 0).phase
}

#[test]
fn r01_the_failure_that_reaches_the_threshold_opens() {
    let breaker = breaker(BreakerConfig::default());
    (0..4).for_each(|now| fail(&breaker, now));
    assert_eq!(phase(&breaker), Phase::Closed);
    fail(&breaker, 4);
    assert_eq!(phase(&breaker), Phase::Open);
}

#[test]
fn r01_a_success_starts_the_count_again() {
    let breaker = breaker(CONFIG);
    fail(&breaker, 0);
    fail(&breaker, 1);
    let permit = admitted(&breaker, 2);
    breaker.record(permit, Outcome::Success, || 2);
    fail(&breaker, 3);
    fail(&breaker, 4);
    assert_eq!(phase(&breaker), Phase::Closed);
}

#[test]
fn r01_racing_failures_open_exactly_once() {
    for _ in 0..200 {
        let breaker = breaker(BreakerConfig { failure_threshold: 4, ..CONFIG });
        let opened = AtomicU32::new(0);
        let permits: Vec<_> = (0..4).map(|_| admitted(&breaker, 0)).collect();
        thread::scope(|scope| {
            for permit in permits {
                scope.spawn(|| {
                    let events = breaker.record(permit, Outcome::Failure, || 1).events;
                    opened.fetch_add(events.len() as u32, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(opened.into_inner(), 1);
        assert_eq!(phase(&breaker), Phase::Open);
    }
}

#[test]
fn r05_a_configuration_out_of_range_names_argument_value_and_range() {
    let refused = |config: BreakerConfig| Breaker::new(&config).unwrap_err().to_string();
    assert_eq!(
        refused(BreakerConfig { failure_threshold: 0, ..CONFIG }),
        "`failure_threshold` is 0, allowed is 1 to 536870911"
    );
    assert_eq!(
        refused(BreakerConfig { half_open_permits: 65, ..CONFIG }),
        "`half_open_permits` is 65, allowed is 1 to 64"
    );
    assert_eq!(
        refused(BreakerConfig { successes_to_close: 3, ..CONFIG }),
        "`successes_to_close` is 3, allowed is 1 to half_open_permits"
    );
    assert_eq!(
        refused(BreakerConfig { probe_lease_ns: 0, ..CONFIG }),
        "`probe_lease_ns` is 0, allowed is 1 to 2^62 - 1"
    );
    assert_eq!(
        refused(BreakerConfig { open_for_ns: 1 << 62, ..CONFIG }),
        "`open_for_ns` is 4611686018427387904, allowed is 0 to 2^62 - 1"
    );
}

#[test]
fn r06_open_rejects_until_its_instant_and_late_failures_do_not_move_it() {
    let breaker = breaker(CONFIG);
    let late = admitted(&breaker, 0);
    [0, 10, 20].into_iter().for_each(|now| fail(&breaker, now));
    assert_eq!(breaker.record(late, Outcome::Failure, || 60).verdict, RecordVerdict::Stale);
    let open = Rejection { reason: RejectReason::Open, retry_after_ns: 1 };
    assert_eq!(rejection(&breaker, 69), open);
    assert!(admitted(&breaker, 70).is_probe());
}

#[test]
fn r07_racing_acquires_at_the_deadline_make_one_transition_and_admit_the_permits() {
    for _ in 0..200 {
        let breaker = opened();
        let (events, admitted) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let acquired = breaker.acquire(|| 70);
                    events.fetch_add(acquired.events.len() as u32, Ordering::Relaxed);
                    match acquired.verdict {
                        Ok(_) => _ = admitted.fetch_add(1, Ordering::Relaxed),
                        Err(rejection) => assert_eq!(rejection.reason, RejectReason::HalfOpenFull),
                    }
                });
            }
        });
        assert_eq!(events.into_inner(), 1);
        assert_eq!(admitted.into_inner(), CONFIG.half_open_permits);
    }
}

#[test]
fn r08_live_and_decided_probes_never_exceed_the_permits() {
    let breaker = opened();
    let (first, _second) = (admitted(&breaker, 70), admitted(&breaker, 71));
    let full = Rejection { reason: RejectReason::HalfOpenFull, retry_after_ns: 28 };
    assert_eq!(rejection(&breaker, 72), full);
    breaker.record(first, Outcome::Success, || 73);
    let full = Rejection { reason: RejectReason::HalfOpenFull, retry_after_ns: 27 };
    assert_eq!(rejection(&breaker, 74), full);
}

/// A snapshot tells the wait that an acquire at the same time would be told.
#[test]
fn r08_a_snapshot_waits_for_the_first_lease_when_no_slot_is_free() {
    let breaker = opened();
    let (first, _second) = (admitted(&breaker, 70), admitted(&breaker, 71));
    assert_eq!(breaker.snapshot(|| 72).retry_after_ns, 28);
    breaker.record(first, Outcome::Success, || 73);
    assert_eq!(breaker.snapshot(|| 74).retry_after_ns, 27);
    assert_eq!(rejection(&breaker, 74).retry_after_ns, 27);
    // A lease that is over may let the next acquire in.
    assert_eq!(breaker.snapshot(|| 101).retry_after_ns, 0);
}

#[test]
fn r08_a_snapshot_with_a_free_slot_tells_no_wait() {
    let breaker = opened();
    let (first, _second) = (admitted(&breaker, 70), admitted(&breaker, 71));
    breaker.record(first, Outcome::Ignored, || 73);
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
    assert_eq!((event.sequence, event.generation, event.at_ns), (3, 4, 81));
}

#[test]
fn r09_opens_as_soon_as_the_round_cannot_close() {
    let config = BreakerConfig { half_open_permits: 5, successes_to_close: 4, ..CONFIG };
    let breaker = breaker(config);
    [0, 10, 20].into_iter().for_each(|now| fail(&breaker, now));
    fail(&breaker, 70);
    assert_eq!(phase(&breaker), Phase::HalfOpen);
    fail(&breaker, 71);
    assert_eq!(phase(&breaker), Phase::Open);
    assert_eq!(breaker.snapshot(|| 71).opens, 2);
}

#[test]
fn r10_a_lost_probe_counts_as_failed_when_its_lease_ends() {
    let breaker = opened();
    drop((admitted(&breaker, 70), admitted(&breaker, 71)));
    let full = Rejection { reason: RejectReason::HalfOpenFull, retry_after_ns: 1 };
    assert_eq!(rejection(&breaker, 99), full);
    let acquired = breaker.acquire(|| 100);
    let open = Rejection { reason: RejectReason::Open, retry_after_ns: 50 };
    assert_eq!(acquired.verdict.unwrap_err(), open);
    let causes: Vec<_> = acquired.events.iter().map(|event| (event.cause, event.at_ns)).collect();
    assert_eq!(causes, [(Cause::ProbeExpired, 100)]);
}

#[test]
fn r10_one_acquire_settles_an_expiry_and_the_open_time_after_it() {
    let breaker = opened();
    drop((admitted(&breaker, 70), admitted(&breaker, 71)));
    let acquired = breaker.acquire(|| 1000);
    assert!(acquired.verdict.unwrap().is_probe());
    let causes: Vec<_> = acquired.events.iter().map(|event| (event.cause, event.at_ns)).collect();
    assert_eq!(causes, [(Cause::ProbeExpired, 100), (Cause::OpenElapsed, 1000)]);
}

#[test]
fn r11_every_breaker_admits_again_whatever_was_lost() {
    for lost in 0..3 {
        let breaker = opened();
        (0..lost).for_each(|probe| _ = breaker.acquire(|| 70 + probe));
        let later = 70 + CONFIG.probe_lease_ns + lost;
        let settled = breaker.acquire(|| later).verdict;
        assert!(settled.is_ok() || breaker.acquire(|| later + CONFIG.open_for_ns).verdict.is_ok());
    }
}

#[test]
fn r12_a_probe_is_recorded_once_even_when_its_fields_are_copied() {
    let breaker = opened();
    let raw = admitted(&breaker, 70).into_raw();
    let record = |outcome, now| breaker.record(Permit::from_raw(raw), outcome, || now).verdict;
    assert_eq!(record(Outcome::Success, 80), RecordVerdict::Applied);
    assert_eq!(record(Outcome::Success, 81), RecordVerdict::AlreadyDone);
    assert_eq!(phase(&breaker), Phase::HalfOpen);
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
                    let recorded = breaker.record(Permit::from_raw(raw), outcome, || 71);
                    applied
                        .fetch_add(u32::from(recorded.verdict == RecordVerdict::Applied), Ordering::Relaxed);
                });
            }
        });
        assert_eq!(applied.into_inner(), 1);
    }
}

#[test]
fn r12_a_probe_past_its_lease_is_expired() {
    let breaker = breaker(BreakerConfig { successes_to_close: 1, ..CONFIG });
    [0, 10, 20].into_iter().for_each(|now| fail(&breaker, now));
    let (late, timely) = (admitted(&breaker, 70), admitted(&breaker, 90));
    assert_eq!(breaker.record(late, Outcome::Success, || 100).verdict, RecordVerdict::Expired);
    assert_eq!(breaker.record(timely, Outcome::Success, || 101).verdict, RecordVerdict::Applied);
    assert_eq!(phase(&breaker), Phase::Closed);
    assert_eq!(breaker.snapshot(|| 101).expired, 1);
}

#[test]
fn r12_a_made_up_probe_changes_nothing() {
    let breaker = opened();
    let mut raw = admitted(&breaker, 70).into_raw();
    raw.slot = 64;
    let made_up = Permit::from_raw(raw);
    assert_eq!(breaker.record(made_up, Outcome::Success, || 71).verdict, RecordVerdict::AlreadyDone);
    assert_eq!(breaker.snapshot(|| 71).live_probes, 1);
}

#[test]
fn r13_a_result_of_an_earlier_generation_decides_nothing() {
    let breaker = breaker(CONFIG);
    let (success, failure) = (admitted(&breaker, 0), admitted(&breaker, 0));
    [1, 2, 3].into_iter().for_each(|now| fail(&breaker, now));
    let _probe = admitted(&breaker, 53);
    assert_eq!(breaker.record(success, Outcome::Success, || 60).verdict, RecordVerdict::Stale);
    assert_eq!(breaker.record(failure, Outcome::Failure, || 60).verdict, RecordVerdict::Stale);
    let snapshot = breaker.snapshot(|| 60);
    assert_eq!((snapshot.phase, snapshot.live_probes, snapshot.stale), (Phase::HalfOpen, 1, 2));
}

#[test]
fn r14_ignored_probes_return_their_slot_and_decide_nothing() {
    let breaker = opened();
    for _ in 0..20 {
        let probe = admitted(&breaker, 70);
        assert_eq!(breaker.record(probe, Outcome::Ignored, || 70).verdict, RecordVerdict::Applied);
    }
    assert_eq!((phase(&breaker), breaker.snapshot(|| 70).generation), (Phase::HalfOpen, 3));
    for _ in 0..2 {
        let probe = admitted(&breaker, 70);
        breaker.record(probe, Outcome::Success, || 71);
    }
    assert_eq!(phase(&breaker), Phase::Closed);
}

/// The cell keeps no history: what comes while it is open leaves the word and the counters' size as they are.
#[test]
fn r19_failures_of_an_open_breaker_are_counted_and_change_nothing() {
    const LATE: u64 = 100_000;
    let breaker = breaker(CONFIG);
    let raw = admitted(&breaker, 0).into_raw();
    [0, 10, 20].into_iter().for_each(|now| fail(&breaker, now));
    let before = breaker.snapshot(|| 30);
    for _ in 0..LATE {
        let late = breaker.record(Permit::from_raw(raw), Outcome::Failure, || 30);
        assert_eq!(late.verdict, RecordVerdict::Stale);
        assert_eq!(rejection(&breaker, 30).reason, RejectReason::Open);
    }
    let after = breaker.snapshot(|| 30);
    assert_eq!((after.stale, after.rejected_open), (LATE, LATE));
    assert_eq!(after, elixirscope::breaker::Snapshot { stale: LATE, rejected_open: LATE, ..before });
}

#[test]
fn r20_no_time_is_too_late_and_an_older_one_is_only_stricter() {
    let breaker = opened();
    assert_eq!(rejection(&breaker, 5).retry_after_ns, 65);
    let far = 1 << 62;
    drop(admitted(&breaker, far));
    // To an older clock the lease of the first probe still runs.
    drop(admitted(&breaker, 80));
    assert_eq!(rejection(&breaker, 81).reason, RejectReason::HalfOpenFull);
    let acquired = breaker.acquire(|| u64::MAX);
    assert!(acquired.verdict.unwrap().is_probe());
    assert_eq!(acquired.events.len(), 2);
    assert_eq!(breaker.snapshot(|| u64::MAX).retry_after_ns, 0);
}

#[test]
fn r20_a_closed_breaker_reads_no_clock() {
    let breaker = breaker(CONFIG);
    let never = || -> u64 { panic!("the clock was read") };
    let permit = breaker.acquire(never).verdict.unwrap();
    breaker.record(permit, Outcome::Success, never);
    let permit = breaker.acquire(never).verdict.unwrap();
    breaker.record(permit, Outcome::Failure, never);
    assert_eq!(breaker.snapshot(|| 0).admitted, 2);
}

/// The clock is the only code of a caller that runs within a call; whatever it does to the breaker goes through.
#[test]
fn r21_nothing_is_held_while_the_clock_is_read() {
    let breaker = breaker(BreakerConfig { failure_threshold: 1, ..CONFIG });
    let permit = admitted(&breaker, 0);
    let meddling = || {
        breaker.reset(|| 1);
        fail(&breaker, 1);
        assert_eq!(breaker.snapshot(|| 1).phase, Phase::Open);
        1
    };
    // The generation that the permit belongs to ended while the clock was read.
    let recorded = breaker.record(permit, Outcome::Failure, meddling);
    assert_eq!((recorded.verdict, recorded.events.len()), (RecordVerdict::Stale, 0));
    let meddling = || {
        breaker.reset(|| 60);
        60
    };
    assert!(!breaker.acquire(meddling).verdict.unwrap().is_probe());
}

#[test]
fn r22_events_are_gapless_and_chain() {
    let breaker = breaker(CONFIG);
    let mut events = vec![];
    for now in (0..2_000).step_by(7) {
        let acquired = breaker.acquire(|| now);
        events.extend(acquired.events.iter());
        if let Ok(permit) = acquired.verdict {
            let outcome = if now % 5 == 0 { Outcome::Success } else { Outcome::Failure };
            events.extend(breaker.record(permit, outcome, || now).events.iter());
        }
    }
    assert!(events.len() > 10);
    for (index, pair) in events.windows(2).enumerate() {
        assert_eq!(pair[0].sequence as usize, index + 1);
        assert_eq!(pair[0].to, pair[1].from);
        assert_ne!(pair[0].from, pair[0].to);
        assert!(pair[0].at_ns <= pair[1].at_ns);
    }
    assert_eq!(events.last().unwrap().to, phase(&breaker));
}

#[test]
fn r22_a_reset_of_a_closed_breaker_is_a_reset_and_no_transition() {
    let breaker = breaker(CONFIG);
    let before = admitted(&breaker, 0);
    let events = breaker.reset(|| 5);
    let event = events.iter().next().unwrap();
    assert_eq!((event.from, event.to, event.cause), (Phase::Closed, Phase::Closed, Cause::Reset));
    assert_eq!(breaker.record(before, Outcome::Failure, || 6).verdict, RecordVerdict::Stale);
}

#[test]
fn r25_the_books_balance() {
    let breaker = breaker(BreakerConfig { open_for_ns: 3, probe_lease_ns: 2, ..CONFIG });
    let (clock, attempts) = (std::sync::atomic::AtomicU64::new(0), 40_000_u64);
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (breaker, clock) = (&breaker, &clock);
            scope.spawn(move || {
                for call in 0..attempts / 4 {
                    let now = || clock.fetch_add(1, Ordering::Relaxed);
                    if let Ok(permit) = breaker.acquire(now).verdict {
                        let outcome = match (call * 7 + thread * 3) % 10 {
                            0..4 => Outcome::Success,
                            4..9 => Outcome::Failure,
                            _ => Outcome::Ignored,
                        };
                        breaker.record(permit, outcome, now);
                    }
                }
            });
        }
    });
    // Every permit was recorded once, so it stands in exactly one of the books.
    let books = breaker.snapshot(|| clock.into_inner());
    let recorded = books.succeeded + books.failed + books.ignored + books.stale + books.expired;
    assert_eq!(attempts, books.admitted + books.rejected_open + books.rejected_half_open);
    assert_eq!(recorded, books.admitted);
}

#[test]
fn r25_a_permit_that_comes_back_stands_in_one_book() {
    let breaker = breaker(BreakerConfig { failure_threshold: 1, ..CONFIG });
    fail(&breaker, 0);
    let (late, lost) = (admitted(&breaker, 50), admitted(&breaker, 50));
    // The lease of the first runs out and opens the breaker again; then both come back.
    assert_eq!(rejection(&breaker, 80).reason, RejectReason::Open);
    for permit in [late, lost] {
        assert_eq!(breaker.record(permit, Outcome::Success, || 81).verdict, RecordVerdict::Stale);
    }
    let books = breaker.snapshot(|| 81);
    assert_eq!((books.admitted, books.failed, books.stale, books.expired), (3, 1, 2, 0));
}
