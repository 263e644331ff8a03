//! How a key gets its place: the first touch, and the floor.
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

use super::choice::Choice;
use super::entry::{EMPTY, Entry};
use super::key::Key;
use super::places::{Line, Place};
use super::table::{Host, Table};
use crate::sync::{Half, Ordering, fence, lo, wide};

/// What became of one attempt at a first touch.
pub(super) enum Touch {
    /// Committed with this instant.
    Committed { tat: u64 },
    /// Somebody else was there, or came in between.
    Again,
    /// Every place is taken by a key that owes tokens; the first is free after so many nanoseconds.
    Full(u64),
}

impl<S: AsRef<[Line]>> Table<S> {
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

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::*;
    use crate::limiter::places::{SECTIONS, WAYS};
    use crate::limiter::{KeyedRule, Rule, Verdict};

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

    /// Of two first touches that see each other the one of the lower rank commits; whoever has committed has won.
    #[test]
    fn l02_a_first_touch_gives_way_to_an_entry_and_to_one_of_lower_rank() {
        let key = Key::from_raw(5);
        let tentative = Entry::tentative(key, 1, 77);
        for (other, alone) in [
            (tentative, [false, true]),
            (Entry::committed(key, 0, 1, 20), [false; 2]),
            (Entry::tentative(Key::from_raw(6), 1, 77), [true; 2]),
            (Entry(EMPTY), [true; 2]),
        ] {
            for (at, alone) in [2, 6].into_iter().zip(alone) {
                let table = table();
                let place = |number| table.places(key).nth(number).unwrap();
                assert!(place(at).replace(EMPTY, other.0));
                assert_eq!(table.is_alone(key, place(4).rank), alone, "{other:?} in place {at}");
                let emptied = other.is_of(key) && alone;
                assert_eq!(place(at).load(), if emptied { EMPTY } else { other.0 });
            }
        }
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
}
