//! The slot table: which slot is in which state, and the only functions that change it.
//!
//! | state | meaning | in list | leaves to |
//! | --- | --- | --- | --- |
//! | `Empty` | no connection | `empty` | `Creating` |
//! | `Creating` | a connection is being made | `pending` until announced | `Idle`, `Leased`, `Empty` (failed), `Closing` (pool closed) |
//! | `Idle` | free connection | `idle`, oldest in front | `Leased`, `Closing` |
//! | `Leased` | somebody holds it | the owner's chain | `Leased` (hand-off), `Idle`, `Closing` |
//! | `Closing` | its connection is being closed | `pending` until announced | `Empty` |
//!
//! A slot's epoch grows by one with each arrow, so whatever quotes an older epoch is recognised.
//!
//! *Total* is every slot that is not `Empty`; *live* leaves out `Closing`. What is live beyond the pool's size
//! is *surplus*.

use std::collections::TryReserveError;

use super::actions::DestroyReason;
use super::config::IdleOrder;
use super::lease::Owner;
use super::list::{Link, List, NIL};
use super::memory::table;
use super::owners::OwnerIndex;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotState {
    Empty,
    Creating,
    Idle,
    Leased,
    Closing(DestroyReason),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) epoch: u64,
    pub(super) state: SlotState,
    /// Whether the edge still has to be told to create or destroy.
    pub(super) pending: bool,
    /// Since when it is idle. Kept up only while there is a surplus, which is when it is read: a surplus
    /// begins with no slot idle, since the pool creates only for a waiter or for want of an idle slot.
    pub(super) idle_since_ns: u64,
    /// The waiter cell that the lease was granted to, `NIL` for one granted at once.
    pub(super) cell: u32,
}

#[derive(Debug)]
pub(super) struct Slots {
    table: Box<[Slot]>,
    links: Box<[Link]>,
    empty: List,
    idle: List,
    pending: List,
    owners: OwnerIndex,
    size: u32,
    leased: u32,
    creating: u32,
    closing: u32,
}

impl Slots {
    pub(super) fn new(size: u32, capacity: u32) -> Result<Self, TryReserveError> {
        let count = capacity as usize;
        let slot = Slot { epoch: 0, state: SlotState::Empty, pending: false, idle_since_ns: 0, cell: NIL };
        let mut links = Link::table(count)?;
        let empty = List::of_all(&mut links);
        Ok(Self {
            table: table(count, || slot)?,
            links,
            empty,
            idle: List::new(),
            pending: List::new(),
            owners: OwnerIndex::new(count)?,
            size,
            leased: 0,
            creating: 0,
            closing: 0,
        })
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&Slot> {
        self.table.get(slot as usize)
    }

    /// The slot if it is in `state` at `epoch` and the edge knows of it.
    #[inline]
    pub(super) fn is(&self, slot: u32, epoch: u64, state: impl FnOnce(SlotState) -> bool) -> bool {
        self.get(slot).is_some_and(|found| found.epoch == epoch && !found.pending && state(found.state))
    }

    pub(super) fn idle(&self) -> u32 {
        self.idle.len()
    }

    pub(super) fn leased(&self) -> u32 {
        self.leased
    }

    pub(super) fn creating(&self) -> u32 {
        self.creating
    }

    pub(super) fn closing(&self) -> u32 {
        self.closing
    }

    pub(super) fn empty(&self) -> u32 {
        self.empty.len()
    }

    /// Whether the pool has fewer live connections than its size.
    pub(super) fn below_size(&self) -> bool {
        self.idle.len() + self.leased + self.creating < self.size
    }

    /// How many connections the pool's size has room for, those that are being made among them.
    pub(super) fn not_made_within_size(&self) -> u32 {
        self.size.saturating_sub(self.idle.len() + self.leased)
    }

    /// Live connections beyond the pool's size.
    #[inline]
    pub(super) fn surplus(&self) -> u32 {
        (self.idle.len() + self.leased + self.creating).saturating_sub(self.size)
    }

    /// The slot that is idle for longest, and since when.
    pub(super) fn oldest_idle(&self) -> Option<(u32, u64)> {
        self.idle.front().map(|slot| (slot, self.table[slot as usize].idle_since_ns))
    }

    pub(super) fn lease_of(&self, owner: Owner) -> Option<u32> {
        self.owners.any_of(owner)
    }

    #[inline]
    fn enter(&mut self, slot: u32, state: SlotState) -> &mut Slot {
        let entry = &mut self.table[slot as usize];
        entry.epoch += 1;
        entry.state = state;
        entry
    }

    /// Idle to leased: the next slot in idle order.
    #[inline]
    pub(super) fn lease_idle(&mut self, order: IdleOrder, owner: Owner) -> Option<(u32, u64)> {
        let slot = match order {
            IdleOrder::Lifo => self.idle.back()?,
            IdleOrder::Fifo => self.idle.front()?,
        };
        self.idle.remove(&mut self.links, slot);
        Some((slot, self.lease(slot, owner, NIL)))
    }

    /// A slot that is in no list becomes leased.
    #[inline]
    fn lease(&mut self, slot: u32, owner: Owner, cell: u32) -> u64 {
        let entry = self.enter(slot, SlotState::Leased);
        entry.cell = cell;
        let epoch = entry.epoch;
        self.leased += 1;
        self.owners.insert(slot, owner);
        epoch
    }

    /// Leaves leased or creating for whatever the caller does next with the slot.
    #[inline]
    fn leave(&mut self, slot: u32) {
        match self.table[slot as usize].state {
            SlotState::Leased => {
                self.leased -= 1;
                self.owners.remove(slot);
                self.table[slot as usize].cell = NIL;
            }
            SlotState::Creating => self.creating -= 1,
            SlotState::Idle => self.idle.remove(&mut self.links, slot),
            SlotState::Closing(_) => self.closing -= 1,
            SlotState::Empty => unreachable!("an empty slot is left by begin_create only"),
        }
    }

    /// Leased or creating to leased by the waiter in `cell`.
    pub(super) fn hand_to(&mut self, slot: u32, owner: Owner, cell: u32) -> u64 {
        self.leave(slot);
        self.lease(slot, owner, cell)
    }

    /// Leased or creating to idle.
    #[inline]
    pub(super) fn make_idle(&mut self, slot: u32, since_ns: u64) {
        self.leave(slot);
        self.enter(slot, SlotState::Idle).idle_since_ns = since_ns;
        self.idle.push_back(&mut self.links, slot);
    }

    /// Leased, creating or idle to closing; the edge will be told to destroy.
    pub(super) fn close(&mut self, slot: u32, reason: DestroyReason) {
        self.leave(slot);
        self.enter(slot, SlotState::Closing(reason)).pending = true;
        self.closing += 1;
        self.pending.push_back(&mut self.links, slot);
    }

    /// Empty to creating; the edge will be told to create.
    pub(super) fn begin_create(&mut self) {
        let Some(slot) = self.empty.pop_front(&mut self.links) else { return };
        self.enter(slot, SlotState::Creating).pending = true;
        self.creating += 1;
        self.pending.push_back(&mut self.links, slot);
    }

    /// Creating (failed) or closing (done) to empty.
    pub(super) fn vacate(&mut self, slot: u32) {
        self.leave(slot);
        self.enter(slot, SlotState::Empty);
        self.empty.push_back(&mut self.links, slot);
    }

    /// Takes back the creations that the edge was not told of yet.
    pub(super) fn withdraw_creations(&mut self) {
        for slot in 0..self.table.len() as u32 {
            let entry = &mut self.table[slot as usize];
            if entry.pending && entry.state == SlotState::Creating {
                entry.pending = false;
                self.pending.remove(&mut self.links, slot);
                self.vacate(slot);
            }
        }
    }

    #[inline]
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The next slot that the edge has to be told of, which it is by this call.
    pub(super) fn announce(&mut self) -> Option<(u32, Slot)> {
        let slot = self.pending.pop_front(&mut self.links)?;
        self.table[slot as usize].pending = false;
        Some((slot, self.table[slot as usize]))
    }
}
