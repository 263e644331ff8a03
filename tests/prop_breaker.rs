//! Any sequence of operations gives what the sequential model gives, step by step.
#![cfg(not(escope_model))]

#[path = "support/breaker_model.rs"]
mod breaker_model;

use breaker_model::Model;
use elixirscope::breaker::{Breaker, BreakerConfig, Event, Events, Outcome, RawPermit};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    Acquire,
    /// Records the permit with this number, counted back from the newest.
    Record(usize, Outcome),
    Reset,
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let outcome = prop_oneof![Just(Outcome::Success), Just(Outcome::Failure), Just(Outcome::Ignored)];
    prop_oneof![
        6 => Just(Op::Acquire),
        6 => (0_usize..6, outcome).prop_map(|(back, outcome)| Op::Record(back, outcome)),
        1 => Just(Op::Reset),
        4 => (0_u64..60).prop_map(Op::Advance),
    ]
}

prop_compose! {
    fn config()(permits in 1_u32..5)(
        permits in Just(permits),
        successes_to_close in 1..=permits,
        failure_threshold in 1_u32..4,
        open_for_ns in 0_u64..50,
        probe_lease_ns in 1_u64..40,
    ) -> BreakerConfig {
        BreakerConfig { open_for_ns, probe_lease_ns, failure_threshold, half_open_permits: permits, successes_to_close }
    }
}

fn list(events: Events) -> Vec<Event> {
    events.iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_history_is_the_models(config in config(), ops in prop::collection::vec(op(), 0..80)) {
        let breaker = Breaker::new(&config).unwrap();
        let mut model = Model::new(config);
        let mut permits: Vec<RawPermit> = vec![];
        let mut recorded: Vec<bool> = vec![];
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
                        (ours, models) => prop_assert_eq!(ours.unwrap_err(), models.unwrap_err()),
                    }
                }
                Op::Record(back, outcome) => {
                    let Some(number) = permits.len().checked_sub(back + 1) else { continue };
                    // A closed breaker does not know its permits, so only probes are recorded twice.
                    if recorded[number] && !model.is_probe(number) {
                        continue;
                    }
                    recorded[number] = true;
                    let permit = elixirscope::breaker::Permit::from_raw(permits[number]);
                    let ours = breaker.record(permit, outcome, || now);
                    let (verdict, events) = model.record(number, outcome, now);
                    prop_assert_eq!(list(ours.events), events);
                    prop_assert_eq!(ours.verdict, verdict);
                }
                Op::Reset => prop_assert_eq!(list(breaker.reset(|| now)), model.reset(now)),
                Op::Advance(by) => now += by,
            }
            let snapshot = breaker.snapshot(|| now);
            prop_assert_eq!(snapshot.phase, model.phase);
            prop_assert_eq!(snapshot.generation, model.generation);
            prop_assert_eq!(snapshot.consecutive_failures, model.consecutive_failures);
            prop_assert_eq!(snapshot.live_probes, model.live_probes(now));
        }
    }
}
