//! Every interleaving of two or three callers on the shipped breaker, as loom finds them.
//!
//! `RUSTFLAGS="--cfg escope_loom" cargo test --release --test loom_breaker`. Under
//! `--cfg escope_sabotage="..."` the shipped code lacks one of its precautions and a model must fail.
// sabotage: breaker_no_second_look a_late_result_takes_nothing_from_the_next_round
// sabotage: breaker_no_third_look a_probes_result_races_its_expiry
#![cfg(escope_loom)]

use elixirscope::breaker::{
    Breaker, BreakerConfig, Events, Outcome, Permit, Phase, RawPermit, RecordVerdict, RejectReason,
};
use loom::sync::Arc;
use loom::thread;

/// One failure opens for 50, one probe of 30 decides.
fn config() -> BreakerConfig {
    BreakerConfig { open_for_ns: 50, probe_lease_ns: 30, ..BreakerConfig::consecutive_failures(1) }
}

fn breaker(config: BreakerConfig) -> Arc<Breaker> {
    Arc::new(Breaker::new(&config).unwrap())
}

fn admitted(breaker: &Breaker, now: u64) -> RawPermit {
    breaker.acquire(|| now).verdict.unwrap().into_raw()
}

fn record(breaker: &Breaker, permit: RawPermit, outcome: Outcome, now: u64) -> (RecordVerdict, Events) {
    let recorded = breaker.record(Permit::from_raw(permit), outcome, || now);
    (recorded.verdict, recorded.events)
}

/// Opened at 0, so half-open from 50 on.
fn opened(config: BreakerConfig) -> Arc<Breaker> {
    let breaker = breaker(config);
    let permit = admitted(&breaker, 0);
    record(&breaker, permit, Outcome::Failure, 0);
    breaker
}

fn phase(breaker: &Breaker) -> Phase {
    breaker.snapshot(|| 0).phase
}

#[test]
fn racing_failures_trip_exactly_once() {
    loom::model(|| {
        let breaker = breaker(BreakerConfig { open_for_ns: 50, ..BreakerConfig::consecutive_failures(2) });
        let (one, two) = (admitted(&breaker, 0), admitted(&breaker, 0));
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || record(&other, two, Outcome::Failure, 1).1.len());
        let events = record(&breaker, one, Outcome::Failure, 1).1.len();
        assert_eq!(events + thread.join().unwrap(), 1);
        assert_eq!(phase(&breaker), Phase::Open);
    });
}

#[test]
fn racing_acquires_at_the_deadline_admit_one_probe() {
    loom::model(|| {
        let breaker = opened(config());
        let acquire = |breaker: &Breaker| {
            let acquired = breaker.acquire(|| 50);
            (acquired.verdict.is_ok() as usize, acquired.events.len())
        };
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || acquire(&other));
        let (mine, theirs) = (acquire(&breaker), thread.join().unwrap());
        assert_eq!(mine.0 + theirs.0, 1);
        assert_eq!(mine.1 + theirs.1, 1);
    });
}

#[test]
fn a_probes_result_races_its_expiry() {
    loom::model(|| {
        let breaker = opened(config());
        let probe = admitted(&breaker, 50);
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || {
            let acquired = other.acquire(|| 80);
            (acquired.verdict.err().map(|rejection| rejection.reason), acquired.events.len())
        });
        let (verdict, events) = record(&breaker, probe, Outcome::Success, 79);
        let (rejection, others_events) = thread.join().unwrap();
        assert_eq!(events.len() + others_events, 1);
        match rejection {
            // The expiry came first and opened the breaker again, before the record looked or while it did.
            Some(RejectReason::Open) => {
                assert!(matches!(verdict, RecordVerdict::Stale | RecordVerdict::Expired), "{verdict:?}");
                assert_eq!(phase(&breaker), Phase::Open);
            }
            // The result came first and closed it.
            None => assert_eq!((verdict, phase(&breaker)), (RecordVerdict::Applied, Phase::Closed)),
            Some(reason) => panic!("no reason to reject: {reason:?}"),
        }
    });
}

#[test]
fn racing_probe_results_are_all_counted() {
    loom::model(|| {
        let breaker = opened(BreakerConfig { half_open_permits: 2, successes_to_close: 2, ..config() });
        let (one, two) = (admitted(&breaker, 50), admitted(&breaker, 50));
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || record(&other, two, Outcome::Success, 51));
        let mine = record(&breaker, one, Outcome::Success, 51);
        let theirs = thread.join().unwrap();
        assert_eq!((mine.0, theirs.0), (RecordVerdict::Applied, RecordVerdict::Applied));
        assert_eq!(mine.1.len() + theirs.1.len(), 1);
        assert_eq!(phase(&breaker), Phase::Closed);
    });
}

#[test]
fn exactly_as_many_results_as_close_the_round_are_applied() {
    loom::model(|| {
        let breaker = opened(BreakerConfig { half_open_permits: 2, ..config() });
        let (one, two) = (admitted(&breaker, 50), admitted(&breaker, 50));
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || record(&other, two, Outcome::Success, 51).0);
        let verdicts = [record(&breaker, one, Outcome::Success, 51).0, thread.join().unwrap()];
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == RecordVerdict::Applied).count(), 1);
    });
}

#[test]
fn copies_of_a_probe_count_once() {
    loom::model(|| {
        let breaker = opened(BreakerConfig { half_open_permits: 2, successes_to_close: 2, ..config() });
        let probe = admitted(&breaker, 50);
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || record(&other, probe, Outcome::Ignored, 51).0);
        let verdicts = [record(&breaker, probe, Outcome::Success, 51).0, thread.join().unwrap()];
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == RecordVerdict::Applied).count(), 1);
        assert_eq!(phase(&breaker), Phase::HalfOpen);
    });
}

/// An ignored probe's slot is handed on before the record returns: then the record was not stale.
#[test]
fn an_ignored_result_races_the_probe_that_gets_its_slot() {
    loom::model(|| {
        let breaker = opened(config());
        let ignored = admitted(&breaker, 50);
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || {
            let next = other.acquire(|| 51).verdict.ok().map(Permit::into_raw);
            next.map(|next| record(&other, next, Outcome::Success, 52).0)
        });
        let verdict = record(&breaker, ignored, Outcome::Ignored, 51).0;
        match thread.join().unwrap() {
            Some(next) => {
                assert_eq!((verdict, next), (RecordVerdict::Applied, RecordVerdict::Applied));
                assert_eq!(phase(&breaker), Phase::Closed);
            }
            None => assert_eq!((verdict, phase(&breaker)), (RecordVerdict::Applied, Phase::HalfOpen)),
        }
    });
}

#[test]
fn a_reset_races_a_result() {
    loom::model(|| {
        let breaker = breaker(config());
        let permit = admitted(&breaker, 0);
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || record(&other, permit, Outcome::Failure, 1));
        let reset = breaker.reset(|| 2).iter().next().unwrap();
        let (verdict, events) = thread.join().unwrap();
        match verdict {
            RecordVerdict::Applied => assert_eq!((reset.from, events.len()), (Phase::Open, 1)),
            _ => assert_eq!((reset.from, events.len()), (Phase::Closed, 0)),
        }
        assert_eq!(phase(&breaker), Phase::Closed);
    });
}

/// A slow result meets a whole new round: the results of that round stay what they are.
#[test]
fn a_late_result_takes_nothing_from_the_next_round() {
    loom::model(|| {
        let config = BreakerConfig { open_for_ns: 0, half_open_permits: 2, successes_to_close: 2, ..config() };
        let breaker = opened(config);
        let late = admitted(&breaker, 50);
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || record(&other, late, Outcome::Success, 50).0);
        breaker.reset(|| 51);
        let permit = admitted(&breaker, 51);
        record(&breaker, permit, Outcome::Failure, 51);
        let probe = admitted(&breaker, 51);
        assert_eq!(record(&breaker, probe, Outcome::Success, 51).0, RecordVerdict::Applied);
        thread.join().unwrap();
        assert_eq!(record(&breaker, probe, Outcome::Success, 51).0, RecordVerdict::AlreadyDone);
        assert_eq!(phase(&breaker), Phase::HalfOpen);
    });
}

/// A slow acquire meets a whole new round: no probe is held twice.
#[test]
fn a_late_claim_takes_nothing_from_the_next_round() {
    loom::model(|| {
        let breaker = opened(BreakerConfig { open_for_ns: 0, half_open_permits: 2, ..config() });
        let _first = admitted(&breaker, 50);
        let late = Arc::clone(&breaker);
        let thread = thread::spawn(move || late.acquire(|| 50).verdict.ok().map(Permit::into_raw));
        breaker.reset(|| 51);
        let permit = admitted(&breaker, 51);
        record(&breaker, permit, Outcome::Failure, 51);
        let mine = [breaker.acquire(|| 51), breaker.acquire(|| 51)];
        let mine = mine.into_iter().filter_map(|acquired| acquired.verdict.ok().map(Permit::into_raw));
        let generation = breaker.snapshot(|| 51).generation;
        let all = mine.chain(thread.join().unwrap());
        let mut probes: Vec<_> = all.filter(|permit| permit.generation == generation).collect();
        assert!(probes.len() <= 2, "more probes than permits");
        probes.dedup_by_key(|permit| permit.slot);
        assert_eq!(probes.len(), 2, "two callers hold the same probe");
    });
}
