//! The keyed table: a lock-free cell of fixed size over memory that the caller gives.
//!
//! A table is a slice of [`Line`]s: first a header, then the sections of `places`. It holds no pointer, so the
//! same lines work at any address, on the heap or in memory that processes share. Every change is one
//! compare-and-swap of a key's whole word, so a process that dies at any instruction leaves the table valid.
//!
//! # Absent means full
//!
//! A key that owes nothing cannot be told from one that was never seen. Its place is therefore taken by the
//! next key that needs one, and nothing ever sweeps the table.
//!
//! # First touch
//!
//! A key must never have two entries, for each would admit a burst of its own. A thread that finds none:
//!
//! 1. puts a TENTATIVE entry, with a nonce that no other attempt uses, in the place it chose;
//! 2. passes a sequentially consistent fence;
//! 3. reads all other places of the key again. A committed entry wins over it, and so does a tentative one of
//!    lower rank: it withdraws and starts again. A tentative one of higher rank it empties;
//! 4. replaces its tentative entry by the committed one. If the entry is gone, it starts again.
//!
//! Of two threads, the fence of one comes first, and the rescan of the other sees its entry; so at most one
//! commits. Anybody may take over a tentative entry of the same key, and of another key when no other place is
//! left, so nobody waits for a thread that died. The nonce makes that safe: without it an entry that was
//! taken over could be committed by its first owner, whose rescan is out of date.
//!
//! # The floor
//!
//! When a place is taken from a key that owes nothing, the instant of that is lost. A check of the lost key
//! whose `now` was read a moment earlier must not refill the time in between twice. So the header keeps the
//! latest such instant, raised before the place is taken, and a first touch happens at `now` or at the floor,
//! whichever is later: an instant between the reading of the clock and the return of the call. Only first
//! touches read it; a key that has an entry never does.

use super::decision::Decision;
use super::entry::{EMPTY, Entry, MAX_NOW_NS, MAX_TAT};
use super::gcra::Ticks;
use super::key::Key;
use super::limit::Limit;
use super::measure::Measure;
use super::places::{Line, Place, SECTIONS, Sections, WAYS, crowded, home_way, lines_for, nominal_keys};
use super::rule::KeyedRule;
use crate::sync::{Half, Ordering, fence, lo, wide};
use std::hint::spin_loop;

/// Times to look again at another thread's first touch before taking it over.
const PATIENCE: u32 = if cfg!(escope_model) { 0 } else { 64 };

/// A keyed table over the lines of `S`: a box, or shared memory.
#[derive(Debug)]
pub struct Table<S> {
    lines: S,
    sections: Sections,
    full_policy: FullPolicy,
}

/// What a new key gets when all its places are taken by keys that owe tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum FullPolicy {
    /// Nothing: the check is refused.
    #[default]
    DenyNew = 0,
    /// The place of the key among them that owes for the shortest time, whose debt is forgotten: that key may be admitted so
    /// much more than its rule allows.
    EvictMostFull = 1,
    /// A share of one bucket that all such keys have together.
    OverflowKey = 2,
}

/// Whose entry a debit was made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    /// The key's own.
    Own,
    /// That of all keys without a place.
    Overflow,
}

impl Seat {
    /// The name of the entry in which `key` has this seat.
    pub fn key_of(self, key: Key) -> Key {
        match self {
            Self::Own => key,
            Self::Overflow => Key::from_raw(0),
        }
    }
}

/// What a table wants of whoever holds it.
pub(super) trait Host {
    /// A number that no other first touch in flight has; its low 56 bits count.
    fn nonce(&mut self) -> u64;

    /// A key has lost its place that owed tokens.
    fn evicted(&mut self);

    /// A key without a place was admitted by the overflow bucket.
    fn overflowed(&mut self);

    /// A refund, a cancellation or a settlement changed nothing.
    fn forfeited(&mut self);
}

/// A host that only numbers.
impl<F: FnMut() -> u64> Host for F {
    fn nonce(&mut self) -> u64 {
        self()
    }

    fn evicted(&mut self) {}

    fn overflowed(&mut self) {}

    fn forfeited(&mut self) {}
}

/// What became of a debit.
pub(super) enum Debit {
    /// It was made, and leaves this debt; the entry's instant is this.
    Done { debt: u64, tat: u64, seat: Seat },
    /// This debt forbids it.
    Refused(u64),
    /// The key is new and finds a place only after so many nanoseconds.
    Full(u64),
}

/// What became of a debit against an entry that was read before.
enum Attempt {
    Done {
        debt: u64,
        tat: u64,
    },
    Refused(u64),
    /// The entry is not what it was, or the measure is out of date.
    Changed,
}

/// What became of one attempt at a first touch.
pub(super) enum Touch {
    /// Committed with this instant.
    Committed { tat: u64 },
    /// Somebody else was there, or came in between.
    Again,
    /// Every place is taken by a key that owes tokens; the first is free after so many nanoseconds.
    Full(u64),
}

/// Where a new entry goes.
enum Choice<'a> {
    /// Here, in place of this entry.
    Place(Place<'a>, Entry),
    /// Here, in place of this entry, which owes tokens.
    Evict(Place<'a>, Entry),
    /// An entry that stood in the way is changing, or is there by now.
    Look,
    /// Nowhere for so many nanoseconds.
    Full(u64),
}

impl<S: AsRef<[Line]>> Table<S> {
    /// Lines that a table for `max_keys` live keys needs.
    pub const fn lines_for(max_keys: u64) -> u64 {
        1 + lines_for(max_keys)
    }

    /// The table in these lines, as they are: zeroed lines are an empty table. `None` if there are fewer than
    /// [`Table::lines_for`] one key.
    pub fn over(lines: S) -> Option<Self> {
        let sections = Sections::of(lines.as_ref().len().checked_sub(1)?)?;
        Some(Self { lines, sections, full_policy: FullPolicy::DenyNew })
    }

    /// With another way to treat new keys that find no place. Every process that shares the lines chooses for itself.
    pub fn with_full_policy(self, full_policy: FullPolicy) -> Self {
        Self { full_policy, ..self }
    }

    /// Bytes of all lines.
    pub fn bytes(&self) -> usize {
        size_of_val(self.lines.as_ref())
    }

    /// Live keys the table is meant for: fewer than one new key in 10,000 is refused up to here.
    pub fn capacity(&self) -> u64 {
        nominal_keys(self.sections.lines())
    }

    /// Debits `cost` from `key` if `rule` admits it now. `nonce` is called for a first touch and returns a
    /// number that no other attempt in flight has; its low 56 bits count.
    #[inline]
    pub fn check(
        &self,
        key: Key,
        rule: &KeyedRule,
        cost: u64,
        now: u64,
        nonce: impl FnMut() -> u64,
    ) -> Decision {
        self.check_by(key, rule, cost, now, nonce)
    }

    /// As [`Table::check`], by a limit.
    pub fn check_limit(
        &self,
        key: Key,
        limit: &Limit,
        cost: u64,
        now: u64,
        nonce: impl FnMut() -> u64,
    ) -> Decision {
        self.check_by(key, limit.terms(), cost, now, nonce)
    }

    /// What a check of cost one would say, without a debit.
    pub fn peek(&self, key: Key, rule: &KeyedRule, now: u64) -> Decision {
        self.peek_by(key, rule, now)
    }

    #[inline]
    pub(super) fn check_by(
        &self,
        key: Key,
        measure: impl Measure,
        cost: u64,
        now: u64,
        mut host: impl Host,
    ) -> Decision {
        let (rule, now) = (measure.rule(), now.min(MAX_NOW_NS));
        let full = rule.ticks().full as u64;
        let found = self.find(key);
        if let Some((place, entry)) = found {
            match attempt(place, entry, key, &measure, cost, now, full) {
                // Inlined, so that a caller who ignores what is left pays no division for it.
                Attempt::Done { debt, .. } => return Decision::allowed(rule, debt),
                Attempt::Refused(debt) => return Decision::refused(rule, debt, cost),
                Attempt::Changed => {}
            }
        }
        let mut later = measure;
        let debit = self.debit(key, &mut later, cost, 0, now, found.is_none(), &mut host);
        let rule = later.rule();
        match debit {
            Debit::Done { debt, .. } => Decision::allowed(rule, debt),
            Debit::Refused(debt) => Decision::refused(rule, debt, cost),
            Debit::Full(wait_ns) => Decision::table_full(rule, wait_ns),
        }
    }

    pub(super) fn peek_by(&self, key: Key, mut measure: impl Measure, now: u64) -> Decision {
        let now = now.min(MAX_NOW_NS);
        let debt = self.debt_by(key, &mut measure, now);
        Decision::peek(measure.rule(), debt)
    }

    /// What `key` owes at `now`, which is no later than the table's end of time, by the measure as it is then.
    pub(super) fn debt_by(&self, key: Key, measure: &mut impl Measure, now: u64) -> u64 {
        loop {
            let Some((_, entry)) = self.find(key) else { return 0 };
            if let Some(tat) = measure.tat(entry) {
                return measure.rule().ticks().debt(tat, now);
            }
            *measure = measure.refreshed();
        }
    }

    /// Forgets what `key` owes. Tells whether it had an entry.
    pub fn reset(&self, key: Key) -> bool {
        while let Some((place, entry)) = self.find(key) {
            if place.replace(entry.0, EMPTY) {
                return true;
            }
        }
        false
    }

    /// Keys that owe tokens at `now`. Reads the whole table, while others may change it.
    pub fn live_keys(&self, now: u64) -> u64 {
        let mut keys = 0;
        self.for_each_live(now.min(MAX_NOW_NS), |_, _| keys += 1);
        keys
    }

    /// Visits the entries of keys that owe tokens at `now`, and their sections, while others may change them.
    pub(super) fn for_each_live(&self, now: u64, mut visit: impl FnMut(usize, Entry)) {
        for (index, line) in self.lines.as_ref()[1..].iter().enumerate() {
            for word in &line.0 {
                // Relaxed: each word stands for itself.
                let entry = Entry(word.load(Ordering::Relaxed));
                if !entry.is_empty() && !entry.is_tentative() && !entry.is_full(now) {
                    visit(self.sections.section_of(index), entry);
                }
            }
        }
    }

    /// Debits `cost` if it is granted within `max_wait_ns`; `absent` if the key was just seen to have no entry. Leaves
    /// `measure` as it was when that was decided.
    #[cold]
    #[allow(clippy::too_many_arguments)] // what a debit is made of, in two callers
    pub(super) fn debit(
        &self,
        key: Key,
        measure: &mut impl Measure,
        cost: u64,
        max_wait_ns: u64,
        now: u64,
        mut absent: bool,
        host: &mut impl Host,
    ) -> Debit {
        loop {
            let ticks = *measure.rule().ticks();
            let most = most_owed(&ticks, max_wait_ns, now);
            if absent {
                let Some(debt) = ticks.after_within(0_u64, cost, most) else { return Debit::Refused(0) };
                if cost == 0 {
                    return Debit::Done { debt: 0, tat: 0, seat: Seat::Own };
                }
                let marks = (measure.mark(), ticks.n.get());
                match self.first_touch(key, marks, now, host, |at| ticks.instant::<u64>(at) + debt) {
                    Touch::Committed { tat } => return Debit::Done { debt, tat, seat: Seat::Own },
                    Touch::Full(_) if self.full_policy == FullPolicy::OverflowKey => {
                        return self.debit_overflow(&ticks, cost, now, most, host);
                    }
                    Touch::Full(wait_ns) => return Debit::Full(wait_ns),
                    Touch::Again => {}
                }
            }
            let found = self.find(key);
            if let Some((place, entry)) = found {
                match attempt(place, entry, key, measure, cost, now, most) {
                    Attempt::Done { debt, tat } => return Debit::Done { debt, tat, seat: Seat::Own },
                    Attempt::Refused(debt) => return Debit::Refused(debt),
                    Attempt::Changed => *measure = measure.refreshed(),
                }
            }
            absent = found.is_none();
        }
    }

    /// One attempt to make the entry of a key that has none; `tat` gives its content for the instant at which
    /// it happens.
    pub(super) fn first_touch(
        &self,
        key: Key,
        (mark, n): (u8, u64),
        now: u64,
        host: &mut impl Host,
        tat: impl Fn(u64) -> u64,
    ) -> Touch {
        let (place, old, evicts) = match self.choose(key, now) {
            Choice::Place(place, old) => (place, old, false),
            Choice::Evict(place, old) => (place, old, true),
            Choice::Look => return Touch::Again,
            Choice::Full(wait_ns) => return Touch::Full(wait_ns),
        };
        if !old.is_empty() && !old.is_tentative() {
            self.raise_floor(now);
        }
        let mine = Entry::tentative(key, n, host.nonce());
        let old = if cfg!(escope_sabotage = "limiter_reuse") { place.load() } else { old.0 };
        if !place.replace(old, mine.0) {
            return Touch::Again;
        }
        if evicts {
            host.evicted();
        }
        // Orders the store of `mine` before the loads of the rescan, against the same fence of any other first
        // touch of this key: at least one of the two sees the other's entry.
        if !cfg!(escope_sabotage = "limiter_fence") {
            fence(Ordering::SeqCst);
        }
        if !cfg!(escope_sabotage = "limiter_rescan") && !self.is_alone(key, place.rank) {
            place.replace(mine.0, EMPTY);
            return Touch::Again;
        }
        let at = if cfg!(escope_sabotage = "limiter_floor") { now } else { now.max(self.floor()) };
        let tat = tat(at);
        match place.replace(mine.0, Entry::committed(key, mark, n, tat).0) {
            true => Touch::Committed { tat },
            false => Touch::Again,
        }
    }

    /// The rescan of a first touch: whether the entry of rank `mine` may be committed. Tentative entries of a
    /// higher rank are emptied.
    fn is_alone(&self, key: Key, mine: usize) -> bool {
        self.places(key).filter(|place| place.rank != mine).all(|place| {
            loop {
                let entry = Entry(place.load());
                if !entry.is_of(key) {
                    return true;
                }
                if !entry.is_tentative() || place.rank < mine {
                    return false;
                }
                if place.replace(entry.0, EMPTY) {
                    return true;
                }
            }
        })
    }

    /// Where a new entry of `key` goes.
    fn choose(&self, key: Key, now: u64) -> Choice<'_> {
        let mut best: Option<(usize, usize, (Place<'_>, Entry))> = None;
        let mut abandoned = None;
        let mut fullest: Option<(u64, (Place<'_>, Entry))> = None;
        for section in 0..SECTIONS {
            let mut taken = 0;
            let mut free: Option<(Place<'_>, Entry)> = None;
            for place in self.line(self.sections.line(key, section), key) {
                let entry = Entry(place.load());
                if entry.is_of(key) {
                    return if stays_tentative(place, entry) {
                        Choice::Place(place, entry)
                    } else {
                        Choice::Look
                    };
                } else if entry.is_empty() {
                    free = free.filter(|(_, entry)| entry.is_empty()).or(Some((place, entry)));
                } else if entry.is_tentative() {
                    taken += 1;
                    abandoned = abandoned.or(Some((place, entry)));
                } else if entry.is_full(now) {
                    free = free.or(Some((place, entry)));
                } else {
                    taken += 1;
                    let wait_ns = entry.time_to_full(now);
                    if fullest.is_none_or(|(least, _)| wait_ns < least) {
                        fullest = Some((wait_ns, (place, entry)));
                    }
                }
            }
            if let Some(free) = free
                && best.is_none_or(|(chosen, least, _)| crowded(chosen, least) && taken < least)
            {
                best = Some((section, taken, free));
            }
        }
        match (best, abandoned, fullest) {
            (Some((_, _, (place, old))), ..) => Choice::Place(place, old),
            // With patience, or two threads might rob each other for ever.
            (None, Some((place, old)), _) if stays_tentative(place, old) => Choice::Place(place, old),
            (None, None, Some((_, (place, old)))) if self.full_policy == FullPolicy::EvictMostFull => {
                Choice::Evict(place, old)
            }
            (None, None, Some((wait_ns, _))) => Choice::Full(wait_ns),
            (None, ..) => Choice::Look,
        }
    }

    /// The committed entry of `key`. Absent, if there was a moment during the call without one.
    #[inline]
    pub(super) fn find(&self, key: Key) -> Option<(Place<'_>, Entry)> {
        self.find_in(self.sections.first_line(key), key).or_else(|| self.find_beyond(key))
    }

    /// Out of line, for most keys are in their first line.
    #[inline(never)]
    fn find_beyond(&self, key: Key) -> Option<(Place<'_>, Entry)> {
        (1..SECTIONS).find_map(|section| self.find_in(self.sections.line(key, section), key))
    }

    #[inline(always)]
    fn find_in(&self, line: usize, key: Key) -> Option<(Place<'_>, Entry)> {
        for place in self.line(line, key) {
            let entry = Entry(place.load());
            if entry.is_of(key) && !entry.is_tentative() {
                return Some((place, entry));
            }
        }
        None
    }

    /// All places of a key.
    fn places(&self, key: Key) -> impl Iterator<Item = Place<'_>> {
        (0..SECTIONS).flat_map(move |section| self.line(self.sections.line(key, section), key))
    }

    /// The places of a key in one of its lines, its home way first. The header comes before all lines.
    #[inline]
    fn line(&self, line: usize, key: Key) -> impl Iterator<Item = Place<'_>> {
        let index = 1 + line;
        let line = &self.lines.as_ref()[index];
        let home = home_way(key);
        (0..WAYS).map(move |step| {
            let way = (home + step) % WAYS;
            Place { word: &line.0[way], rank: index * WAYS + way }
        })
    }

    /// Debits from the entry of all keys without a place, which needs no first touch. Rules and limits meet there, so
    /// it has no mark and keeps its debt in time.
    fn debit_overflow(&self, ticks: &Ticks, cost: u64, now: u64, most: u64, host: &mut impl Host) -> Debit {
        let (place, n) = (self.overflow(), ticks.n.get());
        loop {
            let found = Entry(place.load());
            let owed = if found.is_empty() { 0 } else { ticks.debt(found.tat(n), now) };
            let Some(debt) = ticks.after_within(owed, cost, most) else { return Debit::Refused(owed) };
            let tat = ticks.instant::<u64>(now) + debt;
            let moved = Entry::committed(Seat::Overflow.key_of(Key::from_raw(0)), 0, n, tat);
            if place.replace(found.0, moved.0) {
                host.overflowed();
                return Debit::Done { debt, tat, seat: Seat::Overflow };
            }
        }
    }

    /// The entry in which `key` has this seat.
    pub(super) fn seated(&self, key: Key, seat: Seat) -> Option<(Place<'_>, Entry)> {
        match seat {
            Seat::Own => self.find(key),
            Seat::Overflow => {
                let place = self.overflow();
                Some((place, Entry(place.load()))).filter(|(_, entry)| !entry.is_empty())
            }
        }
    }

    /// Puts the entry of a snapshot into a table that nobody uses yet: into its line of this section if there is a place. Tells
    /// whether it has one. A key that is there already keeps the later of both.
    pub(super) fn put_back(&self, section: usize, entry: Entry) -> bool {
        let key = entry.key();
        if let Some((place, other)) = self.find(key) {
            return entry.time_to_full(0) <= other.time_to_full(0) || place.replace(other.0, entry.0);
        }
        let line = self.line(self.sections.line(key, section % SECTIONS), key);
        line.chain(self.places(key)).any(|place| place.replace(EMPTY, entry.0))
    }

    /// Where the debts of all keys without a place stand: the header's last word.
    pub(super) fn overflow(&self) -> Place<'_> {
        Place { word: &self.lines.as_ref()[0].0[WAYS - 1], rank: 0 }
    }

    fn header(&self) -> Place<'_> {
        Place { word: &self.lines.as_ref()[0].0[0], rank: 0 }
    }

    /// Latest instant at which a place was taken from a key that owed nothing.
    pub(super) fn floor(&self) -> u64 {
        u64::from(lo(self.header().load()))
    }

    /// Raises the floor before a place is taken; the replacement that takes it releases the new floor.
    fn raise_floor(&self, now: u64) {
        let header = self.header();
        loop {
            let old = header.load();
            if u64::from(lo(old)) >= now || header.replace(old, wide(0, now as Half)) {
                return;
            }
        }
    }
}

/// Debits from an entry.
#[inline(always)]
fn attempt(
    place: Place<'_>,
    entry: Entry,
    key: Key,
    measure: &impl Measure,
    cost: u64,
    now: u64,
    most: u64,
) -> Attempt {
    let ticks = measure.rule().ticks();
    let Some(tat) = measure.tat(entry) else { return Attempt::Changed };
    let debt = ticks.debt(tat, now);
    let Some(after) = ticks.after_within(debt, cost, most) else { return Attempt::Refused(debt) };
    let tat = ticks.instant::<u64>(now) + after;
    let moved = Entry::committed(key, measure.mark(), ticks.n.get(), tat);
    if cost == 0 || place.replace(entry.0, moved.0) {
        Attempt::Done { debt: after, tat }
    } else {
        Attempt::Changed
    }
}

/// Whether another thread's first touch is still where it was after a moment. Bounded, for
/// that thread may have died.
fn stays_tentative(place: Place<'_>, entry: Entry) -> bool {
    entry.is_tentative()
        && (0..PATIENCE).all(|_| {
            spin_loop();
            place.load() == entry.0
        })
}

/// The largest debt that a debit may leave whose caller waits for so long.
fn most_owed(ticks: &Ticks, max_wait_ns: u64, now: u64) -> u64 {
    let ahead = u128::from(ticks.n.get()) * u128::from(max_wait_ns);
    let room = u128::from(MAX_TAT) - ticks.instant::<u128>(now);
    (ticks.full + ahead).min(room) as u64
}

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::*;
    use crate::limiter::{Rule, Verdict};

    const PLACES: u64 = (SECTIONS * WAYS) as u64;

    fn rule(burst: u64) -> KeyedRule {
        KeyedRule::new(Rule::new(1, 1000, burst).unwrap()).unwrap()
    }

    fn table() -> Table<Vec<Line>> {
        let lines = (0..Table::<Vec<Line>>::lines_for(1)).map(|_| Line::new()).collect();
        Table::over(lines).unwrap()
    }

    /// What a thread leaves that dies in the middle of a first touch of `key`.
    fn die_in_first_touch(table: &Table<Vec<Line>>, key: Key, section: usize) {
        let place = table.line(table.sections.line(key, section), key).next().unwrap();
        assert!(place.replace(EMPTY, Entry::tentative(key, 1, 77).0));
    }

    #[test]
    fn a_dead_first_touch_of_the_same_key_is_taken_over() {
        for section in 0..SECTIONS {
            let (table, key) = (table(), Key::from_raw(5));
            die_in_first_touch(&table, key, section);
            assert_eq!(table.peek(key, &rule(1), 0).remaining, 1);
            assert_eq!(table.live_keys(0), 0);
            assert!(!table.reset(key));
            let check = || table.check(key, &rule(1), 1, 0, || 1).verdict;
            assert_eq!((check(), check()), (Verdict::Allowed, Verdict::Limited));
            assert_eq!(table.places(key).filter(|place| place.load() != EMPTY).count(), 1);
        }
    }

    #[test]
    fn dead_first_touches_of_other_keys_give_way_when_nothing_else_is_free() {
        let table = table();
        for dead in 0..PLACES {
            let place = table.places(Key::from_raw(dead)).find(|place| place.load() == EMPTY).unwrap();
            assert!(place.replace(EMPTY, Entry::tentative(Key::from_raw(dead), 1, 77).0));
        }
        for key in 100..100 + PLACES {
            assert!(table.check(Key::from_raw(key), &rule(1), 1, 0, || key).is_allowed());
        }
        assert_eq!(table.check(Key::from_raw(99), &rule(1), 1, 0, || 99).verdict, Verdict::TableFull);
    }

    #[test]
    fn two_dead_first_touches_of_one_key_leave_one_entry() {
        let (table, key) = (table(), Key::from_raw(5));
        (0..SECTIONS).for_each(|section| die_in_first_touch(&table, key, section));
        assert!(table.check(key, &rule(1), 1, 0, || 1).is_allowed());
        assert_eq!(table.check(key, &rule(1), 1, 0, || 2).verdict, Verdict::Limited);
        assert_eq!(table.live_keys(0), 1);
    }

    #[test]
    fn too_few_lines_are_no_table() {
        for length in 0..=SECTIONS {
            assert!(Table::over((0..length).map(|_| Line::new()).collect::<Vec<_>>()).is_none());
        }
        let more: Vec<_> = (0..2 * SECTIONS).map(|_| Line::new()).collect();
        assert!(Table::over(more).is_some_and(|table| table.sections.lines() == 2 * SECTIONS as u64 - 1));
    }
}
