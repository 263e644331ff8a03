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
