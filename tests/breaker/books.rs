//! R25: whatever races with what, every call stands in exactly one of the books.

use super::*;
use elixirscope::breaker::{Counts, Weights};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

fn rejected(counts: &Counts) -> u64 {
    let Counts { rejected_open, rejected_half_open, rejected_forced_open, rejected_degraded, .. } = counts;
    rejected_open + rejected_half_open + rejected_forced_open + rejected_degraded
}

fn finished(counts: &Counts) -> u64 {
    let Counts { succeeded, failed, ignored, cancelled, stale, expired, .. } = counts;
    succeeded + failed + ignored + cancelled + stale + expired
}

#[test]
fn r25_the_books_balance() {
    let base = BreakerConfig {
        open_for_ns: 3,
        probe_lease_ns: 2,
        half_open_permits: 3,
        admit_bp: elixirscope::breaker::GRADUAL_ADMIT_BP,
        ..config()
    };
    let configs = [
        base,
        BreakerConfig { policy: in_period(3, 20).policy, release_expired_probes: true, ..base },
        BreakerConfig { policy: rate(8, 4, 5_000).policy, max_ignored_probes: 2, ramp_ns: 10, ..base },
        BreakerConfig { policy: rate_in_time(4, 5_000).policy, half_open_limit_ns: 4, ..base },
    ];
    for config in configs {
        let breaker = breaker(config);
        let (clock, attempts) = (AtomicU64::new(0), 40_000_u64);
        let lost = AtomicU64::new(0);
        thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (breaker, clock, lost) = (&breaker, &clock, &lost);
                scope.spawn(move || {
                    for call in 0..attempts / 4 {
                        let now = || clock.fetch_add(1, Ordering::Relaxed);
                        let draw = (call * 7 + thread * 3) % 100;
                        match draw {
                            0 => _ = breaker.reset(now),
                            1 => _ = breaker.set_mode(Mode::MetricsOnly, now),
                            2 | 3 => _ = breaker.set_mode(Mode::Auto, now),
                            4 => _ = breaker.settle(now),
                            _ => {}
                        }
                        let Ok(permit) = breaker.acquire(now).verdict else { continue };
                        let outcome = match draw % 10 {
                            0..4 => Outcome::Success,
                            4..8 => Outcome::Failure,
                            8 => Outcome::Ignored,
                            _ if draw == 99 => {
                                lost.fetch_add(1, Ordering::Relaxed);
                                continue;
                            }
                            _ => Outcome::Cancelled,
                        };
                        breaker.record(permit, outcome, now);
                    }
                });
            }
        });
        let books = breaker.snapshot(|| clock.into_inner()).counts;
        assert_eq!(attempts, books.admitted + rejected(&books), "{config:?}");
        assert_eq!(finished(&books) + lost.into_inner(), books.admitted, "{config:?}");
    }
}

#[test]
fn r25_a_permit_that_comes_back_stands_in_one_book() {
    let breaker = opened();
    let (late, lost) = (admitted(&breaker, 70), admitted(&breaker, 70));
    // The lease of the first runs out and opens the breaker again; then both come back.
    assert!(breaker.acquire(|| 100).verdict.is_err());
    for permit in [late, lost] {
        assert_eq!(record(&breaker, permit, Outcome::Success, 101), RecordVerdict::Stale);
    }
    let books = breaker.snapshot(|| 101).counts;
    assert_eq!((books.admitted, books.failed, books.stale, books.expired), (5, 3, 2, 0));
}

/// Four threads fail at once, again and again: each time the breaker has opened exactly once for its threshold.
#[test]
fn r25_every_crossing_opens_exactly_once() {
    let weights = Weights { failure: 1, ..Weights::default() };
    for config in [config(), in_period(2, 1_000_000), rate(3, 3, 10_000), rate_in_time(3, 10_000)] {
        let breaker = breaker(BreakerConfig { weights, ..config });
        for _ in 0..300 {
            let opened: usize = thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            let reported = breaker.report(Outcome::Failure, || 0);
                            reported.events.iter().filter(|event| event.to == Phase::Open).count()
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!((opened, phase(&breaker)), (1, Phase::Open));
            breaker.reset(|| 0);
        }
    }
}
