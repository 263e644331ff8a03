//! The limiter's test vectors: made from the model with a fixed seed, replayed here through the public API and by
//! every other language through its own.
//!
//! `ESCOPE_WRITE_VECTORS=1 cargo test --test vectors_limiter` writes the file anew. A vector is one limiter and one
//! rule. `retry_after_ns` is null where no wait helps; a `reset` expects nothing.
#![cfg(not(escope_loom))]

#[path = "support/limiter_oracle.rs"]
mod oracle;

use elixirscope::limiter::{Decision, KeyedRule, Limiter, LimiterConfig, Rule, Verdict};
use oracle::{KeyedModel, Terms};
use serde_json::{Value, json};
use std::collections::HashMap;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/limiter.json");
const RANDOM_VECTORS: u64 = 190;
const SEED: u64 = 0x5EED_11A1;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

/// Places of a table made for one key: every key may take any of them, whatever its hash.
const PLACES: usize = 16;

#[derive(Debug, Clone, Copy)]
enum Step {
    Check { key: &'static str, cost: u64, now: u64 },
    Peek { key: &'static str, now: u64 },
    Reset { key: &'static str, now: u64 },
}

fn expected(decision: Decision) -> Value {
    let verdict = match decision.verdict {
        Verdict::Allowed => "allowed",
        Verdict::Limited => "rate_limited",
        Verdict::Never => "never",
        Verdict::TableFull => "table_full",
    };
    let retry_after_ns = (decision.retry_after_ns < u64::MAX).then_some(decision.retry_after_ns);
    json!({
        "verdict": verdict, "remaining": decision.remaining, "limit": decision.limit,
        "retry_after_ns": retry_after_ns, "reset_after_ns": decision.reset_after_ns,
    })
}

/// The model, with the table's bound when it is made for one key: then a new key needs one of sixteen places.
struct Bounded {
    model: KeyedModel,
    ids: HashMap<&'static str, u64>,
    max_keys: u64,
    terms: Terms,
}

impl Bounded {
    fn check(&mut self, key: &'static str, cost: u64, now: u64) -> Decision {
        if self.max_keys == 1 && (1..=self.terms.burst).contains(&cost) && self.owed(key, now) == 0 {
            let keys: Vec<_> = self.ids.keys().copied().collect();
            let owed = keys.into_iter().map(|key| self.owed(key, now)).filter(|owed| *owed > 0);
            let owed: Vec<u64> = owed.collect();
            if owed.len() >= PLACES {
                let wait = owed.into_iter().min().unwrap();
                return Decision {
                    verdict: Verdict::TableFull,
                    remaining: 0,
                    limit: self.terms.burst,
                    retry_after_ns: wait,
                    reset_after_ns: wait,
                };
            }
        }
        self.of(key).check(cost, now)
    }

    fn owed(&mut self, key: &'static str, now: u64) -> u64 {
        self.of(key).peek(now).reset_after_ns
    }

    fn of(&mut self, key: &'static str) -> &mut oracle::Model {
        let next = self.ids.len() as u64;
        self.model.of(*self.ids.entry(key).or_insert(next))
    }
}

/// Runs the steps on the model; what it answers is what every language must answer.
fn vector(name: &str, terms: Terms, max_keys: u64, steps: impl IntoIterator<Item = Step>) -> Value {
    let mut model = Bounded { model: KeyedModel::new(terms), ids: HashMap::new(), max_keys, terms };
    let ops: Vec<Value> = steps
        .into_iter()
        .map(|step| match step {
            Step::Check { key, cost, now } => json!({
                "op": "check", "key": key, "cost": cost, "now_ns": now,
                "expect": expected(model.check(key, cost, now)),
            }),
            Step::Peek { key, now } => json!({
                "op": "peek", "key": key, "now_ns": now, "expect": expected(model.of(key).peek(now)),
            }),
            Step::Reset { key, now } => {
                model.of(key).reset();
                json!({ "op": "reset", "key": key, "now_ns": now })
            }
        })
        .collect();
    let rule = json!({ "tokens": terms.tokens, "period_ns": terms.period_ns, "burst": terms.burst });
    json!({ "name": name, "rule": rule, "max_keys": max_keys, "ops": ops })
}

fn golden() -> Vec<Value> {
    const KEYS: [&str; 17] =
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"];
    let terms = |tokens, period_ns, burst| Terms { tokens, period_ns, burst };
    let check = |key, cost, now| Step::Check { key, cost, now };
    let peek = |key, now| Step::Peek { key, now };

    let ten_a_minute: Vec<Step> = (0..25)
        .map(|_| check("user:1", 1, SECOND))
        .chain([
            check("user:2", 10, SECOND),
            check("user:1", 1, 7 * SECOND - 1),
            check("user:1", 1, 7 * SECOND),
        ])
        .collect();
    let three_a_second: Vec<Step> = [0, 0, 333_333_333, 333_333_334, 666_666_666, 666_666_667, SECOND]
        .map(|now| check("k", 1, now))
        .to_vec();
    let never = [check("k", 6, 0), check("k", 5, 0), check("k", 6, 0), check("k", u64::MAX, 0), peek("k", 0)];
    let zeroes = [check("k", 0, 5), peek("k", 5), check("k", 2, 5), check("k", 0, 5), peek("k", 5)];
    let blocked = [check("k", 0, 5), check("k", 1, 5), peek("k", 5)];
    let reset = [
        check("k", 4, 0),
        check("k", 1, 0),
        Step::Reset { key: "k", now: 0 },
        check("k", 4, 0),
        peek("k", 0),
    ];
    let crowd: Vec<Step> = KEYS
        .iter()
        .map(|key| check(key, 1, 0))
        .chain([check("a", 1, 0), check("q", 1, 99), check("q", 1, 100), check("a", 1, 100), peek("b", 100)])
        .collect();
    let names = ["", "ключ", "ключ ", "a\u{0}b", "a", "{:user, 1}", "user:1"];
    let spelled: Vec<Step> = names.iter().chain(&names).map(|key| check(key, 1, 3)).collect();
    vec![
        vector("of 25 at once, 10 a minute", terms(10, 60 * SECOND, 10), 64, ten_a_minute),
        vector("three a second are not rounded", terms(3, SECOND, 1), 64, three_a_second),
        vector("a cost above the burst", terms(1, SECOND, 5), 64, never),
        vector("a cost of zero", terms(1, 10, 2), 64, zeroes),
        vector("a burst of zero", terms(1, 10, 0), 64, blocked),
        vector("a reset key has its burst back", terms(1, DAY, 4), 64, reset),
        vector("a full table refuses new keys only", terms(1, 100, 1), 1, crowd),
        vector("keys are bytes", terms(1, DAY, 1), 64, spelled),
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
    // Four of five are rules that people write; the rest is anything that a table keeps exactly.
    let terms = loop {
        let tokens = 1 + random.below(if number % 5 < 4 { 100 } else { 58 });
        let period_ns = match number % 5 {
            0 => 1_000_000 * (1 + random.below(5000)),
            1 => SECOND,
            2 => 60 * SECOND,
            3 => 1 + random.below(1000),
            _ => 1 + random.below(1 << 50),
        };
        let scale = if number % 5 < 4 { 1 } else { 1 + random.below(1 << 11) };
        let (tokens, period_ns) = (tokens * scale, period_ns * scale);
        let burst = if number.is_multiple_of(2) { tokens } else { random.below(2 * tokens) };
        let terms = Terms { tokens, period_ns, burst };
        let keyed = Rule::new(tokens, period_ns, burst).and_then(KeyedRule::new);
        if keyed.is_ok_and(|keyed| {
            (keyed.effective().tokens(), keyed.effective().period_ns()) == (tokens, period_ns)
        }) {
            break terms;
        }
    };
    let interval = (terms.period_ns / terms.tokens).max(1);
    let mut now = random.below(1 << 40);
    let steps: Vec<Step> = (0..16)
        .map(|_| {
            now += match random.below(8) {
                0..4 => 0,
                4 => random.below(2 * interval),
                5 | 6 => interval,
                _ => random.below(8 * interval),
            };
            let key = ["alice", "bob"][random.below(2) as usize];
            match random.below(20) {
                0 => Step::Reset { key, now },
                1..4 => Step::Peek { key, now },
                4..14 => Step::Check { key, cost: random.below(terms.burst + 2), now },
                _ => Step::Check { key, cost: 1, now },
            }
        })
        .collect();
    vector(&format!("random {number}"), terms, 64, steps)
}

fn generated() -> String {
    let vectors: Vec<Value> = golden().into_iter().chain((0..RANDOM_VECTORS).map(random)).collect();
    let lines: Vec<String> = vectors.iter().map(Value::to_string).collect();
    format!("{{\"primitive\":\"limiter\",\"vectors\":[\n{}\n]}}\n", lines.join(",\n"))
}

fn replay(vector: &Value) {
    let number = |value: &Value| value.as_u64().unwrap();
    let term = |name: &str| number(&vector["rule"][name]);
    let rule = Rule::new(term("tokens"), term("period_ns"), term("burst")).and_then(KeyedRule::new).unwrap();
    let limiter =
        Limiter::new(&LimiterConfig { max_keys: number(&vector["max_keys"]), secret: None }).unwrap();
    for (index, op) in vector["ops"].as_array().unwrap().iter().enumerate() {
        let key = limiter.key(op["key"].as_str().unwrap().as_bytes());
        let now = || number(&op["now_ns"]);
        let ours = match op["op"].as_str().unwrap() {
            "check" => expected(limiter.check(key, &rule, number(&op["cost"]), now)),
            "peek" => expected(limiter.peek(key, &rule, now)),
            "reset" => {
                limiter.reset(key);
                Value::Null
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
    assert!(file == generated, "tests/vectors/limiter.json is not what the model makes; write it anew");
}

#[test]
fn every_vector_replays() {
    let file: Value = serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    vectors.iter().for_each(replay);
    println!("vectors limiter rust: {} replayed, 0 failed", vectors.len());
}
