//! Finds what an owner has: a chained hash table whose chains run through the entries, so that adding and
//! removing an entry is O(1) without allocation and an owner's death touches its own entries, not the table.

use std::collections::TryReserveError;

use super::lease::Owner;
use super::list::NIL;
use super::memory::table;

/// Which of `count` entries belong to which owner.
#[derive(Debug)]
pub(super) struct OwnerIndex {
    heads: Box<[u32]>,
    entries: Box<[Entry]>,
    shift: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    owner: Owner,
    prev: u32,
    next: u32,
}

/// Chains beyond this number would cost memory that owners rarely use.
const MAX_CHAINS: usize = 1024;

impl OwnerIndex {
    pub(super) fn new(count: usize) -> Result<Self, TryReserveError> {
        let chains = count.next_power_of_two().clamp(2, MAX_CHAINS);
        let entry = Entry { owner: Owner::NONE, prev: NIL, next: NIL };
        Ok(Self {
            heads: table(chains, || NIL)?,
            entries: table(count, || entry)?,
            shift: 64 - chains.trailing_zeros(),
        })
    }

    /// Multiplicative hashing (Knuth, TAOCP 6.4): owners are often consecutive numbers or addresses.
    #[inline]
    fn chain(&self, owner: Owner) -> usize {
        (owner.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize
    }

    #[inline]
    pub(super) fn insert(&mut self, index: u32, owner: Owner) {
        if owner == Owner::NONE {
            return;
        }
        let chain = self.chain(owner);
        let next = self.heads[chain];
        self.entries[index as usize] = Entry { owner, prev: NIL, next };
        if next != NIL {
            self.entries[next as usize].prev = index;
        }
        self.heads[chain] = index;
    }

    #[inline]
    pub(super) fn remove(&mut self, index: u32) {
        let Entry { owner, prev, next } = self.entries[index as usize];
        if owner == Owner::NONE {
            return;
        }
        self.entries[index as usize].owner = Owner::NONE;
        match prev {
            NIL => {
                let chain = self.chain(owner);
                self.heads[chain] = next;
            }
            prev => self.entries[prev as usize].next = next,
        }
        if next != NIL {
            self.entries[next as usize].prev = prev;
        }
    }

    /// Whose entry it is; nobody's when it is in no chain.
    pub(super) fn owner_of(&self, index: u32) -> Owner {
        self.entries[index as usize].owner
    }

    /// An entry of `owner`, if it has any.
    pub(super) fn any_of(&self, owner: Owner) -> Option<u32> {
        let mut index = self.heads[self.chain(owner)];
        while index != NIL {
            let entry = &self.entries[index as usize];
            if entry.owner == owner {
                return Some(index);
            }
            index = entry.next;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_exactly_the_entries_of_an_owner() {
        let mut index = OwnerIndex::new(64).unwrap();
        for entry in 0..64 {
            index.insert(entry, Owner(1 + u64::from(entry % 7)));
        }
        let mut found = Vec::new();
        while let Some(entry) = index.any_of(Owner(3)) {
            index.remove(entry);
            found.push(entry);
        }
        found.sort_unstable();
        assert_eq!(found, (0..64).filter(|entry| entry % 7 == 2).collect::<Vec<_>>());
        assert!(index.any_of(Owner(4)).is_some());
    }

    /// Or every death would look through the leases of all.
    #[test]
    fn owners_are_spread_over_the_chains() {
        let index = OwnerIndex::new(64).unwrap();
        for step in [1, 64, 4096] {
            let chains: std::collections::HashSet<usize> =
                (1..=64_u64).map(|number| index.chain(Owner(number * step))).collect();
            assert!(chains.len() > 32, "{} chains for 64 owners {step} apart", chains.len());
        }
    }

    #[test]
    fn nobody_is_not_indexed() {
        let mut index = OwnerIndex::new(2).unwrap();
        index.insert(0, Owner::NONE);
        assert_eq!(index.any_of(Owner::NONE), None);
        index.remove(0);
    }
}
