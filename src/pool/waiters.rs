//! The queue of callers, and the one word per caller that decides how its wait ends.
//!
//! # The word
//!
//! | bits | meaning |
//! | --- | --- |
//! | 0..3 | `Waiting`, or the one [`End`] of the wait |
//! | 3..64 | epoch of the cell: one more with each wait that uses it |
//!
//! `Waiting` is left by one compare-and-swap of the whole word. A granter does it under the pool's lock; who
//! gives up does it before it takes the lock, so that a time-out is decided at its own instant and a grant that
//! comes later moves on to the next waiter with the same slot. The loser of the race reports what the winner
//! decided.
//!
//! # Life of a cell
//!
//! `Free` → `Queued` → (`Waking` →) `Free`. A cell whose wait ended in a grant stays `Held` until that lease
//! ends, which is how a time-out that lost finds the lease. Between a cancel's compare-and-swap and its lock
//! the cell is still queued: whoever takes it out first, a granter or the canceller, accounts for it.

use std::collections::TryReserveError;

use super::actions::WakeOutcome;
use super::heap::Heap;
use super::lease::{GiveUp, Owner, Ticket};
use super::list::{Link, List, NIL};
use super::memory::table;
use super::owners::OwnerIndex;
use crate::sync::{AtomicU64, Ordering};

/// Deadline of a wait without limit.
pub(super) const NO_DEADLINE: u64 = u64::MAX;

const STATE_BITS: u32 = 3;
const STATE_MASK: u64 = (1 << STATE_BITS) - 1;
const WAITING: u64 = 0;

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Granted = 1,
    TimedOut = 2,
    Cancelled = 3,
    CreateFailed = 4,
    Closed = 5,
    Shed = 6,
}

impl From<GiveUp> for End {
    fn from(reason: GiveUp) -> Self {
        match reason {
            GiveUp::TimedOut => End::TimedOut,
            GiveUp::Cancelled => End::Cancelled,
        }
    }
}

/// The deciding words of all cells, readable without the lock.
#[derive(Debug)]
pub(super) struct Words(Box<[AtomicU64]>);

// Every access is Relaxed: the word alone decides, by the order of its own modifications. All that belongs to a
// decision is written and read under the pool's lock.
impl Words {
    pub(super) fn new(count: usize) -> Result<Self, TryReserveError> {
        Ok(Self(table(count, || AtomicU64::new(0))?))
    }

    /// Starts a new wait in the cell.
    fn arm(&self, index: u32) -> Ticket {
        let word = &self.0[index as usize];
        let epoch = (word.load(Ordering::Relaxed) >> STATE_BITS) + 1;
        word.store(epoch << STATE_BITS | WAITING, Ordering::Relaxed);
        Ticket { index, epoch }
    }

    /// Ends the wait as `end`, unless it is over.
    pub(super) fn decide(&self, ticket: Ticket, end: End) -> bool {
        let Some(word) = self.0.get(ticket.index as usize) else { return false };
        let waiting = ticket.epoch << STATE_BITS | WAITING;
        let ended = ticket.epoch << STATE_BITS | end as u64;
        if cfg!(escope_sabotage = "pool_blind_grant") && end == End::Granted {
            word.store(ended, Ordering::Relaxed);
            return true;
        }
        word.compare_exchange(waiting, ended, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// How the wait ended, as long as its cell was not used again.
    pub(super) fn end(&self, ticket: Ticket) -> Option<End> {
        let word = self.0.get(ticket.index as usize)?.load(Ordering::Relaxed);
        if word >> STATE_BITS != ticket.epoch {
            return None;
        }
        match word & STATE_MASK {
            1 => Some(End::Granted),
            2 => Some(End::TimedOut),
            3 => Some(End::Cancelled),
            4 => Some(End::CreateFailed),
            5 => Some(End::Closed),
            6 => Some(End::Shed),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Free,
    Queued,
    Waking,
    Held,
}

/// What the lock protects of a cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    epoch: u64,
    place: Place,
    pub(super) token: u64,
    pub(super) owner: Owner,
    deadline_ns: u64,
    /// When it came.
    pub(super) since_ns: u64,
    /// Waits for a connection that is made for it only.
    pub(super) for_creation: bool,
    /// Does not make the pool grow above its size.
    within_size: bool,
    /// What the waiter is told.
    pub(super) outcome: WakeOutcome,
}

/// Who comes to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewWaiter {
    pub(super) token: u64,
    pub(super) owner: Owner,
    pub(super) deadline_ns: u64,
    pub(super) since_ns: u64,
    pub(super) for_creation: bool,
    pub(super) within_size: bool,
}

#[derive(Debug)]
pub(super) struct Waiters {
    cells: Box<[Cell]>,
    links: Box<[Link]>,
    free: List,
    queue: List,
    wakes: List,
    deadlines: Heap,
    owners: OwnerIndex,
    for_creation: u32,
    within_size: u32,
}

impl Waiters {
    pub(super) fn new(count: usize) -> Result<Self, TryReserveError> {
        let cell = Cell {
            epoch: 0,
            place: Place::Free,
            token: 0,
            owner: Owner::NONE,
            deadline_ns: NO_DEADLINE,
            since_ns: 0,
            for_creation: false,
            within_size: false,
            outcome: WakeOutcome::Closed,
        };
        let mut links = Link::table(count)?;
        let free = List::of_all(&mut links);
        Ok(Self {
            cells: table(count, || cell)?,
            links,
            free,
            queue: List::new(),
            wakes: List::new(),
            deadlines: Heap::new(count)?,
            owners: OwnerIndex::new(count)?,
            for_creation: 0,
            within_size: 0,
        })
    }

    #[inline]
    pub(super) fn waiting(&self) -> u32 {
        self.queue.len()
    }

    /// Waiters that wait for a creation of their own; they are always a prefix of the queue.
    pub(super) fn for_creation(&self) -> u32 {
        self.for_creation
    }

    /// Waiters for which the pool does not grow above its size.
    pub(super) fn within_size(&self) -> u32 {
        self.within_size
    }

    /// Whether the cell's wait is over and its caller still to be told.
    pub(super) fn is_waking(&self, index: u32) -> bool {
        self.cells.get(index as usize).is_some_and(|cell| cell.place == Place::Waking)
    }

    /// The oldest waiter.
    pub(super) fn head(&self) -> Option<u32> {
        self.queue.front()
    }

    pub(super) fn cell(&self, index: u32) -> &Cell {
        &self.cells[index as usize]
    }

    /// Whether the waiter's deadline has passed; one without a deadline is never late.
    pub(super) fn is_late(&self, index: u32, now_ns: u64) -> bool {
        let deadline_ns = self.cells[index as usize].deadline_ns;
        deadline_ns != NO_DEADLINE && deadline_ns <= now_ns
    }

    pub(super) fn ticket(&self, index: u32) -> Ticket {
        Ticket { index, epoch: self.cells[index as usize].epoch }
    }

    /// The waiter whose deadline is next, with that deadline.
    pub(super) fn next_deadline(&self) -> Option<(u32, u64)> {
        self.deadlines.first()
    }

    pub(super) fn wait_of(&self, owner: Owner) -> Option<u32> {
        self.owners.any_of(owner)
    }

    /// Whether this very wait is still in the queue.
    pub(super) fn is_queued(&self, ticket: Ticket) -> bool {
        let cell = self.cells.get(ticket.index as usize);
        cell.is_some_and(|cell| cell.epoch == ticket.epoch && cell.place == Place::Queued)
    }

    /// Appends a waiter; `None` when no cell is free.
    pub(super) fn enqueue(&mut self, words: &Words, waiter: NewWaiter) -> Option<Ticket> {
        let NewWaiter { token, owner, deadline_ns, since_ns, for_creation, within_size } = waiter;
        let index = self.free.pop_front(&mut self.links)?;
        let ticket = words.arm(index);
        self.cells[index as usize] = Cell {
            epoch: ticket.epoch,
            place: Place::Queued,
            token,
            owner,
            deadline_ns,
            since_ns,
            for_creation,
            within_size,
            outcome: WakeOutcome::Closed,
        };
        self.queue.push_back(&mut self.links, index);
        self.for_creation += u32::from(for_creation);
        self.within_size += u32::from(within_size);
        self.owners.insert(index, owner);
        if deadline_ns != NO_DEADLINE {
            self.deadlines.insert(index, deadline_ns);
        }
        Some(ticket)
    }

    /// Takes a cell out of the queue.
    fn unlink(&mut self, index: u32) {
        self.queue.remove(&mut self.links, index);
        self.deadlines.remove(index);
        self.owners.remove(index);
        self.for_creation -= u32::from(self.cells[index as usize].for_creation);
        self.within_size -= u32::from(self.cells[index as usize].within_size);
    }

    /// Out of the queue, nobody to tell.
    pub(super) fn drop_queued(&mut self, index: u32) {
        self.unlink(index);
        self.put_back(index);
    }

    /// Out of the queue, its caller to be told `outcome`.
    pub(super) fn wake_queued(&mut self, index: u32, outcome: WakeOutcome) {
        self.unlink(index);
        let cell = &mut self.cells[index as usize];
        cell.outcome = outcome;
        cell.place = Place::Waking;
        self.wakes.push_back(&mut self.links, index);
    }

    /// The lease that came from this cell has ended.
    pub(super) fn release(&mut self, index: u32) {
        if index == NIL {
            return;
        }
        if self.cells[index as usize].place == Place::Waking {
            self.wakes.remove(&mut self.links, index);
        }
        self.put_back(index);
    }

    fn put_back(&mut self, index: u32) {
        self.cells[index as usize].place = Place::Free;
        self.free.push_back(&mut self.links, index);
    }

    #[inline]
    pub(super) fn has_wakes(&self) -> bool {
        !self.wakes.is_empty()
    }

    /// The next waiter to tell how its wait ended, which it is by this call.
    pub(super) fn announce(&mut self) -> Option<(u64, WakeOutcome)> {
        let index = self.wakes.pop_front(&mut self.links)?;
        let cell = &mut self.cells[index as usize];
        let told = (cell.token, cell.outcome);
        match cell.outcome {
            WakeOutcome::Granted(_) => cell.place = Place::Held,
            _ => self.put_back(index),
        }
        Some(told)
    }
}
