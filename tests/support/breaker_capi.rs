//! Reads bytes as options and operations, makes them on a breaker through the C ABI and compares each answer with the
//! sequential model: status, events, retry time, statistics, and what must be left untouched.
//!
//! Any bytes are a program, and few of them a long one: `fuzz/fuzz_targets/breaker_capi.rs` lets a fuzzer choose
//! them, `tests/fuzz_corpus.rs` replays those that are checked in. The file that includes this one also has the model as
//! its module `breaker_model`, and `fuzz_script`.
#![allow(unsafe_code)] // the C ABI is unsafe to call

use super::breaker_model::Model;
use super::fuzz_script::*;
use elixirscope::breaker::{BreakerConfig, Event, Mode, Outcome};
use elixirscope::capi::breaker::calls::{escope_breaker_acquire_at, escope_breaker_record_at};
use elixirscope::capi::breaker::options::escope_breaker_options;
use elixirscope::capi::breaker::{escope_breaker, escope_breaker_new};
use elixirscope::status::Status;
use memory::{Handle, Held, Memory};
use options::options;
use std::ptr::{null, null_mut};

#[path = "breaker_capi/answers.rs"]
mod answers;
#[path = "breaker_capi/calls.rs"]
mod calls;
#[path = "breaker_capi/charge.rs"]
mod charge;
#[path = "breaker_capi/memory.rs"]
mod memory;
#[path = "breaker_capi/options.rs"]
mod options;

/// Bytes that spell options, so that a change of one of them shifts nothing behind it.
pub const OPTION_BYTES: usize = 40;
/// A reconfiguration may make results of another kind, and forgets that after 64 of them in one generation.
const MOST_CONFIGURATIONS: usize = 60;
/// A time window takes times so far apart for one another that its shortest buckets came around: after two years.
const FAR_NS: u64 = 1 << 54;
const MS: u64 = 1_000_000;

const OUTCOMES: [Outcome; 5] =
    [Outcome::Success, Outcome::Failure, Outcome::Ignored, Outcome::Slow, Outcome::Cancelled];
const MODES: [Mode; 4] = [Mode::Auto, Mode::ForcedOpen, Mode::ForcedClosed, Mode::MetricsOnly];

struct Run<'a> {
    script: Script<'a>,
    breaker: Handle,
    /// Another breaker, whose permits are foreign to the first.
    other: Handle,
    model: Model,
    /// The configuration that the breaker was made with: it has the capacities.
    created: BreakerConfig,
    permits: Vec<Held>,
    now: u64,
    /// How long the steps of this run's times are.
    unit: u64,
    configurations: usize,
    /// Whether probes were ever given back by the end of their leases: then the slot of a permit that is recorded
    /// twice may not know which way that one went.
    released: bool,
    /// The words by which a permit's memory says that it may be recorded, and that it was.
    live: u32,
    done: u32,
    seen: Seen,
}

/// Runs the program in `bytes`; panics where breaker and model differ.
pub fn run(bytes: &[u8]) -> Seen {
    let mut script = Script(bytes);
    let unit = if script.byte() % 2 == 0 { 1 } else { MS };
    let mut options = options(&mut script, unit);
    let config = options.config();
    let mut seen = Seen::new();
    let breaker = new_breaker(options.block.pointer());
    seen.insert(("new", breaker.as_ref().err().copied().unwrap_or(0)));
    let expected = config.map_or(Status::InvalidArgument, |_| Status::Ok) as i32;
    assert_eq!(breaker.as_ref().err().copied().unwrap_or(0), expected, "{:?}", options.values);
    let (Some(config), Ok(breaker)) = (config, breaker) else { return seen };
    let other = new_breaker(null()).expect("the defaults are valid");
    let mut sample = Memory::BLANK;
    // SAFETY: the handle is live and the memory is this function's own.
    let states = unsafe {
        assert_eq!(escope_breaker_acquire_at(other.0, sample.pointer(), null_mut(), null_mut(), 0), 0);
        let live = sample.state();
        assert_eq!(escope_breaker_record_at(other.0, sample.pointer(), 0, null_mut(), 0), 0);
        (live, sample.state())
    };
    let mut run = Run {
        script,
        breaker,
        other,
        model: Model::new(config),
        created: config,
        permits: vec![],
        now: 0,
        unit,
        configurations: 0,
        released: config.release_expired_probes,
        live: states.0,
        done: states.1,
        seen,
    };
    for _ in 0..MOST_OPS {
        if run.script.0.is_empty() {
            break;
        }
        run.step();
        run.compare_statistics();
    }
    run.seen
}

fn new_breaker(options: *const escope_breaker_options) -> Result<Handle, i32> {
    let nothing = std::ptr::without_provenance_mut(8);
    let mut breaker: *mut escope_breaker = nothing;
    // SAFETY: `options` is NULL or a block as large as any size that the library takes; `breaker` is a local.
    let status = unsafe { escope_breaker_new(options, &mut breaker) };
    if status == Status::Ok as i32 {
        return Ok(Handle(breaker));
    }
    assert_eq!(breaker, nothing, "a failure wrote its result");
    Err(status)
}

impl Run<'_> {
    fn step(&mut self) {
        match self.script.below(32) {
            0..7 => self.acquire(),
            7 => self.ask(),
            8..15 => self.record(),
            15..17 => self.report(),
            17..21 => self.advance(),
            21 => self.set_time(),
            22 => self.settle(),
            23 => self.reset(),
            24 => self.set_mode(),
            25 => self.configure(false),
            26 => self.configure(true),
            27 => self.record_again(),
            28 => self.record_foreign(),
            29 => self.record_garbage(),
            30 => self.record_forged(),
            _ => match self.script.below(3) {
                0 => self.refuse_pointers(),
                1 => self.structs(),
                _ => self.share(),
            },
        }
    }

    fn see(&mut self, operation: &'static str, status: i32, events: &[Event]) {
        self.seen.insert((operation, status));
        self.seen.extend(events.iter().map(|event| ("cause", event.cause as i32)));
    }
}
