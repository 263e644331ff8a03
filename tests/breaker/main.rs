//! The rules of the circuit breaker, R01 to R25: a test's name starts with the rule that it proves. Times are explicit;
//! nothing sleeps.
#![cfg(not(escope_loom))]

mod books;
mod bounds;
mod config;
mod events;
#[cfg(feature = "fault-injection")]
mod faults;
mod half_open;
mod levels;
mod modes;
mod open;
mod permits;
mod reconfigure;
mod trip;

use elixirscope::breaker::{
    Breaker, BreakerConfig, Cause, Event, Mode, Outcome, Permit, Phase, Policy, RecordVerdict, Rejection,
    Window,
};

const MS: u64 = 1_000_000;

/// Opens at the third failure, for 50; two probes of 30 decide.
fn config() -> BreakerConfig {
    BreakerConfig {
        open_for_ns: 50,
        half_open_permits: 2,
        successes_to_close: 2,
        probe_lease_ns: 30,
        ..BreakerConfig::consecutive_failures(3)
    }
}

fn in_period(tolerated_failures: u32, period_ns: u64) -> BreakerConfig {
    BreakerConfig { policy: Policy::FailuresInPeriod { tolerated_failures, period_ns }, ..config() }
}

/// A rate of failures over the last `size` results.
fn rate(size: u32, min_calls: u32, failure_rate_bp: u32) -> BreakerConfig {
    let window = Window::Count { size };
    let policy = Policy::Rate { window, min_calls, failure_rate_bp, slow_call_rate_bp: 10_000 };
    BreakerConfig { policy, ..config() }
}

/// A rate of failures over the last four buckets of 10 ms.
fn rate_in_time(min_calls: u32, failure_rate_bp: u32) -> BreakerConfig {
    let window = Window::Time { period_ns: 40 * MS, buckets: 4 };
    let policy = Policy::Rate { window, min_calls, failure_rate_bp, slow_call_rate_bp: 10_000 };
    BreakerConfig { policy, ..config() }
}

fn breaker(config: BreakerConfig) -> Breaker {
    Breaker::new(&config).unwrap()
}

fn admitted(breaker: &Breaker, now: u64) -> Permit {
    breaker.acquire(|| now).verdict.unwrap()
}

fn rejection(breaker: &Breaker, now: u64) -> Rejection {
    breaker.acquire(|| now).verdict.unwrap_err()
}

fn record(breaker: &Breaker, permit: Permit, outcome: Outcome, now: u64) -> RecordVerdict {
    breaker.record(permit, outcome, || now).verdict
}

/// One call that begins and ends at `now`.
fn call(breaker: &Breaker, outcome: Outcome, now: u64) -> Vec<Event> {
    let acquired = breaker.acquire(|| now);
    let recorded = breaker.record(acquired.verdict.unwrap(), outcome, || now);
    acquired.events.iter().chain(recorded.events.iter()).collect()
}

fn fail(breaker: &Breaker, now: u64) {
    call(breaker, Outcome::Failure, now);
}

/// A breaker that opened at 20 and stays so until 70.
fn opened_as(config: BreakerConfig) -> Breaker {
    let breaker = breaker(config);
    [0, 10, 20].into_iter().for_each(|now| fail(&breaker, now));
    assert_eq!(phase(&breaker), Phase::Open);
    breaker
}

fn opened() -> Breaker {
    opened_as(config())
}

/// Two results that close what `opened` opened.
fn close(breaker: &Breaker, now: u64) {
    call(breaker, Outcome::Success, now);
    call(breaker, Outcome::Success, now);
    assert_eq!(phase(breaker), Phase::Closed);
}

fn phase(breaker: &Breaker) -> Phase {
    breaker.snapshot(|| 0).phase
}

fn causes(events: impl IntoIterator<Item = Event>) -> Vec<(Cause, u64)> {
    events.into_iter().map(|event| (event.cause, event.at_ns)).collect()
}

fn mode(breaker: &Breaker, mode: Mode, now: u64) -> Vec<Event> {
    breaker.set_mode(mode, || now).iter().collect()
}
