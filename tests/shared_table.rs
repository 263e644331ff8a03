//! A limiter's table is a cell: the same memory at two addresses, or in two processes, is one table, and a
//! process that is killed leaves it valid.
#![cfg(not(escope_model))]
#![allow(unsafe_code)] // The core takes lines where they lie; only a test, so far, puts them in shared memory.

use elixirscope::limiter::{
    Adjusted, By, Charge, Decision, Key, KeyedRule, Line, RawReceipt, Receipt, Rule, Table, Verdict,
};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory that is shared with every other mapping of the same file, in this process and in its children.
struct Mapping<T> {
    start: *mut T,
    length: usize,
}

impl<T> Mapping<T> {
    /// `length` values at the start of `file`. `T` is an atomic or made of atomics, for which zeroes are valid.
    fn of(file: &File, length: usize) -> Self {
        let bytes = length * size_of::<T>();
        file.set_len(bytes as u64).unwrap();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of this process.
        let start = unsafe { libc::mmap(null_mut(), bytes, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(start, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Self { start: start.cast(), length }
    }
}

impl<T> AsRef<[T]> for Mapping<T> {
    fn as_ref(&self) -> &[T] {
        // SAFETY: the mapping is page-aligned, `length` values long, zeroed or written by this type's atomics,
        // and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: `of` made this mapping, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.start.cast(), self.length * size_of::<T>()) };
    }
}

/// A file without a name, which is gone when the last process closes it.
fn memory() -> File {
    // SAFETY: the name is a C string; the descriptor is new and owned by the `File` alone.
    let file = unsafe { File::from_raw_fd(libc::memfd_create(c"table".as_ptr(), libc::MFD_CLOEXEC)) };
    assert!(file.as_raw_fd() >= 0);
    file
}

fn table(file: &File, max_keys: u64) -> Table<Mapping<Line>> {
    Table::over(Mapping::of(file, Table::<Mapping<Line>>::lines_for(max_keys) as usize)).unwrap()
}

fn rule(tokens: u64, period_ns: u64, burst: u64) -> KeyedRule {
    KeyedRule::new(Rule::new(tokens, period_ns, burst).unwrap()).unwrap()
}

/// Numbers spread over all bits, as a hash would.
fn key(number: u64) -> Key {
    Key::from_raw(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 8)
}

/// Runs the same checks on a table that is mapped twice, by turns, and on one of its own: the decisions are equal.
#[test]
fn a_table_at_two_addresses_is_one_table() {
    let (shared, own) = (memory(), memory());
    let (mapped, expected) = ([table(&shared, 8), table(&shared, 8)], table(&own, 8));
    let rules = [rule(1, 60, 3), rule(7, 180, 5)];
    let (mut random, mut now) = (1_u64, 0);
    let mut verdicts = [0; 3];
    for step in 0..20_000_u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let draw = |shift: u32, bound: u64| (random >> shift) % bound;
        now += draw(20, 4);
        let (key, rule) = (key(draw(32, 40)), &rules[draw(40, 2) as usize]);
        let here = &mapped[draw(44, 2) as usize];
        if draw(48, 50) == 0 {
            assert_eq!(here.reset(key), expected.reset(key));
        }
        let decision: Decision = here.check(key, rule, 1, now, || step);
        assert_eq!(decision, expected.check(key, rule, 1, now, || step));
        verdicts[match decision.verdict {
            Verdict::Allowed => 0,
            Verdict::Limited => 1,
            Verdict::TableFull | Verdict::Never => 2,
        }] += 1;
        for table in &mapped {
            assert_eq!(table.peek(key, rule, now), expected.peek(key, rule, now));
        }
    }
    assert!(verdicts.iter().all(|count| *count > 100), "{verdicts:?}");
}

/// Runs two children on shared memory in each of `rounds`, and kills both when `is_due` says so of that round.
fn kill_two_children(rounds: u64, work: impl Fn(u64), is_due: impl Fn(u64) -> bool) {
    for round in 0..rounds {
        let children = [1, 2].map(|child| {
            // SAFETY: the child takes no lock and allocates nothing: it only works on atomics, and never returns.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                // SAFETY: takes numbers only. Should this thread fail, the child ends with it.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                loop {
                    work(round << 2 | child);
                }
            }
            pid
        });
        while !is_due(round) {
            std::thread::yield_now();
        }
        for pid in children {
            // SAFETY: `pid` is a child of this process that nobody has waited for; a null status is allowed.
            unsafe {
                assert_eq!(libc::kill(pid, libc::SIGKILL), 0);
                assert_eq!(libc::waitpid(pid, null_mut(), 0), pid);
            }
        }
    }
}

/// Children check the same keys until they are killed. No key admits more than its burst, and each child takes at
/// most one admission with it that nobody counted.
#[test]
fn l02_killed_processes_leave_a_table_that_admits_exactly_the_burst() {
    const KEYS: u64 = 20_000;
    const BURST: u64 = 4;
    const ROUNDS: u64 = 6;
    let (lines, counts) = (memory(), memory());
    let table = table(&lines, KEYS);
    let admitted = Mapping::<AtomicU64>::of(&counts, KEYS as usize);
    let total = || admitted.as_ref().iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
    let rule = rule(1, 1_000_000_000_000, BURST);
    let check = |number: u64, nonce: u64| table.check(key(number), &rule, 1, 5, || nonce);
    let nonces = AtomicU64::new(0);
    let work = |child: u64| {
        for (number, count) in (0..).zip(admitted.as_ref()) {
            let nonce = child << 40 | nonces.fetch_add(1, Ordering::Relaxed);
            if check(number, nonce).is_allowed() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    kill_two_children(ROUNDS, work, |round| total() >= KEYS * BURST * (round + 1) / (ROUNDS + 1));
    let mut lost = 0;
    for (number, count) in (0..).zip(admitted.as_ref()) {
        let rest =
            (0..=BURST).map(|call| check(number, call)).take_while(Decision::is_allowed).count() as u64;
        let all = count.load(Ordering::Relaxed) + rest;
        assert!(all <= BURST, "key {number} admitted {all}");
        lost += BURST - all;
    }
    assert!(lost <= 2 * ROUNDS, "{lost} admissions are lost");
}

/// Children debit and give back by every operation until they are killed, and write down what is theirs: before a debit is given
/// back, and after it was made. So a key never owes less than is written down, and what it owes beyond that was under way when
/// its child was killed.
#[test]
fn l11_killed_processes_leave_every_debit_that_was_not_given_back() {
    const KEYS: u64 = 64;
    const BURST: u64 = 100_000;
    const ROUNDS: u64 = 12;
    const TURNS: u64 = 240_000;
    /// Most that one child has under way on one key: a group's cost, and an estimate with what was settled on top.
    const UNDER_WAY: u64 = 8;
    let (lines, counts) = (memory(), memory());
    let table = table(&lines, KEYS);
    // Of each key, what is debited for good; at last the operations.
    let held = Mapping::<AtomicU64>::of(&counts, KEYS as usize + 1);
    let (debited, turns) = (&held.as_ref()[..KEYS as usize], &held.as_ref()[KEYS as usize]);
    let rule = rule(1, 1_000_000_000_000, BURST);
    let (by, full) = (By::Rule(&rule), table.peek(key(0), &rule, 5));
    let nonces = AtomicU64::new(0);
    let work = |child: u64| {
        let turn = turns.fetch_add(1, Ordering::Relaxed);
        let nonce = || child << 40 | nonces.fetch_add(1, Ordering::Relaxed);
        let (a, b) = (turn % KEYS, turn * 7 % KEYS);
        let add = |number: u64, cost| debited[number as usize].fetch_add(cost, Ordering::Relaxed);
        match turn % 5 {
            0 => {
                let charges = [a, b].map(|number| Charge { key: key(number), by, cost: 2 });
                let mut decisions = [full; 2];
                let group = table.check_many(&charges, &mut decisions, 5, nonce).unwrap();
                if group.verdict == Verdict::Allowed {
                    [a, b].iter().for_each(|number| _ = add(*number, 2));
                }
            }
            1 => {
                // A key that nobody uses again, in the place of a dead one or in a new one.
                table.check(key(1 << 40 | turn << 8 | child), &rule, 1, 5, nonce);
                table.reset(key(1 << 40 | turn << 8 | child));
            }
            kind => {
                let reserved = table.reserve(key(a), by, 2, 0, 5, nonce);
                let Some(receipt) = reserved.receipt else { return };
                let adjusted = match kind {
                    2 => table.refund(receipt, 2, None, 5).unwrap(),
                    3 => table.settle(receipt, 1, None, 5, nonce),
                    _ => table.settle(receipt, 4, None, 5, nonce),
                };
                assert_eq!(adjusted, Adjusted::Applied);
                add(a, [0, 1, 4][kind as usize - 2]);
            }
        }
    };
    let done = || turns.load(Ordering::Relaxed);
    kill_two_children(ROUNDS, work, |round| done() >= (round + 1) * TURNS / ROUNDS);
    let mut more = 0;
    for (number, debited) in (0..).zip(debited) {
        let (owed, written) =
            (BURST - table.peek(key(number), &rule, 5).remaining, debited.load(Ordering::Relaxed));
        assert!(owed >= written, "key {number} owes {owed}, {written} were debited");
        more += owed - written;
    }
    assert!(more <= 2 * ROUNDS * UNDER_WAY, "{more} owed that nobody has written down");
    // Whatever was left in the middle gives way.
    assert!(table.live_keys(5) <= KEYS + 2 * ROUNDS);
    for number in 0..KEYS {
        assert!(table.check(key(number), &rule, 1, 5, || number).is_allowed());
    }
}

/// A reservation of one process is cancelled by another: a receipt names no address.
#[test]
fn l16_a_receipt_is_good_in_another_process() {
    let (shared, cell) = (memory(), memory());
    let table = table(&shared, 8);
    let words = Mapping::<AtomicU64>::of(&cell, 5);
    let rule = rule(1, 1_000, 1);
    assert!(table.check(key(1), &rule, 1, 5, || 1).is_allowed());
    // SAFETY: the child takes no lock and allocates nothing: it only works on atomics, and ends by itself.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let receipt = table.reserve(key(1), By::Rule(&rule), 1, 5000, 5, || 2).receipt;
        if let Some(RawReceipt { key, tat, w, full, cost }) = receipt.map(Receipt::into_raw) {
            for (word, value) in words.as_ref().iter().zip([key, tat, w, full, cost]) {
                word.store(value, Ordering::Release);
            }
        }
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: `pid` is a child of this process that nobody has waited for; a null status is allowed.
    unsafe { assert_eq!(libc::waitpid(pid, null_mut(), 0), pid) };
    assert_eq!(table.peek(key(1), &rule, 5).reset_after_ns, 2000);
    let [key_, tat, w, full, cost] = [0, 1, 2, 3, 4].map(|at| words.as_ref()[at].load(Ordering::Acquire));
    let receipt = Receipt::from_raw(RawReceipt { key: key_, tat, w, full, cost }).unwrap();
    assert_eq!(table.cancel(receipt, 5), Adjusted::Applied);
    assert_eq!(table.peek(key(1), &rule, 5).reset_after_ns, 1000);
}
