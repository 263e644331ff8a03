//! Vectors of the pool: histories of public, non-blocking calls with what each of them shows, so that every language
//! replays them through its own surface.
//!
//! A vector is a configuration and a list of operations. Connections are numbered in the order of their creation,
//! from 1; leases in the order of their grant, from 0. A check-out makes a connection itself where the pool has
//! room (time-out 0, creation always succeeds); a connection that is given up is destroyed at once. After each
//! operation the counts `idle`, `leased`, `overflow` and `waiting` are as stated, and `destroyed` lists the
//! connections that the operation destroyed.
//!
//! The file is generated from the naive model with a fixed seed; `ESCOPE_WRITE_VECTORS=1` writes it anew.

// The vectors need a part of the model only: no time passes and nobody waits.
#[allow(dead_code)]
#[path = "support/pool_model.rs"]
mod pool_model;

use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;

use elixirscope::pool::*;
use pool_model::{Answer, Model, Told, Work};
use serde::{Deserialize, Serialize};

const SEED: u64 = 0x00E1_1C5C_09E0_0B01;
const VECTORS: u32 = 100;
const STEPS: u64 = 24;

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct File {
    primitive: String,
    seed: u64,
    vectors: Vec<Vector>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Vector {
    name: String,
    config: Config,
    ops: Vec<Step>,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
struct Config {
    size: u32,
    max_overflow: u32,
    order: String,
    overflow_ttl_ns: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
struct Step {
    #[serde(flatten)]
    op: Op,
    expect: Expect,
}

/// What a caller sees of an operation, and the counts after it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
struct Expect {
    /// `ok`, or the word of the refusal.
    verdict: String,
    /// The connection that a check-out got.
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<u32>,
    /// Connections that the operation destroyed, in ascending order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    destroyed: Vec<u32>,
    idle: u32,
    leased: u32,
    overflow: u32,
    waiting: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Op {
    Checkout,
    Checkin { lease: usize, condition: String },
    Close,
}

impl Config {
    fn to_pool(&self) -> PoolConfig {
        PoolConfig {
            size: self.size,
            max_overflow: self.max_overflow,
            order: match self.order.as_str() {
                "lifo" => IdleOrder::Lifo,
                "fifo" => IdleOrder::Fifo,
                other => panic!("order {other}"),
            },
            overflow_ttl_ns: self.overflow_ttl_ns,
            ..PoolConfig::default()
        }
    }
}

fn condition(word: &str) -> Condition {
    match word {
        "good" => Condition::Good,
        "broken" => Condition::Broken,
        other => panic!("condition {other}"),
    }
}

/// Replays a vector's operations on the model and writes down what it shows.
struct Scribe {
    model: Model,
    connections: HashMap<u32, u32>,
    made: u32,
    /// Slot of each lease, while it lives.
    leases: Vec<Option<u32>>,
    closed: bool,
}

impl Scribe {
    fn destroyed(&mut self) -> Vec<u32> {
        let mut gone = Vec::new();
        for work in std::mem::take(&mut self.model.work) {
            let Work::Destroy(slot) = work else { panic!("{work:?} without a check-out") };
            gone.push(self.connections.remove(&slot).expect("a closing slot has a connection"));
            self.model.destroyed(slot, 0);
        }
        gone.sort_unstable();
        gone
    }

    fn checkout(&mut self) -> Result<u32, Refusal> {
        let slot = match self.model.checkout(0, Wait::ForCreation, 0, 0) {
            Answer::Rejected(refusal) => return Err(refusal),
            Answer::Granted(slot) => slot,
            Answer::Queued => {
                let work = std::mem::take(&mut self.model.work);
                let [Work::Create(slot)] = work[..] else { panic!("{work:?}") };
                self.made += 1;
                self.connections.insert(slot, self.made);
                self.model.created(slot, Ok(()), 0);
                let told = std::mem::take(&mut self.model.told);
                assert_eq!(told, [(0, Told::Granted(slot))]);
                slot
            }
        };
        self.leases.push(Some(slot));
        Ok(self.connections[&slot])
    }

    fn step(&mut self, op: Op) -> Step {
        let (verdict, connection) = match &op {
            Op::Checkout => match self.checkout() {
                Ok(connection) => ("ok", Some(connection)),
                Err(refusal) => (refusal.status().word(), None),
            },
            Op::Checkin { lease, condition: word } => match self.leases[*lease].take() {
                Some(slot) => {
                    self.model.checkin(slot, condition(word), 0);
                    ("ok", None)
                }
                None => ("stale_lease", None),
            },
            Op::Close => {
                self.model.shut(u64::MAX, false, 0);
                self.closed = true;
                ("ok", None)
            }
        };
        let destroyed = self.destroyed();
        let expect = Expect {
            verdict: verdict.to_owned(),
            connection,
            destroyed,
            idle: self.model.idle(),
            leased: self.model.leased(),
            overflow: self.model.overflow(),
            waiting: self.model.queue.len() as u32,
        };
        Step { op, expect }
    }
}

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
}

fn generate() -> File {
    let mut random = Random(SEED);
    let vectors = (0..VECTORS).map(|number| generate_one(number, &mut random)).collect();
    File { primitive: "pool".to_owned(), seed: SEED, vectors }
}

fn generate_one(number: u32, random: &mut Random) -> Vector {
    let size = random.below(5) as u32;
    let max_overflow = random.below(4) as u32 + u32::from(size == 0);
    let order = if number.is_multiple_of(2) { "lifo" } else { "fifo" };
    let overflow_ttl_ns = if number % 4 < 2 { 0 } else { 3_600_000_000_000 };
    let config = Config { size, max_overflow, order: order.to_owned(), overflow_ttl_ns };
    let mut scribe = Scribe {
        model: Model::new(config.to_pool()),
        connections: HashMap::new(),
        made: 0,
        leases: Vec::new(),
        closed: false,
    };
    let close_at = STEPS - random.below(8);
    let mut ops = Vec::new();
    for step in 0..STEPS {
        let live: Vec<usize> = (0..scribe.leases.len()).filter(|&at| scribe.leases[at].is_some()).collect();
        let dead: Vec<usize> = (0..scribe.leases.len()).filter(|&at| scribe.leases[at].is_none()).collect();
        let any = |among: &[usize], random: &mut Random| among[random.below(among.len() as u64) as usize];
        let good = || "good".to_owned();
        let op = match random.below(20) {
            _ if step == close_at => Op::Close,
            0 if scribe.closed => Op::Close,
            1..=2 if !live.is_empty() => {
                Op::Checkin { lease: any(&live, random), condition: "broken".to_owned() }
            }
            3..=4 if !dead.is_empty() => Op::Checkin { lease: any(&dead, random), condition: good() },
            5..=9 if !live.is_empty() => Op::Checkin { lease: any(&live, random), condition: good() },
            _ => Op::Checkout,
        };
        ops.push(scribe.step(op));
    }
    for lease in 0..scribe.leases.len() {
        if scribe.leases[lease].is_some() {
            ops.push(scribe.step(Op::Checkin { lease, condition: "good".to_owned() }));
        }
    }
    let name = format!("{number:03} {order} {size}+{max_overflow} ttl {overflow_ttl_ns}");
    Vector { name, config, ops }
}

/// The checked-in file, written first if that was asked for.
fn checked_in() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/pool.json");
        if std::env::var_os("ESCOPE_WRITE_VECTORS").is_some() {
            std::fs::write(&path, render(&generate())).expect("tests/vectors is writable");
        }
        std::fs::read_to_string(path).expect("tests/vectors/pool.json exists")
    })
}

/// One vector a line, so that a change shows as the lines it touches.
fn render(file: &File) -> String {
    let lines: Vec<String> =
        file.vectors.iter().map(|vector| serde_json::to_string(vector).expect("plain data")).collect();
    format!(
        "{{\"primitive\":\"{}\",\"seed\":{},\"vectors\":[\n{}\n]}}\n",
        file.primitive,
        file.seed,
        lines.join(",\n")
    )
}

/// The same surface on the real pool: what an edge does for a non-blocking caller.
struct Edge {
    pool: Pool,
    connections: HashMap<u32, u32>,
    made: u32,
    leases: Vec<Lease>,
    destroyed: Vec<u32>,
}

impl Edge {
    fn carry_out(&mut self, mut actions: Actions) -> Option<Lease> {
        let mut granted = None;
        while !actions.is_empty() || actions.more() {
            let mut next = Actions::new();
            for action in actions.iter() {
                match action {
                    Action::Create { slot, epoch } => {
                        self.made += 1;
                        self.connections.insert(slot, self.made);
                        self.pool.created(slot, epoch, Ok(()), || 0, &mut next).expect("asked for");
                    }
                    Action::Destroy { slot, epoch, .. } => {
                        self.destroyed.push(self.connections.remove(&slot).expect("was made"));
                        self.pool.destroyed(slot, epoch, || 0, &mut next).expect("asked for");
                    }
                    Action::Wake { outcome: WakeOutcome::Granted(lease), .. } => granted = Some(lease),
                    other => panic!("{other:?}"),
                }
            }
            if actions.more() {
                self.pool.maintain(|| 0, &mut next);
            }
            actions = next;
        }
        granted
    }

    fn checkout(&mut self) -> Result<Lease, Refusal> {
        let mut actions = Actions::new();
        let answer = self.pool.checkout(Owner::NONE, Wait::ForCreation, 0, || 0, &mut actions);
        let woken = self.carry_out(actions);
        match answer {
            Checkout::Granted(lease) | Checkout::GrantedUntested { lease, .. } => Ok(lease),
            Checkout::Queued(_) => Ok(woken.expect("its creation succeeded")),
            Checkout::Rejected(refusal) => Err(refusal),
        }
    }

    fn step(&mut self, op: &Op) -> Step {
        let mut actions = Actions::new();
        let (verdict, connection) = match op {
            Op::Checkout => match self.checkout() {
                Ok(lease) => {
                    self.leases.push(lease);
                    ("ok", Some(self.connections[&lease.slot]))
                }
                Err(refusal) => (refusal.status().word(), None),
            },
            Op::Checkin { lease, condition: word } => {
                let lease = self.leases[*lease];
                match self.pool.checkin(lease, condition(word), || 0, &mut actions) {
                    Ok(()) => ("ok", None),
                    Err(StaleLease) => ("stale_lease", None),
                }
            }
            Op::Close => {
                self.pool.close(|| 0, &mut actions);
                ("ok", None)
            }
        };
        assert_eq!(self.carry_out(actions), None);
        let seen = self.pool.snapshot(|| 0, &mut Actions::new());
        let mut destroyed = std::mem::take(&mut self.destroyed);
        destroyed.sort_unstable();
        let expect = Expect {
            verdict: verdict.to_owned(),
            connection,
            destroyed,
            idle: seen.idle,
            leased: seen.leased,
            overflow: seen.overflow,
            waiting: seen.waiting,
        };
        Step { op: op.clone(), expect }
    }
}

#[test]
fn the_file_is_what_the_generator_makes() {
    let made = render(&generate());
    assert!(
        checked_in() == made,
        "tests/vectors/pool.json is stale: run this test with ESCOPE_WRITE_VECTORS=1"
    );
}

#[test]
fn the_vectors_reach_every_result() {
    let file = generate();
    let steps = || file.vectors.iter().flat_map(|vector| &vector.ops);
    for word in ["ok", "pool_exhausted", "pool_closed", "stale_lease"] {
        assert!(steps().filter(|step| step.expect.verdict == word).count() > 50, "{word} is rare");
    }
    assert!(steps().filter(|step| step.expect.overflow > 0 && step.expect.idle > 0).count() > 50);
    assert!(steps().filter(|step| !step.expect.destroyed.is_empty()).count() > 50);
}

#[test]
fn p15_the_pool_replays_every_vector() {
    let file: File = serde_json::from_str(checked_in()).expect("the format of this file");
    assert_eq!(file.vectors.len(), VECTORS as usize);
    for vector in &file.vectors {
        let mut edge = Edge {
            pool: Pool::new(&vector.config.to_pool()).expect("a valid configuration"),
            connections: HashMap::new(),
            made: 0,
            leases: Vec::new(),
            destroyed: Vec::new(),
        };
        for (at, expected) in vector.ops.iter().enumerate() {
            assert_eq!(&edge.step(&expected.op), expected, "{}, step {at}", vector.name);
        }
    }
    println!("vectors pool rust: {} replayed, 0 failed", file.vectors.len());
}
