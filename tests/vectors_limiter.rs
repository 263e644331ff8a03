//! The limiter's test vectors: made from the model with a fixed seed, replayed here through the public API and by
//! every other language through its own.
//!
//! `ESCOPE_WRITE_VECTORS=1 cargo test --test vectors_limiter` writes the file anew. A vector is one limiter with one rule.
//! It may have `limits` with names, each a rule with a `max_wait_ns`, and a `full_policy`: `deny_new` where none is given.
//!
//! | operation | takes, besides `now_ns` | expects |
//! | --- | --- | --- |
//! | `check` | `key`, `cost` | verdict, remaining, limit, retry_after_ns, reset_after_ns |
//! | `peek` | `key` | the same |
//! | `reset` | `key` | nothing |
//! | `reserve` | `key`, `cost`, `max_wait_ns` | the same, `wait_ns`, and `receipt`: its number from 0, null where there is none |
//! | `cancel` | `receipt` | a word: `applied`, `forfeited`, `too_late`, `bad_receipt` |
//! | `refund` | `receipt`, `amount` | a word: `applied`, `forfeited`, `bad_receipt` |
//! | `settle` | `receipt`, `actual` | a word: `applied`, `forfeited`, `saturated`, `bad_receipt` |
//! | `check_many` | `charges`, each a `key` and a `cost` | verdict, retry_after_ns, and `blocked`: the indexes that refuse by themselves |
//! | `change` | `limit`, `rule`, `strategy` | verdict (`ok`, `change_too_soon`), retry_after_ns |
//!
//! A `limit` in an operation or a charge measures by that limit; a `rule` in an operation replaces the vector's for this call.
//! `cancel`, `refund` and `settle` name the limit of their receipt again. A receipt is used up by the first of them;
//! `bad_receipt` is the answer from then on, also where a language has no way to ask twice. `retry_after_ns` is null where no
//! wait helps; `change` has it when refused.
#![cfg(not(escope_model))]

#[path = "support/limiter_oracle.rs"]
mod oracle;

use elixirscope::limiter::{
    self, Adjusted, ChangeError, Charge, Decision, FullPolicy, KeyedRule, Limit, Limiter, LimiterConfig,
    Receipt, Rule, Strategy, Verdict,
};
use oracle::{By, Terms, World};
use serde_json::{Value, json};
use std::collections::HashMap;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/limiter.json");
const RANDOM_VECTORS: u64 = 190;
/// Of each kind: receipts, groups, changes of a limit.
const RANDOM_OF_A_KIND: u64 = 60;
const SEED: u64 = 0x5EED_11A1;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

/// Places of a table made for one key: every key may take any of them, whatever its hash.
const PLACES: usize = 16;

/// Names of the limits of a vector, by their index in the model.
const LIMITS: [&str; 3] = ["user", "organisation", "global"];

/// By what a step measures a key.
#[derive(Debug, Clone, Copy)]
enum Use {
    TheRule,
    Another(Terms),
    Limit(usize),
}

use Use::TheRule;

#[derive(Debug, Clone)]
enum Step {
    Check { key: &'static str, by: Use, cost: u64, now: u64 },
    Peek { key: &'static str, by: Use, now: u64 },
    Reset { key: &'static str, now: u64 },
    Reserve { key: &'static str, by: Use, cost: u64, max_wait: u64, now: u64 },
    Cancel { receipt: usize, now: u64 },
    Refund { receipt: usize, by: Use, amount: u64, now: u64 },
    Settle { receipt: usize, by: Use, actual: u64, now: u64 },
    Group { charges: Vec<(&'static str, Use, u64)>, now: u64 },
    Change { limit: usize, terms: Terms, strategy: Strategy, now: u64 },
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allowed => "allowed",
        Verdict::Limited => "rate_limited",
        Verdict::Never => "never",
        Verdict::TableFull => "table_full",
    }
}

fn finite(ns: u64) -> Option<u64> {
    (ns < u64::MAX).then_some(ns)
}

fn expected(decision: Decision) -> Value {
    json!({
        "verdict": word(decision.verdict), "remaining": decision.remaining, "limit": decision.limit,
        "retry_after_ns": finite(decision.retry_after_ns), "reset_after_ns": decision.reset_after_ns,
    })
}

fn expected_reservation(decision: Decision, wait_ns: u64, receipt: Option<usize>) -> Value {
    let mut value = expected(decision);
    value["wait_ns"] = json!(wait_ns);
    value["receipt"] = json!(receipt);
    value
}

fn expected_use(adjusted: Option<Adjusted>) -> Value {
    json!(match adjusted {
        Some(Adjusted::Applied) => "applied",
        Some(Adjusted::Forfeited) => "forfeited",
        Some(Adjusted::Saturated) => "saturated",
        Some(Adjusted::TooLate) => "too_late",
        None => "bad_receipt",
    })
}

fn expected_group(verdict: Verdict, retry_after_ns: u64, blocked: &[usize]) -> Value {
    json!({ "verdict": word(verdict), "retry_after_ns": finite(retry_after_ns), "blocked": blocked })
}

fn expected_change(changed: Result<(), u64>) -> Value {
    match changed {
        Ok(()) => json!({ "verdict": "ok" }),
        Err(wait) => json!({ "verdict": "change_too_soon", "retry_after_ns": wait }),
    }
}

fn strategy_word(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::AsIs => "as_is",
        Strategy::Proportional => "proportional",
        Strategy::Additive => "additive",
        Strategy::Reset => "reset",
    }
}

fn policy_word(policy: FullPolicy) -> &'static str {
    match policy {
        FullPolicy::DenyNew => "deny_new",
        FullPolicy::EvictMostFull => "evict_most_full",
        FullPolicy::OverflowKey => "overflow_key",
    }
}

fn rule_of(terms: Terms) -> Value {
    json!({ "tokens": terms.tokens, "period_ns": terms.period_ns, "burst": terms.burst })
}

/// What a vector is made of.
struct Setting {
    name: String,
    terms: Terms,
    max_keys: u64,
    policy: FullPolicy,
    limits: Vec<(Terms, u64)>,
}

impl Setting {
    fn new(name: &str, terms: Terms) -> Self {
        Self { name: name.into(), terms, max_keys: 64, policy: FullPolicy::DenyNew, limits: vec![] }
    }

    fn by(&self, by: Use) -> By {
        match by {
            TheRule => By::Rule(self.terms),
            Use::Another(terms) => By::Rule(terms),
            Use::Limit(index) => By::Limit(index),
        }
    }

    /// Runs the steps on the model; what it answers is what every language must answer.
    fn vector(&self, steps: impl IntoIterator<Item = Step>) -> Value {
        let mut world = World::new((self.max_keys == 1).then_some(PLACES), self.policy);
        self.limits.iter().for_each(|(terms, max_wait)| world.add_limit(*terms, *max_wait));
        let ops: Vec<Value> = steps.into_iter().map(|step| self.operation(&mut world, step)).collect();
        let mut vector = json!({
            "name": self.name, "rule": rule_of(self.terms), "max_keys": self.max_keys, "ops": ops,
        });
        if self.policy != FullPolicy::DenyNew {
            vector["full_policy"] = json!(policy_word(self.policy));
        }
        for (name, (terms, max_wait)) in LIMITS.iter().zip(&self.limits) {
            let mut limit = rule_of(*terms);
            limit["max_wait_ns"] = json!(max_wait);
            vector["limits"][name] = limit;
        }
        vector
    }

    fn operation(&self, world: &mut World, step: Step) -> Value {
        let (mut operation, by) = match step {
            Step::Check { key, by, cost, now } => {
                let expect = expected(world.check(key, self.by(by), cost, now));
                (json!({ "op": "check", "key": key, "cost": cost, "now_ns": now, "expect": expect }), by)
            }
            Step::Peek { key, by, now } => {
                let expect = expected(world.peek(key, self.by(by), now));
                (json!({ "op": "peek", "key": key, "now_ns": now, "expect": expect }), by)
            }
            Step::Reset { key, now } => {
                world.reset(key);
                (json!({ "op": "reset", "key": key, "now_ns": now }), TheRule)
            }
            Step::Reserve { key, by, cost, max_wait, now } => {
                let (decision, wait, receipt) = world.reserve(key, self.by(by), cost, max_wait, now);
                let expect = expected_reservation(decision, wait, receipt);
                let operation = json!({
                    "op": "reserve", "key": key, "cost": cost, "max_wait_ns": max_wait, "now_ns": now,
                    "expect": expect,
                });
                (operation, by)
            }
            Step::Cancel { receipt, now } => {
                let expect = expected_use(world.cancel(receipt, now));
                (json!({ "op": "cancel", "receipt": receipt, "now_ns": now, "expect": expect }), TheRule)
            }
            Step::Refund { receipt, by, amount, now } => {
                let expect = expected_use(world.refund(receipt, amount, now));
                let operation = json!({
                    "op": "refund", "receipt": receipt, "amount": amount, "now_ns": now, "expect": expect,
                });
                (operation, by)
            }
            Step::Settle { receipt, by, actual, now } => {
                let expect = expected_use(world.settle(receipt, actual, now));
                let operation = json!({
                    "op": "settle", "receipt": receipt, "actual": actual, "now_ns": now, "expect": expect,
                });
                (operation, by)
            }
            Step::Group { charges, now } => {
                let priced: Vec<_> =
                    charges.iter().map(|(key, by, cost)| (*key, self.by(*by), *cost)).collect();
                let answer = world.check_many(&priced, now);
                let expect = expected_group(answer.verdict, answer.retry_after_ns, &answer.blocked);
                let charges: Vec<Value> = charges
                    .into_iter()
                    .map(|(key, by, cost)| measured(json!({ "key": key, "cost": cost }), by))
                    .collect();
                let operation =
                    json!({ "op": "check_many", "charges": charges, "now_ns": now, "expect": expect });
                (operation, TheRule)
            }
            Step::Change { limit, terms, strategy, now } => {
                let expect = expected_change(world.change(limit, terms, strategy, now));
                let operation = json!({
                    "op": "change", "rule": rule_of(terms), "strategy": strategy_word(strategy), "now_ns": now,
                    "expect": expect,
                });
                (operation, Use::Limit(limit))
            }
        };
        operation = measured(operation, by);
        operation
    }
}

/// Says by what the operation measures, where that is not the vector's rule.
fn measured(mut operation: Value, by: Use) -> Value {
    match by {
        TheRule => {}
        Use::Another(terms) => operation["rule"] = rule_of(terms),
        Use::Limit(index) => operation["limit"] = json!(LIMITS[index]),
    }
    operation
}

fn vector(name: &str, terms: Terms, max_keys: u64, steps: impl IntoIterator<Item = Step>) -> Value {
    Setting { max_keys, ..Setting::new(name, terms) }.vector(steps)
}

fn golden() -> Vec<Value> {
    const KEYS: [&str; 17] =
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"];
    let terms = |tokens, period_ns, burst| Terms { tokens, period_ns, burst };
    let check = |key, cost, now| Step::Check { key, by: TheRule, cost, now };
    let peek = |key, now| Step::Peek { key, by: TheRule, now };

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

/// The operations around receipts, groups, limits with names and full tables, by hand.
fn golden_receipts() -> Vec<Value> {
    let terms = |tokens, period_ns, burst| Terms { tokens, period_ns, burst };
    let check = |key, cost, now| Step::Check { key, by: TheRule, cost, now };
    let peek = |key, now| Step::Peek { key, by: TheRule, now };
    let reserve = |cost, max_wait, now| Step::Reserve { key: "k", by: TheRule, cost, max_wait, now };
    let cancel = |receipt, now| Step::Cancel { receipt, now };
    let refund = |receipt, amount, now| Step::Refund { receipt, by: TheRule, amount, now };
    let settle = |receipt, actual, now| Step::Settle { receipt, by: TheRule, actual, now };
    let two_a_second = || Setting::new("", terms(2, SECOND, 2));
    let named = |name: &str, setting: Setting| Setting { name: name.into(), ..setting };

    let queue = [
        reserve(2, 0, 0),
        reserve(1, SECOND, 0),
        reserve(1, SECOND, 0),
        reserve(1, SECOND, 0),
        check("k", 1, 0),
        peek("k", SECOND),
        reserve(3, u64::MAX >> 5, 0),
        reserve(0, SECOND, 0),
        check("k", 1, 3 * SECOND / 2 - 1),
        check("k", 1, 3 * SECOND / 2),
    ];
    let cancelled = [
        reserve(2, 0, 0),
        reserve(1, SECOND, 0),
        reserve(1, SECOND, 0),
        cancel(1, 0),
        cancel(2, 0),
        reserve(1, SECOND, 0),
        cancel(3, SECOND),
        cancel(0, SECOND),
        cancel(0, SECOND),
        peek("k", SECOND),
    ];
    let refunded = [
        reserve(2, 0, 0),
        refund(0, 1, 0),
        refund(0, 1, 0),
        peek("k", 0),
        reserve(1, 0, 0),
        reserve(1, SECOND, 0),
        refund(1, 1, 0),
        reserve(1, SECOND, SECOND),
        refund(3, 1, 10 * SECOND),
        peek("k", 10 * SECOND),
        reserve(1, 0, 10 * SECOND),
        refund(4, 0, 10 * SECOND),
        peek("k", 10 * SECOND),
    ];
    let settled = [
        reserve(2, 0, 0),
        settle(0, 2, 0),
        settle(0, 2, 0),
        reserve(2, 0, SECOND),
        settle(1, 1, SECOND),
        peek("k", SECOND),
        reserve(1, 0, SECOND),
        settle(2, 3, SECOND),
        peek("k", SECOND),
        check("k", 1, 2 * SECOND + SECOND / 2 - 1),
        reserve(1, 0, 2 * SECOND + SECOND / 2),
        settle(3, 1000, 2 * SECOND + SECOND / 2),
        peek("k", 2 * SECOND + SECOND / 2),
        reserve(2, 0, 30 * SECOND),
        settle(4, 4, 60 * SECOND),
        peek("k", 60 * SECOND),
    ];
    let other = Use::Another(terms(7, 180, 20));
    let two_rules = [
        check("k", 3, 1000),
        Step::Peek { key: "k", by: other, now: 1000 },
        Step::Check { key: "k", by: other, cost: 20, now: 1000 },
        Step::Check { key: "k", by: other, cost: 13, now: 1000 },
        peek("k", 1000),
        check("k", 1, 1200),
    ];
    vec![
        named("reservations queue", two_a_second()).vector(queue),
        named("the newest reservation can be cancelled", two_a_second()).vector(cancelled),
        named("a refund counts while nobody waits", two_a_second()).vector(refunded),
        named("an estimate is settled", two_a_second()).vector(settled),
        Setting::new("another rule keeps the debt in time", terms(1, 60, 3)).vector(two_rules),
    ]
}

fn golden_groups() -> Vec<Value> {
    let terms = |tokens, period_ns, burst| Terms { tokens, period_ns, burst };
    let [user, organisation, global] = [0, 1, 2].map(Use::Limit);
    let group = |charges: &[(&'static str, Use, u64)], now| Step::Group { charges: charges.to_vec(), now };
    let hierarchy = Setting {
        limits: vec![(terms(1, SECOND, 2), 0), (terms(10, SECOND, 3), 0), (terms(100, SECOND, 4), 0)],
        ..Setting::new("user, organisation, global", terms(1, SECOND, 1))
    };
    let all = |who, cost, now| {
        group(&[(who, user, cost), ("acme", organisation, cost), ("all", global, cost)], now)
    };
    let levels = [
        all("ann", 1, 0),
        all("ann", 1, 0),
        all("ann", 1, 0),
        all("bob", 1, 0),
        all("cid", 1, 0),
        Step::Peek { key: "cid", by: user, now: 0 },
        all("ann", 1, SECOND - 1),
        all("ann", 1, SECOND),
        all("ann", 3, SECOND),
        group(&[], SECOND),
    ];
    let the_same = [
        group(&[("a", TheRule, 2), ("b", TheRule, 1), ("a", TheRule, 3)], 0),
        group(&[("a", TheRule, 1)], 0),
        group(&[("b", TheRule, 3), ("b", TheRule, 2)], 0),
        group(&[("b", TheRule, 3), ("b", TheRule, 1), ("c", TheRule, 0)], 0),
        group(&[("c", TheRule, 3), ("c", TheRule, 3)], 0),
        Step::Peek { key: "c", by: TheRule, now: 0 },
    ];
    vec![hierarchy.vector(levels), Setting::new("equal keys are summed", terms(1, 10, 5)).vector(the_same)]
}

fn golden_limits() -> Vec<Value> {
    let terms = |tokens, period_ns, burst| Terms { tokens, period_ns, burst };
    let user = Use::Limit(0);
    let check = |key, cost, now| Step::Check { key, by: user, cost, now };
    let peek = |key, now| Step::Peek { key, by: user, now };
    let mut vectors = vec![];
    for strategy in [Strategy::AsIs, Strategy::Proportional, Strategy::Additive, Strategy::Reset] {
        for (word, new) in [("more", terms(30, 60 * SECOND, 30)), ("less", terms(3, 60 * SECOND, 4))] {
            let setting = Setting {
                limits: vec![(terms(10, 60 * SECOND, 10), 60 * SECOND)],
                ..Setting::new(&format!("{word}, {}", strategy_word(strategy)), terms(1, SECOND, 1))
            };
            let reserve = |key, now| Step::Reserve { key, by: user, cost: 3, max_wait: DAY, now };
            vectors.push(setting.vector([
                check("three left", 7, SECOND),
                check("none left", 10, SECOND),
                check("waiting", 9, SECOND),
                reserve("waiting", SECOND),
                reserve("refunded", SECOND),
                Step::Change { limit: 0, terms: new, strategy, now: 4 * SECOND },
                peek("three left", 4 * SECOND),
                peek("none left", 4 * SECOND),
                peek("waiting", 5 * SECOND),
                peek("never used", 5 * SECOND),
                check("three left", 1, 5 * SECOND),
                check("none left", 1, 5 * SECOND),
                check("none left", 2, 30 * SECOND),
                check("waiting", 1, 30 * SECOND),
                Step::Refund { receipt: 1, by: user, amount: 1, now: 5 * SECOND },
                peek("refunded", 5 * SECOND),
                peek("waiting", 30 * SECOND),
            ]));
        }
    }
    let change = |tokens, now| Step::Change {
        limit: 0,
        terms: terms(tokens, SECOND, 1),
        strategy: Strategy::AsIs,
        now,
    };
    let often = Setting {
        limits: vec![(terms(1, SECOND, 1), SECOND)],
        ..Setting::new("four changes at once are one too many", terms(1, SECOND, 1))
    };
    vectors.push(often.vector([
        check("k", 1, 0),
        change(2, 10),
        change(4, 20),
        change(8, 30),
        change(16, 40),
        peek("k", 40),
        change(16, 3 * SECOND + 9),
        change(16, 3 * SECOND + 10),
    ]));
    vectors
}

/// Sixteen places, each with a debt of its own; then a seventeenth key.
fn golden_policies() -> Vec<Value> {
    const KEYS: [&str; PLACES] =
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];
    let terms = Terms { tokens: 1, period_ns: 100, burst: 20 };
    let check = |key, cost, now| Step::Check { key, by: TheRule, cost, now };
    let peek = |key, now| Step::Peek { key, by: TheRule, now };
    let steps = || {
        let crowd = KEYS.iter().zip(3..).map(|(key, cost)| check(key, cost, 0));
        let reserve = |key, cost| Step::Reserve { key, by: TheRule, cost, max_wait: 1000, now: 1 };
        let rest = [
            check("new", 10, 1),
            check("newer", 11, 1),
            peek("a", 1),
            peek("b", 1),
            check("a", 1, 1),
            reserve("latest", 10),
            reserve("last", 21),
            check("new", 1, 1000),
        ];
        crowd.chain(rest).collect::<Vec<_>>()
    };
    [FullPolicy::DenyNew, FullPolicy::EvictMostFull, FullPolicy::OverflowKey]
        .map(|policy| {
            let name = format!("a full table, {}", policy_word(policy));
            Setting { policy, max_keys: 1, ..Setting::new(&name, terms) }.vector(steps())
        })
        .to_vec()
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
                1..4 => Step::Peek { key, by: TheRule, now },
                4..14 => Step::Check { key, by: TheRule, cost: random.below(terms.burst + 2), now },
                _ => Step::Check { key, by: TheRule, cost: 1, now },
            }
        })
        .collect();
    vector(&format!("random {number}"), terms, 64, steps)
}

/// A rule of the kind that people write, small enough that every limit is reached.
fn small_terms(random: &mut Random) -> Terms {
    let tokens = 1 + random.below(58);
    let period_ns = [1 + random.below(1000), SECOND, 60 * SECOND][random.below(3) as usize];
    Terms { tokens, period_ns, burst: 1 + random.below(12) }
}

fn interval(terms: Terms) -> u64 {
    (terms.period_ns / terms.tokens).max(1)
}

/// Two keys whose receipts are used in any order, some of them twice.
fn random_receipts(number: u64) -> Value {
    let mut random = Random(SEED ^ 1 << 60 ^ number << 32);
    let terms = small_terms(&mut random);
    let mut now = random.below(1 << 40);
    let mut costs: Vec<u64> = vec![];
    let setting = Setting::new(&format!("random receipts {number}"), terms);
    // A first run tells which reservations leave a receipt.
    let mut world = World::new(None, FullPolicy::DenyNew);
    let steps: Vec<Step> = (0..30)
        .map(|_| {
            now += match random.below(6) {
                0..3 => 0,
                3 => random.below(2 * interval(terms)),
                4 => interval(terms),
                _ => random.below(terms.burst * interval(terms)),
            };
            let key = ["alice", "bob"][random.below(2) as usize];
            let by = TheRule;
            // Mostly one that was not used: the newest, or any.
            let unused: Vec<usize> = (0..costs.len()).filter(|at| world.cost_of(*at).is_some()).collect();
            let receipt = match random.below(8) {
                0 => random.below(costs.len().max(1) as u64) as usize,
                1..5 => unused.last().copied().unwrap_or(0),
                _ => unused.get(random.below(unused.len().max(1) as u64) as usize).copied().unwrap_or(0),
            };
            let step = match random.below(12) {
                _ if costs.is_empty() => Step::Reserve { key, by, cost: 1, max_wait: 0, now },
                0 => Step::Check { key, by, cost: 1 + random.below(3), now },
                1 => Step::Peek { key, by, now },
                2..7 => {
                    let max_wait = random.below(6 * terms.burst) * interval(terms);
                    Step::Reserve { key, by, cost: random.below(terms.burst + 2), max_wait, now }
                }
                7 | 8 => Step::Cancel { receipt, now },
                9 | 10 => {
                    let amount = random.below(costs[receipt] + 1);
                    Step::Refund { receipt, by, amount, now }
                }
                _ => Step::Settle { receipt, by, actual: random.below(costs[receipt] + 6), now },
            };
            setting.operation(&mut world, step.clone());
            if let Step::Reserve { cost, .. } = step
                && world.receipts() > costs.len()
            {
                costs.push(cost);
            }
            step
        })
        .collect();
    setting.vector(steps)
}

/// Groups over keys of three limits.
fn random_groups(number: u64) -> Value {
    let mut random = Random(SEED ^ 2 << 60 ^ number << 32);
    let limits: Vec<(Terms, u64)> = (0..3).map(|_| (small_terms(&mut random), 0)).collect();
    let mut now = random.below(1 << 40);
    let names = [["ann", "bob"], ["acme", "corp"], ["all", "rest"]];
    let steps: Vec<Step> = (0..12)
        .map(|_| {
            let paced = interval(limits[random.below(3) as usize].0);
            now += if random.below(3) == 0 { random.below(3 * paced) } else { 0 };
            let charges = (0..1 + random.below(4))
                .map(|_| {
                    let level = random.below(3) as usize;
                    (names[level][random.below(2) as usize], Use::Limit(level), random.below(4))
                })
                .collect();
            Step::Group { charges, now }
        })
        .collect();
    let name = format!("random groups {number}");
    Setting { limits, ..Setting::new(&name, Terms { tokens: 1, period_ns: SECOND, burst: 1 }) }.vector(steps)
}

/// A limit that changes up to three times under two keys.
fn random_changes(number: u64) -> Value {
    let mut random = Random(SEED ^ 3 << 60 ^ number << 32);
    let mut terms = small_terms(&mut random);
    let limits = vec![(terms, 4 * interval(terms))];
    let name = format!("random changes {number}");
    let setting = Setting { limits, ..Setting::new(&name, Terms { tokens: 1, period_ns: SECOND, burst: 1 }) };
    let mut now = random.below(1 << 40);
    let (mut changes, by) = (0, Use::Limit(0));
    let steps: Vec<Step> = (0..24)
        .map(|_| {
            now += if random.below(2) == 0 { random.below(2 * interval(terms)) } else { 0 };
            let key = ["alice", "bob"][random.below(2) as usize];
            match random.below(8) {
                0 if changes < 3 => {
                    changes += 1;
                    terms = small_terms(&mut random);
                    let strategy = Strategy::from_number(random.below(4)).unwrap();
                    Step::Change { limit: 0, terms, strategy, now }
                }
                0 | 1 => Step::Peek { key, by, now },
                2 | 3 => Step::Reserve { key, by, cost: 1 + random.below(3), max_wait: DAY, now },
                _ => Step::Check { key, by, cost: random.below(terms.burst + 1), now },
            }
        })
        .collect();
    setting.vector(steps)
}

/// The content of each file.
fn generated() -> String {
    let kinds: [fn(u64) -> Value; 3] = [random_receipts, random_groups, random_changes];
    let of_kinds = kinds.into_iter().flat_map(|kind| (0..RANDOM_OF_A_KIND).map(kind));
    let checks = golden().into_iter().chain((0..RANDOM_VECTORS).map(random));
    let by_hand = [golden_receipts(), golden_groups(), golden_limits(), golden_policies()];
    let receipts = by_hand.into_iter().flatten().chain(of_kinds);
    let lines: Vec<String> = checks.chain(receipts).map(|vector| vector.to_string()).collect();
    format!("{{\"primitive\":\"limiter\",\"vectors\":[\n{}\n]}}\n", lines.join(",\n"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn rule(value: &Value) -> KeyedRule {
    let term = |name: &str| number(&value[name]);
    Rule::new(term("tokens"), term("period_ns"), term("burst")).and_then(KeyedRule::new).unwrap()
}

fn from_word<T: Copy>(all: &[T], word: impl Fn(T) -> &'static str, value: &Value) -> T {
    *all.iter().find(|candidate| word(**candidate) == text(value)).expect("a word of the file's")
}

/// A vector's limiter, limits and receipts.
struct Replay {
    limiter: Limiter,
    rule: KeyedRule,
    limits: HashMap<String, Limit>,
    receipts: Vec<Option<Receipt>>,
}

impl Replay {
    fn new(vector: &Value) -> Self {
        const POLICIES: [FullPolicy; 3] =
            [FullPolicy::DenyNew, FullPolicy::EvictMostFull, FullPolicy::OverflowKey];
        let full_policy = match &vector["full_policy"] {
            Value::Null => FullPolicy::default(),
            word => from_word(&POLICIES, policy_word, word),
        };
        let config = LimiterConfig { max_keys: number(&vector["max_keys"]), secret: None, full_policy };
        let limits = vector["limits"].as_object().into_iter().flatten();
        let limits = limits
            .map(|(name, limit)| {
                let made = Limit::new(&rule(limit), number(&limit["max_wait_ns"])).unwrap();
                (name.clone(), made)
            })
            .collect();
        let limiter = Limiter::new(&config).unwrap();
        Self { limiter, rule: rule(&vector["rule"]), limits, receipts: vec![] }
    }

    fn run(&mut self, op: &Value) -> Value {
        let own_rule = (!op["rule"].is_null()).then(|| rule(&op["rule"]));
        let brought = own_rule.as_ref().unwrap_or(&self.rule);
        let limit_of = |value: &Value| value["limit"].as_str().map(|name| &self.limits[name]);
        let by_of = |value: &Value| match limit_of(value) {
            Some(limit) => limiter::By::Limit(limit),
            None => limiter::By::Rule(brought),
        };
        let key_of = |value: &Value| self.limiter.key(text(&value["key"]).as_bytes());
        let limit = limit_of(op);
        let now = || number(&op["now_ns"]);
        let used = op["receipt"].as_u64().and_then(|index| self.receipts[index as usize].take());
        match text(&op["op"]) {
            "check" => {
                let (key, cost) = (key_of(op), number(&op["cost"]));
                expected(match limit {
                    Some(limit) => self.limiter.check_limit(key, limit, cost, now),
                    None => self.limiter.check(key, brought, cost, now),
                })
            }
            "peek" => expected(match limit {
                Some(limit) => self.limiter.peek_limit(key_of(op), limit, now),
                None => self.limiter.peek(key_of(op), brought, now),
            }),
            "reset" => {
                self.limiter.reset(key_of(op));
                Value::Null
            }
            "reserve" => {
                let (cost, max_wait) = (number(&op["cost"]), number(&op["max_wait_ns"]));
                let reserved = self.limiter.reserve(key_of(op), by_of(op), cost, max_wait, now);
                let receipt = reserved.receipt.is_some().then_some(self.receipts.len());
                self.receipts.extend(reserved.receipt.map(Some));
                expected_reservation(reserved.decision, reserved.wait_ns, receipt)
            }
            "cancel" => expected_use(used.map(|receipt| self.limiter.cancel(receipt, now))),
            "refund" => {
                let amount = number(&op["amount"]);
                expected_use(used.map(|receipt| self.limiter.refund(receipt, amount, limit, now).unwrap()))
            }
            "settle" => {
                let actual = number(&op["actual"]);
                expected_use(used.map(|receipt| self.limiter.settle(receipt, actual, limit, now)))
            }
            "check_many" => {
                let charges = op["charges"].as_array().unwrap();
                let charges: Vec<Charge<'_>> = charges
                    .iter()
                    .map(|charge| Charge {
                        key: key_of(charge),
                        by: by_of(charge),
                        cost: number(&charge["cost"]),
                    })
                    .collect();
                let mut decisions =
                    vec![self.limiter.peek(key_of(&json!({ "key": "" })), brought, now); charges.len()];
                let group = self.limiter.check_many(&charges, &mut decisions, now).unwrap();
                let blocked = (0..decisions.len()).filter(|index| !decisions[*index].is_allowed());
                expected_group(group.verdict, group.retry_after_ns, &blocked.collect::<Vec<_>>())
            }
            "change" => {
                const STRATEGIES: [Strategy; 4] =
                    [Strategy::AsIs, Strategy::Proportional, Strategy::Additive, Strategy::Reset];
                let strategy = from_word(&STRATEGIES, strategy_word, &op["strategy"]);
                let changed = limit.unwrap().change(brought, strategy, now());
                expected_change(changed.map_err(|error| match error {
                    ChangeError::TooSoon { retry_after_ns } => retry_after_ns,
                    ChangeError::Invalid(error) => panic!("{error}"),
                }))
            }
            other => panic!("unknown operation {other}"),
        }
    }
}

fn replay(vector: &Value) {
    let mut replay = Replay::new(vector);
    for (index, op) in vector["ops"].as_array().unwrap().iter().enumerate() {
        assert_eq!(replay.run(op), op["expect"], "{} operation {index}", vector["name"]);
    }
}

#[test]
fn the_file_is_what_the_model_makes() {
    let generated = generated();
    if std::env::var_os("ESCOPE_WRITE_VECTORS").is_some() {
        std::fs::write(PATH, &generated).unwrap();
    }
    let written = std::fs::read_to_string(PATH).unwrap();
    assert!(written == generated, "{PATH} is not what the model makes; write it anew");
}

#[test]
fn every_vector_replays() {
    let content: Value = serde_json::from_str(&std::fs::read_to_string(PATH).unwrap()).unwrap();
    let vectors = content["vectors"].as_array().unwrap();
    vectors.iter().for_each(replay);
    println!("vectors limiter rust: {} replayed, 0 failed", vectors.len());
}
