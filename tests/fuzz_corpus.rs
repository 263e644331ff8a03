//! What the fuzzer starts from, `fuzz/corpus/`, replayed as an ordinary test.
//!
//! The seeds are made from a fixed number: `ESCOPE_WRITE_CORPUS=1 cargo test --test fuzz_corpus` writes them anew. An input
//! that the fuzzer found failing is added under another name and stays.
#![cfg(all(feature = "capi", not(escope_model)))]

#[path = "support/breaker_capi.rs"]
mod breaker_capi;
#[path = "support/breaker_model.rs"]
mod breaker_model;
#[path = "support/fuzz_script.rs"]
mod fuzz_script;
#[path = "support/limiter_capi.rs"]
mod limiter_capi;
#[path = "support/limiter_oracle.rs"]
mod limiter_oracle;
#[path = "support/pool_capi.rs"]
mod pool_capi;
#[allow(dead_code)] // a run of one thread uses a part of it
#[path = "support/pool_model.rs"]
mod pool_model;

use breaker_capi::OPTION_BYTES;
use elixirscope::breaker::Cause;
use elixirscope::status::Status;
use fuzz_script::Seen;
use std::fs;
use std::path::PathBuf;

const SEEDS: u64 = 60;
const SEED: u64 = 0x5EED_F05B;

/// What spells outcomes and modes, as often as the seeds choose it.
const OUTCOMES: [u8; 10] = [0, 0, 0, 0, 1, 1, 1, 2, 3, 4];
const MODES: [u8; 9] = [0, 0, 0, 0, 1, 2, 3, 3, 255];

fn corpus(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fuzz", "corpus", target].iter().collect()
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// Mostly calls that come back soon, in small steps of time, so that rounds of probes come to their ends; the first eight begin
/// with one kind of options each. The fuzzer breaks them up.
fn seed(number: u64) -> Vec<u8> {
    let mut random = Random(SEED ^ number << 32);
    let mut below = |bound: u64| (random.next() % bound) as u8;
    let mut program = vec![(number / 8 % 2) as u8];
    program.extend(options(&mut below, if number < 8 { number as u8 } else { 1 }));
    for _ in 0..20 + 6 * number {
        match below(60) {
            0..20 => program.extend([0, below(4)]),
            20..22 => program.extend([7, below(4)]),
            22..40 => program.extend([8, below(3), OUTCOMES[usize::from(below(10))], below(2)]),
            40..43 => program.extend([15, below(242), below(2)]),
            43..55 => program.extend([17, below(30)]),
            55 => program.extend([24, MODES[usize::from(below(9))], below(2)]),
            56 => {
                program.extend([25 + below(2), below(2)]);
                let kind = below(8);
                program.extend(options(&mut below, kind));
            }
            57 => program.extend([27, below(8), below(5)]),
            _ => program.extend([21 + below(11), below(256), below(256), below(256)]),
        }
    }
    program
}

fn options(below: &mut impl FnMut(u64) -> u8, kind: u8) -> [u8; OPTION_BYTES] {
    let mut bytes = std::array::from_fn(|_| below(256));
    bytes[0] = kind;
    bytes
}

/// Mostly calls of a few keys that owe for long, and uses of their newest receipts; the first ten begin with any options.
fn limiter_seed(number: u64) -> Vec<u8> {
    let mut random = Random(SEED ^ 1 << 60 ^ number << 32);
    let mut below = |bound: u64| (random.next() % bound) as u8;
    let options = if number < 10 { number as u8 } else { 31 };
    let mut program = vec![below(3), below(3), options];
    if number < 10 {
        program.extend((0..12).map(|_| below(256)));
    }
    for _ in 0..4 {
        program.extend([below(4), 200 + below(40), 1 + below(11)]);
    }
    program.extend([below(256), below(256)]);
    // Each key once, at a time of its own: a table for one is full.
    program.extend((0..20).flat_map(|key| [0, key, 1, 10, 1]));
    for _ in 0..20 + 6 * number {
        match below(60) {
            0..18 => program.extend([below(7), below(20), below(63)]),
            18..26 => program.extend([14 + below(4), below(20), below(63), 200 + below(56)]),
            26..32 => program.extend([14 + below(4), below(2), below(63), 251 + below(5)]),
            32..36 => program.extend([18, below(3)]),
            36..40 => program.extend([20, below(3), below(4)]),
            40..44 => program.extend([22, below(3), below(32)]),
            44..47 => program.extend([10, below(256)]),
            47 => program.extend([27, below(2), below(4), below(4), 200 + below(40), 1 + below(11)]),
            48 => program.extend([27, below(2), 255, 4, below(2), 0, 0, 0, 0, 0]),
            _ => program.extend([below(32), below(256), below(256), below(256)]),
        }
    }
    program
}

/// Mostly check-outs, waits and check-ins, as time goes by; the first is told of no `create`, the second of no room, every
/// tenth is closed.
fn pool_seed(number: u64) -> Vec<u8> {
    let mut random = Random(SEED ^ 2 << 60 ^ number << 32);
    let mut below = |bound: u64| (random.next() % bound) as u8;
    let size = if number == 1 { 0 } else { 1 + below(3) };
    let overflow = if number == 1 { 0 } else { below(3) };
    let create = if number == 0 { 255 } else { 0 };
    let mut program = vec![size, overflow, below(4), below(2), below(256), create];
    for at in 0..20 + 6 * number {
        match below(24) {
            0..6 => program.extend([0, if below(20) == 0 { 7 } else { 0 }, below(4)]),
            6..10 => program.extend([7, below(40), below(4)]),
            10..13 => program.extend([11, below(8), below(16), below(4)]),
            13..18 => program.extend([16, below(8), below(4), below(4)]),
            18..22 => program.extend([26, below(12), below(16), below(4)]),
            _ => program.extend([15 + below(11), below(256), below(256), below(256), below(256)]),
        }
        if number % 10 == 9 && at == 10 + 6 * number {
            program.extend([31, below(16)]);
        }
    }
    program
}

/// Writes the seeds if asked to, runs all of a target's corpus and gives what was seen.
fn replay(target: &str, seed: fn(u64) -> Vec<u8>, run: fn(&[u8]) -> Seen) -> Seen {
    let corpus = corpus(target);
    if std::env::var_os("ESCOPE_WRITE_CORPUS").is_some() {
        fs::create_dir_all(&corpus).unwrap();
        (0..SEEDS)
            .for_each(|number| fs::write(corpus.join(format!("seed-{number:02}")), seed(number)).unwrap());
    }
    let mut files: Vec<_> = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut seen = Seen::new();
    for file in &files {
        // The panic that follows a difference would not name the file.
        println!("{}", file.display());
        seen.extend(run(&fs::read(file).unwrap()));
    }
    println!("{} programs", files.len());
    seen
}

fn statuses(operation: &'static str, statuses: &[Status]) -> Vec<(&'static str, i32)> {
    statuses.iter().map(|status| (operation, *status as i32)).collect()
}

#[test]
fn the_corpus_of_the_breaker_replays_and_reaches_every_answer() {
    let seen = replay("breaker_capi", seed, breaker_capi::run);
    use Status::{
        AlreadyDone, CircuitOpen, Expired, ForcedOpen, HalfOpenFull, InvalidArgument, Ok, PermitNotFound,
        ServiceDegraded, Stale,
    };
    let all: Seen = [
        statuses("new", &[Ok, InvalidArgument]),
        statuses("acquire", &[Ok, CircuitOpen, HalfOpenFull, ForcedOpen, ServiceDegraded]),
        statuses("ask", &[Ok, CircuitOpen, HalfOpenFull, ForcedOpen, ServiceDegraded]),
        statuses("record", &[Ok, Stale, Expired, AlreadyDone, PermitNotFound, InvalidArgument]),
        statuses("report", &[Ok, Stale, InvalidArgument]),
        statuses("settle", &[Ok]),
        statuses("reset", &[Ok]),
        statuses("set_mode", &[Ok, InvalidArgument]),
        statuses("reconfigure", &[Ok, InvalidArgument]),
        statuses("reinstall", &[Ok, InvalidArgument]),
        statuses("snapshot", &[Ok, InvalidArgument]),
        statuses("options_init", &[Ok, InvalidArgument]),
        statuses("stats_init", &[Ok, InvalidArgument]),
        Cause::ALL.iter().map(|cause| ("cause", *cause as i32)).collect(),
    ]
    .concat()
    .into_iter()
    .collect();
    assert_eq!(seen, all);
}

#[test]
fn the_corpus_of_the_limiter_replays_and_reaches_every_answer() {
    use Status::{
        AlreadyDone, BadReceipt, ChangeTooSoon, Forfeited, InvalidArgument, Never, Ok, RateLimited,
        TableFull, TooLate,
    };
    let seen = replay("limiter_capi", limiter_seed, limiter_capi::run);
    let all: Seen = [
        statuses("new", &[Ok, InvalidArgument]),
        statuses("check", &[Ok, RateLimited, Never, TableFull, InvalidArgument]),
        statuses("peek", &[Ok, RateLimited, Never]),
        statuses("reset", &[Ok]),
        statuses("reserve", &[Ok, RateLimited, Never, TableFull]),
        statuses("cancel", &[Ok, TooLate, Forfeited, AlreadyDone]),
        statuses("refund", &[Ok, Forfeited, AlreadyDone, InvalidArgument]),
        statuses("settle", &[Ok, Forfeited, AlreadyDone]),
        statuses("receipt", &[AlreadyDone, BadReceipt]),
        statuses("check_many", &[Ok, RateLimited, Never]),
        statuses("check_batch", &[Ok]),
        statuses("change", &[Ok, ChangeTooSoon, InvalidArgument]),
        statuses("policy", &[Ok, InvalidArgument]),
        statuses("limit", &[Ok, InvalidArgument]),
        statuses("retry_after", &[Ok, InvalidArgument]),
        statuses("options_init", &[Ok, InvalidArgument]),
        statuses("stats_init", &[Ok, InvalidArgument]),
        statuses("snapshot", &[Ok, InvalidArgument]),
        statuses("save", &[Ok]),
        statuses("load", &[Ok, InvalidArgument]),
        statuses("acquire", &[Ok, RateLimited]),
        vec![("evicted", 0), ("overflowed", 0)],
    ]
    .concat()
    .into_iter()
    .collect();
    assert_eq!(seen, all);
}

#[test]
fn the_corpus_of_the_pool_replays_and_reaches_every_answer() {
    use Status::{
        CreateFailed, InvalidArgument, Ok, PoolClosed, PoolExhausted, PoolTimeout, QueueFull, StaleLease,
    };
    let seen = replay("pool_capi", pool_seed, pool_capi::run);
    let all: Seen = [
        statuses("new", &[Ok, InvalidArgument]),
        statuses("checkout", &[Ok, PoolExhausted, PoolClosed, CreateFailed]),
        statuses("begin", &[Ok, PoolExhausted, PoolClosed, QueueFull]),
        statuses("wait", &[Ok, PoolExhausted, PoolTimeout, PoolClosed, CreateFailed, InvalidArgument]),
        statuses("checkin", &[Ok, StaleLease, InvalidArgument]),
        statuses("resize", &[Ok, InvalidArgument]),
        statuses("evict", &[Ok]),
        statuses("maintain", &[Ok]),
        statuses("close", &[Ok]),
        statuses("drain", &[Ok, PoolTimeout]),
        statuses("snapshot", &[Ok]),
    ]
    .concat()
    .into_iter()
    .collect();
    assert_eq!(seen, all);
}
