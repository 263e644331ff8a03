//! Reads bytes as options and operations, makes them on a limiter through the C ABI and compares each answer with the
//! sequential model: status, decision, wait, counters, and what must be left untouched.
//!
//! Any bytes are a program, and few of them a long one: `fuzz/fuzz_targets/limiter_capi.rs` lets a fuzzer choose
//! them, `tests/fuzz_corpus.rs` replays those that are checked in. The file that includes this one also has the model as
//! its module `limiter_oracle`, and `fuzz_script`.
//!
//! A run is of one of two kinds. With room for every key it makes all calls. With sixteen places for twenty keys it makes
//! those whose answers the model knows when a key has lost its place: checks, also many at once, and resets.
#![allow(unsafe_code)] // the C ABI is unsafe to call

use super::fuzz_script::*;
use super::limiter_oracle::{By, Terms, World};
use elixirscope::capi::limiter::check::*;
use elixirscope::capi::limiter::decision::escope_decision;
use elixirscope::capi::limiter::file::*;
use elixirscope::capi::limiter::group::*;
use elixirscope::capi::limiter::header_fields::*;
use elixirscope::capi::limiter::limit::*;
use elixirscope::capi::limiter::options::*;
use elixirscope::capi::limiter::receipt::*;
use elixirscope::capi::limiter::reserve::*;
use elixirscope::capi::limiter::rule::escope_rule;
use elixirscope::capi::limiter::stats::*;
use elixirscope::capi::limiter::wait::*;
use elixirscope::capi::limiter::*;
use elixirscope::capi::options::Growing;
use elixirscope::limiter::{Adjusted, Decision, FullPolicy, Strategy, Verdict};
use elixirscope::status::Status;
use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr::{null, null_mut};
use std::{fs, thread};

/// The first four are measured by one rule, the next by another, the next by any; the others by a limit each four.
const KEYS: [&str; 20] =
    ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", ""];
const LIMITS: [&CStr; 2] = [c"user", c"organisation"];
/// Places of a table made for one key.
const PLACES: usize = 16;
const STRATEGIES: [Strategy; 4] =
    [Strategy::AsIs, Strategy::Proportional, Strategy::Additive, Strategy::Reset];
const POLICIES: [FullPolicy; 3] = [FullPolicy::DenyNew, FullPolicy::EvictMostFull, FullPolicy::OverflowKey];

/// 48 bytes for a receipt, as plain words: they may also hold what no call ever wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory([u64; 6]);

impl Memory {
    const BLANK: Self = Self([UNWRITTEN; 6]);

    fn pointer(&mut self) -> *mut escope_receipt {
        self.0.as_mut_ptr().cast()
    }

    fn state(self) -> u32 {
        (self.0[5] >> 32) as u32
    }

    fn with_state(mut self, state: u32) -> Self {
        self.0[5] = self.0[5] & u64::from(u32::MAX) | u64::from(state) << 32;
        self
    }
}

/// A receipt that the model knows by its number in the list.
struct Held {
    memory: Memory,
    key: usize,
    cost: u64,
    used_up: bool,
    /// A reset has made the key forget it, or it was taken by a rule that came and went: nothing is said about its use.
    forgotten: bool,
    /// Its limit has changed since: what is restored is not what was taken.
    changed: bool,
}

struct Limiter(*mut escope_limiter);

impl Drop for Limiter {
    fn drop(&mut self) {
        // SAFETY: the reference is this value's own.
        unsafe { escope_limiter_free(self.0) }
    }
}

struct Limit(*mut escope_limit);

impl Drop for Limit {
    fn drop(&mut self) {
        // SAFETY: the reference is this value's own.
        unsafe { escope_limit_free(self.0) }
    }
}

struct Run<'a> {
    script: Script<'a>,
    limiter: Limiter,
    /// Another limiter, whose receipts are foreign to the first.
    other: Limiter,
    limits: Vec<Limit>,
    /// The rules of the keys, then those of the limits.
    terms: [Terms; 4],
    model: World,
    crowded: bool,
    receipts: Vec<Held>,
    now: u64,
    counted: escope_limiter_stats,
    seen: Seen,
}

/// Where a file costs no disk.
fn folder() -> PathBuf {
    Some(PathBuf::from("/dev/shm")).filter(|folder| folder.is_dir()).unwrap_or_else(std::env::temp_dir)
}

fn rule_of(terms: Terms) -> escope_rule {
    escope_rule { tokens: terms.tokens, period_ns: terms.period_ns, burst: terms.burst }
}

/// Small numbers, by which every limit is reached.
fn terms(script: &mut Script<'_>) -> Terms {
    let [tokens, period, burst] = script.bytes();
    let period_ns = match period {
        0..200 => 1 + u64::from(period),
        _ => 1 << (period % 40),
    };
    Terms { tokens: 1 + u64::from(tokens % 58), period_ns, burst: u64::from(burst % 12) }
}

/// Runs the program in `bytes`; panics where limiter and model differ.
pub fn run(bytes: &[u8]) -> Seen {
    let mut script = Script(bytes);
    let crowded = script.below(3) == 0;
    let policy = script.small(3) as usize;
    let (mut options, valid) = options(&mut script, crowded, policy as i32);
    let mut seen = Seen::new();
    let limiter = new_limiter(options.pointer());
    let status = limiter.as_ref().err().copied().unwrap_or(0);
    seen.insert(("new", status));
    assert_eq!(status, if valid { Status::Ok } else { Status::InvalidArgument } as i32);
    let Ok(limiter) = limiter else { return seen };
    let other = new_limiter(null()).expect("the defaults are valid");
    let terms = std::array::from_fn(|_| terms(&mut script));
    let mut model = World::new(crowded.then_some(PLACES), POLICIES[policy]);
    let limits = (0..2)
        .map(|index| {
            let max_wait_ns = u64::from(script.byte());
            model.add_limit(terms[2 + index], max_wait_ns);
            let (rule, mut limit) = (rule_of(terms[2 + index]), null_mut());
            // SAFETY: the handle is live, the places are this function's own.
            let defined = unsafe {
                escope_limiter_define(limiter.0, LIMITS[index].as_ptr(), &rule, max_wait_ns, &mut limit)
            };
            assert_eq!(defined, Status::Ok as i32);
            Limit(limit)
        })
        .collect();
    let counted =
        escope_limiter_stats { struct_size: size_of::<escope_limiter_stats>(), ..Default::default() };
    let mut run = Run {
        script,
        limiter,
        other,
        limits,
        terms,
        model,
        crowded,
        receipts: vec![],
        now: 0,
        counted,
        seen,
    };
    for _ in 0..MOST_OPS {
        // Of keys that owe for the same time, the model does not know which loses its place.
        if run.script.0.is_empty() || run.model.eviction_is_open(run.now) {
            break;
        }
        run.step();
        run.compare_statistics();
    }
    run.seen
}

/// Options that make what the run wants, or, seldom, any bytes; and whether they are valid.
fn options(script: &mut Script<'_>, crowded: bool, full_policy: i32) -> (Room, bool) {
    const SECRET: &[u8; 16] = b"sixteen bytes ok";
    let mut size = size_of::<escope_limiter_options>();
    let mut tail = 0;
    let mut values = escope_limiter_options {
        max_keys: if crowded { 1 } else { 64 },
        secret: SECRET.as_ptr(),
        secret_len: 16,
        full_policy,
        ..escope_limiter_options::default()
    };
    match script.byte() % 32 {
        0 => (size, tail) = (usize::from(u16::from_le_bytes(script.bytes())), script.byte()),
        1 => values.max_keys = if script.byte() < 128 { 0 } else { 1 << 28 | 1 << (29 + script.below(34)) },
        2 => values.secret_len = script.below(20),
        3 => values.secret = null(),
        4 => values.full_policy = script.i32(),
        _ => {}
    }
    values.struct_size = size;
    let sized =
        (escope_limiter_options::FIRST_SIZE..=MOST_BYTES).contains(&size) && (tail == 0 || size < MOST_BYTES);
    let secret = values.secret_len == 16 && !values.secret.is_null()
        || values.secret_len == 0 && values.secret.is_null();
    let policy = known(&POLICIES, values.full_policy);
    let kept = policy.is_none_or(|policy| policy as i32 == full_policy);
    if !kept {
        values.full_policy = full_policy;
    }
    let valid = sized && secret && (policy.is_some() || !kept) && (1..=1 << 28).contains(&values.max_keys);
    let mut block = Room::stating(size, 0);
    // SAFETY: the block is larger than the struct and aligned for it.
    unsafe { block.pointer::<escope_limiter_options>().write(values) };
    block.0[MOST_BYTES - 1] = tail;
    (block, valid)
}

fn new_limiter(options: *const escope_limiter_options) -> Result<Limiter, i32> {
    let nothing = std::ptr::without_provenance_mut(8);
    let mut limiter: *mut escope_limiter = nothing;
    // SAFETY: `options` is NULL or a block as large as any size that the library takes; `limiter` is a local.
    let status = unsafe { escope_limiter_new(options, &mut limiter) };
    if status == Status::Ok as i32 {
        return Ok(Limiter(limiter));
    }
    assert_eq!(limiter, nothing, "a failure wrote its result");
    Err(status)
}

const BLANK: escope_decision = escope_decision {
    remaining: UNWRITTEN,
    limit: UNWRITTEN,
    retry_after_ns: UNWRITTEN,
    reset_after_ns: UNWRITTEN,
    status: -99,
    reserved: 99,
};

/// Whom a call is about, as the model and as C name it.
struct Charge {
    key: usize,
    by: By,
    rule: escope_rule,
    cost: u64,
}

impl Run<'_> {
    fn step(&mut self) {
        match self.script.below(32) {
            0..7 => self.check(),
            7..9 => self.peek(),
            9 => self.reset(),
            10..14 => self.advance(),
            14..18 => self.reserve(),
            18..20 => self.cancel(),
            20..22 => self.refund(),
            22..24 => self.settle(),
            24..26 => self.check_many(),
            26 => self.check_batch(),
            27 => self.change(),
            28 => self.wrong_receipt(),
            29 => self.header_fields(),
            30 => self.refuse_pointers(),
            _ => match self.script.below(5) {
                0 => self.structs(),
                1 => self.invalid_rule(),
                2 => self.names(),
                3 => self.file(),
                _ => self.acquire(),
            },
        }
    }

    fn charge(&mut self) -> Charge {
        let (key, wild) = (self.script.below(KEYS.len()), self.script.byte());
        let (by, terms) = match key {
            0..4 => (By::Rule(self.terms[0]), self.terms[0]),
            4..8 => (By::Rule(self.terms[1]), self.terms[1]),
            8..12 => {
                let terms = self.terms[usize::from(wild / 64)];
                (By::Rule(terms), terms)
            }
            _ => (By::Limit((key - 12) / 4), self.terms[2 + (key - 12) / 4]),
        };
        let cost = if wild % 64 == 63 { self.script.u64() } else { u64::from(wild % 8) };
        Charge { key, by, rule: rule_of(terms), cost }
    }

    fn c_charge(&self, charge: &Charge) -> escope_charge {
        let (rule, limit): (*const escope_rule, *const escope_limit) = match charge.by {
            By::Rule(_) => (&charge.rule, null()),
            By::Limit(index) => (null(), self.limits[index].0),
        };
        let key = KEYS[charge.key];
        escope_charge { key: key.as_ptr().cast(), key_len: key.len(), rule, limit, cost: charge.cost }
    }

    fn check(&mut self) {
        let charge = self.charge();
        let (c, mut decision, now) = (self.c_charge(&charge), BLANK, self.now);
        let expected = self.model.check(KEYS[charge.key], charge.by, charge.cost, now);
        // SAFETY: the handles are live, the places are this function's own.
        let status = unsafe {
            if c.rule.is_null() {
                escope_limiter_check_limit_at(
                    self.limiter.0,
                    c.key,
                    c.key_len,
                    c.limit,
                    c.cost,
                    &mut decision,
                    now,
                )
            } else {
                escope_limiter_check_at(self.limiter.0, c.key, c.key_len, c.rule, c.cost, &mut decision, now)
            }
        };
        self.decided("check", status, &decision, expected);
        self.count(expected.verdict);
    }

    fn peek(&mut self) {
        let charge = self.charge();
        let (c, mut decision, now) = (self.c_charge(&charge), BLANK, self.now);
        let expected = self.model.peek(KEYS[charge.key], charge.by, now);
        // SAFETY: the handles are live, the places are this function's own.
        let status = unsafe {
            if c.rule.is_null() {
                escope_limiter_peek_limit_at(self.limiter.0, c.key, c.key_len, c.limit, &mut decision, now)
            } else {
                escope_limiter_peek_at(self.limiter.0, c.key, c.key_len, c.rule, &mut decision, now)
            }
        };
        self.decided("peek", status, &decision, expected);
    }

    fn reset(&mut self) {
        let key = self.script.below(KEYS.len());
        self.model.reset(KEYS[key]);
        // SAFETY: the handle is live, the key is a constant.
        let status =
            unsafe { escope_limiter_reset(self.limiter.0, KEYS[key].as_ptr().cast(), KEYS[key].len()) };
        self.see("reset", status, Status::Ok);
        self.receipts.iter_mut().filter(|held| held.key == key).for_each(|held| held.forgotten = true);
    }

    fn advance(&mut self) {
        let by = self.script.byte();
        self.now += match by {
            0..192 => u64::from(by),
            _ => 1 << (by % 48),
        };
        // The table's time ends after nine years, far from here.
        self.now = self.now.min(1 << 57);
    }

    fn reserve(&mut self) {
        let charge = self.charge();
        let wait = self.script.byte();
        let max_wait_ns = if wait > 250 { u64::MAX >> (wait - 250) } else { u64::from(wait) * 8 };
        let max_wait_ns = if self.crowded { 0 } else { max_wait_ns };
        let (c, mut decision, mut memory) = (self.c_charge(&charge), BLANK, Memory::BLANK);
        let (mut wait_ns, mut cost) = (UNWRITTEN, UNWRITTEN);
        let (expected, wait, number) =
            self.model.reserve(KEYS[charge.key], charge.by, charge.cost, max_wait_ns, self.now);
        // SAFETY: the handles are live, the places are this function's own.
        let status = unsafe {
            let receipt = memory.pointer();
            escope_limiter_reserve_at(
                self.limiter.0,
                &c,
                max_wait_ns,
                receipt,
                &mut wait_ns,
                &mut decision,
                self.now,
            )
        };
        self.decided("reserve", status, &decision, expected);
        self.count(expected.verdict);
        if !expected.is_allowed() {
            return assert_eq!((memory, wait_ns), (Memory::BLANK, UNWRITTEN), "a refusal wrote its result");
        }
        assert_eq!(wait_ns, wait);
        // SAFETY: the memory was filled just now.
        assert_eq!(unsafe { escope_receipt_cost(memory.pointer(), &mut cost) }, Status::Ok as i32);
        assert_eq!(cost, if number.is_some() { charge.cost } else { 0 });
        match number {
            Some(number) => {
                assert_eq!(number, self.receipts.len());
                let forgotten = self.crowded || (8..12).contains(&charge.key);
                let (key, cost) = (charge.key, charge.cost);
                self.receipts.push(Held { memory, key, cost, used_up: false, forgotten, changed: false });
            }
            None => self.refused_receipt(self.limiter.0, memory, Status::BadReceipt),
        }
    }

    /// One of the receipts whose use the model can tell, counted back from the newest.
    fn choose(&mut self) -> Option<usize> {
        let back = self.script.below(6);
        let number = self.receipts.len().checked_sub(back + 1)?;
        (!self.receipts[number].forgotten).then_some(number)
    }

    /// What a use of a receipt must say, and what it must leave.
    fn used(&mut self, operation: &'static str, number: usize, status: i32, expected: Option<Adjusted>) {
        let expected = match expected {
            None => Status::AlreadyDone,
            Some(Adjusted::Applied | Adjusted::Saturated) => Status::Ok,
            Some(Adjusted::TooLate) => Status::TooLate,
            Some(Adjusted::Forfeited) => {
                self.counted.forfeited += 1;
                Status::Forfeited
            }
        };
        self.see(operation, status, expected);
        self.receipts[number].used_up = true;
        let mut cost = UNWRITTEN;
        let memory = self.receipts[number].memory.pointer();
        // SAFETY: the memory holds a receipt.
        assert_eq!(unsafe { escope_receipt_cost(memory, &mut cost) }, Status::Ok as i32);
        assert_eq!(cost, 0, "a used receipt has nothing left");
    }

    fn cancel(&mut self) {
        let Some(number) = self.choose() else { return };
        if self.receipts[number].changed && !self.receipts[number].used_up {
            return;
        }
        let expected = self.model.cancel(number, self.now);
        let memory = self.receipts[number].memory.pointer();
        // SAFETY: the handle is live, the memory is this run's own.
        let status = unsafe { escope_limiter_cancel_at(self.limiter.0, memory, self.now) };
        self.used("cancel", number, status, expected);
    }

    fn limit_of(&self, number: usize) -> *const escope_limit {
        match self.receipts[number].key {
            0..12 => null(),
            key => self.limits[(key - 12) / 4].0,
        }
    }

    fn refund(&mut self) {
        let Some(number) = self.choose() else { return };
        let (cost, limit) = (self.receipts[number].cost, self.limit_of(number));
        let amount = u64::from(self.script.byte()) % (cost.saturating_add(2));
        let memory = self.receipts[number].memory.pointer();
        // SAFETY: the handle is live, the memory is this run's own.
        let status = unsafe { escope_limiter_refund_at(self.limiter.0, memory, amount, limit, self.now) };
        if amount > cost && !self.receipts[number].used_up {
            return self.see("refund", status, Status::InvalidArgument);
        }
        let expected = self.model.refund(number, amount, self.now);
        self.used("refund", number, status, expected);
    }

    fn settle(&mut self) {
        let Some(number) = self.choose() else { return };
        let (byte, limit) = (self.script.byte(), self.limit_of(number));
        let actual = if byte == 255 { self.script.u64() } else { u64::from(byte % 32) };
        let (memory, mut saturated) = (self.receipts[number].memory.pointer(), 99);
        // SAFETY: the handle is live, the places are this run's own.
        let status = unsafe {
            escope_limiter_settle_at(self.limiter.0, memory, actual, limit, &mut saturated, self.now)
        };
        let expected = self.model.settle(number, actual, self.now);
        let told = match expected {
            Some(Adjusted::Applied) => 0,
            Some(Adjusted::Saturated) => 1,
            _ => 99,
        };
        assert_eq!(saturated, told);
        self.used("settle", number, status, expected);
    }

    fn check_many(&mut self) {
        let charges: Vec<Charge> = (0..self.script.below(7)).map(|_| self.charge()).collect();
        if self.crowded {
            return;
        }
        let c: Vec<escope_charge> = charges.iter().map(|charge| self.c_charge(charge)).collect();
        let model: Vec<_> = charges.iter().map(|charge| (KEYS[charge.key], charge.by, charge.cost)).collect();
        let expected = self.model.check_many(&model, self.now);
        let mut decisions = vec![BLANK; c.len() + 1];
        let (mut refused, mut retry) = (usize::MAX, UNWRITTEN);
        // SAFETY: the handles are live, the places are this function's own.
        let status = unsafe {
            escope_limiter_check_many_at(
                self.limiter.0,
                c.as_ptr(),
                c.len(),
                decisions.as_mut_ptr(),
                &mut refused,
                &mut retry,
                self.now,
            )
        };
        self.see("check_many", status, told(expected.verdict));
        self.count(expected.verdict);
        assert_eq!(retry, expected.retry_after_ns);
        assert_eq!(decisions.pop(), Some(BLANK), "written past the decisions");
        let is_blocked = |at: &usize| decisions[*at].status != Status::Ok as i32;
        assert_eq!((0..c.len()).filter(is_blocked).collect::<Vec<_>>(), expected.blocked);
        if status == Status::Ok as i32 {
            assert_eq!(refused, c.len());
        } else {
            assert_eq!(decisions[refused].status, status);
        }
    }

    fn check_batch(&mut self) {
        // More than the library gives to its core at once.
        let (repeats, most) = if self.crowded { (1, 2) } else { (1 + self.script.below(20), 4) };
        let charges: Vec<Charge> = (0..self.script.below(most)).map(|_| self.charge()).collect();
        let every = || (0..repeats).flat_map(|_| &charges);
        let c: Vec<escope_charge> = every().map(|charge| self.c_charge(charge)).collect();
        let mut decisions = vec![BLANK; c.len() + 1];
        let mut admitted = usize::MAX;
        // SAFETY: the handles are live, the places are this function's own.
        let status = unsafe {
            let out = decisions.as_mut_ptr();
            escope_limiter_check_batch_at(self.limiter.0, c.as_ptr(), c.len(), out, &mut admitted, self.now)
        };
        self.see("check_batch", status, Status::Ok);
        let mut allowed = 0;
        for (charge, decision) in every().zip(&decisions) {
            let expected = self.model.check(KEYS[charge.key], charge.by, charge.cost, self.now);
            assert_eq!(*decision, expected.into());
            self.count(expected.verdict);
            allowed += usize::from(expected.is_allowed());
        }
        assert_eq!(admitted, allowed);
        assert_eq!(decisions.pop(), Some(BLANK), "written past the decisions");
    }

    fn change(&mut self) {
        let index = self.script.below(2);
        let number = if self.script.byte() == 255 { self.script.i32() } else { self.script.small(4) as i32 };
        let (terms, mut retry) = (terms(&mut self.script), UNWRITTEN);
        let rule = rule_of(terms);
        // A table takes a place whose debt is paid back by the rule that wrote it; the model goes by the rule of now.
        if self.crowded {
            return;
        }
        if let Some(strategy) = known(&STRATEGIES, number)
            && self.model.change_outgrows(index, terms, strategy, self.now)
        {
            return;
        }
        // SAFETY: the handle is live, the places are this function's own.
        let status =
            unsafe { escope_limit_change_at(self.limits[index].0, &rule, number, &mut retry, self.now) };
        let Some(strategy) = known(&STRATEGIES, number) else {
            assert_eq!(retry, UNWRITTEN);
            return self.see("change", status, Status::InvalidArgument);
        };
        match self.model.change(index, terms, strategy, self.now) {
            Err(wait) => {
                self.see("change", status, Status::ChangeTooSoon);
                assert_eq!(retry, wait);
            }
            Ok(()) => {
                self.see("change", status, Status::Ok);
                assert_eq!(retry, 0);
                self.terms[2 + index] = terms;
                let of_limit = |held: &&mut Held| held.key >= 12 && (held.key - 12) / 4 == index;
                self.receipts.iter_mut().filter(of_limit).for_each(|held| held.changed = true);
            }
        }
        let mut now = rule_of(self.terms[0]);
        // SAFETY: as above.
        assert_eq!(unsafe { escope_limit_rule(self.limits[index].0, &mut now) }, Status::Ok as i32);
        assert_eq!(now, rule_of(self.terms[2 + index]));
    }

    /// Receipts that this limiter never gave: another's, and memory that no call filled.
    fn wrong_receipt(&mut self) {
        let mut foreign = Memory::BLANK;
        let rule = escope_rule { tokens: 58, period_ns: 1, burst: 9 };
        let charge = escope_charge { key: null(), key_len: 0, rule: &rule, limit: null(), cost: 1 };
        // SAFETY: the handles are live, the places are this function's own.
        unsafe {
            assert_eq!(escope_limiter_reset(self.other.0, null(), 0), Status::Ok as i32);
            let reserved = escope_limiter_reserve_at(
                self.other.0,
                &charge,
                0,
                foreign.pointer(),
                null_mut(),
                null_mut(),
                self.now,
            );
            assert_eq!(reserved, Status::Ok as i32);
        }
        let live = foreign.state();
        self.refused_receipt(self.limiter.0, foreign, Status::BadReceipt);
        if let Some(held) = self.receipts.last()
            && !held.used_up
        {
            self.refused_receipt(self.other.0, held.memory, Status::BadReceipt);
        }
        // A live state with made-up fields is a forgery, which nothing could tell.
        let mut garbage = Memory(std::array::from_fn(|_| self.script.u64()));
        if garbage.state() == live {
            garbage = garbage.with_state(!live);
        }
        // SAFETY: the handle is live, the memory is this function's own.
        let used = unsafe {
            assert_eq!(escope_limiter_refund_at(self.other.0, foreign.pointer(), 1, null(), self.now), 0);
            foreign.state()
        };
        let expected = if garbage.state() == used { Status::AlreadyDone } else { Status::BadReceipt };
        self.refused_receipt(self.limiter.0, garbage, expected);
        self.refused_receipt(self.limiter.0, garbage.with_state(used), Status::AlreadyDone);
    }

    /// No use of this memory is granted, and none changes it.
    fn refused_receipt(&mut self, limiter: *mut escope_limiter, mut memory: Memory, expected: Status) {
        let (before, mut saturated) = (memory, 99);
        // SAFETY: the handle is live, the places are this function's own.
        let statuses = unsafe {
            let receipt = memory.pointer();
            [
                escope_limiter_cancel_at(limiter, receipt, self.now),
                escope_limiter_refund_at(limiter, receipt, 0, null(), self.now),
                escope_limiter_settle_at(limiter, receipt, 1, null(), &mut saturated, self.now),
            ]
        };
        assert_eq!((statuses, saturated), ([expected as i32; 3], 99));
        assert_eq!(memory, before, "a refused use changed the receipt");
        self.seen.insert(("receipt", expected as i32));
    }

    fn header_fields(&mut self) {
        let length = self.script.below(70);
        let spelled: Vec<u8> = (0..length).map(|_| self.script.byte().max(1)).collect();
        let name = CString::new(if self.script.byte() < 128 { b"a\"b\\c".to_vec() } else { spelled })
            .expect("no byte is NUL");
        let printable = name.as_bytes().iter().all(|byte| (0x20..0x7F).contains(byte));
        let named = printable && (1..=64).contains(&name.as_bytes().len());
        let decision = escope_decision {
            remaining: self.script.u64(),
            limit: self.script.u64(),
            retry_after_ns: self.script.u64(),
            reset_after_ns: self.script.u64(),
            status: if self.script.byte() < 200 { self.script.small(6) as i32 } else { self.script.i32() },
            reserved: 0,
        };
        let decided = matches!(decision.status, 0 | 3..=5);
        let seconds = |ns: u64| ns.div_ceil(1_000_000_000);
        let retry = matches!(decision.status, 3 | 5).then(|| seconds(decision.retry_after_ns));
        let text: String = name.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
        let rule = rule_of(self.terms[0]);
        let (tokens, window) = (rule.tokens, seconds(rule.period_ns));
        let (remaining, more) = (decision.remaining, retry.unwrap_or(seconds(decision.reset_after_ns)));
        let capacity = self.script.below(256);
        let n = name.as_ptr();
        self.field(
            "policy",
            capacity,
            named.then(|| format!("\"{text}\";q={tokens};w={window}")),
            |b, c, l| {
                // SAFETY: the places are this function's own.
                unsafe { escope_rule_render_policy(&rule, n, b, c, l) }
            },
        );
        let limit = (named && decided).then(|| format!("\"{text}\";r={remaining};t={more}"));
        self.field("limit", capacity, limit, |b, c, l| {
            // SAFETY: as above.
            unsafe { escope_decision_render_limit(&decision, n, b, c, l) }
        });
        let after = retry.map_or(String::new(), |seconds| seconds.to_string());
        self.field("retry_after", capacity, decided.then_some(after), |b, c, l| {
            // SAFETY: as above.
            unsafe { escope_decision_render_retry_after(&decision, b, c, l) }
        });
    }

    fn field(
        &mut self,
        operation: &'static str,
        capacity: usize,
        expected: Option<String>,
        render: impl FnOnce(*mut c_char, usize, *mut usize) -> i32,
    ) {
        let mut buffer = [UNTOUCHED; 300];
        let mut length = usize::MAX;
        let status = render(buffer.as_mut_ptr().cast(), capacity, &mut length);
        let expected = expected.filter(|text| text.len() < capacity);
        let written = match &expected {
            None => 0,
            Some(text) => {
                assert_eq!(&buffer[..text.len()], text.as_bytes());
                assert_eq!((buffer[text.len()], length), (0, text.len()));
                text.len() + 1
            }
        };
        assert!(buffer[written..].iter().all(|byte| *byte == UNTOUCHED), "written past the text");
        self.see(operation, status, if expected.is_some() { Status::Ok } else { Status::InvalidArgument });
    }

    /// NULL and misaligned pointers where something must be, each alone.
    fn refuse_pointers(&mut self) {
        let l = self.limiter.0;
        let (nothing, odd): (*mut escope_limiter, _) = (null_mut(), l.wrapping_byte_add(1));
        let rule = rule_of(self.terms[0]);
        let (mut d, mut memory, mut wait) = (BLANK, Memory::BLANK, UNWRITTEN);
        let charge = |rule: *const escope_rule, limit: *const escope_limit| escope_charge {
            key: c"k".as_ptr().cast(),
            key_len: 1,
            rule,
            limit,
            cost: 1,
        };
        let limit: *const escope_limit = self.limits[0].0;
        let (good, none, both) = (charge(&rule, null()), charge(null(), null()), charge(&rule, limit));
        let no_key = escope_charge { key: null(), ..good };
        let (k, now, r) = (c"k".as_ptr().cast(), self.now, memory.pointer());
        let odd_rule = (&raw const rule).wrapping_byte_add(1);
        // SAFETY: every call has a pointer that the library refuses without reading it; the others are valid.
        let statuses = unsafe {
            [
                escope_limiter_check_at(nothing, k, 1, &rule, 1, &mut d, now),
                escope_limiter_check_at(odd, k, 1, &rule, 1, &mut d, now),
                escope_limiter_check_at(l, null(), 1, &rule, 1, &mut d, now),
                escope_limiter_check_at(l, k, usize::MAX, &rule, 1, &mut d, now),
                escope_limiter_check_at(l, k, 1, null(), 1, &mut d, now),
                escope_limiter_check_at(l, k, 1, odd_rule, 1, &mut d, now),
                escope_limiter_check_at(l, k, 1, &rule, 1, (&raw mut d).wrapping_byte_add(4), now),
                escope_limiter_check_limit_at(l, k, 1, null(), 1, &mut d, now),
                escope_limiter_peek_at(l, k, 1, null(), &mut d, now),
                escope_limiter_peek_limit_at(l, k, 1, null(), &mut d, now),
                escope_limiter_reset(nothing, k, 1),
                escope_limiter_reserve_at(nothing, &good, 0, r, &mut wait, &mut d, now),
                escope_limiter_reserve_at(l, null(), 0, r, &mut wait, &mut d, now),
                escope_limiter_reserve_at(l, &none, 0, r, &mut wait, &mut d, now),
                escope_limiter_reserve_at(l, &both, 0, r, &mut wait, &mut d, now),
                escope_limiter_reserve_at(l, &no_key, 0, r, &mut wait, &mut d, now),
                escope_limiter_reserve_at(l, &good, 1, r, null_mut(), &mut d, now),
                escope_limiter_reserve_at(l, &good, 0, r.wrapping_byte_add(1), &mut wait, &mut d, now),
                escope_limiter_cancel_at(l, null_mut(), now),
                escope_limiter_cancel_at(l, r.wrapping_byte_add(1), now),
                escope_limiter_refund_at(nothing, r, 0, null(), now),
                escope_limiter_settle_at(l, r, 0, limit.wrapping_byte_add(1), null_mut(), now),
                escope_limiter_check_many_at(l, null(), 1, &mut d, null_mut(), null_mut(), now),
                escope_limiter_check_many_at(l, &good, 33, &mut d, null_mut(), null_mut(), now),
                escope_limiter_check_many_at(l, &none, 1, &mut d, null_mut(), null_mut(), now),
                escope_limiter_check_batch_at(l, &good, 1, null_mut(), null_mut(), now),
                escope_limiter_check_batch_at(l, &good, usize::MAX, &mut d, null_mut(), now),
                escope_limiter_check_batch_at(l, &both, 1, &mut d, null_mut(), now),
                escope_limit_change_at(null_mut(), &rule, 0, null_mut(), now),
                escope_limit_rule(limit, null_mut()),
                escope_limiter_snapshot(l, null_mut()),
                escope_limiter_live_keys_at(l, null_mut(), now),
                escope_receipt_cost(null(), &mut wait),
                escope_limiter_new(null(), null_mut()),
            ]
        };
        assert_eq!(statuses, [Status::InvalidArgument as i32; 34]);
        assert_eq!((d, memory, wait), (BLANK, Memory::BLANK, UNWRITTEN));
    }

    /// Rules out of range: refused before anything happens.
    fn invalid_rule(&mut self) {
        let mut rule = rule_of(self.terms[0]);
        match self.script.below(5) {
            0 => rule.tokens = 0,
            1 => rule.period_ns = 0,
            2 => rule.tokens = 1 << 62 | self.script.u64(),
            3 => rule.period_ns = 1 << 62 | self.script.u64(),
            _ => rule.burst = 1 << 62 | self.script.u64(),
        }
        let mut decision = BLANK;
        // SAFETY: the handle is live, the places are this function's own.
        let status =
            unsafe { escope_limiter_check_at(self.limiter.0, null(), 0, &rule, 1, &mut decision, self.now) };
        self.see("check", status, Status::InvalidArgument);
        assert_eq!(decision, BLANK);
    }

    /// Names of limits that are there, and that are not.
    fn names(&mut self) {
        let (index, nothing) = (self.script.below(2), std::ptr::without_provenance_mut(8));
        let (mut found, mut missing) = (nothing, nothing);
        let rule = rule_of(self.terms[0]);
        let long = CString::new(vec![b'x'; 256]).expect("no byte is NUL");
        // SAFETY: the handles are live, the places are this function's own, each reference is given back once.
        unsafe {
            let (l, name) = (self.limiter.0, LIMITS[index].as_ptr());
            assert_eq!(escope_limiter_lookup(l, name, &mut found), Status::Ok as i32);
            assert_eq!(found, self.limits[index].0);
            drop(Limit(found));
            let refused = [
                escope_limiter_define(l, name, &rule, 0, &mut missing),
                escope_limiter_define(l, c"".as_ptr(), &rule, 0, &mut missing),
                escope_limiter_define(l, long.as_ptr(), &rule, 0, &mut missing),
                escope_limiter_define(l, c"late".as_ptr(), &rule, u64::MAX, &mut missing),
                escope_limiter_lookup(l, c"none".as_ptr(), &mut missing),
            ];
            assert_eq!(refused, [Status::InvalidArgument as i32; 5]);
            assert_eq!(missing, nothing, "a failure wrote its result");
            drop(Limiter(escope_limiter_ref(l)));
            assert!(escope_limit_ref(null_mut()).is_null());
        }
    }

    /// A limiter that comes out of a file says of every key what the one that went in says; a damaged file is refused.
    fn file(&mut self) {
        let path =
            folder().join(format!("escope-limiter-{}-{:?}", std::process::id(), thread::current().id()));
        let name = CString::new(path.as_os_str().as_bytes()).expect("no byte is NUL");
        let (now, wall) = (self.now, self.script.u64());
        // SAFETY: the handle is live, the name is this function's own.
        let saved = unsafe { escope_limiter_save_at(self.limiter.0, name.as_ptr(), now, wall) };
        self.see("save", saved, Status::Ok);
        let load = || {
            let mut limiter = null_mut();
            // SAFETY: the places are this function's own.
            let status = unsafe { escope_limiter_load_at(name.as_ptr(), null(), &mut limiter, now, wall) };
            (status, Limiter(limiter))
        };
        let (loaded, restored) = load();
        self.see("load", loaded, Status::Ok);
        for (index, key) in KEYS[..12].iter().enumerate() {
            let rule = rule_of(self.terms[index / 4 % 2]);
            let peek = |limiter: &Limiter| {
                let mut decision = BLANK;
                let (key, length) = (key.as_ptr().cast(), key.len());
                // SAFETY: the handle is live, the places are this function's own.
                unsafe { escope_limiter_peek_at(limiter.0, key, length, &rule, &mut decision, now) };
                decision
            };
            assert_eq!(peek(&restored), peek(&self.limiter), "{key}");
        }
        let mut bytes = fs::read(&path).expect("the file is there");
        let at = self.script.below(bytes.len());
        match self.script.byte() {
            0..16 => bytes.truncate(at),
            change => bytes[at] ^= change,
        }
        fs::write(&path, &bytes).expect("the file can be written");
        let (refused, nothing) = load();
        self.see("load", refused, Status::InvalidArgument);
        assert!(nothing.0.is_null(), "a failure wrote its result");
        assert_eq!(fs::read(&path).expect("the file is there"), bytes, "a refused file was changed");
        fs::remove_file(&path).expect("the file can be removed");
        // SAFETY: as above.
        let missing = unsafe { escope_limiter_load_at(name.as_ptr(), null(), null_mut(), now, wall) };
        self.see("load", missing, Status::InvalidArgument);
    }

    /// Without time to wait, a burst is acquired and no more; the clock is the real one, so its refill takes an age.
    fn acquire(&mut self) {
        let burst = 1 + u64::from(self.script.small(4));
        let rule = escope_rule { tokens: 1, period_ns: 1 << 50, burst };
        let charge = escope_charge {
            key: c"acquired".as_ptr().cast(),
            key_len: 8,
            rule: &rule,
            limit: null(),
            cost: 1,
        };
        for turn in 0..=burst {
            let (mut memory, mut decision) = (Memory::BLANK, BLANK);
            // SAFETY: the handle is live, the places are this function's own.
            let status =
                unsafe { escope_limiter_acquire(self.other.0, &charge, 0, memory.pointer(), &mut decision) };
            let granted = turn < burst;
            self.see("acquire", status, if granted { Status::Ok } else { Status::RateLimited });
            assert_eq!(memory == Memory::BLANK, !granted);
            assert_eq!((decision.remaining, decision.limit), (burst.saturating_sub(turn + 1), burst));
        }
        // SAFETY: as above.
        unsafe { assert_eq!(escope_limiter_reset(self.other.0, charge.key.cast(), 8), Status::Ok as i32) };
    }

    /// A caller's structs of a stated size: refused, or filled exactly so far.
    fn structs(&mut self) {
        let size = usize::from(u16::from_le_bytes(self.script.bytes()));
        let (mut options, mut stats) = (Room::stating(size, UNTOUCHED), Room::stating(size, UNTOUCHED));
        let mut snapshot = Room::stating(size, UNTOUCHED);
        // SAFETY: the handle is live, and each block has room for every size that the library takes.
        let statuses = unsafe {
            [
                escope_limiter_options_init(options.pointer(), size),
                escope_limiter_stats_init(stats.pointer(), size),
                escope_limiter_snapshot(self.limiter.0, snapshot.pointer()),
            ]
        };
        self.seen.extend(["options_init", "stats_init", "snapshot"].into_iter().zip(statuses));
        filled::<escope_limiter_options>(&options.0, size, statuses[0]);
        filled::<escope_limiter_stats>(&stats.0, size, statuses[1]);
        filled::<escope_limiter_stats>(&snapshot.0, size, statuses[2]);
    }

    fn compare_statistics(&mut self) {
        self.counted.evicted = self.model.evicted;
        self.counted.overflowed = self.model.overflowed;
        let places = [("evicted", self.model.evicted), ("overflowed", self.model.overflowed)];
        self.seen.extend(places.into_iter().filter(|(_, count)| *count > 0).map(|(what, _)| (what, 0)));
        let mut stats = self.counted;
        // SAFETY: the handle is live, the place is this function's own.
        let status = unsafe { escope_limiter_snapshot(self.limiter.0, &mut stats) };
        assert_eq!(status, Status::Ok as i32);
        (self.counted.capacity, self.counted.bytes) = (stats.capacity, stats.bytes);
        assert_eq!(format!("{stats:?}"), format!("{:?}", self.counted));
    }

    fn decided(&mut self, operation: &'static str, status: i32, got: &escope_decision, expected: Decision) {
        assert_eq!(*got, expected.into(), "{operation}");
        self.see(operation, status, told(expected.verdict));
    }

    fn count(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Allowed => &mut self.counted.allowed,
            Verdict::Limited => &mut self.counted.limited,
            Verdict::Never => &mut self.counted.never,
            Verdict::TableFull => &mut self.counted.table_full,
        } += 1;
    }

    fn see(&mut self, operation: &'static str, status: i32, expected: Status) {
        assert_eq!(status, expected as i32, "{operation}");
        self.seen.insert((operation, status));
    }
}

fn told(verdict: Verdict) -> Status {
    match verdict {
        Verdict::Allowed => Status::Ok,
        Verdict::Limited => Status::RateLimited,
        Verdict::Never => Status::Never,
        Verdict::TableFull => Status::TableFull,
    }
}
