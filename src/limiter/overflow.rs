//! The bucket of all keys without a place, which [`FullPolicy::OverflowKey`](super::FullPolicy::OverflowKey) gives them together.

use super::entry::Entry;
use super::gcra::Ticks;
use super::key::Key;
use super::places::{Line, Place, WAYS};
use super::table::{Debit, Host, Table};

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

impl<S: AsRef<[Line]>> Table<S> {
    /// Debits from the entry of all keys without a place, which needs no first touch. Rules and limits meet there, so
    /// it has no mark and keeps its debt in time.
    pub(super) fn debit_overflow(
        &self,
        ticks: &Ticks,
        cost: u64,
        now: u64,
        most: u64,
        host: &mut impl Host,
    ) -> Debit {
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

    /// Where the debts of all keys without a place stand: the header's last word.
    pub(super) fn overflow(&self) -> Place<'_> {
        Place { word: &self.lines.as_ref()[0].0[WAYS - 1], rank: 0 }
    }
}
