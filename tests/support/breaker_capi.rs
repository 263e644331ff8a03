//! Reads bytes as options and operations, makes them on a breaker through the C ABI and compares each answer with the
//! sequential model: status, events, retry time, statistics, and what must be left untouched.
//!
//! Any bytes are a program, and few of them a long one: `fuzz/fuzz_targets/breaker_capi.rs` lets a fuzzer choose
//! them, `tests/fuzz_corpus.rs` replays those that are checked in. The file that includes this one also has the model as
//! its module `breaker_model`.
#![allow(unsafe_code)] // the C ABI is unsafe to call

use super::breaker_model::Model;
use elixirscope::breaker::{BreakerConfig, Event, Outcome, RecordVerdict, RejectReason};
use elixirscope::capi::breaker::*;
use elixirscope::capi::options::Growing;
use elixirscope::status::Status;
use std::collections::BTreeSet;
use std::ptr::null_mut;

/// What a run has come by: operations with their statuses, and causes of events.
pub type Seen = BTreeSet<(&'static str, i32)>;

/// Operations of one run, so that a long input takes no time that a short one would not show.
const MOST_OPS: usize = 400;
/// A caller's struct may state up to so many bytes.
const MOST_BYTES: usize = 4096;
/// What memory holds that a call must not write.
const UNTOUCHED: u8 = 0xA5;

const OUTCOMES: [Outcome; 3] = [Outcome::Success, Outcome::Failure, Outcome::Ignored];

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

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
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
            (event.at_ns, event.sequence, event.generation, from, to, cause, 0)
        };
        let got = |event: &escope_event| {
            let escope_event { at_ns, sequence, generation, from, to, cause, reserved } = *event;
            (at_ns, sequence, generation, from, to, cause, reserved)
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

/// Tallies of what the calls returned, in the order of the statistics' fields.
#[derive(Debug, Default, PartialEq, Eq)]
struct Books {
    admitted: u64,
    succeeded: u64,
    failed: u64,
    ignored: u64,
    rejected_open: u64,
    rejected_half_open: u64,
    stale: u64,
    expired: u64,
}

struct Run<'a> {
    script: Script<'a>,
    breaker: Handle,
    /// Another breaker, whose permits are foreign to the first.
    other: Handle,
    model: Model,
    permits: Vec<Held>,
    books: Books,
    now: u64,
    /// The words by which a permit's memory says that it may be recorded, and that it was.
    live: u32,
    done: u32,
    seen: Seen,
}

/// Runs the program in `bytes`; panics where breaker and model differ.
pub fn run(bytes: &[u8]) -> Seen {
    let mut script = Script(bytes);
    let mut seen = Seen::new();
    let Some((config, breaker)) = create(&mut script, &mut seen) else { return seen };
    let other = new_breaker(null_mut()).expect("the defaults are valid");
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
        permits: vec![],
        books: Books::default(),
        now: 0,
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

/// A breaker from the options that the script spells, or nothing where they are refused, as they should be.
fn create(script: &mut Script, seen: &mut Seen) -> Option<(BreakerConfig, Handle)> {
    let default = escope_breaker_options::default();
    let mut size = size_of::<escope_breaker_options>();
    let mut tail = 0;
    let options = match script.below(8) {
        0 => default,
        // Small numbers, by which everything happens soon.
        1..6 => {
            let half_open_permits = 1 + script.below(4) as u32;
            escope_breaker_options {
                failure_threshold: 1 + script.below(3) as u32,
                open_for_ns: u64::from(script.byte() % 64),
                probe_lease_ns: 1 + u64::from(script.byte() % 64),
                half_open_permits,
                successes_to_close: 1 + script.below(half_open_permits as usize) as u32,
                ..default
            }
        }
        // Any numbers, also such as are out of range, in a struct of any size.
        _ => {
            size = usize::from(u16::from_le_bytes(script.bytes()));
            tail = script.byte();
            let wide = script.byte();
            let field = |script: &mut Script, bit: u8, default: u64| match wide & 1 << bit {
                0 => default,
                _ => script.u64() >> script.below(64),
            };
            escope_breaker_options {
                open_for_ns: field(script, 0, default.open_for_ns),
                probe_lease_ns: field(script, 1, default.probe_lease_ns),
                failure_threshold: field(script, 2, default.failure_threshold.into()) as u32,
                half_open_permits: field(script, 3, default.half_open_permits.into()) as u32,
                successes_to_close: field(script, 4, default.successes_to_close.into()) as u32,
                reserved: field(script, 5, 0) as u32,
                ..default
            }
        }
    };
    let mut block = Room::stating(size, 0);
    // SAFETY: the block is larger than the struct and aligned for it.
    unsafe {
        block
            .pointer::<escope_breaker_options>()
            .write(escope_breaker_options { struct_size: size, ..options })
    };
    block.0[MOST_BYTES - 1] = tail;
    let config = BreakerConfig {
        open_for_ns: options.open_for_ns,
        probe_lease_ns: options.probe_lease_ns,
        failure_threshold: options.failure_threshold,
        half_open_permits: options.half_open_permits,
        successes_to_close: options.successes_to_close,
    };
    let valid = (escope_breaker_options::FIRST_SIZE..=MOST_BYTES).contains(&size)
        && (tail == 0 || size < MOST_BYTES)
        && options.reserved == 0
        && config.validate().is_ok();
    let breaker = new_breaker(block.pointer());
    seen.insert(("new", breaker.as_ref().err().copied().unwrap_or(0)));
    match breaker {
        Ok(breaker) => {
            assert!(valid, "accepted: {options:?} in {size} bytes");
            Some((config, breaker))
        }
        Err(status) => {
            assert_eq!(
                (valid, status),
                (false, Status::InvalidArgument as i32),
                "{options:?} in {size} bytes"
            );
            None
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
        match self.script.below(20) {
            0..5 => self.acquire(),
            5..10 => self.record(),
            10..12 => self.now = self.now.saturating_add(self.script.byte().into()),
            12 => self.set_time(),
            13 => self.reset(),
            14 => self.record_again(),
            15 => self.record_foreign(),
            16 => self.record_garbage(),
            17 => self.refuse_pointers(),
            18 => self.structs(),
            _ => self.share(),
        }
    }

    fn acquire(&mut self) {
        let wants = self.script.byte();
        let (verdict, model_events) = self.model.acquire(self.now);
        let mut memory = Memory::BLANK;
        let mut retry_after_ns = u64::MAX;
        let retry = if wants & 1 == 0 { &raw mut retry_after_ns } else { null_mut() };
        let mut events = Events::new(wants & 2 == 0);
        // SAFETY: the handle is live, the places are this function's own or NULL.
        let status = unsafe {
            escope_breaker_acquire_at(self.breaker.0, memory.pointer(), retry, events.pointer(), self.now)
        };
        self.see("acquire", status, &model_events);
        events.compare(&model_events);
        let retry_expected = match verdict {
            Ok(number) => {
                assert_eq!((status, number), (Status::Ok as i32, self.permits.len()));
                assert_eq!(memory.state(), self.live);
                self.books.admitted += 1;
                self.permits.push(Held { memory, used_up: false });
                0
            }
            Err(rejection) => {
                let (expected, book) = match rejection.reason {
                    RejectReason::Open => (Status::CircuitOpen, &mut self.books.rejected_open),
                    RejectReason::HalfOpenFull => (Status::HalfOpenFull, &mut self.books.rejected_half_open),
                };
                *book += 1;
                assert_eq!((status, memory), (expected as i32, Memory::BLANK));
                rejection.retry_after_ns
            }
        };
        if wants & 1 == 0 {
            assert_eq!(retry_after_ns, retry_expected);
        }
    }

    /// One of the permits, counted back from the newest.
    fn choose(&mut self) -> Option<usize> {
        let back = self.script.below(8);
        self.permits.len().checked_sub(back + 1)
    }

    fn record(&mut self) {
        let Some(number) = self.choose() else { return };
        let choice = self.script.byte();
        let outcome = if choice < 240 { i32::from(choice % 3) } else { self.script.u32() as i32 };
        let mut events = Events::new(self.script.byte() & 1 == 0);
        let before = self.permits[number].memory;
        let status = {
            let permit = self.permits[number].memory.pointer();
            // SAFETY: the handle is live, the places are this run's own or NULL.
            unsafe { escope_breaker_record_at(self.breaker.0, permit, outcome, events.pointer(), self.now) }
        };
        let Some(&known) = usize::try_from(outcome).ok().and_then(|outcome| OUTCOMES.get(outcome)) else {
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
        let expected = match verdict {
            RecordVerdict::Applied => Status::Ok,
            RecordVerdict::Stale => Status::Stale,
            RecordVerdict::Expired => Status::Expired,
            RecordVerdict::AlreadyDone => Status::AlreadyDone,
        };
        assert_eq!(status, expected as i32);
        // Also beside ALREADY_DONE: what the call caused comes with no other one.
        events.compare(&model_events);
        match (verdict, known) {
            (RecordVerdict::Applied, Outcome::Success) => self.books.succeeded += 1,
            (RecordVerdict::Applied, Outcome::Failure) => self.books.failed += 1,
            (RecordVerdict::Applied, Outcome::Ignored) => self.books.ignored += 1,
            (RecordVerdict::Stale, _) => self.books.stale += 1,
            (RecordVerdict::Expired, _) => self.books.expired += 1,
            (RecordVerdict::AlreadyDone, _) => {}
        }
    }

    /// A program that copied a probe records the copy as well: its slot notices. A closed breaker would not, so
    /// nothing is copied there.
    fn record_again(&mut self) {
        let Some(number) = self.choose() else { return };
        if self.model.is_probe(number) && self.permits[number].used_up {
            let Held { memory, used_up } = &mut self.permits[number];
            (*memory, *used_up) = (memory.with_state(self.live), false);
        }
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

    fn reset(&mut self) {
        let mut events = Events::new(self.script.byte() & 1 == 0);
        let model_events = self.model.reset(self.now);
        // SAFETY: the handle is live, the place is this function's own or NULL.
        let status = unsafe { escope_breaker_reset_at(self.breaker.0, events.pointer(), self.now) };
        self.see("reset", status, &model_events);
        assert_eq!(status, Status::Ok as i32);
        events.compare(&model_events);
    }

    /// Any time, also one that lies before the last.
    fn set_time(&mut self) {
        self.now = match self.script.below(4) {
            0 => self.now.saturating_sub(self.script.byte().into()),
            1 => self.script.u64(),
            2 => u64::MAX - u64::from(self.script.byte()),
            _ => self.now.saturating_add(u64::from(self.script.byte()) << self.script.below(56)),
        };
    }

    /// NULL and misaligned pointers where something must be, each alone.
    fn refuse_pointers(&mut self) {
        let breaker = self.breaker.0;
        let mut permit = Memory::BLANK.with_state(self.live);
        let before = permit;
        let nothing: *mut escope_breaker = null_mut();
        let odd = breaker.wrapping_byte_add(1);
        let mut events = Events::new(true);
        // SAFETY: every call has a pointer that the library refuses without reading it; the others are valid.
        let statuses = unsafe {
            let (p, e) = (permit.pointer(), events.pointer());
            let (odd_p, odd_e) = (p.wrapping_byte_add(1), e.wrapping_byte_add(1));
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
                escope_breaker_reset_at(nothing, e, self.now),
                escope_breaker_reset_at(breaker, odd_e, self.now),
                escope_breaker_snapshot_at(breaker, null_mut(), self.now),
                escope_breaker_new(null_mut(), null_mut()),
                escope_breaker_options_init(null_mut(), MOST_BYTES),
                escope_breaker_stats_init(null_mut(), MOST_BYTES),
            ]
        };
        assert_eq!(statuses, [Status::InvalidArgument as i32; 16]);
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

    /// The statistics against the model and the books.
    fn compare_statistics(&mut self) {
        let mut stats =
            escope_breaker_stats { struct_size: size_of::<escope_breaker_stats>(), ..Default::default() };
        // SAFETY: the handle is live, the place is this function's own.
        let status = unsafe { escope_breaker_snapshot_at(self.breaker.0, &mut stats, self.now) };
        assert_eq!(status, Status::Ok as i32);
        let books = Books {
            admitted: stats.admitted,
            succeeded: stats.succeeded,
            failed: stats.failed,
            ignored: stats.ignored,
            rejected_open: stats.rejected_open,
            rejected_half_open: stats.rejected_half_open,
            stale: stats.stale,
            expired: stats.expired,
        };
        assert_eq!(books, self.books);
        let (model, now) = (&self.model, self.now);
        assert_eq!(
            (stats.phase, stats.generation, stats.consecutive_failures, stats.live_probes),
            (model.phase as i32, model.generation, model.consecutive_failures, model.live_probes(now))
        );
    }

    fn see(&mut self, operation: &'static str, status: i32, events: &[Event]) {
        self.seen.insert((operation, status));
        self.seen.extend(events.iter().map(|event| ("cause", event.cause as i32)));
    }
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
