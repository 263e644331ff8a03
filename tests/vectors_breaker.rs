//! The breaker's test vectors: made from the model with a fixed seed, replayed here through the public API and by
//! every other language through its own.
//!
//! `ESCOPE_WRITE_VECTORS=1 cargo test --test vectors_breaker` writes the file anew.
#![cfg(not(escope_model))]

#[path = "support/breaker_model.rs"]
mod breaker_model;

use breaker_model::Model;
use elixirscope::breaker::{
    Breaker, BreakerConfig, Cause, Event, Outcome, Permit, Phase, RawPermit, RecordVerdict, RejectReason,
    Rejection,
};
use serde_json::{Value, json};
use std::collections::HashMap;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/breaker.json");
const RANDOM_VECTORS: u64 = 150;
const SEED: u64 = 0x5EED_B4EA;

#[derive(Debug, Clone, Copy)]
enum Step {
    Acquire { now: u64 },
    Record { permit: usize, outcome: Outcome, now: u64 },
    Reset { now: u64 },
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Closed => "closed",
        Phase::Open => "open",
        Phase::HalfOpen => "half_open",
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Failure => "failure",
        Outcome::Ignored => "ignored",
    }
}

fn events(events: impl Iterator<Item = Event>) -> Vec<Value> {
    let cause = |cause| match cause {
        Cause::FailureThreshold => "failure_threshold",
        Cause::OpenElapsed => "open_elapsed",
        Cause::ProbesSucceeded => "probes_succeeded",
        Cause::ProbesFailed => "probes_failed",
        Cause::ProbeExpired => "probe_expired",
        Cause::Reset => "reset",
    };
    let event = |event: Event| {
        json!({
            "sequence": event.sequence, "generation": event.generation, "from": phase(event.from),
            "to": phase(event.to), "cause": cause(event.cause), "at_ns": event.at_ns,
        })
    };
    events.map(event).collect()
}

fn admission<T>(verdict: &Result<T, Rejection>) -> (&'static str, u64) {
    match verdict {
        Ok(_) => ("ok", 0),
        Err(Rejection { reason: RejectReason::Open, retry_after_ns }) => ("circuit_open", *retry_after_ns),
        Err(Rejection { reason: RejectReason::HalfOpenFull, retry_after_ns }) => {
            ("half_open_full", *retry_after_ns)
        }
    }
}

fn recorded(verdict: RecordVerdict) -> &'static str {
    match verdict {
        RecordVerdict::Applied => "ok",
        RecordVerdict::Stale => "stale",
        RecordVerdict::Expired => "expired",
        RecordVerdict::AlreadyDone => "already_done",
    }
}

/// Runs the steps on the model, looking at the state now and then and after each transition; what it answers is what every language must answer.
fn vector(name: &str, config: BreakerConfig, steps: impl IntoIterator<Item = Step>) -> Value {
    let mut model = Model::new(config);
    let (mut ops, mut generation) = (vec![], 0);
    for (number, step) in steps.into_iter().enumerate() {
        let now = match step {
            Step::Acquire { now } => {
                let (verdict, changes) = model.acquire(now);
                let (word, retry_after_ns) = admission(&verdict);
                let events = events(changes.into_iter());
                ops.push(json!({
                    "op": "acquire", "permit": verdict.ok(), "now_ns": now,
                    "expect": { "verdict": word, "retry_after_ns": retry_after_ns, "events": events },
                }));
                now
            }
            Step::Record { permit, outcome: how, now } => {
                let (verdict, changes) = model.record(permit, how, now);
                let events = events(changes.into_iter());
                ops.push(json!({
                    "op": "record", "permit": permit, "outcome": outcome(how), "now_ns": now,
                    "expect": { "verdict": recorded(verdict), "events": events },
                }));
                now
            }
            Step::Reset { now } => {
                let events = events(model.reset(now).into_iter());
                ops.push(json!({ "op": "reset", "now_ns": now, "expect": { "events": events } }));
                now
            }
        };
        if model.generation == generation && number % 5 > 0 {
            continue;
        }
        generation = model.generation;
        ops.push(json!({
            "op": "state", "now_ns": now,
            "expect": {
                "phase": phase(model.phase), "generation": model.generation,
                "consecutive_failures": model.consecutive_failures, "live_probes": model.live_probes(now),
            },
        }));
    }
    let config = json!({
        "failure_threshold": config.failure_threshold, "open_for_ns": config.open_for_ns,
        "half_open_permits": config.half_open_permits, "successes_to_close": config.successes_to_close,
        "probe_lease_ns": config.probe_lease_ns,
    });
    json!({ "name": name, "config": config, "ops": ops })
}

fn golden() -> Vec<Value> {
    use Outcome::{Failure, Ignored, Success};
    const MS: u64 = 1_000_000;
    let config = BreakerConfig {
        open_for_ns: 50 * MS,
        probe_lease_ns: 30 * MS,
        failure_threshold: 3,
        half_open_permits: 2,
        successes_to_close: 2,
    };
    let acquire = |ms: u64| Step::Acquire { now: ms * MS };
    let record = |permit, outcome, ms: u64| Step::Record { permit, outcome, now: ms * MS };
    let open_at_20 = [
        acquire(0),
        record(0, Failure, 0),
        acquire(10),
        record(1, Failure, 10),
        acquire(20),
        record(2, Failure, 20),
    ];
    let then = |steps: &[Step]| open_at_20.iter().chain(steps).copied().collect::<Vec<_>>();
    let t1 =
        [acquire(69), acquire(70), acquire(71), acquire(72), record(3, Success, 80), record(4, Success, 81)];
    let t2 = [
        acquire(70),
        acquire(71),
        record(3, Failure, 80),
        record(4, Success, 90),
        acquire(129),
        acquire(130),
    ];
    let t3a = [acquire(70), acquire(71), acquire(99), acquire(100)];
    let t3b = [acquire(70), acquire(71), acquire(1000)];
    let mut t5: Vec<_> = std::iter::once(acquire(0)).collect();
    for (permit, ms) in [(1, 1), (2, 2), (3, 3)] {
        t5.extend([acquire(ms), record(permit, Failure, ms)]);
    }
    t5.extend([acquire(53), record(0, Success, 60), acquire(61)]);
    let mut t6 = then(&[]);
    (3..23).for_each(|permit| t6.extend([acquire(70), record(permit, Ignored, 70)]));
    t6.extend([acquire(71), record(23, Success, 72), acquire(73), record(24, Success, 74)]);
    vec![
        vector("T1 closes after two probes", config, then(&t1)),
        vector("T2 a failed probe opens again", config, then(&t2)),
        vector("T3 lost probes expire", config, then(&t3a)),
        vector("T3 one acquire settles an expiry and the open time", config, then(&t3b)),
        vector("T5 a result of a closed era decides nothing", config, t5),
        vector("T6 ignored probes return their slots", config, t6),
    ]
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

fn random(number: u64) -> Value {
    let mut random = Random(SEED ^ number << 32);
    let half_open_permits = 1 + random.below(4) as u32;
    let config = BreakerConfig {
        open_for_ns: random.below(50),
        probe_lease_ns: 1 + random.below(40),
        failure_threshold: 1 + random.below(3) as u32,
        half_open_permits,
        successes_to_close: 1 + random.below(half_open_permits.into()) as u32,
    };
    // The steps are chosen with a model beside them, so that each permit is recorded once, or twice in its own round.
    let mut shadow = Model::new(config);
    let mut unrecorded = vec![];
    let mut probes_recorded = vec![];
    let (mut steps, mut now) = (vec![], 0);
    for _ in 0..32 {
        now += random.below(20);
        let how = [Outcome::Success, Outcome::Failure, Outcome::Ignored][random.below(3) as usize];
        let step = match random.below(20) {
            0 => Step::Reset { now },
            1..8 if !unrecorded.is_empty() => {
                let permit = unrecorded.swap_remove(random.below(unrecorded.len() as u64) as usize);
                if shadow.is_probe(permit) {
                    probes_recorded.push(permit);
                }
                Step::Record { permit, outcome: how, now }
            }
            8 => match probes_recorded.pop() {
                Some(permit) if shadow.generation_of(permit) == shadow.generation => {
                    Step::Record { permit, outcome: how, now }
                }
                _ => Step::Acquire { now },
            },
            _ => Step::Acquire { now },
        };
        match step {
            Step::Acquire { now } => unrecorded.extend(shadow.acquire(now).0.ok()),
            Step::Record { permit, outcome, now } => _ = shadow.record(permit, outcome, now),
            Step::Reset { now } => _ = shadow.reset(now),
        }
        steps.push(step);
    }
    vector(&format!("random {number}"), config, steps)
}

fn generated() -> String {
    let vectors: Vec<Value> = golden().into_iter().chain((0..RANDOM_VECTORS).map(random)).collect();
    let lines: Vec<String> = vectors.iter().map(Value::to_string).collect();
    format!("{{\"primitive\":\"breaker\",\"vectors\":[\n{}\n]}}\n", lines.join(",\n"))
}

fn replay(vector: &Value) {
    let number = |value: &Value| value.as_u64().unwrap();
    let setting = |name: &str| number(&vector["config"][name]);
    let breaker = Breaker::new(&BreakerConfig {
        open_for_ns: setting("open_for_ns"),
        probe_lease_ns: setting("probe_lease_ns"),
        failure_threshold: setting("failure_threshold") as u32,
        half_open_permits: setting("half_open_permits") as u32,
        successes_to_close: setting("successes_to_close") as u32,
    })
    .unwrap();
    let mut permits: HashMap<u64, RawPermit> = HashMap::new();
    for (index, op) in vector["ops"].as_array().unwrap().iter().enumerate() {
        let now = || number(&op["now_ns"]);
        let ours = match op["op"].as_str().unwrap() {
            "acquire" => {
                let acquired = breaker.acquire(now);
                let (word, retry_after_ns) = admission(&acquired.verdict);
                if let Ok(permit) = acquired.verdict {
                    permits.insert(number(&op["permit"]), permit.into_raw());
                }
                json!({ "verdict": word, "retry_after_ns": retry_after_ns, "events": events(acquired.events.iter()) })
            }
            "record" => {
                let how = match op["outcome"].as_str().unwrap() {
                    "success" => Outcome::Success,
                    "failure" => Outcome::Failure,
                    _ => Outcome::Ignored,
                };
                let done = breaker.record(Permit::from_raw(permits[&number(&op["permit"])]), how, now);
                json!({ "verdict": recorded(done.verdict), "events": events(done.events.iter()) })
            }
            "reset" => json!({ "events": events(breaker.reset(now).iter()) }),
            "state" => {
                let now = breaker.snapshot(now);
                json!({
                    "phase": phase(now.phase), "generation": now.generation,
                    "consecutive_failures": now.consecutive_failures, "live_probes": now.live_probes,
                })
            }
            other => panic!("unknown operation {other}"),
        };
        assert_eq!(ours, op["expect"], "{} operation {index}", vector["name"]);
    }
}

#[test]
fn the_file_is_what_the_model_makes() {
    let generated = generated();
    if std::env::var_os("ESCOPE_WRITE_VECTORS").is_some() {
        std::fs::write(FILE, &generated).unwrap();
    }
    let file = std::fs::read_to_string(FILE).unwrap();
    assert!(file == generated, "tests/vectors/breaker.json is stale: run with ESCOPE_WRITE_VECTORS=1");
}

#[test]
fn every_vector_replays() {
    let file: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    vectors.iter().for_each(replay);
    println!("vectors breaker rust: {} replayed, 0 failed", vectors.len());
}
