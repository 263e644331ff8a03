//! Which of a key's places a new entry takes.
//!
//! An empty place, or that of a key that owes nothing, in the line that `places` prefers; else that of a first touch whose thread
//! seems to have died; else, by policy, that of a key that owes tokens.

use super::entry::Entry;
use super::key::Key;
use super::places::{Line, Place, SECTIONS, crowded};
use super::table::{FullPolicy, Table};
use std::hint::spin_loop;

/// Times to look again at another thread's first touch before taking it over.
const PATIENCE: u32 = if cfg!(escope_model) { 0 } else { 64 };

/// Where a new entry goes.
pub(super) enum Choice<'a> {
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
    /// Where a new entry of `key` goes.
    pub(super) fn choose(&self, key: Key, now: u64) -> Choice<'_> {
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

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::*;
    use crate::limiter::entry::EMPTY;
    use crate::limiter::places::WAYS;

    const LATE: u64 = 1_000;

    /// All keys of this table have the same lines.
    fn table() -> Table<Vec<Line>> {
        let lines = (0..Table::<Vec<Line>>::lines_for(1)).map(|_| Line::new()).collect();
        Table::over(lines).unwrap()
    }

    fn section_of(place: Place<'_>) -> usize {
        place.rank / WAYS - 1
    }

    fn owing(key: u64) -> Entry {
        Entry::committed(Key::from_raw(key), 0, 1, LATE)
    }

    /// Puts the next key where it belongs, and tells the section.
    fn put(table: &Table<Vec<Line>>, key: u64) -> usize {
        let Choice::Place(place, old) = table.choose(Key::from_raw(key), 0) else {
            panic!("no place for {key}")
        };
        assert!(place.replace(old.0, owing(key).0));
        section_of(place)
    }

    #[test]
    fn a_line_is_filled_before_the_next_but_for_the_last_place_of_those_beyond_the_first() {
        let table = table();
        let sections: Vec<_> = (1..=16).map(|key| put(&table, key)).collect();
        assert_eq!(sections, [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 1, 2, 3]);
    }

    #[test]
    fn of_crowded_lines_the_emptiest_is_taken() {
        let table = table();
        (1..=16).for_each(|key| assert!(put(&table, key) < SECTIONS));
        let free = |section: usize, places: usize| {
            table.line(section, Key::from_raw(0)).take(places).for_each(|place| {
                assert!(place.replace(place.load(), EMPTY));
            });
        };
        free(1, 1);
        free(3, 1);
        assert_eq!(put(&table, 17), 1, "the leftmost of equals");
        free(2, 1);
        assert_eq!((put(&table, 18), put(&table, 19)), (2, 3));
    }

    #[test]
    fn the_first_touch_of_another_key_counts_as_live() {
        let table = table();
        (1..=6).for_each(|key| assert!(put(&table, key) < 2));
        let Choice::Place(place, _) = table.choose(Key::from_raw(7), 0) else { panic!("a place is free") };
        assert_eq!(section_of(place), 1);
        assert!(place.replace(EMPTY, Entry::tentative(Key::from_raw(7), 1, 77).0));
        assert_eq!(put(&table, 8), 2);
    }

    #[test]
    fn of_keys_that_owe_for_the_same_time_the_first_loses_its_place() {
        let table = table().with_full_policy(FullPolicy::EvictMostFull);
        (1..=16).for_each(|key| assert!(put(&table, key) < SECTIONS));
        let key = Key::from_raw(17);
        let Choice::Evict(place, _) = table.choose(key, 0) else { panic!("every place is taken") };
        assert_eq!(Some(place.rank), table.places(key).next().map(|place| place.rank));
        let last = table.places(key).last().unwrap();
        let shorter = Entry::committed(Entry(last.load()).key(), 0, 1, LATE - 1);
        assert!(last.replace(last.load(), shorter.0));
        let Choice::Evict(place, _) = table.choose(key, 0) else { panic!("every place is taken") };
        assert_eq!(place.rank, last.rank);
    }
}
