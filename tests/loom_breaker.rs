//! Every interleaving of two or three callers on the shipped breaker, as loom finds them.
//!
//! `RUSTFLAGS="--cfg escope_loom" cargo test --release --test loom_breaker`. Under
//! `--cfg escope_sabotage="..."` the shipped code lacks one of its precautions and a model must fail.
// sabotage: breaker_no_second_look a_late_result_takes_nothing_from_the_next_round
// sabotage: breaker_no_third_look a_probes_result_races_its_expiry
// sabotage: breaker_no_version_check a_reconfiguration_is_seen_whole
// sabotage: breaker_plain_look a_level_is_told_once_and_in_the_end_right
// sabotage: breaker_no_help racing_results_of_a_count_window_are_all_summed
// sabotage: breaker_no_latest racing_failures_in_a_period_trip_exactly_once
// sabotage: breaker_no_later_clock an_earlier_clock_takes_nothing_from_a_later_bucket
// sabotage: breaker_unpublished a_ramp_is_never_seen_without_its_beginning
#![cfg(escope_loom)]

use elixirscope::breaker::{
    Breaker, BreakerConfig, Events, Level, MIN_BUCKET_NS, Mode, Outcome, Permit, Phase, Policy, RawPermit,
    RecordVerdict, RejectReason, Window,
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

/// A model whose calls take many steps.
fn long_model(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 10_000;
    builder.check(model);
}

/// Opened at 0, so half-open from 50 on.
fn opened(config: BreakerConfig) -> Arc<Breaker> {
    let breaker = breaker(config);
    let permit = admitted(&breaker, 0);
    record(&breaker, permit, Outcome::Failure, 0);
    breaker
}

/// How many changes opened the breaker.
fn opens(events: &Events) -> usize {
    events.iter().filter(|event| event.to == Phase::Open).count()
}

fn phase(breaker: &Breaker) -> Phase {
    breaker.snapshot(|| 0).phase
}

/// Two failures at once of a breaker that opens at the second.
fn two_failures_trip_exactly_once(config: BreakerConfig) {
    loom::model(move || {
        let breaker = breaker(config);
        let (one, two) = (admitted(&breaker, 0), admitted(&breaker, 0));
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || opens(&record(&other, two, Outcome::Failure, 1).1));
        let mine = opens(&record(&breaker, one, Outcome::Failure, 1).1);
        assert_eq!(mine + thread.join().unwrap(), 1);
        assert_eq!(phase(&breaker), Phase::Open);
    });
}

fn rate_of(size: u32) -> BreakerConfig {
    let window = Window::Count { size };
    let policy = Policy::Rate { window, min_calls: size, failure_rate_bp: 10_000, slow_call_rate_bp: 10_000 };
    BreakerConfig { policy, ..config() }
}

/// A window of one bucket: the ring has two places, for even and odd epochs.
fn in_a_bucket(min_calls: u32) -> BreakerConfig {
    let window = Window::Time { period_ns: MIN_BUCKET_NS, buckets: 1 };
    let policy = Policy::Rate { window, min_calls, failure_rate_bp: 10_000, slow_call_rate_bp: 10_000 };
    BreakerConfig { policy, ..config() }
}

fn in_period(tolerated_failures: u32) -> BreakerConfig {
    BreakerConfig { policy: Policy::FailuresInPeriod { tolerated_failures, period_ns: 100 }, ..config() }
}

#[test]
fn racing_failures_trip_exactly_once() {
    two_failures_trip_exactly_once(BreakerConfig {
        open_for_ns: 50,
        ..BreakerConfig::consecutive_failures(2)
    });
}

#[test]
fn racing_failures_in_a_period_trip_exactly_once() {
    two_failures_trip_exactly_once(in_period(1));
}

#[test]
fn racing_failures_in_a_count_window_trip_exactly_once() {
    two_failures_trip_exactly_once(rate_of(2));
}

/// More results than the window holds: each leaves it as the value with which it came.
#[test]
fn racing_results_of_a_count_window_are_all_summed() {
    loom::model(|| {
        let breaker = breaker(rate_of(2));
        breaker.report(Outcome::Failure, || 0);
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || opens(&other.report(Outcome::Success, || 0).events));
        let mine = opens(&breaker.report(Outcome::Success, || 0).events);
        assert_eq!(mine + thread.join().unwrap(), 0);
        let seen = breaker.snapshot(|| 0);
        assert_eq!((seen.window_calls, seen.failures), (2, 0));
        breaker.report(Outcome::Failure, || 0);
        assert_eq!(breaker.snapshot(|| 0).failures, 1);
    });
}

#[test]
fn racing_failures_in_a_time_window_trip_exactly_once() {
    two_failures_trip_exactly_once(in_a_bucket(2));
}

/// The clock of one caller was read two epochs before that of the other, so both results belong to the same place.
#[test]
fn an_earlier_clock_takes_nothing_from_a_later_bucket() {
    loom::model(|| {
        let breaker = breaker(in_a_bucket(10));
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || other.report(Outcome::Success, || 0).verdict);
        breaker.report(Outcome::Failure, || 2 * MIN_BUCKET_NS);
        assert_eq!(thread.join().unwrap(), RecordVerdict::Applied);
        assert_eq!(breaker.snapshot(|| 2 * MIN_BUCKET_NS).failures, 1);
    });
}

/// Two thresholds with an open time each: a result meets one of the pairs.
#[test]
fn a_reconfiguration_is_seen_whole() {
    long_model(|| {
        let breaker = breaker(BreakerConfig { open_for_ns: 10, ..BreakerConfig::consecutive_failures(1) });
        let permit = admitted(&breaker, 0);
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || {
            for (threshold, open_for_ns) in [(2, 20), (3, 30)] {
                let config = BreakerConfig { open_for_ns, ..BreakerConfig::consecutive_failures(threshold) };
                other.reconfigure(&config, || 0).unwrap();
            }
        });
        let opened = opens(&record(&breaker, permit, Outcome::Failure, 0).1) > 0;
        thread.join().unwrap();
        let seen = breaker.snapshot(|| 0);
        if opened {
            assert_eq!((seen.phase, seen.retry_after_ns), (Phase::Open, 10));
        } else {
            assert_eq!((seen.phase, seen.failures), (Phase::Closed, 1));
            breaker.report(Outcome::Failure, || 0);
            breaker.report(Outcome::Failure, || 0);
            assert_eq!(breaker.snapshot(|| 0).retry_after_ns, 30);
        }
    });
}

#[test]
fn a_reconfiguration_races_an_acquire() {
    loom::model(|| {
        let breaker = opened(config());
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || {
            let config = BreakerConfig { half_open_permits: 2, ..config() };
            other.reconfigure(&config, || 50).unwrap().len()
        });
        let granted = breaker.acquire(|| 50);
        assert!(granted.verdict.is_ok());
        let rounds = granted.events.len() + thread.join().unwrap();
        // Its round came before the reconfiguration, which began another one, or after.
        let live = breaker.snapshot(|| 50).live_probes;
        assert!(
            (rounds, live) == (2, 0) || (rounds, live) == (1, 1) || (rounds, live) == (2, 1),
            "{rounds} {live}"
        );
        assert!(breaker.acquire(|| 50).verdict.is_ok());
        assert_eq!(breaker.acquire(|| 50).verdict.is_ok(), live == 0);
    });
}

#[test]
fn a_mode_races_an_acquire() {
    loom::model(|| {
        let breaker = opened(config());
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || other.set_mode(Mode::ForcedOpen, || 50).len());
        let acquired = breaker.acquire(|| 50);
        assert_eq!(thread.join().unwrap(), 1);
        match acquired.verdict {
            Ok(probe) => {
                assert_eq!(acquired.events.len(), 1);
                assert_eq!(breaker.record(probe, Outcome::Success, || 51).verdict, RecordVerdict::Stale);
            }
            Err(rejection) => assert_eq!(rejection.reason, RejectReason::ForcedOpen),
        }
        assert_eq!(breaker.snapshot(|| 51).mode, Mode::ForcedOpen);
    });
}

/// A failure and a success at once: what was told last is what is.
#[test]
fn a_level_is_told_once_and_in_the_end_right() {
    loom::model(|| {
        let breaker = breaker(BreakerConfig::consecutive_failures(2));
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || other.report(Outcome::Failure, || 0).events);
        let mine = breaker.report(Outcome::Success, || 0).events;
        let theirs = thread.join().unwrap();
        let mut told: Vec<_> = mine.iter().chain(theirs.iter()).collect();
        told.sort_by_key(|event| event.sequence);
        let mut level = Level::None;
        for (event, sequence) in told.iter().zip(1..) {
            assert_eq!((event.sequence, event.from_level), (sequence, level));
            level = event.to_level;
        }
        assert_eq!(level, breaker.snapshot(|| 0).level);
    });
}

/// The last success closes while somebody fails: a trip during the ramp knows how often it opened before.
#[test]
fn a_ramp_is_never_seen_without_its_beginning() {
    loom::model(|| {
        let breaker = opened(BreakerConfig { ramp_ns: 1_000, ..config() });
        let probe = admitted(&breaker, 50);
        let other = Arc::clone(&breaker);
        let thread = thread::spawn(move || record(&other, probe, Outcome::Success, 51).0);
        let failed = breaker.report(Outcome::Failure, || 52).verdict;
        assert_eq!(thread.join().unwrap(), RecordVerdict::Applied);
        if failed == RecordVerdict::Applied {
            assert_eq!((phase(&breaker), breaker.snapshot(|| 52).opens), (Phase::Open, 2));
        } else {
            assert_eq!((phase(&breaker), breaker.snapshot(|| 52).opens), (Phase::Closed, 1));
        }
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
        let config =
            BreakerConfig { open_for_ns: 0, half_open_permits: 2, successes_to_close: 2, ..config() };
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
