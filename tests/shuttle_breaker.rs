//! Eight callers on the shipped breaker under random schedules: the books balance (R25), every event of both kinds comes
//! once (R22), and whatever was lost or changed, it admits again (R11).
//!
//! `ci/shuttle.sh` runs the model, and `ci/shuttle.sh sabotage` shows that it fails without a precaution:
//!
// sabotage: breaker_no_second_look the_books_balance_and_each_event_comes_once
// sabotage: breaker_no_third_look no_result_of_a_short_round_is_lost
#![cfg(escope_shuttle)]

#[path = "support/shuttle.rs"]
mod explore;

use elixirscope::breaker::{
    Breaker, BreakerConfig, Counts, Event, Events, GRADUAL_ADMIT_BP, Level, Mode, Outcome, Phase, Policy,
    RecordVerdict, RejectReason, Rejection, Weights, Window,
};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const THREADS: usize = 8;
const CALLS: usize = 5;
/// The clock ticks at each reading, by the shortest bucket of a time window.
const TICK: u64 = 1_000_000;
/// Longer than all leases and all readings of the clock take together.
const NEVER: u64 = 1_000_000 * TICK;

/// What callers do to a breaker besides their calls.
#[derive(Debug, Clone, Copy)]
struct Story {
    config: fn() -> BreakerConfig,
    /// Somebody takes charge before one call in so many ...
    one_in: u32,
    /// ... and does this.
    take_charge: fn(&Breaker, u64) -> Events,
}

/// Rounds of probes, and resets.
const ROUNDS: Story = Story { config: rounds, one_in: 20, take_charge: |breaker, now| breaker.reset(|| now) };

/// Every policy, mode and option.
const EVERYTHING: Story = Story { config, one_in: 8, take_charge };

fn one_in(many: u32) -> bool {
    thread_rng().gen_ratio(1, many)
}

fn one_of<T: Copy>(values: &[T]) -> T {
    values[thread_rng().gen_range(0..values.len())]
}

/// So short that rounds end by results, by leases and by resets, many times in a schedule.
fn rounds() -> BreakerConfig {
    BreakerConfig {
        open_for_ns: 3 * TICK,
        probe_lease_ns: 6 * TICK,
        half_open_permits: 3,
        successes_to_close: 2,
        window_capacity: 8,
        ..BreakerConfig::consecutive_failures(2)
    }
}

/// As short, and mostly the defaults for the rest. Each may follow each.
fn config() -> BreakerConfig {
    let rate = |window| Policy::Rate {
        window,
        min_calls: 2,
        failure_rate_bp: one_of(&[5_000, 10_000]),
        slow_call_rate_bp: 5_000,
    };
    let policy = match thread_rng().gen_range(0..6) {
        0..3 => Policy::ConsecutiveFailures { failure_threshold: 2 },
        3 => Policy::FailuresInPeriod { tolerated_failures: one_of(&[1, 3]), period_ns: 9 * TICK },
        4 => rate(Window::Count { size: one_of(&[2, 3]) }),
        _ => rate(Window::Time { period_ns: 9 * TICK, buckets: 3 }),
    };
    let mut config = BreakerConfig { policy, ..rounds() };
    if one_in(4) {
        (config.half_open_permits, config.successes_to_close) = (one_of(&[1, 4]), 1);
    }
    if one_in(4) {
        (config.backoff_percent, config.max_open_ns, config.jitter_bp) = (200, 6 * TICK, 5_000);
    }
    if one_in(4) {
        config.weights = Weights { slow: 1, failure: 2, cancelled: 1, ..Weights::default() };
        config.slow_call_ns = 4 * TICK;
    }
    if one_in(4) {
        config.admit_bp = GRADUAL_ADMIT_BP;
    }
    if one_in(4) {
        (config.half_open_limit_ns, config.close_at_half_open_limit) = (8 * TICK, one_in(2));
    }
    if one_in(4) {
        (config.ramp_ns, config.ramp_from_bp) = (12 * TICK, 5_000);
    }
    config.max_ignored_probes = if one_in(4) { 1 } else { 0 };
    config.release_expired_probes = one_in(4);
    config.skip_half_open = one_in(10);
    config
}

/// One caller: what it was told, to be compared with what the breaker counted, its events, and how often it asked for no
/// permit and lost one.
#[derive(Debug, Default)]
struct Caller {
    books: Counts,
    events: Vec<Event>,
    asked: u64,
    lost: u64,
}

impl Caller {
    fn run(breaker: &Breaker, clock: &AtomicU64, story: Story) -> Self {
        // No access of the model's: a clock is read without ordering anything.
        let now = || clock.fetch_add(TICK, Ordering::Relaxed);
        let mut caller = Self::default();
        let mut open_calls = vec![];
        for _ in 0..CALLS {
            if one_in(story.one_in) {
                caller.hear(&(story.take_charge)(breaker, now()));
            }
            if one_in(2 * story.one_in) {
                let reported = breaker.report(outcome(), now);
                assert!(matches!(reported.verdict, RecordVerdict::Applied | RecordVerdict::Stale));
                caller.books.reported += 1;
                caller.hear(&reported.events);
            }
            if one_in(2 * story.one_in) {
                caller.asked += 1;
                let asked = breaker.ask(now);
                caller.hear(&asked.events);
                match asked.verdict {
                    Ok(()) => {
                        caller.books.admitted += 1;
                        caller.books.cancelled += 1;
                    }
                    Err(rejection) => caller.refused(rejection),
                }
            }
            let acquired = breaker.acquire(now);
            caller.hear(&acquired.events);
            match acquired.verdict {
                Ok(permit) => {
                    caller.books.admitted += 1;
                    open_calls.push(permit);
                }
                Err(rejection) => caller.refused(rejection),
            }
            // Some calls take long, some never end.
            while thread_rng().gen_ratio(3, 4)
                && let Some(permit) = open_calls.pop()
            {
                if one_in(10) {
                    caller.lost += 1;
                    continue;
                }
                let outcome = outcome();
                let recorded = breaker.record(permit, outcome, now);
                caller.hear(&recorded.events);
                let books = &mut caller.books;
                match (recorded.verdict, outcome) {
                    (RecordVerdict::Applied, Outcome::Success | Outcome::Slow) => books.succeeded += 1,
                    (RecordVerdict::Applied, Outcome::Failure) => books.failed += 1,
                    (RecordVerdict::Applied, Outcome::Ignored) => books.ignored += 1,
                    (RecordVerdict::Applied, Outcome::Cancelled) => books.cancelled += 1,
                    (RecordVerdict::Stale, _) => books.stale += 1,
                    (RecordVerdict::Expired, _) => books.expired += 1,
                    (RecordVerdict::AlreadyDone | RecordVerdict::NotFound, _) => {
                        panic!("each permit was granted and is recorded once")
                    }
                }
            }
        }
        caller.lost += open_calls.len() as u64;
        caller
    }

    fn refused(&mut self, rejection: Rejection) {
        let books = &mut self.books;
        match rejection.reason {
            RejectReason::Open => books.rejected_open += 1,
            RejectReason::HalfOpenFull => {
                assert!(rejection.retry_after_ns < NEVER, "a round at rest without an end");
                books.rejected_half_open += 1;
            }
            RejectReason::ForcedOpen => books.rejected_forced_open += 1,
            RejectReason::Degraded => books.rejected_degraded += 1,
        }
    }

    fn hear(&mut self, events: &Events) {
        self.events.extend(events.iter());
    }

    fn join(mut self, other: Self) -> Self {
        let (mine, theirs) = (&mut self.books, other.books);
        mine.admitted += theirs.admitted;
        mine.succeeded += theirs.succeeded;
        mine.failed += theirs.failed;
        mine.ignored += theirs.ignored;
        mine.cancelled += theirs.cancelled;
        mine.stale += theirs.stale;
        mine.expired += theirs.expired;
        mine.reported += theirs.reported;
        mine.rejected_open += theirs.rejected_open;
        mine.rejected_half_open += theirs.rejected_half_open;
        mine.rejected_forced_open += theirs.rejected_forced_open;
        mine.rejected_degraded += theirs.rejected_degraded;
        self.events.extend(other.events);
        self.asked += other.asked;
        self.lost += other.lost;
        self
    }
}

fn take_charge(breaker: &Breaker, now: u64) -> Events {
    match thread_rng().gen_range(0..8) {
        0 | 1 => breaker.reset(|| now),
        2 => breaker.settle(|| now),
        3 => {
            let modes = [Mode::ForcedOpen, Mode::ForcedClosed, Mode::MetricsOnly];
            breaker.set_mode(one_of(&modes), || now)
        }
        4 | 5 => breaker.set_mode(Mode::Auto, || now),
        6 => breaker.reconfigure(&config(), || now).unwrap(),
        _ => breaker.reinstall(&config(), || now).unwrap(),
    }
}

fn outcome() -> Outcome {
    match thread_rng().gen_range(0..12) {
        0..4 => Outcome::Success,
        4..9 => Outcome::Failure,
        9 => Outcome::Ignored,
        10 => Outcome::Slow,
        _ => Outcome::Cancelled,
    }
}

/// The events of one kind in order, after a look that none is missing or came twice.
fn gapless(events: &[Event], of_level: bool) -> Vec<Event> {
    let mut events: Vec<_> =
        events.iter().filter(|event| event.cause.is_of_level() == of_level).copied().collect();
    events.sort_by_key(|event| event.sequence);
    let sequences: Vec<_> = events.iter().map(|event| event.sequence as usize).collect();
    assert_eq!(sequences, (1..=events.len()).collect::<Vec<_>>());
    events
}

#[test]
fn no_result_of_a_short_round_is_lost() {
    check(ROUNDS);
}

#[test]
fn the_books_balance_and_each_event_comes_once() {
    check(EVERYTHING);
}

fn check(story: Story) {
    explore::schedules(move || {
        let breaker = Arc::new(Breaker::new(&(story.config)()).unwrap());
        let clock = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (breaker, clock) = (Arc::clone(&breaker), Arc::clone(&clock));
                thread::spawn(move || Caller::run(&breaker, &clock, story))
            })
            .collect();
        let mut all = threads.into_iter().map(|thread| thread.join().unwrap()).reduce(Caller::join).unwrap();

        let end = clock.load(Ordering::Relaxed);
        // A level may also fall by time, which nobody has told yet.
        all.hear(&breaker.settle(|| end));
        let snapshot = breaker.snapshot(|| end);
        let books = snapshot.counts;
        assert_eq!(books, all.books);
        let rejected = books.rejected_open
            + books.rejected_half_open
            + books.rejected_forced_open
            + books.rejected_degraded;
        assert_eq!((THREADS * CALLS) as u64 + all.asked, books.admitted + rejected);
        let recorded = books.succeeded + books.failed + books.ignored + books.cancelled;
        assert_eq!(books.admitted, recorded + books.stale + books.expired + all.lost);

        let changes = gapless(&all.events, false);
        for pair in changes.windows(2) {
            assert_eq!((pair[0].to, pair[0].generation + 1), (pair[1].from, pair[1].generation));
        }
        if let Some(last) = changes.last() {
            assert_eq!((last.to, last.generation), (snapshot.phase, snapshot.generation));
            assert_eq!((last.mode, Some(last.cause)), (snapshot.mode, snapshot.last_cause));
            assert_eq!(last.at_ns, snapshot.last_change_ns);
        }
        // The level that was told goes from none, in each generation, to the one that is.
        let (mut generation, mut told) = (1, Level::None);
        for event in gapless(&all.events, true) {
            assert!(event.generation >= generation, "a level of a generation that was over");
            let before = if event.generation == generation { told } else { Level::None };
            assert_eq!((event.from, event.from_level), (Phase::Closed, before));
            assert_ne!(event.from_level, event.to_level);
            (generation, told) = (event.generation, event.to_level);
        }
        let level = if generation == snapshot.generation { told } else { Level::None };
        assert_eq!(level, snapshot.level);

        // R11: it admits again to whoever waits as long as it is told.
        breaker.set_mode(Mode::Auto, || end);
        let mut now = end;
        let admitted = (0..30).any(|_| match breaker.acquire(|| now).verdict {
            Ok(_) => true,
            Err(rejection) => {
                now += rejection.retry_after_ns;
                false
            }
        });
        assert!(admitted, "it never admits again: {:?}", breaker.snapshot(|| now));
    });
}
