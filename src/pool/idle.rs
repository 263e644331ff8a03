//! The idle slots and which of them goes out next.
//!
//! | order | structure | lending, returning |
//! | --- | --- | --- |
//! | lifo, fifo | list in the order of return | O(1) |
//! | round_robin | three levels of bit words over the slot numbers | O(1): at most six words |
//! | least_used | heap by number of leases, then slot number | O(log n) |
//!
//! The list in the order of return is kept under every order, since idle time is read from it. A slot that is being checked
//! keeps its place in it, so that a check makes no connection look used; at most [`MAX_IDLE_CHECKS`] are, which bounds how
//! many are stepped over. A second list, by the last use or check, is kept for pools that check idle connections.

use std::collections::TryReserveError;

use super::config::IdleOrder;
use super::heap::Heap;
use super::list::{Link, List};
use super::memory::table;

/// Idle connections that are checked at a time.
pub(super) const MAX_IDLE_CHECKS: u32 = 8;

#[derive(Debug)]
pub(super) struct IdleSet {
    order: Order,
    by_return: List,
    links: Box<[Link]>,
    /// In `by_return`, but not to be lent.
    away: Box<[bool]>,
    away_count: u32,
    touches: Option<Touches>,
}

#[derive(Debug)]
enum Order {
    Lifo,
    Fifo,
    RoundRobin { bits: Bits, next: u32 },
    LeastUsed(Heap),
}

/// Slots by their last use or check.
#[derive(Debug)]
struct Touches {
    list: List,
    links: Box<[Link]>,
}

impl IdleSet {
    pub(super) fn new(count: usize, order: IdleOrder, touches: bool) -> Result<Self, TryReserveError> {
        let order = match order {
            IdleOrder::Lifo => Order::Lifo,
            IdleOrder::Fifo => Order::Fifo,
            IdleOrder::RoundRobin => Order::RoundRobin { bits: Bits::new(count)?, next: 0 },
            IdleOrder::LeastUsed => Order::LeastUsed(Heap::new(count)?),
        };
        let touches =
            if touches { Some(Touches { list: List::new(), links: Link::table(count)? }) } else { None };
        Ok(Self {
            order,
            by_return: List::new(),
            links: Link::table(count)?,
            away: table(count, || false)?,
            away_count: 0,
            touches,
        })
    }

    /// Slots that may be lent.
    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.by_return.len() - self.away_count
    }

    /// Slots that are being checked.
    #[inline]
    pub(super) fn away(&self) -> u32 {
        self.away_count
    }

    /// A slot comes back from use; `leases` is how often it was lent.
    #[inline]
    pub(super) fn push(&mut self, slot: u32, leases: u64) {
        self.by_return.push_back(&mut self.links, slot);
        self.enter(slot, leases);
    }

    /// The slot to lend next, which leaves.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<u32> {
        let slot = match &mut self.order {
            Order::Lifo => self.newest()?,
            Order::Fifo => self.oldest()?,
            Order::RoundRobin { bits, next } => {
                let slot = bits.from(*next).or_else(|| bits.from(0))?;
                *next = slot + 1;
                slot
            }
            Order::LeastUsed(heap) => heap.first()?.0,
        };
        self.remove(slot);
        Some(slot)
    }

    /// The slot leaves, away or not.
    #[inline]
    pub(super) fn remove(&mut self, slot: u32) {
        self.by_return.remove(&mut self.links, slot);
        if self.away[slot as usize] {
            self.away[slot as usize] = false;
            self.away_count -= 1;
        } else {
            self.exit(slot);
        }
    }

    /// The slot is being checked and keeps its place.
    pub(super) fn send_away(&mut self, slot: u32) {
        self.exit(slot);
        self.away[slot as usize] = true;
        self.away_count += 1;
    }

    /// Its check is over.
    pub(super) fn bring_back(&mut self, slot: u32, leases: u64) {
        self.away[slot as usize] = false;
        self.away_count -= 1;
        self.enter(slot, leases);
    }

    /// The slot that was returned before all others.
    #[inline]
    pub(super) fn oldest(&self) -> Option<u32> {
        let mut slot = self.by_return.front();
        while let Some(away) = slot.filter(|&slot| self.away[slot as usize]) {
            slot = List::after(&self.links, away);
        }
        slot
    }

    #[inline]
    fn newest(&self) -> Option<u32> {
        let mut slot = self.by_return.back();
        while let Some(away) = slot.filter(|&slot| self.away[slot as usize]) {
            slot = List::before(&self.links, away);
        }
        slot
    }

    /// The slot that was neither used nor checked for longest.
    pub(super) fn least_touched(&self) -> Option<u32> {
        self.touches.as_ref()?.list.front()
    }

    #[inline]
    fn enter(&mut self, slot: u32, leases: u64) {
        match &mut self.order {
            Order::Lifo | Order::Fifo => {}
            Order::RoundRobin { bits, .. } => bits.set(slot),
            Order::LeastUsed(heap) => heap.insert(slot, leases),
        }
        if let Some(Touches { list, links }) = &mut self.touches {
            list.push_back(links, slot);
        }
    }

    #[inline]
    fn exit(&mut self, slot: u32) {
        match &mut self.order {
            Order::Lifo | Order::Fifo => {}
            Order::RoundRobin { bits, .. } => bits.clear(slot),
            Order::LeastUsed(heap) => heap.remove(slot),
        }
        if let Some(Touches { list, links }) = &mut self.touches {
            list.remove(links, slot);
        }
    }
}

const WORD: u32 = u64::BITS;
/// 64 × 64 × 64 slots are more than a pool may have.
const LEVELS: usize = 3;

/// A set of slot numbers that finds the next member. A bit of a higher level says that a word below has one.
#[derive(Debug)]
struct Bits([Box<[u64]>; LEVELS]);

impl Bits {
    fn new(count: usize) -> Result<Self, TryReserveError> {
        let words = |entries: usize| table(entries.div_ceil(WORD as usize), || 0);
        let low = words(count)?;
        let middle = words(low.len())?;
        let high = words(middle.len())?;
        Ok(Self([low, middle, high]))
    }

    fn set(&mut self, slot: u32) {
        let mut at = slot;
        for level in &mut self.0 {
            level[(at / WORD) as usize] |= 1 << (at % WORD);
            at /= WORD;
        }
    }

    fn clear(&mut self, slot: u32) {
        let mut at = slot;
        for level in &mut self.0 {
            let word = &mut level[(at / WORD) as usize];
            *word &= !(1 << (at % WORD));
            if *word != 0 {
                return;
            }
            at /= WORD;
        }
    }

    /// The least member that is `slot` or more.
    fn from(&self, slot: u32) -> Option<u32> {
        let mut at = slot;
        for up in 0..LEVELS {
            let word = *self.0[up].get((at / WORD) as usize)?;
            let rest = word & (u64::MAX << (at % WORD));
            if rest != 0 {
                let mut found = at / WORD * WORD + rest.trailing_zeros();
                for level in self.0[..up].iter().rev() {
                    found = found * WORD + level[found as usize].trailing_zeros();
                }
                return Some(found);
            }
            // This word is searched; go on with the next one.
            at = at / WORD + 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn p15_the_next_member_is_found_across_all_levels(
            steps in proptest::collection::vec((0u32..10_000, any::<bool>(), 0u32..10_100), 1..200),
        ) {
            let mut bits = Bits::new(10_000).unwrap();
            let mut model = BTreeSet::new();
            for (slot, insert, from) in steps {
                if insert {
                    bits.set(slot);
                    model.insert(slot);
                } else {
                    bits.clear(slot);
                    model.remove(&slot);
                }
                prop_assert_eq!(bits.from(from), model.range(from..).next().copied());
            }
        }
    }

    #[test]
    fn p15_a_checked_slot_keeps_its_place_and_is_not_lent() {
        let mut idle = IdleSet::new(4, IdleOrder::Lifo, true).unwrap();
        for slot in 0..3 {
            idle.push(slot, 1);
        }
        assert_eq!(idle.least_touched(), Some(0));
        idle.send_away(0);
        idle.send_away(2);
        assert_eq!((idle.len(), idle.oldest(), idle.least_touched()), (1, Some(1), Some(1)));
        assert_eq!(idle.pop(), Some(1));
        assert_eq!(idle.pop(), None);
        idle.bring_back(0, 1);
        idle.bring_back(2, 1);
        assert_eq!((idle.oldest(), idle.least_touched(), idle.pop()), (Some(0), Some(0), Some(2)));
    }
}
