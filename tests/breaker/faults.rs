//! Faults on purpose.

use super::*;
use elixirscope::breaker::{Counts, Faults, RejectReason};

fn injecting(faults: Faults) -> Breaker {
    let breaker = breaker(BreakerConfig::consecutive_failures(1_000_000));
    breaker.inject_faults(&faults).unwrap();
    breaker
}

#[test]
fn r19_injected_failures_are_rejected_counted_and_told_apart() {
    let breaker = injecting(Faults { failure_bp: 10_000, ..Faults::default() });
    let rejection = rejection(&breaker, 0);
    assert_eq!(rejection, Rejection { reason: RejectReason::FaultInjected, retry_after_ns: 1 });
    let snapshot = breaker.snapshot(|| 0);
    assert_eq!((snapshot.failures, snapshot.counts), (1, Counts { injected: 1, ..Counts::default() }));
}

#[test]
fn equal_seeds_choose_the_same_calls() {
    let chosen = |seed| {
        let breaker = injecting(Faults { failure_bp: 2_500, delay_bp: 4_000, delay_ns: 7, seed });
        let verdict = |_| {
            let acquired = breaker.acquire(|| 0);
            (acquired.verdict.is_ok(), acquired.delay_ns)
        };
        (0..4_000).map(verdict).collect::<Vec<_>>()
    };
    assert_eq!(chosen(1), chosen(1));
    assert_ne!(chosen(1), chosen(2));
    let failed = chosen(3).iter().filter(|(admitted, _)| !admitted).count();
    assert!((900..1_100).contains(&failed), "{failed}");
    let delayed = chosen(3).iter().filter(|(_, delay_ns)| *delay_ns == 7).count();
    assert!((1_050..1_350).contains(&delayed), "{delayed}");
    assert!(chosen(3).iter().all(|(admitted, delay_ns)| *admitted || *delay_ns == 0));
}

#[test]
fn injected_failures_open_the_breaker_and_spare_its_probes() {
    let breaker = breaker(config());
    breaker.inject_faults(&Faults { failure_bp: 10_000, ..Faults::default() }).unwrap();
    let events: Vec<_> =
        (0..3).flat_map(|now| breaker.acquire(|| now).events.iter().collect::<Vec<_>>()).collect();
    assert_eq!(events.last().map(|event| event.cause), Some(Cause::FailureThreshold));
    assert!(admitted(&breaker, 52).is_probe());
    breaker.inject_faults(&Faults::default()).unwrap();
    breaker.reset(|| 53);
    assert!(!admitted(&breaker, 53).is_probe());
}

#[test]
fn r05_faults_out_of_range_are_refused() {
    let breaker = breaker(config());
    for (faults, name) in [
        (Faults { failure_bp: 10_001, ..Faults::default() }, "failure_bp"),
        (Faults { delay_bp: 10_001, ..Faults::default() }, "delay_bp"),
        (Faults { delay_ns: 1 << 62, ..Faults::default() }, "delay_ns"),
    ] {
        assert_eq!(breaker.inject_faults(&faults).unwrap_err().argument, name);
    }
    assert!(!admitted(&breaker, 0).is_probe());
}

#[test]
fn a_share_of_nothing_chooses_no_call() {
    let longest = (1 << 62) - 1;
    let drawn = |failure_bp, delay_bp| {
        let breaker = injecting(Faults { failure_bp, delay_bp, delay_ns: longest, seed: 1 });
        let drawn = (0..100_000).map(|_| breaker.acquire(|| 0));
        drawn.fold((0, 0), |(failed, delayed), call| {
            (failed + u32::from(call.verdict.is_err()), delayed + u32::from(call.delay_ns > 0))
        })
    };
    let (failed, delayed) = drawn(1, 0);
    assert!(failed > 0 && delayed == 0, "{failed} {delayed}");
    let (failed, delayed) = drawn(0, 1);
    assert!(failed == 0 && delayed > 0, "{failed} {delayed}");
}
