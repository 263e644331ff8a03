//! Asking without a permit: the same verdicts, no probe, and books that balance.

use elixirscope::breaker::{Breaker, BreakerConfig, Mode, Outcome, Phase, Policy, RejectReason, Rejection};

fn breaker(skip_half_open: bool, admit: u32) -> Breaker {
    Breaker::new(&BreakerConfig {
        policy: Policy::FailuresInPeriod { tolerated_failures: 1, period_ns: 100 },
        open_for_ns: 50,
        skip_half_open,
        admit_bp: [admit; 4],
        ..BreakerConfig::default()
    })
    .expect("the configuration is within range")
}

fn trip(breaker: &Breaker) {
    for _ in 0..2 {
        breaker.report(Outcome::Failure, || 0);
    }
    assert_eq!(breaker.snapshot(|| 0).phase, Phase::Open);
}

fn rejected(reason: RejectReason, retry_after_ns: u64) -> Result<(), Rejection> {
    Err(Rejection { reason, retry_after_ns })
}

#[test]
fn a_breaker_without_probes_closes_for_an_ask_when_its_time_is_over() {
    let breaker = breaker(true, 10_000);
    assert_eq!(breaker.ask(|| unreachable!("a closed breaker reads no clock")).verdict, Ok(()));
    trip(&breaker);
    assert_eq!(breaker.ask(|| 49).verdict, rejected(RejectReason::Open, 1));
    let asked = breaker.ask(|| 50);
    assert_eq!((asked.verdict, asked.events.len()), (Ok(()), 1));
}

#[test]
fn an_ask_is_never_a_probe() {
    let breaker = breaker(false, 10_000);
    trip(&breaker);
    assert_eq!(breaker.ask(|| 10).verdict, rejected(RejectReason::Open, 40));
    // The time is over, and only an acquire may begin the round.
    assert_eq!(breaker.ask(|| 60).verdict, rejected(RejectReason::Open, 1));
    let probe = breaker.acquire(|| 60).verdict.expect("its time is over");
    assert_eq!(breaker.ask(|| 61).verdict, rejected(RejectReason::HalfOpenFull, 1));
    breaker.record(probe, Outcome::Success, || 62);
    assert_eq!(breaker.ask(|| 63).verdict, Ok(()));
}

#[test]
fn an_ask_obeys_mode_and_share() {
    let half = breaker(true, 5_000);
    let admitted = (0..10).filter(|_| half.ask(|| 0).verdict.is_ok()).count();
    assert_eq!(admitted, 5);
    half.set_mode(Mode::ForcedOpen, || 0);
    assert_eq!(half.ask(|| 1_000).verdict, rejected(RejectReason::ForcedOpen, u64::MAX));
    half.set_mode(Mode::ForcedClosed, || 0);
    assert_eq!(half.ask(|| 1_000).verdict, Ok(()));
}

#[test]
fn an_ask_of_a_forced_open_breaker_reads_no_clock() {
    let breaker = breaker(true, 10_000);
    breaker.set_mode(Mode::ForcedOpen, || 0);
    let asked = breaker.ask(|| unreachable!("time lifts no mode"));
    assert_eq!(asked.verdict, rejected(RejectReason::ForcedOpen, u64::MAX));
}

#[test]
fn the_books_balance_without_a_record() {
    let breaker = breaker(true, 5_000);
    for _ in 0..10 {
        breaker.ask(|| 0);
    }
    trip(&breaker);
    for _ in 0..3 {
        breaker.ask(|| 1);
    }
    breaker.set_mode(Mode::ForcedOpen, || 1);
    for _ in 0..2 {
        breaker.ask(|| 1);
    }
    let counts = breaker.snapshot(|| 1).counts;
    assert_eq!((counts.admitted, counts.cancelled, counts.rejected_degraded), (5, 5, 5));
    assert_eq!((counts.rejected_open, counts.rejected_forced_open, counts.reported), (3, 2, 2));
}
