//! Doubly linked lists over table indices: every operation is O(1) and allocates nothing.
//!
//! The links of a table stand in one slice beside it. An entry is in at most one of the lists that share
//! the slice; which one is known from the entry's own state.

use std::collections::TryReserveError;

use super::memory::table;

/// No entry.
pub(super) const NIL: u32 = u32::MAX;

/// Neighbours of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    prev: u32,
    next: u32,
}

impl Link {
    /// Links for `count` entries that are in no list.
    pub(super) fn table(count: usize) -> Result<Box<[Link]>, TryReserveError> {
        table(count, || Link { prev: NIL, next: NIL })
    }
}

/// Ends of one list.
#[derive(Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl List {
    pub(super) const fn new() -> Self {
        Self { head: NIL, tail: NIL, len: 0 }
    }

    /// A list of all entries of `links`, the first one in front.
    pub(super) fn of_all(links: &mut [Link]) -> Self {
        let mut list = Self::new();
        for index in 0..links.len() as u32 {
            list.push_back(links, index);
        }
        list
    }

    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.head == NIL
    }

    #[inline]
    pub(super) fn front(&self) -> Option<u32> {
        (self.head != NIL).then_some(self.head)
    }

    #[inline]
    pub(super) fn back(&self) -> Option<u32> {
        (self.tail != NIL).then_some(self.tail)
    }

    /// The neighbour towards the front.
    #[inline]
    pub(super) fn before(links: &[Link], index: u32) -> Option<u32> {
        let prev = links[index as usize].prev;
        (prev != NIL).then_some(prev)
    }

    /// The neighbour towards the back.
    #[inline]
    pub(super) fn after(links: &[Link], index: u32) -> Option<u32> {
        let next = links[index as usize].next;
        (next != NIL).then_some(next)
    }

    #[inline]
    pub(super) fn push_back(&mut self, links: &mut [Link], index: u32) {
        links[index as usize] = Link { prev: self.tail, next: NIL };
        match self.tail {
            NIL => self.head = index,
            tail => links[tail as usize].next = index,
        }
        self.tail = index;
        self.len += 1;
    }

    #[inline]
    pub(super) fn remove(&mut self, links: &mut [Link], index: u32) {
        let Link { prev, next } = links[index as usize];
        match prev {
            NIL => self.head = next,
            prev => links[prev as usize].next = next,
        }
        match next {
            NIL => self.tail = prev,
            next => links[next as usize].prev = prev,
        }
        self.len -= 1;
    }

    #[inline]
    pub(super) fn pop_front(&mut self, links: &mut [Link]) -> Option<u32> {
        let index = self.front()?;
        self.remove(links, index);
        Some(index)
    }
}
