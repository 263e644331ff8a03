//! Eight callers on the shipped breaker under random schedules: the books balance (R25) and every event comes once (R22).
//!
//! `ci/shuttle.sh` runs the model, and `ci/shuttle.sh sabotage` shows that it fails without a precaution:
//!
// sabotage: breaker_no_second_look the_books_balance_and_each_event_comes_once
// sabotage: breaker_no_third_look the_books_balance_and_each_event_comes_once
#![cfg(escope_shuttle)]

#[path = "support/shuttle.rs"]
mod explore;

use elixirscope::breaker::{Breaker, BreakerConfig, Event, Outcome, RecordVerdict, RejectReason};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const THREADS: usize = 8;
const CALLS: usize = 5;

const OPEN_FOR: u64 = 3;
const LEASE: u64 = 6;

/// So short that rounds end by results, by leases and by resets, many times in a schedule.
fn config() -> BreakerConfig {
    BreakerConfig {
        open_for_ns: OPEN_FOR,
        probe_lease_ns: LEASE,
        half_open_permits: 3,
        successes_to_close: 2,
        ..BreakerConfig::consecutive_failures(2)
    }
}

/// What callers were told, to be compared with what the breaker counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Books {
    admitted: u64,
    rejected_open: u64,
    rejected_half_open: u64,
    succeeded: u64,
    failed: u64,
    ignored: u64,
    stale: u64,
    expired: u64,
}

/// One caller: its books, its events, and how many permits it lost.
#[derive(Debug, Default)]
struct Caller {
    books: Books,
    events: Vec<Event>,
    lost: u64,
}

impl Caller {
    fn run(breaker: &Breaker, clock: &AtomicU64) -> Self {
        // No access of the model's: a clock is read without ordering anything.
        let now = || clock.fetch_add(1, Ordering::Relaxed);
        let mut caller = Self::default();
        let mut open_calls = vec![];
        for _ in 0..CALLS {
            if thread_rng().gen_ratio(1, 20) {
                caller.events.extend(breaker.reset(now).iter());
            }
            let acquired = breaker.acquire(now);
            caller.events.extend(acquired.events.iter());
            match acquired.verdict {
                Ok(permit) => {
                    caller.books.admitted += 1;
                    open_calls.push(permit);
                }
                Err(rejection) => match rejection.reason {
                    RejectReason::Open => caller.books.rejected_open += 1,
                    RejectReason::HalfOpenFull => caller.books.rejected_half_open += 1,
                    reason => panic!("nothing asks for {reason:?}"),
                },
            }
            // Some calls take long, some never end.
            while thread_rng().gen_ratio(3, 4)
                && let Some(permit) = open_calls.pop()
            {
                if thread_rng().gen_ratio(1, 10) {
                    caller.lost += 1;
                    continue;
                }
                let outcome = match thread_rng().gen_range(0..10) {
                    0..4 => Outcome::Success,
                    4..9 => Outcome::Failure,
                    _ => Outcome::Ignored,
                };
                let recorded = breaker.record(permit, outcome, now);
                caller.events.extend(recorded.events.iter());
                match (recorded.verdict, outcome) {
                    (RecordVerdict::Applied, Outcome::Success) => caller.books.succeeded += 1,
                    (RecordVerdict::Applied, Outcome::Failure) => caller.books.failed += 1,
                    (RecordVerdict::Applied, Outcome::Ignored) => caller.books.ignored += 1,
                    (RecordVerdict::Stale, _) => caller.books.stale += 1,
                    (RecordVerdict::Expired, _) => caller.books.expired += 1,
                    (verdict, _) => panic!("each permit is recorded once, and not {verdict:?}"),
                }
            }
        }
        caller.lost += open_calls.len() as u64;
        caller
    }

    fn join(mut self, other: Self) -> Self {
        let (mine, theirs) = (&mut self.books, other.books);
        mine.admitted += theirs.admitted;
        mine.rejected_open += theirs.rejected_open;
        mine.rejected_half_open += theirs.rejected_half_open;
        mine.succeeded += theirs.succeeded;
        mine.failed += theirs.failed;
        mine.ignored += theirs.ignored;
        mine.stale += theirs.stale;
        mine.expired += theirs.expired;
        self.events.extend(other.events);
        self.lost += other.lost;
        self
    }
}

#[test]
fn the_books_balance_and_each_event_comes_once() {
    explore::schedules(|| {
        let breaker = Arc::new(Breaker::new(&config()).unwrap());
        let clock = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let (breaker, clock) = (Arc::clone(&breaker), Arc::clone(&clock));
                thread::spawn(move || Caller::run(&breaker, &clock))
            })
            .collect();
        let all = threads.into_iter().map(|thread| thread.join().unwrap()).reduce(Caller::join).unwrap();

        let end = clock.load(Ordering::Relaxed);
        let snapshot = breaker.snapshot(|| end);
        let counts = snapshot.counts;
        let books = Books {
            admitted: counts.admitted,
            rejected_open: counts.rejected_open,
            rejected_half_open: counts.rejected_half_open,
            succeeded: counts.succeeded,
            failed: counts.failed,
            ignored: counts.ignored,
            stale: counts.stale,
            expired: counts.expired,
        };
        assert_eq!(books, all.books);
        let rejected = books.rejected_open + books.rejected_half_open;
        assert_eq!((THREADS * CALLS) as u64, books.admitted + rejected);
        let recorded = books.succeeded + books.failed + books.ignored + books.stale + books.expired;
        assert_eq!(books.admitted, recorded + all.lost);

        let (levels, events): (Vec<_>, Vec<_>) =
            all.events.into_iter().partition(|event| event.cause.is_of_level());
        let [_levels, events] = [levels, events].map(|mut events| {
            events.sort_by_key(|event| event.sequence);
            let sequences: Vec<_> = events.iter().map(|event| event.sequence as usize).collect();
            assert_eq!(sequences, (1..=events.len()).collect::<Vec<_>>());
            events
        });
        for pair in events.windows(2) {
            assert_eq!((pair[0].to, pair[0].generation + 1), (pair[1].from, pair[1].generation));
        }
        if let Some(last) = events.last() {
            assert_eq!((last.to, last.generation), (snapshot.phase, snapshot.generation));
        }

        // R11: whatever was lost, it admits again.
        let later = end + LEASE;
        let settled = breaker.acquire(|| later).verdict;
        assert!(settled.is_ok() || breaker.acquire(|| later + OPEN_FOR).verdict.is_ok());
    });
}
