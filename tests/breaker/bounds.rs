//! R19 to R21: bounds, clocks, and nothing held while a caller's code runs.

use super::*;
use elixirscope::breaker::{Counts, GRADUAL_ADMIT_BP, Level, RejectReason, Snapshot};

/// The cell keeps no history: what comes while it is open leaves it as it is, and counts.
#[test]
fn r19_ten_million_failures_of_an_open_breaker_are_counted_and_change_nothing() {
    const LATE: u64 = 10_000_000;
    for config in [config(), in_period(2, 1_000), rate(3, 3, 10_000), rate_in_time(3, 10_000)] {
        let breaker = breaker(config);
        let raw = admitted(&breaker, 0).into_raw();
        [0, 10, 20].into_iter().for_each(|now| fail(&breaker, now));
        let (before, bytes) = (breaker.snapshot(|| 30), breaker.bytes());
        for _ in 0..LATE / 4 {
            assert_eq!(record(&breaker, Permit::from_raw(raw), Outcome::Failure, 30), RecordVerdict::Stale);
            assert_eq!(rejection(&breaker, 30).reason, RejectReason::Open);
        }
        let (late, mut expected) = (LATE / 4, before.counts);
        (expected.stale, expected.rejected_open) = (late, late);
        assert_eq!(breaker.snapshot(|| 30), Snapshot { counts: expected, ..before });
        assert_eq!(breaker.bytes(), bytes);
    }
}

#[test]
fn r19_everything_has_a_counter_of_its_own() {
    let config = BreakerConfig { release_expired_probes: true, ..config() };
    let breaker = breaker(config);
    let calls = |outcome, times| (0..times).for_each(|_| _ = call(&breaker, outcome, 0));
    calls(Outcome::Success, 8);
    calls(Outcome::Ignored, 4);
    calls(Outcome::Cancelled, 5);
    let held: Vec<_> = (0..6).map(|_| admitted(&breaker, 0)).collect();
    (0..2).for_each(|_| _ = breaker.report(Outcome::Success, || 0));
    calls(Outcome::Failure, 3);
    (0..7).for_each(|_| _ = rejection(&breaker, 10));
    let probes = [admitted(&breaker, 50), admitted(&breaker, 50)];
    (0..9).for_each(|_| _ = rejection(&breaker, 51));
    held.into_iter().for_each(|permit| _ = record(&breaker, permit, Outcome::Success, 52));
    probes.into_iter().for_each(|permit| _ = record(&breaker, permit, Outcome::Success, 80));
    mode(&breaker, Mode::ForcedOpen, 81);
    _ = rejection(&breaker, 81);
    mode(&breaker, Mode::Auto, 82);
    breaker.reconfigure(&BreakerConfig { admit_bp: [0; 4], ..config }, || 82).unwrap();
    (0..10).for_each(|_| _ = rejection(&breaker, 82));
    let expected = Counts {
        admitted: 28,
        succeeded: 8,
        failed: 3,
        ignored: 4,
        cancelled: 5,
        stale: 6,
        expired: 2,
        reported: 2,
        rejected_open: 7,
        rejected_half_open: 9,
        rejected_forced_open: 1,
        rejected_degraded: 10,
        injected: 0,
    };
    assert_eq!(breaker.snapshot(|| 82).counts, expected);
}

/// Ten million failures that a watching breaker does count, in the memory that it began with.
#[test]
fn r19_any_number_of_counted_failures_takes_the_same_memory() {
    for config in [config(), in_period(2, 1_000), rate(3, 3, 10_000), rate_in_time(3, 10_000)] {
        let breaker = breaker(config);
        mode(&breaker, Mode::MetricsOnly, 0);
        (0..2_500_000).for_each(|now| fail(&breaker, now));
        let snapshot = breaker.snapshot(|| 2_500_000);
        assert_eq!(snapshot.counts.failed, 2_500_000);
        assert!(matches!(snapshot.failures, 3 | 2_500_000), "{}", snapshot.failures);
        mode(&breaker, Mode::Auto, 2_500_000);
        (0..3).for_each(|_| fail(&breaker, 2_500_000));
        assert_eq!(phase(&breaker), Phase::Open);
    }
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

/// A failure that is told an older time than the one before counts as if it came with that.
#[test]
fn r20_a_failure_of_an_older_clock_is_not_lost() {
    for config in [in_period(2, 100 * MS), rate_in_time(3, 10_000)] {
        let breaker = breaker(config);
        for now in [1_000 * MS, 965 * MS, 1_000 * MS] {
            assert_eq!(phase(&breaker), Phase::Closed);
            breaker.report(Outcome::Failure, || now);
        }
        assert_eq!(phase(&breaker), Phase::Open);
    }
}

/// Buckets that another caller's clock has filled are not overlooked by one that is behind.
#[test]
fn r20_an_older_clock_sees_what_a_later_one_counted() {
    let config = BreakerConfig { admit_bp: GRADUAL_ADMIT_BP, ..rate_in_time(2, 10_000) };
    let breaker = breaker(config);
    breaker.report(Outcome::Success, || 960 * MS);
    for _ in 0..9 {
        breaker.report(Outcome::Failure, || 1_000 * MS);
    }
    for behind in [0, 1, 11, 25] {
        let now = || 1_000 * MS - behind * MS;
        assert_eq!(breaker.snapshot(now).level, Level::Heavy, "{behind} ms behind");
        assert_eq!((0..10).filter(|_| breaker.acquire(now).verdict.is_ok()).count(), 2);
    }
}

/// So do buckets a million ahead; what seems to be further ahead is from before, half a circle of buckets ago.
#[test]
fn r20_a_bucket_further_ahead_than_clocks_differ_is_an_old_one() {
    let breaker = breaker(rate_in_time(1_000, 10_000));
    let late = 1 << 50;
    breaker.report(Outcome::Failure, || late);
    for (buckets_behind, seen) in [(1 << 20, 1), ((1 << 20) + 1, 0)] {
        let calls = breaker.snapshot(|| late - buckets_behind * 10 * MS).window_calls;
        assert_eq!(calls, seen, "{buckets_behind} buckets behind");
    }
}

#[test]
fn r20_a_jump_forward_empties_windows_and_nothing_wraps() {
    for config in [in_period(2, 100), rate_in_time(3, 10_000)] {
        for jump in [1_u64 << 40, 1 << 62, 1 << 63, u64::MAX] {
            let breaker =
                breaker(BreakerConfig { slow_call_ns: 5, ramp_ns: 10, half_open_limit_ns: 10, ..config });
            fail(&breaker, 0);
            fail(&breaker, 0);
            assert_eq!(breaker.snapshot(|| jump).failures, 0);
            fail(&breaker, jump);
            assert_eq!((phase(&breaker), breaker.snapshot(|| jump).failures), (Phase::Closed, 1));
            (0..2).for_each(|_| fail(&breaker, jump));
            assert_eq!(phase(&breaker), Phase::Open);
            breaker.settle(|| u64::MAX);
        }
    }
}

#[test]
fn r20_a_closed_breaker_reads_no_clock() {
    let breaker = breaker(config());
    let never = || -> u64 { panic!("the clock was read") };
    for _ in 0..2 {
        for outcome in
            [Outcome::Success, Outcome::Ignored, Outcome::Cancelled, Outcome::Slow, Outcome::Failure]
        {
            let permit = breaker.acquire(never).verdict.unwrap();
            assert_eq!(breaker.record(permit, outcome, never).verdict, RecordVerdict::Applied);
        }
        breaker.reset(|| 0);
    }
    assert_eq!(breaker.snapshot(|| 0).counts.admitted, 10);
}

#[test]
fn r20_a_count_window_reads_no_clock_but_to_tell() {
    let breaker = breaker(rate(100, 100, 10_000));
    let never = || -> u64 { panic!("the clock was read") };
    for outcome in [Outcome::Success, Outcome::Failure, Outcome::Slow] {
        let permit = breaker.acquire(never).verdict.unwrap();
        breaker.record(permit, outcome, never);
    }
}

/// The clock is the only code of a caller that runs within a call; whatever it does to the breaker goes through.
#[test]
fn r21_nothing_is_held_while_the_clock_is_read() {
    let other = BreakerConfig { open_for_ns: 50, ..BreakerConfig::consecutive_failures(1) };
    let breaker = breaker(BreakerConfig { half_open_permits: 2, ..other });
    let permit = admitted(&breaker, 0);
    let meddling = || {
        breaker.reset(|| 1);
        breaker.reconfigure(&other, || 1).unwrap();
        breaker.reinstall(&other, || 1).unwrap();
        breaker.set_mode(Mode::MetricsOnly, || 1);
        breaker.set_mode(Mode::Auto, || 1);
        fail(&breaker, 1);
        assert_eq!(breaker.snapshot(|| 1).phase, Phase::Open);
        breaker.settle(|| 1);
        1
    };
    // The generation that the permit belongs to ended while the clock was read.
    let recorded = breaker.record(permit, Outcome::Failure, meddling);
    assert_eq!((recorded.verdict, recorded.events.len()), (RecordVerdict::Stale, 0));
    let resetting = || {
        breaker.reset(|| 60);
        60
    };
    assert!(!breaker.acquire(resetting).verdict.unwrap().is_probe());
    // Calls that take the time itself ask for it before they begin, and hold nothing then either.
    for call in 0..6 {
        let again = || {
            breaker.reconfigure(&other, || 70).unwrap();
            breaker.reset(|| 70);
            70
        };
        match call {
            0 => _ = breaker.reset(again),
            1 => _ = breaker.settle(again),
            2 => _ = breaker.set_mode(Mode::MetricsOnly, again),
            3 => _ = breaker.snapshot(again),
            4 => _ = breaker.reconfigure(&other, again).unwrap(),
            _ => _ = breaker.reinstall(&other, again).unwrap(),
        }
    }
}
