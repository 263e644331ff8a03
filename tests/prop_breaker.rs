//! Any sequence of operations gives what the sequential model gives, step by step.
#![cfg(not(escope_model))]

#[path = "support/breaker_model.rs"]
mod breaker_model;

use breaker_model::Model;
use elixirscope::breaker::{
    Breaker, BreakerConfig, Event, Events, GRADUAL_ADMIT_BP, MAX_DURATION_NS, Mode, Outcome, Permit, Policy,
    RawPermit, Recorded, RejectReason, Weights, Window,
};
use proptest::prelude::*;

const MS: u64 = 1_000_000;
/// More than any policy below needs, so that each can follow each.
const WINDOW_CAPACITY: u32 = 16;

#[derive(Debug, Clone)]
enum Op {
    Acquire,
    Ask,
    /// Records the permit with this number, counted back from the newest.
    Record(usize, Outcome),
    Report(Outcome),
    Settle,
    Reset,
    SetMode(Mode),
    Reconfigure(BreakerConfig),
    Reinstall(BreakerConfig),
    Advance(u64),
}

fn op(unit: u64) -> impl Strategy<Value = Op> {
    let outcome = || {
        prop_oneof![
            4 => Just(Outcome::Success),
            5 => Just(Outcome::Failure),
            1 => Just(Outcome::Ignored),
            1 => Just(Outcome::Slow),
            1 => Just(Outcome::Cancelled),
        ]
    };
    let mode = prop_oneof![
        3 => Just(Mode::Auto),
        1 => Just(Mode::ForcedOpen),
        1 => Just(Mode::ForcedClosed),
        2 => Just(Mode::MetricsOnly),
    ];
    prop_oneof![
        30 => Just(Op::Acquire),
        6 => Just(Op::Ask),
        24 => (0_usize..6, outcome()).prop_map(|(back, outcome)| Op::Record(back, outcome)),
        10 => outcome().prop_map(Op::Report),
        2 => Just(Op::Settle),
        1 => Just(Op::Reset),
        3 => mode.prop_map(Op::SetMode),
        3 => config(unit).prop_map(Op::Reconfigure),
        1 => config(unit).prop_map(Op::Reinstall),
        20 => (0_u64..50).prop_map(move |by| Op::Advance(by * unit)),
    ]
}

fn policy(unit: u64) -> impl Strategy<Value = Policy> {
    let rates =
        (prop_oneof![Just(10_000_u32), 1_u32..=10_000], prop_oneof![Just(10_000_u32), 1_u32..=10_000]);
    // A bucket is at least 1 ms long.
    let time_weight = if unit == MS { 3 } else { 1 };
    let window = prop_oneof![
        2 => (1_u32..10).prop_map(|size| Window::Count { size }),
        time_weight => (1_u32..7, 0_u64..60).prop_map(|(buckets, more)| Window::Time {
            period_ns: (u64::from(buckets) + more) * MS,
            buckets,
        }),
    ];
    prop_oneof![
        2 => (1_u32..6).prop_map(|failure_threshold| Policy::ConsecutiveFailures { failure_threshold }),
        2 => (0_u32..8, 1_u64..80).prop_map(move |(tolerated_failures, period)| Policy::FailuresInPeriod {
            tolerated_failures,
            period_ns: period * unit,
        }),
        4 => (window, 1_u32..10, rates).prop_map(|(window, most_calls, (failure_rate_bp, slow_call_rate_bp))| {
            let min_calls = match window {
                Window::Count { size } => most_calls.min(size),
                Window::Time { .. } => most_calls,
            };
            Policy::Rate { window, min_calls, failure_rate_bp, slow_call_rate_bp }
        }),
    ]
}

/// Either what nobody has asked for, or something else.
fn or<T: Clone + std::fmt::Debug>(default: T, other: impl Strategy<Value = T>) -> impl Strategy<Value = T> {
    prop_oneof![2 => Just(default), 1 => other]
}

prop_compose! {
    fn config(unit: u64)(permits in 1_u32..5)(
        policy in policy(unit),
        weights in or(
            Weights::default(),
            (0_u8..2, 1_u8..=15, 0_u8..4, 0_u8..2, 0_u8..2).prop_map(|(success, failure, slow, ignored, cancelled)| {
                Weights { success, failure, slow, ignored, cancelled }
            }),
        ),
        half_open in (
            1..=permits,
            1_u64..40,
            any::<bool>(),
            or(0, 1_u64..60),
            any::<bool>(),
            or(0, 1_u32..4),
        ),
        open in (0_u64..50, or(100, prop_oneof![120_u32..300, Just(10_000)]), or(0, 1_u64..6), or(0, 0_u32..10_000)),
        seed in any::<u64>(),
        skip_half_open in prop::bool::weighted(0.15),
        slow_call in or(0, 1_u64..20),
        ramp in or((0, 1_000), (1_u64..80, 1_u32..=10_000)),
        admit_bp in or([10_000; 4], prop_oneof![Just(GRADUAL_ADMIT_BP), prop::array::uniform4(0_u32..=10_000)]),
        level_bp in or([4_000, 6_000, 8_000], prop::array::uniform3(1_u32..=10_000)),
        permits in Just(permits),
    ) -> BreakerConfig {
        let (successes_to_close, lease, release_expired_probes, limit, close_at_half_open_limit, max_ignored_probes) =
            half_open;
        let (open_for, backoff_percent, cap, jitter_bp) = open;
        let mut level_bp = level_bp;
        level_bp.sort_unstable();
        BreakerConfig {
            policy,
            weights,
            slow_call_ns: slow_call * unit,
            open_for_ns: open_for * unit,
            backoff_percent,
            max_open_ns: open_for * cap * unit,
            jitter_bp,
            seed,
            skip_half_open,
            half_open_permits: permits,
            successes_to_close,
            probe_lease_ns: lease * unit,
            release_expired_probes,
            half_open_limit_ns: limit * unit,
            close_at_half_open_limit,
            max_ignored_probes,
            ramp_ns: ramp.0 * unit,
            ramp_from_bp: ramp.1,
            level_bp,
            admit_bp,
            ..BreakerConfig::default()
        }
    }
}

prop_compose! {
    fn history()(unit in prop_oneof![Just(1), Just(MS)])(
        config in config(unit),
        ops in prop::collection::vec(op(unit), 0..120),
    ) -> (BreakerConfig, Vec<Op>) {
        (BreakerConfig { window_capacity: WINDOW_CAPACITY, ..config }, ops)
    }
}

fn list(events: Events) -> Vec<Event> {
    events.iter().collect()
}

/// What an acquire says when every lease or round, and then the longest open time, has passed.
fn after_the_longest_wait(breaker: &Breaker, config: &BreakerConfig, now: u64) -> Result<(), RejectReason> {
    let settled = now + config.probe_lease_ns.max(config.half_open_limit_ns);
    breaker.settle(|| settled);
    // A breaker that opened before it was reconfigured has the open time of then.
    let open = 2 * MAX_DURATION_NS;
    breaker.acquire(|| settled + open).verdict.map(drop).map_err(|rejection| rejection.reason)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_history_is_the_models((config, ops) in history()) {
        let breaker = Breaker::new(&config).unwrap();
        let mut model = Model::new(config);
        let mut permits: Vec<RawPermit> = vec![];
        let mut recorded: Vec<bool> = vec![];
        // A slot that was given back in both ways does not know which way went the permit that comes twice.
        let mut released = config.release_expired_probes;
        let mut now = 0;
        for op in ops {
            match op {
                Op::Acquire => {
                    let acquired = breaker.acquire(|| now);
                    let (verdict, events) = model.acquire(now);
                    prop_assert_eq!(list(acquired.events), events);
                    match (acquired.verdict, verdict) {
                        (Ok(permit), Ok(number)) => {
                            prop_assert_eq!(number, permits.len());
                            prop_assert_eq!(permit.is_probe(), model.is_probe(number));
                            permits.push(permit.into_raw());
                            recorded.push(false);
                        }
                        (Err(ours), Err(models)) => prop_assert_eq!(ours, models),
                        (ours, models) => prop_assert!(false, "{:?} is {:?} in the model", ours, models),
                    }
                }
                Op::Ask => {
                    let asked = breaker.ask(|| now);
                    prop_assert_eq!((asked.verdict, list(asked.events)), model.ask(now));
                }
                Op::Record(back, outcome) => {
                    let Some(number) = permits.len().checked_sub(back + 1) else { continue };
                    // A closed breaker does not know its permits, so only probes are recorded twice, in their round.
                    let is_guarded = !released
                        && model.is_probe(number)
                        && model.generation_of(number) == model.generation;
                    if recorded[number] && !is_guarded {
                        continue;
                    }
                    recorded[number] = true;
                    let Recorded { verdict, events } =
                        breaker.record(Permit::from_raw(permits[number]), outcome, || now);
                    prop_assert_eq!((verdict, list(events)), model.record(number, outcome, now));
                }
                Op::Report(outcome) => {
                    let Recorded { verdict, events } = breaker.report(outcome, || now);
                    prop_assert_eq!((verdict, list(events)), model.report(outcome, now));
                }
                Op::Settle => prop_assert_eq!(list(breaker.settle(|| now)), model.settled(now)),
                Op::Reset => prop_assert_eq!(list(breaker.reset(|| now)), model.reset(now)),
                Op::SetMode(mode) => {
                    prop_assert_eq!(list(breaker.set_mode(mode, || now)), model.set_mode(mode, now));
                }
                Op::Reconfigure(config) => {
                    released |= config.release_expired_probes;
                    let events = breaker.reconfigure(&config, || now).unwrap();
                    prop_assert_eq!(list(events), model.reconfigure(config, now));
                }
                Op::Reinstall(config) => {
                    released |= config.release_expired_probes;
                    let events = breaker.reinstall(&config, || now).unwrap();
                    prop_assert_eq!(list(events), model.reinstall(config, now));
                }
                Op::Advance(by) => now += by,
            }
            prop_assert_eq!(breaker.snapshot(|| now), model.snapshot(now));
        }
        let verdict = after_the_longest_wait(&breaker, &model.config, now);
        // R11, from whatever state that was.
        prop_assert!(
            matches!(verdict, Ok(()) | Err(RejectReason::Degraded)) || model.mode == Mode::ForcedOpen,
            "{:?}",
            verdict
        );
    }
}
