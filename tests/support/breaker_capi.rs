//! Reads bytes as options and operations, makes them on a breaker through the C ABI and compares each answer with the
//! sequential model: status, events, retry time, statistics, and what must be left untouched.
//!
//! Any bytes are a program, and few of them a long one: `fuzz/fuzz_targets/breaker_capi.rs` lets a fuzzer choose
//! them, `tests/fuzz_corpus.rs` replays those that are checked in. The file that includes this one also has the model as
//! its module `breaker_model`.
#![allow(unsafe_code)] // the C ABI is unsafe to call

use super::breaker_model::Model;
use elixirscope::breaker::{
    BreakerConfig, Event, Mode, Outcome, Phase, Policy, RecordVerdict, RejectReason, Snapshot, Weights,
    Window,
};
use elixirscope::capi::breaker::admin::*;
use elixirscope::capi::breaker::calls::*;
use elixirscope::capi::breaker::event::{escope_event, escope_events};
use elixirscope::capi::breaker::options::*;
use elixirscope::capi::breaker::permit::escope_permit;
use elixirscope::capi::breaker::stats::*;
use elixirscope::capi::breaker::{
    escope_breaker, escope_breaker_free, escope_breaker_new, escope_breaker_ref,
};
use elixirscope::capi::options::Growing;
use elixirscope::status::Status;
use std::collections::BTreeSet;
use std::ptr::{null, null_mut};

/// What a run has come by: operations with their statuses, and causes of events.
pub type Seen = BTreeSet<(&'static str, i32)>;

/// Operations of one run, so that a long input takes no time that a short one would not show.
const MOST_OPS: usize = 400;
/// A caller's struct may state up to so many bytes.
const MOST_BYTES: usize = 4096;
/// What memory holds that a call must not write.
const UNTOUCHED: u8 = 0xA5;
const UNWRITTEN: u64 = u64::from_ne_bytes([UNTOUCHED; 8]);

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

/// The program, read from front to back; past its end all bytes are zero.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (now, later) = self.0.split_at(self.0.len().min(N));
        self.0 = later;
        let mut bytes = [0; N];
        bytes[..now.len()].copy_from_slice(now);
        bytes
    }

    fn i32(&mut self) -> i32 {
        i32::from_le_bytes(self.bytes())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// From 0, in a byte.
    fn small(&mut self, bound: u8) -> u32 {
        u32::from(self.byte() % bound)
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }
}

/// `N` bytes aligned for each struct of the ABI, more than a call may write.
#[repr(C, align(8))]
struct Block<const N: usize>([u8; N]);

/// Room for a struct of any size that the library takes, and for noticing a write past it.
type Room = Block<{ MOST_BYTES + 8 }>;

impl<const N: usize> Block<N> {
    /// A struct that states this size in its first field.
    fn stating(size: usize, fill: u8) -> Self {
        let mut block = Self([fill; N]);
        block.0[..8].copy_from_slice(&size.to_le_bytes());
        block
    }

    fn pointer<T>(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }
}

/// Where a call writes its events, if its caller wants them.
struct Events {
    wanted: bool,
    block: Block<{ size_of::<escope_events>() + 8 }>,
}

impl Events {
    fn new(wanted: bool) -> Self {
        Self { wanted, block: Block([UNTOUCHED; _]) }
    }

    fn pointer(&mut self) -> *mut escope_events {
        if self.wanted { self.block.pointer() } else { null_mut() }
    }

    fn untouched(&self) {
        assert!(self.block.0.iter().all(|byte| *byte == UNTOUCHED), "events were written");
    }

    /// Whether exactly these events were written, and nothing behind them.
    fn compare(&mut self, events: &[Event]) {
        if !self.wanted {
            return self.untouched();
        }
        // SAFETY: the block is larger than the struct, aligned, and every bit pattern of its integers is valid.
        let written = unsafe { self.block.pointer::<escope_events>().read() };
        let expected = |event: &Event| {
            let (from, to, cause) = (event.from as i32, event.to as i32, event.cause as i32);
            let small = [event.from_level as u8, event.to_level as u8, event.mode as u8, 0];
            (event.at_ns, event.sequence, event.generation, from, to, cause, small)
        };
        let got = |event: &escope_event| {
            let escope_event { at_ns, sequence, generation, from, to, cause, .. } = *event;
            let small = [event.from_level, event.to_level, event.mode, event.reserved];
            (at_ns, sequence, generation, from, to, cause, small)
        };
        let count = written.count as usize;
        assert_eq!((count, written.reserved), (events.len(), 0));
        let items: Vec<_> = written.items[..count].iter().map(got).collect();
        assert_eq!(items, events.iter().map(expected).collect::<Vec<_>>());
        let end = std::mem::offset_of!(escope_events, items) + count * size_of::<escope_event>();
        assert!(self.block.0[end..].iter().all(|byte| *byte == UNTOUCHED), "written past the events");
    }
}

/// 32 bytes for a permit, as plain words: they may also hold what no call ever wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory([u64; 4]);

impl Memory {
    const BLANK: Self = Self([0; 4]);

    fn pointer(&mut self) -> *mut escope_permit {
        self.0.as_mut_ptr().cast()
    }

    fn state(self) -> u32 {
        (self.0[3] >> 32) as u32
    }

    fn with_state(mut self, state: u32) -> Self {
        self.0[3] = self.0[3] & u64::from(u32::MAX) | u64::from(state) << 32;
        self
    }

    /// A probe of the same breaker that nobody was granted.
    fn forged(self, generation: u32, slot: u32, epoch: u32, state: u32) -> Self {
        let words =
            [u64::from(generation) | u64::from(slot) << 32, u64::from(epoch) | u64::from(state) << 32];
        Self([self.0[0], self.0[1], words[0], words[1]])
    }
}

/// A permit that the model knows by its number in the list.
#[derive(Debug)]
struct Held {
    memory: Memory,
    used_up: bool,
}

/// A reference to a breaker of the library.
struct Handle(*mut escope_breaker);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the reference is this value's own.
        unsafe { escope_breaker_free(self.0) }
    }
}

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

/// Options in a caller's memory, with the size it states.
struct Options {
    block: Room,
    values: escope_breaker_options,
    /// The last byte that any size covers.
    tail: u8,
}

impl Options {
    /// What they mean, unless they must be refused.
    fn config(&self) -> Option<BreakerConfig> {
        let size = self.values.struct_size;
        let sized = (escope_breaker_options::FIRST_SIZE..=MOST_BYTES).contains(&size)
            && (self.tail == 0 || size < MOST_BYTES);
        meaning(&self.values).filter(|config| sized && config.validate().is_ok())
    }
}

fn meaning(options: &escope_breaker_options) -> Option<BreakerConfig> {
    let window = match options.policy {
        2 => Window::Count { size: options.window_size },
        _ => Window::Time { period_ns: options.period_ns, buckets: options.buckets },
    };
    let policy = match options.policy {
        0 => Policy::ConsecutiveFailures { failure_threshold: options.failure_threshold },
        1 => Policy::FailuresInPeriod {
            tolerated_failures: options.tolerated_failures,
            period_ns: options.period_ns,
        },
        2 | 3 => Policy::Rate {
            window,
            min_calls: options.min_calls,
            failure_rate_bp: options.failure_rate_bp,
            slow_call_rate_bp: options.slow_call_rate_bp,
        },
        _ => return None,
    };
    let switch = |value: u32| (value < 2).then_some(value == 1);
    let weight = |value: u32| u8::try_from(value).ok();
    Some(BreakerConfig {
        policy,
        weights: Weights {
            success: weight(options.weight_success)?,
            failure: weight(options.weight_failure)?,
            slow: weight(options.weight_slow)?,
            ignored: weight(options.weight_ignored)?,
            cancelled: weight(options.weight_cancelled)?,
        },
        slow_call_ns: options.slow_call_ns,
        open_for_ns: options.open_for_ns,
        backoff_percent: options.backoff_percent,
        max_open_ns: options.max_open_ns,
        jitter_bp: options.jitter_bp,
        seed: options.seed,
        skip_half_open: switch(options.skip_half_open)?,
        half_open_permits: options.half_open_permits,
        successes_to_close: options.successes_to_close,
        probe_lease_ns: options.probe_lease_ns,
        release_expired_probes: switch(options.release_expired_probes)?,
        half_open_limit_ns: options.half_open_limit_ns,
        close_at_half_open_limit: switch(options.close_at_half_open_limit)?,
        max_ignored_probes: options.max_ignored_probes,
        ramp_ns: options.ramp_ns,
        ramp_from_bp: options.ramp_from_bp,
        level_bp: [options.level_light_bp, options.level_medium_bp, options.level_heavy_bp],
        admit_bp: match options.strategy {
            0 => [10_000; 4],
            1 => [options.admit_bp, options.admit_light_bp, options.admit_medium_bp, options.admit_heavy_bp],
            _ => return None,
        },
        probe_capacity: options.probe_capacity,
        window_capacity: options.window_capacity,
    })
}

/// The options that the script spells next.
fn options(script: &mut Script, unit: u64) -> Options {
    let spelled: [u8; OPTION_BYTES] = script.bytes();
    let mut script = Script(&spelled);
    let (kind, mut size, mut tail) = (script.below(8), size_of::<escope_breaker_options>(), 0);
    let mut values = if kind == 0 { escope_breaker_options::default() } else { soon(&mut script, unit) };
    if kind == 7 {
        (size, tail) = (usize::from(u16::from_le_bytes(script.bytes())), script.byte());
    }
    if kind == 6 {
        any(&mut script, &mut values);
    }
    values.struct_size = size;
    let mut block = Room::stating(size, 0);
    // SAFETY: the block is larger than the struct and aligned for it.
    unsafe { block.pointer::<escope_breaker_options>().write(values) };
    block.0[MOST_BYTES - 1] = tail;
    Options { block, values, tail }
}

/// Small numbers, by which everything happens soon, for what two bytes of switches choose.
fn soon(script: &mut Script, unit: u64) -> escope_breaker_options {
    let default = escope_breaker_options::default();
    let chosen = u16::from_le_bytes(script.bytes());
    let chosen = |bit: u32| chosen & 1 << bit != 0;
    let time = |script: &mut Script| u64::from(script.byte() % 64) * unit;
    let (buckets, half_open_permits, window_size) =
        (1 + script.small(6), 1 + script.small(4), 1 + script.small(8));
    let policy = script.small(4) as i32;
    let open_for_ns = time(script);
    let mut options = escope_breaker_options {
        policy,
        period_ns: match policy {
            3 => (u64::from(buckets) + u64::from(script.byte() % 64)) * MS,
            _ => unit + time(script),
        },
        failure_threshold: 1 + script.small(5),
        tolerated_failures: script.small(5),
        window_size,
        buckets,
        min_calls: 1 + script.small(window_size as u8),
        failure_rate_bp: script.one_of(&[1, 3_333, 5_000, 10_000]),
        slow_call_rate_bp: script.one_of(&[1, 5_000, 10_000]),
        open_for_ns,
        probe_lease_ns: unit + time(script),
        half_open_permits,
        successes_to_close: 1 + script.small(half_open_permits as u8),
        skip_half_open: u32::from(chosen(0) && chosen(1)),
        release_expired_probes: u32::from(chosen(2) && chosen(3)),
        close_at_half_open_limit: u32::from(chosen(4)),
        // A reconfiguration may ask for any other of these.
        window_capacity: if chosen(5) { 0 } else { 8 },
        probe_capacity: if chosen(6) { half_open_permits } else { 0 },
        ..default
    };
    if chosen(7) {
        options.slow_call_ns = time(script) / 4;
    }
    if chosen(8) {
        options.backoff_percent = script.one_of(&[120, 200, 10_000]);
        options.max_open_ns = open_for_ns * u64::from(script.byte() % 8);
        options.jitter_bp = script.one_of(&[0, 1, 2_500, 9_999]);
        options.seed = script.byte().into();
    }
    if chosen(9) {
        options.half_open_limit_ns = time(script);
    }
    if chosen(10) {
        options.max_ignored_probes = 1 + script.small(2);
    }
    if chosen(11) {
        (options.ramp_ns, options.ramp_from_bp) = (time(script), script.one_of(&[1, 1_000, 6_667, 10_000]));
    }
    if chosen(12) {
        options.strategy = 1;
    }
    if chosen(12) && chosen(13) {
        let shares = [0, 1, 3_333, 9_000, 10_000];
        let share = |script: &mut Script| script.one_of(&shares);
        (options.admit_bp, options.admit_light_bp) = (share(script), share(script));
        (options.admit_medium_bp, options.admit_heavy_bp) = (share(script), share(script));
    }
    if chosen(14) {
        [options.level_light_bp, options.level_medium_bp, options.level_heavy_bp] =
            script.one_of(&[[1, 5_000, 10_000], [2_500, 2_500, 5_000], [10_000; 3]]);
    }
    if chosen(15) {
        (options.weight_success, options.weight_failure) = (script.small(8) / 7, 1 + script.small(15));
        (options.weight_slow, options.weight_ignored) = (script.small(4), script.small(8) / 6);
        options.weight_cancelled = script.small(8) / 6;
    }
    options
}

/// Any numbers in some fields, also such as are out of range.
fn any(script: &mut Script, options: &mut escope_breaker_options) {
    for _ in 0..script.below(4) {
        let (field, shift) = (script.below(64), script.below(64));
        let number = u64::from_le_bytes(script.bytes()) >> shift;
        let times = [
            &mut options.period_ns,
            &mut options.slow_call_ns,
            &mut options.open_for_ns,
            &mut options.max_open_ns,
            &mut options.seed,
            &mut options.probe_lease_ns,
            &mut options.half_open_limit_ns,
            &mut options.ramp_ns,
        ];
        let signed = [&mut options.policy, &mut options.strategy];
        let others = [
            &mut options.failure_threshold,
            &mut options.tolerated_failures,
            &mut options.window_size,
            &mut options.buckets,
            &mut options.min_calls,
            &mut options.failure_rate_bp,
            &mut options.slow_call_rate_bp,
            &mut options.weight_success,
            &mut options.weight_failure,
            &mut options.weight_slow,
            &mut options.weight_ignored,
            &mut options.weight_cancelled,
            &mut options.backoff_percent,
            &mut options.jitter_bp,
            &mut options.skip_half_open,
            &mut options.half_open_permits,
            &mut options.successes_to_close,
            &mut options.release_expired_probes,
            &mut options.close_at_half_open_limit,
            &mut options.max_ignored_probes,
            &mut options.ramp_from_bp,
            &mut options.level_light_bp,
            &mut options.level_medium_bp,
            &mut options.level_heavy_bp,
            &mut options.admit_bp,
            &mut options.admit_light_bp,
            &mut options.admit_medium_bp,
            &mut options.admit_heavy_bp,
            &mut options.probe_capacity,
            &mut options.window_capacity,
        ];
        let (first, second) = (times.len(), times.len() + signed.len());
        match field {
            _ if field < first => *times.into_iter().nth(field).expect("below the length") = number,
            _ if field < second => {
                *signed.into_iter().nth(field - first).expect("below the length") = number as i32;
            }
            _ => {
                let field = (field - second) % others.len();
                *others.into_iter().nth(field).expect("below the length") = number as u32;
            }
        }
    }
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

    fn acquire(&mut self) {
        let wants = self.script.byte();
        let (verdict, model_events) = self.model.acquire(self.now);
        let mut memory = Memory::BLANK;
        let mut retry_after_ns = UNWRITTEN;
        let retry = if wants & 1 == 0 { &raw mut retry_after_ns } else { null_mut() };
        let mut events = Events::new(wants & 2 == 0);
        // SAFETY: the handle is live, the places are this function's own or NULL.
        let status = unsafe {
            escope_breaker_acquire_at(self.breaker.0, memory.pointer(), retry, events.pointer(), self.now)
        };
        self.see("acquire", status, &model_events);
        let retry_expected = match verdict {
            Ok(number) => {
                assert_eq!((status, number), (Status::Ok as i32, self.permits.len()));
                assert_eq!(memory.state(), self.live);
                self.permits.push(Held { memory, used_up: false });
                0
            }
            Err(rejection) => {
                assert_eq!((status, memory), (refusal(rejection.reason), Memory::BLANK));
                rejection.retry_after_ns
            }
        };
        events.compare(&model_events);
        assert_eq!(retry_after_ns, if wants & 1 == 0 { retry_expected } else { UNWRITTEN });
    }

    fn ask(&mut self) {
        let wants = self.script.byte();
        let (verdict, model_events) = self.model.ask(self.now);
        let mut retry_after_ns = UNWRITTEN;
        let retry = if wants & 1 == 0 { &raw mut retry_after_ns } else { null_mut() };
        let mut events = Events::new(wants & 2 == 0);
        // SAFETY: the handle is live, the places are this function's own or NULL.
        let status = unsafe { escope_breaker_ask_at(self.breaker.0, retry, events.pointer(), self.now) };
        self.see("ask", status, &model_events);
        let (expected, retry_expected) = match verdict {
            Ok(()) => (Status::Ok as i32, 0),
            Err(rejection) => (refusal(rejection.reason), rejection.retry_after_ns),
        };
        assert_eq!(status, expected);
        events.compare(&model_events);
        assert_eq!(retry_after_ns, if wants & 1 == 0 { retry_expected } else { UNWRITTEN });
    }

    /// One of the permits, counted back from the newest.
    fn choose(&mut self) -> Option<usize> {
        let back = self.script.below(8);
        self.permits.len().checked_sub(back + 1)
    }

    /// The number of an outcome or mode: mostly a known one.
    fn number(&mut self, known: usize) -> i32 {
        let choice = self.script.byte();
        if choice < 240 { i32::from(choice) % known as i32 } else { self.script.i32() }
    }

    fn record(&mut self) {
        let Some(number) = self.choose() else { return };
        let outcome = self.number(OUTCOMES.len());
        let mut events = Events::new(self.script.byte() & 1 == 0);
        let before = self.permits[number].memory;
        let status = {
            let permit = self.permits[number].memory.pointer();
            // SAFETY: the handle is live, the places are this run's own or NULL.
            unsafe { escope_breaker_record_at(self.breaker.0, permit, outcome, events.pointer(), self.now) }
        };
        let Some(known) = known(&OUTCOMES, outcome) else {
            self.see("record", status, &[]);
            assert_eq!(status, Status::InvalidArgument as i32);
            assert_eq!(self.permits[number].memory, before, "a refused record changed the permit");
            return events.untouched();
        };
        if self.permits[number].used_up {
            self.see("record", status, &[]);
            assert_eq!(status, Status::AlreadyDone as i32);
            return events.untouched();
        }
        let (verdict, model_events) = self.model.record(number, known, self.now);
        self.permits[number].used_up = true;
        assert_eq!(self.permits[number].memory, before.with_state(self.done));
        self.see("record", status, &model_events);
        assert_eq!(status, told(verdict));
        // Also beside ALREADY_DONE: what the call caused comes with no other one.
        events.compare(&model_events);
    }

    fn report(&mut self) {
        let outcome = self.number(OUTCOMES.len());
        let mut events = Events::new(self.script.byte() & 1 == 0);
        // SAFETY: the handle is live, the place is this function's own or NULL.
        let status = unsafe { escope_breaker_report_at(self.breaker.0, outcome, events.pointer(), self.now) };
        let Some(known) = known(&OUTCOMES, outcome) else {
            self.see("report", status, &[]);
            assert_eq!(status, Status::InvalidArgument as i32);
            return events.untouched();
        };
        let (verdict, model_events) = self.model.report(known, self.now);
        self.see("report", status, &model_events);
        assert_eq!(status, told(verdict));
        events.compare(&model_events);
    }

    /// A program that copied a probe records the copy as well: its slot notices, within the round. A closed breaker
    /// would not, so nothing is copied there.
    fn record_again(&mut self) {
        let Some(number) = self.choose() else { return };
        let in_its_round = self.model.is_probe(number)
            && self.model.generation_of(number) == self.model.generation
            && !self.released;
        let Held { mut memory, used_up: true } = self.permits[number] else { return };
        if !in_its_round {
            return;
        }
        memory = memory.with_state(self.live);
        let mut events = Events::new(true);
        let outcome = self.script.below(OUTCOMES.len());
        let (verdict, model_events) = self.model.record(number, OUTCOMES[outcome], self.now);
        // SAFETY: the handle is live, the places are this function's own.
        let status = unsafe {
            let (permit, events) = (memory.pointer(), events.pointer());
            escope_breaker_record_at(self.breaker.0, permit, outcome as i32, events, self.now)
        };
        self.see("record", status, &model_events);
        assert_eq!(status, told(verdict));
        events.compare(&model_events);
    }

    /// Our breaker's number and a permit's state, with the rest made up: a probe that was never granted.
    fn record_forged(&mut self) {
        let Some(sample) = self.choose() else { return };
        let (beyond, wild) = (self.created.probe_places() as u32, self.script.byte());
        let (slot, epoch) = if wild % 2 == 0 {
            // Below the number that says that it is none.
            (beyond.max(u32::MAX >> (1 + wild % 30)), u32::from(wild))
        } else {
            // A round that is under way is at rest before the forged result is looked at.
            self.settle();
            if self.model.phase != Phase::HalfOpen {
                return;
            }
            (u32::from(wild / 4) % beyond, if wild & 2 == 0 { 0 } else { MOST_OPS as u32 + 1 })
        };
        let memory = self.permits[sample].memory.forged(self.model.generation, slot, epoch, self.live);
        let (mut recorded, mut events) = (memory, Events::new(true));
        // SAFETY: the handle is live, the places are this function's own.
        let status = unsafe {
            let (permit, events) = (recorded.pointer(), events.pointer());
            escope_breaker_record_at(self.breaker.0, permit, i32::from(wild % 5), events, self.now)
        };
        self.see("record", status, &[]);
        assert_eq!(status, Status::PermitNotFound as i32);
        assert_eq!(recorded, memory.with_state(self.done));
        events.compare(&[]);
    }

    /// A permit of another breaker, and one of ours that is shown to that one: refused, and both stay usable.
    fn record_foreign(&mut self) {
        let mut foreign = Memory::BLANK;
        // SAFETY: the handles are live, the memory is this function's own.
        unsafe {
            let acquired =
                escope_breaker_acquire_at(self.other.0, foreign.pointer(), null_mut(), null_mut(), self.now);
            assert_eq!(acquired, Status::Ok as i32);
            self.refused_record(self.breaker.0, foreign);
            assert_eq!(
                escope_breaker_record_at(self.other.0, foreign.pointer(), 0, null_mut(), self.now),
                Status::Ok as i32
            );
        }
        if let Some(number) = self.choose()
            && !self.permits[number].used_up
        {
            self.refused_record(self.other.0, self.permits[number].memory);
        }
    }

    /// Memory that no call filled. Only the state decides whether it is taken for a permit, so that is kept from
    /// being a live one: with the right number of the breaker that would be a forgery and count.
    fn record_garbage(&mut self) {
        let mut garbage = Memory(std::array::from_fn(|_| self.script.u64()));
        match self.script.byte() {
            0..64 => garbage = garbage.with_state(self.done),
            _ if garbage.state() == self.live => garbage = garbage.with_state(!self.live),
            _ => {}
        }
        if garbage.state() != self.done {
            return self.refused_record(self.breaker.0, garbage);
        }
        let before = garbage;
        // SAFETY: the handle is live, the memory is this function's own.
        let status =
            unsafe { escope_breaker_record_at(self.breaker.0, garbage.pointer(), 0, null_mut(), self.now) };
        assert_eq!((status, garbage), (Status::AlreadyDone as i32, before));
    }

    fn refused_record(&mut self, breaker: *mut escope_breaker, mut memory: Memory) {
        let before = memory;
        let mut events = Events::new(true);
        // SAFETY: the handle is live, the places are this function's own.
        let status =
            unsafe { escope_breaker_record_at(breaker, memory.pointer(), 0, events.pointer(), self.now) };
        self.see("record", status, &[]);
        assert_eq!((status, memory), (Status::InvalidArgument as i32, before));
        events.untouched();
    }

    fn settle(&mut self) {
        let mut events = Events::new(self.script.byte() & 1 == 0);
        let model_events = self.model.settled(self.now);
        // SAFETY: the handle is live, the place is this function's own or NULL.
        let status = unsafe { escope_breaker_settle_at(self.breaker.0, events.pointer(), self.now) };
        self.see("settle", status, &model_events);
        assert_eq!(status, Status::Ok as i32);
        events.compare(&model_events);
    }

    fn reset(&mut self) {
        let mut events = Events::new(self.script.byte() & 1 == 0);
        let model_events = self.model.reset(self.now);
        // SAFETY: the handle is live, the place is this function's own or NULL.
        let status = unsafe { escope_breaker_reset_at(self.breaker.0, events.pointer(), self.now) };
        self.see("reset", status, &model_events);
        assert_eq!(status, Status::Ok as i32);
        events.compare(&model_events);
    }

    fn set_mode(&mut self) {
        let mode = self.number(MODES.len());
        let mut events = Events::new(self.script.byte() & 1 == 0);
        // SAFETY: the handle is live, the place is this function's own or NULL.
        let status = unsafe { escope_breaker_set_mode_at(self.breaker.0, mode, events.pointer(), self.now) };
        let Some(known) = known(&MODES, mode) else {
            self.see("set_mode", status, &[]);
            assert_eq!(status, Status::InvalidArgument as i32);
            return events.untouched();
        };
        let model_events = self.model.set_mode(known, self.now);
        self.see("set_mode", status, &model_events);
        assert_eq!(status, Status::Ok as i32);
        events.compare(&model_events);
    }

    /// Other options, which keep the state or begin anew.
    fn configure(&mut self, anew: bool) {
        let mut events = Events::new(self.script.byte() & 1 == 0);
        let mut options = options(&mut self.script, self.unit);
        let config = options.config().filter(|config| self.fits(config));
        let is_far = self.now > FAR_NS && config.is_some_and(|config| is_in_time(&config));
        if is_far || self.configurations == MOST_CONFIGURATIONS {
            return;
        }
        self.configurations += 1;
        let operation = if anew { "reinstall" } else { "reconfigure" };
        let call = if anew { escope_breaker_reinstall_at } else { escope_breaker_reconfigure_at };
        // SAFETY: the handle is live, the options and the events are this function's own or NULL.
        let status = unsafe { call(self.breaker.0, options.block.pointer(), events.pointer(), self.now) };
        let Some(config) = config else {
            self.see(operation, status, &[]);
            assert_eq!(status, Status::InvalidArgument as i32, "{:?}", options.values);
            return events.untouched();
        };
        self.released |= config.release_expired_probes;
        let model_events = match anew {
            false => self.model.reconfigure(config, self.now),
            true => self.model.reinstall(config, self.now),
        };
        self.see(operation, status, &model_events);
        assert_eq!(status, Status::Ok as i32, "{:?}", options.values);
        events.compare(&model_events);
    }

    /// Whether the memory of the creation suffices. A window's is as long as a power of two.
    fn fits(&self, config: &BreakerConfig) -> bool {
        let needed = BreakerConfig { window_capacity: 0, ..*config }.window_places();
        config.half_open_permits as usize <= self.created.probe_places()
            && needed <= self.created.window_places()
    }

    fn advance(&mut self) {
        let by = u64::from(self.script.byte() % 64) * self.unit;
        self.move_to(self.now.saturating_add(by));
    }

    /// Any later time, where the breaker can tell it from all others.
    fn set_time(&mut self) {
        let time = match self.script.below(3) {
            0 => {
                let by = u64::from(self.script.byte()) << self.script.below(56);
                self.now.saturating_add(by)
            }
            1 => self.script.u64(),
            _ => u64::MAX - u64::from(self.script.byte()),
        };
        if time <= FAR_NS || !is_in_time(&self.model.config) {
            self.move_to(time);
        }
    }

    /// The model is told no time that falls, and takes the last of all for the end of rounds without a limit.
    fn move_to(&mut self, time: u64) {
        self.now = self.now.max(time.min(u64::MAX - 1));
    }

    /// NULL and misaligned pointers where something must be, each alone.
    fn refuse_pointers(&mut self) {
        let breaker = self.breaker.0;
        let mut permit = Memory::BLANK.with_state(self.live);
        let before = permit;
        let nothing: *mut escope_breaker = null_mut();
        let odd = breaker.wrapping_byte_add(1);
        let (mut events, mut options) = (Events::new(true), Room::stating(MOST_BYTES, 0));
        // SAFETY: every call has a pointer that the library refuses without reading it; the others are valid.
        let statuses = unsafe {
            let (p, e) = (permit.pointer(), events.pointer());
            let o: *mut escope_breaker_options = options.pointer();
            let (odd_p, odd_e, odd_o) =
                (p.wrapping_byte_add(1), e.wrapping_byte_add(1), o.wrapping_byte_add(1));
            [
                escope_breaker_acquire_at(nothing, p, null_mut(), e, self.now),
                escope_breaker_acquire_at(odd, p, null_mut(), e, self.now),
                escope_breaker_acquire_at(breaker, null_mut(), null_mut(), e, self.now),
                escope_breaker_acquire_at(breaker, odd_p, null_mut(), e, self.now),
                escope_breaker_acquire_at(breaker, p, std::ptr::without_provenance_mut(4), e, self.now),
                escope_breaker_acquire_at(breaker, p, null_mut(), odd_e, self.now),
                escope_breaker_record_at(nothing, p, 0, e, self.now),
                escope_breaker_record_at(breaker, null_mut(), 0, e, self.now),
                escope_breaker_record_at(breaker, odd_p, 0, e, self.now),
                escope_breaker_record_at(breaker, p, 0, odd_e, self.now),
                escope_breaker_ask_at(nothing, null_mut(), e, self.now),
                escope_breaker_ask_at(breaker, std::ptr::without_provenance_mut(4), e, self.now),
                escope_breaker_ask_at(breaker, null_mut(), odd_e, self.now),
                escope_breaker_report_at(nothing, 0, e, self.now),
                escope_breaker_report_at(breaker, 0, odd_e, self.now),
                escope_breaker_settle_at(nothing, e, self.now),
                escope_breaker_settle_at(breaker, odd_e, self.now),
                escope_breaker_reset_at(nothing, e, self.now),
                escope_breaker_reset_at(breaker, odd_e, self.now),
                escope_breaker_set_mode_at(nothing, 0, e, self.now),
                escope_breaker_set_mode_at(breaker, 0, odd_e, self.now),
                escope_breaker_reconfigure_at(nothing, o, e, self.now),
                escope_breaker_reconfigure_at(breaker, null(), e, self.now),
                escope_breaker_reconfigure_at(breaker, odd_o, e, self.now),
                escope_breaker_reconfigure_at(breaker, o, odd_e, self.now),
                escope_breaker_reinstall_at(nothing, o, e, self.now),
                escope_breaker_reinstall_at(breaker, null(), e, self.now),
                escope_breaker_reinstall_at(breaker, odd_o, e, self.now),
                escope_breaker_reinstall_at(breaker, o, odd_e, self.now),
                escope_breaker_snapshot_at(breaker, null_mut(), self.now),
                escope_breaker_new(null_mut(), null_mut()),
                escope_breaker_options_init(null_mut(), MOST_BYTES),
                escope_breaker_stats_init(null_mut(), MOST_BYTES),
            ]
        };
        assert_eq!(statuses, [Status::InvalidArgument as i32; 33]);
        assert_eq!(permit, before);
        events.untouched();
    }

    /// A second reference, given back: nothing changes.
    fn share(&mut self) {
        // SAFETY: the handle is live, and each reference is given back once.
        unsafe {
            drop(Handle(escope_breaker_ref(self.breaker.0)));
            assert!(escope_breaker_ref(null_mut()).is_null());
            escope_breaker_free(null_mut());
        }
    }

    /// A caller's structs of a stated size: refused, or filled exactly so far.
    fn structs(&mut self) {
        let size = usize::from(u16::from_le_bytes(self.script.bytes()));
        let (mut options, mut stats) = (Room::stating(size, UNTOUCHED), Room::stating(size, UNTOUCHED));
        // SAFETY: the handle is live, and each block has room for every size that the library takes.
        let statuses = unsafe {
            [
                escope_breaker_options_init(options.pointer(), size),
                escope_breaker_stats_init(stats.pointer(), size),
            ]
        };
        self.seen.extend([("options_init", statuses[0]), ("stats_init", statuses[1])]);
        filled::<escope_breaker_options>(&options.0, size, statuses[0]);
        filled::<escope_breaker_stats>(&stats.0, size, statuses[1]);
        let mut stats = Room::stating(size, UNTOUCHED);
        // SAFETY: as above.
        let status = unsafe { escope_breaker_snapshot_at(self.breaker.0, stats.pointer(), self.now) };
        self.seen.insert(("snapshot", status));
        filled::<escope_breaker_stats>(&stats.0, size, status);
    }

    fn compare_statistics(&mut self) {
        let mut stats =
            escope_breaker_stats { struct_size: size_of::<escope_breaker_stats>(), ..Default::default() };
        // SAFETY: the handle is live, the place is this function's own.
        let status = unsafe { escope_breaker_snapshot_at(self.breaker.0, &mut stats, self.now) };
        assert_eq!(status, Status::Ok as i32);
        let expected = statistics(&self.model.snapshot(self.now));
        // SAFETY: the structs hold integers and no padding.
        let [got, wanted] = [stats, expected].map(|stats| unsafe {
            std::mem::transmute::<escope_breaker_stats, [u8; size_of::<escope_breaker_stats>()]>(stats)
        });
        assert!(got == wanted, "{stats:#?} but {expected:#?}");
    }

    fn see(&mut self, operation: &'static str, status: i32, events: &[Event]) {
        self.seen.insert((operation, status));
        self.seen.extend(events.iter().map(|event| ("cause", event.cause as i32)));
    }
}

/// The statistics of a snapshot.
fn statistics(now: &Snapshot) -> escope_breaker_stats {
    escope_breaker_stats {
        struct_size: size_of::<escope_breaker_stats>(),
        retry_after_ns: now.retry_after_ns,
        last_change_ns: now.last_change_ns,
        window_calls: now.window_calls,
        failures: now.failures,
        slow_calls: now.slow_calls,
        admitted: now.counts.admitted,
        succeeded: now.counts.succeeded,
        failed: now.counts.failed,
        ignored: now.counts.ignored,
        cancelled: now.counts.cancelled,
        stale: now.counts.stale,
        expired: now.counts.expired,
        reported: now.counts.reported,
        rejected_open: now.counts.rejected_open,
        rejected_half_open: now.counts.rejected_half_open,
        rejected_forced_open: now.counts.rejected_forced_open,
        rejected_degraded: now.counts.rejected_degraded,
        injected: 0,
        phase: now.phase as i32,
        mode: now.mode as i32,
        level: now.level as i32,
        last_cause: now.last_cause.map_or(0, |cause| cause as i32),
        generation: now.generation,
        opens: now.opens,
        live_probes: now.live_probes,
        failure_rate_bp: now.failure_rate_bp,
        slow_call_rate_bp: now.slow_call_rate_bp,
        reserved: 0,
    }
}

/// The status of a rejection.
fn refusal(reason: RejectReason) -> i32 {
    #[allow(unreachable_patterns)] // a build with fault injection has a reason more
    let status = match reason {
        RejectReason::Open => Status::CircuitOpen,
        RejectReason::HalfOpenFull => Status::HalfOpenFull,
        RejectReason::ForcedOpen => Status::ForcedOpen,
        RejectReason::Degraded => Status::ServiceDegraded,
        _ => unreachable!("nothing is injected"),
    };
    status as i32
}

/// The status of a verdict.
fn told(verdict: RecordVerdict) -> i32 {
    let status = match verdict {
        RecordVerdict::Applied => Status::Ok,
        RecordVerdict::Stale => Status::Stale,
        RecordVerdict::Expired => Status::Expired,
        RecordVerdict::AlreadyDone => Status::AlreadyDone,
        RecordVerdict::NotFound => Status::PermitNotFound,
    };
    status as i32
}

fn known<T: Copy>(values: &[T], number: i32) -> Option<T> {
    usize::try_from(number).ok().and_then(|number| values.get(number)).copied()
}

/// Whether results are held in buckets of time.
fn is_in_time(config: &BreakerConfig) -> bool {
    matches!(config.policy, Policy::Rate { window: Window::Time { .. }, .. })
}

/// Whether a call has filled a struct up to its stated size, or refused that and left the memory alone.
fn filled<T: Growing>(bytes: &[u8], size: usize, status: i32) {
    let valid = (T::FIRST_SIZE..=MOST_BYTES).contains(&size);
    let expected = if valid { Status::Ok } else { Status::InvalidArgument };
    assert_eq!(status, expected as i32, "{size} bytes");
    let (written, rest) = bytes.split_at(if valid { size } else { 8 });
    assert!(rest.iter().all(|byte| *byte == UNTOUCHED), "written past {size} bytes");
    assert_eq!(written[..8], size.to_le_bytes());
    let unknown = &written[written.len().min(size_of::<T>())..];
    assert!(unknown.iter().all(|byte| *byte == 0), "what the library does not know is zero");
}
