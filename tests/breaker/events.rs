//! R22: every change is told exactly once, and replaying what was told gives the state.

use super::*;
use elixirscope::breaker::Level;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// What somebody knows who has only heard the changes, in the order of their sequence.
fn replayed(mut events: Vec<Event>) -> (Phase, Mode, Level, u32) {
    let (mut levels, mut generations): (Vec<_>, Vec<_>) =
        (events.extract_if(.., |event| event.cause.is_of_level()).collect(), events);
    levels.sort_by_key(|event| event.sequence);
    generations.sort_by_key(|event| event.sequence);
    let (mut phase, mut mode, mut generation) = (Phase::Closed, Mode::Auto, 1);
    for (event, sequence) in generations.iter().zip(1..) {
        assert_eq!((event.sequence, event.from, event.generation), (sequence, phase, generation + 1));
        // What changes only the generation says so.
        let stays = [Cause::Reset, Cause::ModeChanged, Cause::Reconfigured, Cause::Reinstalled];
        assert!(event.from != event.to || stays.contains(&event.cause), "{event:?}");
        (phase, mode, generation) = (event.to, event.mode, event.generation);
    }
    let mut level = (1, Level::None);
    for (event, sequence) in levels.iter().zip(1..) {
        let before = if level.0 == event.generation { level.1 } else { Level::None };
        assert_eq!((event.sequence, event.from_level), (sequence, before));
        assert_ne!(event.from_level, event.to_level);
        assert_eq!((event.from, event.to), (Phase::Closed, Phase::Closed));
        level = (event.generation, event.to_level);
    }
    (phase, mode, if level.0 == generation { level.1 } else { Level::None }, generation)
}

fn seen(breaker: &Breaker, now: u64) -> (Phase, Mode, Level, u32) {
    let snapshot = breaker.snapshot(|| now);
    (snapshot.phase, snapshot.mode, snapshot.level, snapshot.generation)
}

#[test]
fn r22_events_are_gapless_and_chain() {
    let breaker = breaker(config());
    let mut events = vec![];
    for now in (0..2_000).step_by(7) {
        let acquired = breaker.acquire(|| now);
        events.extend(acquired.events.iter());
        if let Ok(permit) = acquired.verdict {
            let outcome = if now % 5 == 0 { Outcome::Success } else { Outcome::Failure };
            events.extend(breaker.record(permit, outcome, || now).events.iter());
        }
        assert_eq!(replayed(events.clone()), seen(&breaker, now));
    }
    assert!(events.len() > 10);
    assert!(events.windows(2).all(|pair| pair[0].at_ns <= pair[1].at_ns));
}

#[test]
fn r22_the_changes_of_racing_callers_replay_to_the_state() {
    let config = BreakerConfig { open_for_ns: 3, probe_lease_ns: 2, ..in_period(5, 50) };
    for round in 0..20 {
        let breaker = breaker(config);
        let clock = AtomicU64::new(0);
        let now = || clock.fetch_add(1, Ordering::Relaxed);
        let events = thread::scope(|scope| {
            let threads = (0..4_u64).map(|thread| {
                let (breaker, now) = (&breaker, &now);
                scope.spawn(move || {
                    let mut events: Vec<Event> = vec![];
                    for step in 0..400_u64 {
                        let draw = (step + round) * 31 + thread * 17;
                        match draw % 23 {
                            0 => events.extend(breaker.reset(now).iter()),
                            1 => events.extend(breaker.settle(now).iter()),
                            2 => {
                                let modes = [Mode::Auto, Mode::Auto, Mode::MetricsOnly, Mode::ForcedOpen];
                                events.extend(breaker.set_mode(modes[draw as usize % 4], now).iter());
                            }
                            3 => events.extend(breaker.report(Outcome::Failure, now).events.iter()),
                            _ => {
                                let acquired = breaker.acquire(now);
                                events.extend(acquired.events.iter());
                                let Ok(permit) = acquired.verdict else { continue };
                                let outcome = [Outcome::Failure, Outcome::Success][draw as usize % 2];
                                events.extend(breaker.record(permit, outcome, now).events.iter());
                            }
                        }
                    }
                    events
                })
            });
            let threads: Vec<_> = threads.collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        // Nobody may have called since the last failures grew too old to count.
        let now = clock.into_inner();
        let last = breaker.settle(|| now);
        let all = events.into_iter().chain(last.iter());
        assert_eq!(replayed(all.collect()), seen(&breaker, now));
    }
}

#[test]
fn r22_a_reset_of_a_closed_breaker_is_a_reset_and_no_transition() {
    let breaker = breaker(config());
    let before = admitted(&breaker, 0);
    let events: Vec<_> = breaker.reset(|| 5).iter().collect();
    assert_eq!(causes(events.iter().copied()), [(Cause::Reset, 5)]);
    assert_eq!((events[0].from, events[0].to), (Phase::Closed, Phase::Closed));
    assert_eq!(record(&breaker, before, Outcome::Failure, 6), RecordVerdict::Stale);
}

#[test]
fn r22_a_snapshot_knows_the_last_change() {
    let breaker = breaker(config());
    let last = |now| {
        let snapshot = breaker.snapshot(|| now);
        (snapshot.last_cause, snapshot.last_change_ns)
    };
    assert_eq!(last(9), (None, 0));
    (0..3).for_each(|now| fail(&breaker, now));
    assert_eq!(last(9), (Some(Cause::FailureThreshold), 2));
    let probe = admitted(&breaker, 60);
    assert_eq!(last(61), (Some(Cause::OpenElapsed), 60));
    record(&breaker, probe, Outcome::Failure, 70);
    assert_eq!(last(80), (Some(Cause::ProbesFailed), 70));
}

#[test]
fn r22_events_are_empty_where_nothing_changed() {
    let breaker = breaker(BreakerConfig::consecutive_failures(1));
    assert!(breaker.acquire(|| 0).events.is_empty());
    assert!(!breaker.report(Outcome::Failure, || 0).events.is_empty());
}

/// Every cause has a word and a number of its own.
#[test]
fn r22_causes_have_words_and_numbers() {
    let mut words: Vec<_> = Cause::ALL.iter().map(|cause| cause.word()).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), Cause::ALL.len());
    assert!(Cause::ALL.iter().zip(1..).all(|(cause, number)| *cause as u64 == number));
}
