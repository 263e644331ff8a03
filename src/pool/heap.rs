//! Which entry is next: a binary heap over table indices that knows where each index stands, so that an entry that
//! leaves early is removed in O(log n). Waiters stand in one by their deadline, connections by the end of their life, by
//! the limit of a check, and by how often they were lent. Equal keys come in the order of their indices.

use std::collections::TryReserveError;

use super::list::NIL;
use super::memory::{room, table};

#[derive(Debug)]
pub(super) struct Heap {
    /// Indices in heap order; its capacity is reserved once.
    heap: Vec<u32>,
    cells: Box<[Entry]>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: u64,
    place: u32,
}

impl Heap {
    pub(super) fn new(count: usize) -> Result<Self, TryReserveError> {
        let entry = Entry { key: u64::MAX, place: NIL };
        Ok(Self { heap: room(count)?, cells: table(count, || entry)? })
    }

    /// The entry with the least key, with that key.
    pub(super) fn first(&self) -> Option<(u32, u64)> {
        self.heap.first().map(|&cell| (cell, self.cells[cell as usize].key))
    }

    pub(super) fn insert(&mut self, cell: u32, key: u64) {
        let place = self.heap.len();
        self.heap.push(cell);
        self.cells[cell as usize] = Entry { key, place: place as u32 };
        self.rise(place);
    }

    /// The key of an entry that is in.
    pub(super) fn key_of(&self, cell: u32) -> Option<u64> {
        let entry = self.cells[cell as usize];
        (entry.place != NIL).then_some(entry.key)
    }

    /// Takes the cell out, if it is in.
    pub(super) fn remove(&mut self, cell: u32) {
        let place = self.cells[cell as usize].place;
        if place == NIL {
            return;
        }
        self.cells[cell as usize].place = NIL;
        let place = place as usize;
        self.heap.swap_remove(place);
        if let Some(&moved) = self.heap.get(place) {
            self.cells[moved as usize].place = place as u32;
            self.rise(place);
            self.sink(self.cells[moved as usize].place as usize);
        }
    }

    fn rank(&self, place: usize) -> (u64, u32) {
        let cell = self.heap[place];
        (self.cells[cell as usize].key, cell)
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.cells[self.heap[a] as usize].place = a as u32;
        self.cells[self.heap[b] as usize].place = b as u32;
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.rank(parent) <= self.rank(place) {
                return;
            }
            self.swap(parent, place);
            place = parent;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let mut least = place;
            for child in [2 * place + 1, 2 * place + 2] {
                if child < self.heap.len() && self.rank(child) < self.rank(least) {
                    least = child;
                }
            }
            if least == place {
                return;
            }
            self.swap(least, place);
            place = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn p08_the_first_is_the_least_of_those_left(steps in proptest::collection::vec((0u32..24, 0u64..50), 1..200)) {
            let mut heap = Heap::new(24).unwrap();
            let mut model = std::collections::BTreeMap::new();
            for (cell, deadline) in steps {
                if model.remove(&cell).is_some() {
                    heap.remove(cell);
                } else {
                    heap.insert(cell, deadline);
                    model.insert(cell, deadline);
                }
                prop_assert_eq!(heap.first().map(|(_, at)| at), model.values().min().copied());
                if let Some((cell, at)) = heap.first() {
                    prop_assert_eq!(model.get(&cell), Some(&at));
                }
            }
        }
    }
}
