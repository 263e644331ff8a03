//! The keyed table: a lock-free cell of fixed size over memory that the caller gives.
//!
//! A table is a slice of [`Line`]s: first a header, then the sections of `places`. It holds no pointer, so the
//! same lines work at any address, on the heap or in memory that processes share. Every change is one
//! compare-and-swap of a key's whole word, so a process that dies at any instruction leaves the table valid.
//!
//! # Absent means full
//!
//! A key that owes nothing cannot be told from one that was never seen. Its place is therefore taken by the
//! next key that needs one, and nothing ever sweeps the table. How a key gets a place is in `touch`, and which in `choice`.

use super::decision::Decision;
use super::entry::{EMPTY, Entry, MAX_NOW_NS, MAX_TAT};
use super::gcra::Ticks;
use super::key::Key;
use super::limit::Limit;
use super::measure::Measure;
use super::overflow::Seat;
use super::places::{Line, Place, SECTIONS, Sections, WAYS, home_way, lines_for, nominal_keys};
use super::rule::KeyedRule;
use super::touch::Touch;
use crate::sync::{Ordering, prefetch_for_write};

/// A keyed table over the lines of `S`: a box, or shared memory.
#[derive(Debug)]
pub struct Table<S> {
    pub(super) lines: S,
    pub(super) sections: Sections,
    pub(super) full_policy: FullPolicy,
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

    #[inline(always)]
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
        let found = self.glance(key);
        if let Some((place, entry)) = found {
            match attempt(place, entry, key, &measure, cost, now, full) {
                // Inlined, so that a caller who ignores what is left pays no division for it. Where nothing was replaced,
                // nothing has confirmed the entry.
                Attempt::Done { debt, .. } if cost != 0 => return Decision::allowed(rule, debt),
                Attempt::Refused(debt) if is_still(place, entry) => {
                    return Decision::refused(rule, debt, cost);
                }
                _ => {}
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

    /// The committed entry of `key`. Absent, if there was a moment during the call without one.
    pub(super) fn find(&self, key: Key) -> Option<(Place<'_>, Entry)> {
        let place = self.home(key);
        let entry = Entry(place.load());
        if entry.is_committed_of(key) { Some((place, entry)) } else { self.find_beyond(key) }
    }

    /// As [`Table::find`], but the entry is a guess: see [`Place::glance`].
    #[inline]
    fn glance(&self, key: Key) -> Option<(Place<'_>, Entry)> {
        let place = self.home(key);
        let entry = Entry(place.glance());
        if entry.is_committed_of(key) { Some((place, entry)) } else { self.find_beyond(key) }
    }

    /// Out of line, for most keys are where they are looked for first.
    #[inline(never)]
    fn find_beyond(&self, key: Key) -> Option<(Place<'_>, Entry)> {
        let mut beyond = self.places(key).skip(1).map(|place| (place, Entry(place.load())));
        beyond.find(|(_, entry)| entry.is_committed_of(key))
    }

    /// Fetches the line that `key` is looked for in first, for a check to come.
    #[inline]
    pub(super) fn prefetch(&self, key: Key) {
        prefetch_for_write(self.home(key).word);
    }

    /// All places of a key.
    pub(super) fn places(&self, key: Key) -> impl Iterator<Item = Place<'_>> {
        (0..SECTIONS).flat_map(move |section| self.line(self.sections.line(key, section), key))
    }

    /// The first of all places of a key.
    #[inline]
    fn home(&self, key: Key) -> Place<'_> {
        let (index, way) = (1 + self.sections.first_line(key), home_way(key));
        Place { word: &self.lines.as_ref()[index].0[way], rank: index * WAYS + way }
    }

    /// The places of a key in one of its lines, its home way first. The header comes before all lines.
    #[inline]
    pub(super) fn line(&self, line: usize, key: Key) -> impl Iterator<Item = Place<'_>> {
        let index = 1 + line;
        let line = &self.lines.as_ref()[index];
        let home = home_way(key);
        (0..WAYS).map(move |step| {
            let way = (home + step) % WAYS;
            Place { word: &line.0[way], rank: index * WAYS + way }
        })
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

/// Whether a guess was right, or is by now.
#[inline]
fn is_still(place: Place<'_>, entry: Entry) -> bool {
    cfg!(escope_sabotage = "limiter_halves") || place.load() == entry.0
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

    /// A key that moves while a snapshot is taken may be in it twice.
    #[test]
    fn l25_of_two_entries_of_a_key_the_one_that_owes_for_longer_is_put_back() {
        let table = Table::over((0..9).map(|_| Line::new()).collect::<Vec<_>>()).unwrap();
        let key = Key::from_raw(5);
        let until = |tat| Entry::committed(key, 0, 1, tat);
        for (tat, kept) in [(20, 20), (30, 30), (20, 30), (30, 30), (31, 31)] {
            assert!(table.put_back(0, until(tat)));
            assert_eq!(table.find(key).map(|(_, entry)| entry.raw_tat()), Some(kept));
        }
        assert_eq!(table.live_keys(0), 1);
    }

    #[test]
    fn l25_an_entry_is_put_back_into_its_section() {
        for section in 0..SECTIONS {
            let table = Table::over((0..9).map(|_| Line::new()).collect::<Vec<_>>()).unwrap();
            assert!(table.put_back(section, Entry::committed(Key::from_raw(5), 0, 1, 20)));
            table.for_each_live(0, |found, _| assert_eq!(found, section));
        }
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
