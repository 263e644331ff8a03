//! Vectors of what the pool's core does beyond the basic calls: order of lending, stock, age, checks, size and end.
//!
//! `ESCOPE_WRITE_VECTORS=1 cargo test --test vectors_pool_full` writes `tests/vectors/core/pool_full.json` anew, from the
//! naive model with a fixed seed. They stand in `core/` until every language can ask for all of it.
//!
//! A vector is a `config`, its times in nanoseconds, and a list of `ops` with explicit times. Connections are numbered
//! in the order of their creation, from 1; leases in the order of their grant, from 0. Creations succeed and destructions
//! end at once; a check ends at once and finds a connection healthy unless an earlier `spoil` named it. Nobody waits: the
//! time-out of a check-out is 0.
//!
//! | operation | takes, besides `now_ns` | verdict |
//! | --- | --- | --- |
//! | `checkout` | | `ok` or `untested` with `connection`, else the word of the refusal |
//! | `checkin` | `lease`, `condition`: `good`, `broken` | `ok`, `stale_lease` |
//! | `maintain` | | `ok` |
//! | `spoil` | `connection` | `ok` |
//! | `resize` | `size`, `max_overflow` | `ok` |
//! | `evict` | | `ok` |
//! | `drain` | `deadline_ns` | `ok` |
//! | `close` | `deadline_ns` | `ok` |
//!
//! After each operation `created`, `checked` and `destroyed` list the connections that it created, checked and destroyed, in
//! ascending order, and `idle`, `leased` and `overflow` are as stated.
#![cfg(not(escope_model))]

// The vectors need a part of the model only: nobody waits.
#[allow(dead_code)]
#[path = "support/pool_model.rs"]
mod pool_model;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;

use elixirscope::pool::*;
use pool_model::{Answer, Model, Work};
use serde_json::{Value, json};

const SEED: u64 = 0x0F00_1FA1;
const VECTORS: u64 = 120;
const STEPS: u64 = 30;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

const ORDERS: [(&str, IdleOrder); 4] = [
    ("lifo", IdleOrder::Lifo),
    ("fifo", IdleOrder::Fifo),
    ("round_robin", IdleOrder::RoundRobin),
    ("least_used", IdleOrder::LeastUsed),
];
const HEALTH: [(&str, HealthChecks); 4] = [
    ("off", HealthChecks::Off),
    ("passive", HealthChecks::Passive),
    ("active", HealthChecks::Active),
    ("mixed", HealthChecks::Mixed),
];

fn named<T: Copy>(table: &[(&str, T)], name: &Value) -> T {
    table.iter().find(|(known, _)| name == known).map(|(_, value)| *value).expect("a known word")
}

fn config(of: &Value) -> PoolConfig {
    let number = |name: &str| of[name].as_u64().expect("a number");
    PoolConfig {
        size: number("size") as u32,
        max_overflow: number("max_overflow") as u32,
        max_slots: number("max_slots") as u32,
        min_idle: number("min_idle") as u32,
        order: named(&ORDERS, &of["order"]),
        health: named(&HEALTH, &of["health"]),
        health_interval_ns: number("health_interval_ns"),
        overflow_ttl_ns: number("overflow_ttl_ns"),
        idle_timeout_ns: number("idle_timeout_ns"),
        max_lifetime_ns: number("max_lifetime_ns"),
        keepalive_ns: number("keepalive_ns"),
        pre_ping_after_ns: of["pre_ping_after_ns"].as_u64().unwrap_or(NO_PRE_PING),
        ..PoolConfig::default()
    }
}

/// What both sides do: an event, then all the work that comes of it, first come, first served.
trait Side {
    fn checkout(&mut self, now: u64) -> Result<(u32, bool), Refusal>;
    fn checkin(&mut self, lease: usize, condition: Condition, now: u64) -> bool;
    fn apply(&mut self, op: &Value, now: u64);
    fn created(&mut self, work: Work, now: u64);
    fn checked(&mut self, work: Work, healthy: bool, now: u64);
    fn destroyed(&mut self, work: Work, now: u64);
    fn work(&mut self) -> Vec<Work>;
    fn counts(&self) -> [u32; 3];
}

/// Connections by number, on top of a side.
#[derive(Default)]
struct Book {
    made: u32,
    slots: HashMap<u32, u32>,
    spoilt: HashSet<u32>,
}

impl Book {
    fn step(&mut self, side: &mut impl Side, op: &Value) -> Value {
        let now = op["now_ns"].as_u64().expect("every operation has a time");
        let (mut created, mut checked, mut destroyed) = (vec![], vec![], vec![]);
        let mut connection = None;
        let verdict = match op["op"].as_str().expect("a word") {
            "checkout" => match side.checkout(now) {
                Ok((slot, untested)) => {
                    connection = Some(self.slots[&slot]);
                    if untested { "untested" } else { "ok" }
                }
                Err(refusal) => refusal.status().word(),
            },
            "checkin" => {
                let good = op["condition"] == "good";
                let lease = op["lease"].as_u64().expect("a number") as usize;
                let condition = if good { Condition::Good } else { Condition::Broken };
                if side.checkin(lease, condition, now) { "ok" } else { "stale_lease" }
            }
            "spoil" => {
                self.spoilt.insert(op["connection"].as_u64().expect("a number") as u32);
                "ok"
            }
            _ => {
                side.apply(op, now);
                "ok"
            }
        };
        let mut todo: VecDeque<Work> = side.work().into();
        while let Some(work) = todo.pop_front() {
            match work {
                Work::Create(slot) => {
                    self.made += 1;
                    self.slots.insert(slot, self.made);
                    created.push(self.made);
                    side.created(work, now);
                }
                Work::Check(slot) => {
                    let number = self.slots[&slot];
                    checked.push(number);
                    side.checked(work, !self.spoilt.contains(&number), now);
                }
                Work::Destroy(slot) => {
                    destroyed.push(self.slots.remove(&slot).expect("it has a connection"));
                    side.destroyed(work, now);
                }
                Work::Leak(_) => panic!("no limit was set"),
            }
            todo.extend(side.work());
        }
        for list in [&mut created, &mut checked, &mut destroyed] {
            list.sort_unstable();
        }
        let [idle, leased, overflow] = side.counts();
        json!({
            "verdict": verdict, "connection": connection, "created": created, "checked": checked,
            "destroyed": destroyed, "idle": idle, "leased": leased, "overflow": overflow,
        })
    }
}

/// The model, and the slot of each lease while it lives.
struct Scribe {
    model: Model,
    leases: Vec<Option<u32>>,
}

impl Side for Scribe {
    fn checkout(&mut self, now: u64) -> Result<(u32, bool), Refusal> {
        match self.model.checkout(0, Wait::Never, 0, now) {
            Answer::Granted(slot) => {
                self.leases.push(Some(slot));
                Ok((slot, self.model.untested))
            }
            Answer::Rejected(refusal) => Err(refusal),
            Answer::Queued => panic!("nobody waits"),
        }
    }

    fn checkin(&mut self, lease: usize, condition: Condition, now: u64) -> bool {
        let Some(slot) = self.leases[lease].take() else { return false };
        self.model.checkin(slot, condition, now);
        true
    }

    fn apply(&mut self, op: &Value, now: u64) {
        let number = |name: &str| op[name].as_u64().expect("a number");
        match op["op"].as_str().expect("a word") {
            "maintain" => self.model.maintain(now),
            "resize" => self.model.resize(number("size") as u32, number("max_overflow") as u32, now),
            "evict" => self.model.evict(now),
            "drain" => self.model.shut(number("deadline_ns"), true, now),
            "close" => self.model.shut(number("deadline_ns"), false, now),
            other => panic!("{other}"),
        }
    }

    fn created(&mut self, work: Work, now: u64) {
        let Work::Create(slot) = work else { panic!("{work:?}") };
        self.model.created(slot, Ok(()), now);
    }

    fn checked(&mut self, work: Work, healthy: bool, now: u64) {
        let Work::Check(slot) = work else { panic!("{work:?}") };
        self.model.checked(slot, healthy, now);
    }

    fn destroyed(&mut self, work: Work, now: u64) {
        let Work::Destroy(slot) = work else { panic!("{work:?}") };
        // A lease that a shut-down ended.
        for lease in &mut self.leases {
            *lease = lease.filter(|&held| held != slot);
        }
        self.model.destroyed(slot, now);
    }

    fn work(&mut self) -> Vec<Work> {
        std::mem::take(&mut self.model.work)
    }

    fn counts(&self) -> [u32; 3] {
        [self.model.idle(), self.model.leased(), self.model.overflow()]
    }
}

/// The pool, its leases and the epochs to report with.
struct Real {
    pool: Pool,
    leases: Vec<Lease>,
    epochs: HashMap<u32, u64>,
    work: Vec<Work>,
}

impl Real {
    fn take(&mut self, mut actions: Actions, now: u64) {
        loop {
            for action in actions.iter() {
                let (work, epoch) = match action {
                    Action::Create { slot, epoch } => (Work::Create(slot), epoch),
                    Action::Check { slot, epoch, .. } => (Work::Check(slot), epoch),
                    Action::Destroy { slot, epoch, .. } => (Work::Destroy(slot), epoch),
                    other => panic!("{other:?}"),
                };
                let (Work::Create(slot) | Work::Check(slot) | Work::Destroy(slot) | Work::Leak(slot)) = work;
                self.epochs.insert(slot, epoch);
                self.work.push(work);
            }
            if !actions.more() {
                return;
            }
            actions.clear();
            self.pool.maintain(|| now, &mut actions);
        }
    }
}

impl Side for Real {
    fn checkout(&mut self, now: u64) -> Result<(u32, bool), Refusal> {
        let mut actions = Actions::new();
        let answer = self.pool.checkout(Owner::NONE, Wait::Never, 0, || now, &mut actions);
        self.take(actions, now);
        let (lease, untested) = match answer {
            Checkout::Granted(lease) => (lease, false),
            Checkout::GrantedUntested { lease, .. } => (lease, true),
            Checkout::Rejected(refusal) => return Err(refusal),
            Checkout::Queued(_) => panic!("nobody waits"),
        };
        self.leases.push(lease);
        Ok((lease.slot, untested))
    }

    fn checkin(&mut self, lease: usize, condition: Condition, now: u64) -> bool {
        let mut actions = Actions::new();
        let result = self.pool.checkin(self.leases[lease], condition, || now, &mut actions);
        self.take(actions, now);
        result.is_ok()
    }

    fn apply(&mut self, op: &Value, now: u64) {
        let number = |name: &str| op[name].as_u64().expect("a number");
        let mut actions = Actions::new();
        match op["op"].as_str().expect("a word") {
            "maintain" => {
                self.pool.maintain(|| now, &mut actions);
            }
            "resize" => {
                let (size, max_overflow) = (number("size") as u32, number("max_overflow") as u32);
                self.pool.resize(size, max_overflow, || now, &mut actions).expect("in range");
            }
            "evict" => self.pool.evict(0, || now, &mut actions),
            "drain" => self.pool.drain(number("deadline_ns"), || now, &mut actions),
            "close" => self.pool.close_by(number("deadline_ns"), || now, &mut actions),
            other => panic!("{other}"),
        }
        self.take(actions, now);
    }

    fn created(&mut self, work: Work, now: u64) {
        let Work::Create(slot) = work else { panic!("{work:?}") };
        let mut actions = Actions::new();
        self.pool.created(slot, self.epochs[&slot], Ok(()), || now, &mut actions).expect("asked for");
        self.take(actions, now);
    }

    fn checked(&mut self, work: Work, healthy: bool, now: u64) {
        let Work::Check(slot) = work else { panic!("{work:?}") };
        let mut actions = Actions::new();
        self.pool.checked(slot, self.epochs[&slot], healthy, || now, &mut actions).expect("asked for");
        self.take(actions, now);
    }

    fn destroyed(&mut self, work: Work, now: u64) {
        let Work::Destroy(slot) = work else { panic!("{work:?}") };
        let mut actions = Actions::new();
        self.pool.destroyed(slot, self.epochs[&slot], || now, &mut actions).expect("asked for");
        self.take(actions, now);
    }

    fn work(&mut self) -> Vec<Work> {
        std::mem::take(&mut self.work)
    }

    fn counts(&self) -> [u32; 3] {
        let seen = self.pool.snapshot(|| 0, &mut Actions::new());
        [seen.idle, seen.leased, seen.overflow]
    }
}

fn generate_one(number: u64, random: &mut Random) -> Value {
    let size = random.below(5);
    let max_overflow = random.below(3) + u64::from(size == 0);
    let order = ORDERS[(number % 4) as usize].0;
    let health = random.one_of(&HEALTH).0;
    let pre_ping = random.one_of(&[None, None, Some(0), Some(4)]);
    let settings = json!({
        "size": size, "max_overflow": max_overflow, "max_slots": 8, "min_idle": random.below(size + 1),
        "order": order, "health": health, "health_interval_ns": 9,
        "overflow_ttl_ns": random.one_of(&[0, 5]), "idle_timeout_ns": random.one_of(&[0, 0, 12]),
        "max_lifetime_ns": random.one_of(&[0, 0, 30]), "keepalive_ns": random.one_of(&[0, 0, 6]),
        "pre_ping_after_ns": pre_ping,
    });
    let mut scribe = Scribe { model: Model::new(config(&settings)), leases: vec![] };
    let (mut book, mut now, mut ops) = (Book::default(), 0, vec![]);
    for step in 0..STEPS {
        now += random.below(4);
        let pick = |live: bool, random: &mut Random| {
            let some: Vec<usize> =
                (0..scribe.leases.len()).filter(|&at| scribe.leases[at].is_some() == live).collect();
            if some.is_empty() { None } else { Some(some[random.below(some.len() as u64) as usize]) }
        };
        let checkin = |lease: Option<usize>, condition: &str| {
            lease.map(|lease| json!({"op": "checkin", "lease": lease, "condition": condition}))
        };
        let op = match random.below(24) {
            _ if step == 0 => Some(json!({"op": "maintain"})),
            _ if step == STEPS - 4 => {
                let op = random.one_of(&["drain", "close"]);
                Some(json!({"op": op, "deadline_ns": now + random.below(6)}))
            }
            0 => checkin(pick(true, random), "broken"),
            1 => checkin(pick(false, random), "good"),
            2..=7 => checkin(pick(true, random), "good"),
            8..=13 => Some(json!({"op": "maintain"})),
            14 if book.made > 0 => {
                Some(json!({"op": "spoil", "connection": 1 + random.below(u64::from(book.made))}))
            }
            15 => Some(json!({"op": "resize", "size": 1 + random.below(4), "max_overflow": random.below(4)})),
            16 => Some(json!({"op": "evict"})),
            _ => None,
        };
        let mut op = op.unwrap_or_else(|| json!({"op": "checkout"}));
        op["now_ns"] = json!(now);
        op["expect"] = book.step(&mut scribe, &op);
        ops.push(op);
    }
    json!({"name": format!("{number:03} {order} {size}+{max_overflow} {health}"), "config": settings, "ops": ops})
}

fn generate() -> Vec<Value> {
    let mut random = Random(SEED);
    (0..VECTORS).map(|number| generate_one(number, &mut random)).collect()
}

/// One vector a line, so that a change shows as the lines it touches.
fn render(vectors: &[Value]) -> String {
    let lines: Vec<String> = vectors.iter().map(Value::to_string).collect();
    format!("{{\"primitive\":\"pool\",\"seed\":{SEED},\"vectors\":[\n{}\n]}}\n", lines.join(",\n"))
}

fn checked_in() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/core/pool_full.json");
    if std::env::var_os("ESCOPE_WRITE_VECTORS").is_some() {
        std::fs::write(&path, render(&generate())).expect("tests/vectors/core is writable");
    }
    std::fs::read_to_string(path).expect("tests/vectors/core/pool_full.json exists")
}

#[test]
fn the_file_is_what_the_generator_makes() {
    assert!(
        checked_in() == render(&generate()),
        "tests/vectors/core/pool_full.json is stale: run this test with ESCOPE_WRITE_VECTORS=1"
    );
}

#[test]
fn the_vectors_reach_every_result() {
    let vectors = generate();
    let steps = || vectors.iter().flat_map(|vector| vector["ops"].as_array().expect("a list"));
    for word in ["ok", "untested", "pool_exhausted", "pool_closed", "stale_lease"] {
        assert!(steps().filter(|step| step["expect"]["verdict"] == word).count() > 30, "{word} is rare");
    }
    for list in ["created", "checked", "destroyed"] {
        assert!(steps().filter(|step| step["expect"][list] != json!([])).count() > 100, "{list} is rare");
    }
}

#[test]
fn p15_the_pool_replays_every_vector() {
    let file: Value = serde_json::from_str(&checked_in()).expect("the format of this file");
    let vectors = file["vectors"].as_array().expect("a list");
    assert_eq!(vectors.len(), VECTORS as usize);
    for vector in vectors {
        let pool = Pool::new(&config(&vector["config"])).expect("a valid configuration");
        let mut real = Real { pool, leases: vec![], epochs: HashMap::new(), work: vec![] };
        let mut book = Book::default();
        for (at, op) in vector["ops"].as_array().expect("a list").iter().enumerate() {
            assert_eq!(book.step(&mut real, op), op["expect"], "{}, step {at}: {op}", vector["name"]);
        }
    }
    println!("core vectors of the pool: {} replayed, 0 failed", vectors.len());
}
