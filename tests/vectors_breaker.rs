//! The breaker's test vectors: made from the model with a fixed seed, replayed here through the public API and by
//! every other language through its own.
//!
//! `ESCOPE_WRITE_VECTORS=1 cargo test --test vectors_breaker` writes the file anew.
#![cfg(not(escope_model))]

#[path = "support/breaker_json.rs"]
mod breaker_json;
#[path = "support/breaker_model.rs"]
#[allow(dead_code)]
mod breaker_model;
#[path = "support/breaker_traces.rs"]
mod breaker_traces;

use breaker_json::{MODES, OUTCOMES, admission, events, meaning, parsed_config, recorded, state, word};
use breaker_model::Model;
use breaker_traces::{Step, Trace, golden, random};
use elixirscope::breaker::{Breaker, Permit, RawPermit};
use serde_json::{Value, json};
use std::collections::HashMap;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/breaker.json");
const RANDOM_VECTORS: u64 = 1_000;

/// Runs the steps on the model, looking at the state now and then, after many a change of generation and at the end;
/// what it answers is what every language must answer.
fn vector(Trace { name, config, steps }: Trace) -> Value {
    let mut model = Model::new(config);
    let (mut ops, mut generation, last) = (vec![], 1, steps.len() - 1);
    for (number, (now, step)) in steps.into_iter().enumerate() {
        let list = |changes: Vec<_>| events(changes.into_iter());
        let mut op = match step {
            Step::Acquire => {
                let (verdict, changes) = model.acquire(now);
                let (word, retry_after_ns) = admission(&verdict);
                let expect =
                    json!({ "verdict": word, "retry_after_ns": retry_after_ns, "events": list(changes) });
                json!({ "op": "acquire", "permit": verdict.ok(), "expect": expect })
            }
            Step::Ask => {
                let (verdict, changes) = model.ask(now);
                let (word, retry_after_ns) = admission(&verdict);
                let expect =
                    json!({ "verdict": word, "retry_after_ns": retry_after_ns, "events": list(changes) });
                json!({ "op": "ask", "expect": expect })
            }
            Step::Record(permit, outcome) => {
                let (verdict, changes) = model.record(permit, outcome, now);
                let expect = json!({ "verdict": recorded(verdict), "events": list(changes) });
                json!({ "op": "record", "permit": permit, "outcome": word(&OUTCOMES, &outcome), "expect": expect })
            }
            Step::Report(outcome) => {
                let (verdict, changes) = model.report(outcome, now);
                let expect = json!({ "verdict": recorded(verdict), "events": list(changes) });
                json!({ "op": "report", "outcome": word(&OUTCOMES, &outcome), "expect": expect })
            }
            Step::Settle => json!({ "op": "settle", "expect": { "events": list(model.settled(now)) } }),
            Step::Reset => json!({ "op": "reset", "expect": { "events": list(model.reset(now)) } }),
            Step::SetMode(mode) => {
                let expect = json!({ "events": list(model.set_mode(mode, now)) });
                json!({ "op": "set_mode", "mode": word(&MODES, &mode), "expect": expect })
            }
            Step::Reconfigure(config) => {
                let expect = json!({ "events": list(model.reconfigure(config, now)) });
                json!({ "op": "reconfigure", "config": breaker_json::config(config), "expect": expect })
            }
            Step::Reinstall(config) => {
                let expect = json!({ "events": list(model.reinstall(config, now)) });
                json!({ "op": "reinstall", "config": breaker_json::config(config), "expect": expect })
            }
        };
        op["now_ns"] = now.into();
        ops.push(op);
        if model.generation != generation && number % 2 == 0 || number % 9 == 8 || number == last {
            generation = model.generation;
            let expect = state(&model.snapshot(now));
            ops.push(json!({ "op": "state", "now_ns": now, "expect": expect }));
        }
    }
    json!({ "name": name, "config": breaker_json::config(config), "ops": ops })
}

fn generated() -> String {
    let traces = golden().into_iter().chain((0..RANDOM_VECTORS).map(random));
    let lines: Vec<String> = traces.map(|trace| vector(trace).to_string()).collect();
    format!("{{\"primitive\":\"breaker\",\"vectors\":[\n{}\n]}}\n", lines.join(",\n"))
}

fn replay(vector: &Value) {
    let number = |value: &Value| value.as_u64().unwrap();
    let breaker = Breaker::new(&parsed_config(&vector["config"])).unwrap();
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
            "ask" => {
                let asked = breaker.ask(now);
                let (word, retry_after_ns) = admission(&asked.verdict);
                json!({ "verdict": word, "retry_after_ns": retry_after_ns, "events": events(asked.events.iter()) })
            }
            "record" => {
                let permit = Permit::from_raw(permits[&number(&op["permit"])]);
                let done = breaker.record(permit, meaning(&OUTCOMES, &op["outcome"]), now);
                json!({ "verdict": recorded(done.verdict), "events": events(done.events.iter()) })
            }
            "report" => {
                let done = breaker.report(meaning(&OUTCOMES, &op["outcome"]), now);
                json!({ "verdict": recorded(done.verdict), "events": events(done.events.iter()) })
            }
            "settle" => json!({ "events": events(breaker.settle(now).iter()) }),
            "reset" => json!({ "events": events(breaker.reset(now).iter()) }),
            "set_mode" => {
                json!({ "events": events(breaker.set_mode(meaning(&MODES, &op["mode"]), now).iter()) })
            }
            "reconfigure" => {
                let changes = breaker.reconfigure(&parsed_config(&op["config"]), now).unwrap();
                json!({ "events": events(changes.iter()) })
            }
            "reinstall" => {
                let changes = breaker.reinstall(&parsed_config(&op["config"]), now).unwrap();
                json!({ "events": events(changes.iter()) })
            }
            "state" => state(&breaker.snapshot(now)),
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

/// The vectors show every operation, verdict, cause, phase, mode and level there is, many times.
#[test]
fn the_vectors_leave_out_nothing() {
    let file = std::fs::read_to_string(FILE).unwrap();
    let count = |word: &str| file.matches(word).count();
    let words = [
        "acquire",
        "ask",
        "record",
        "report",
        "settle",
        "reset",
        "set_mode",
        "reconfigure",
        "reinstall",
        "state",
        "ok",
        "circuit_open",
        "half_open_full",
        "forced_open",
        "service_degraded",
        "stale",
        "expired",
        "already_done",
        "failure_threshold",
        "open_elapsed",
        "probes_succeeded",
        "probes_failed",
        "probe_expired",
        "failure_rate",
        "slow_call_rate",
        "half_open_limit",
        "probes_ignored",
        "mode_changed",
        "reconfigured",
        "reinstalled",
        "level_changed",
        "would_open",
        "closed",
        "open",
        "half_open",
        "forced_closed",
        "metrics_only",
        "none",
        "light",
        "medium",
        "heavy",
        "exceeded",
    ];
    for word in words {
        assert!(count(&format!("\"{word}\"")) >= 10, "{word}: {}", count(&format!(":\"{word}\"")));
    }
}
