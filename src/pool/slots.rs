//! The slot table: which slot is in which state, and the only functions that change it.
//!
//! | state | meaning | in list | leaves to |
//! | --- | --- | --- | --- |
//! | `Empty` | no connection | `empty` | `Creating` |
//! | `Creating` | a connection is being made | `pending` until announced | `Idle`, `Leased`, `Empty` (failed), `Closing` (pool closed) |
//! | `Idle` | free connection | `idle` | `Leased`, `Checking`, `Closing` |
//! | `Leased` | somebody holds it | the owner's chain; `held`, then `leaks` where leaks are looked for | `Leased` (hand-off), `Idle`, `Checking`, `Closing` |
//! | `Checking` | it is reset or tested | `pending` until announced; `idle`, away, if it was idle | `Idle`, `Leased`, `Closing` |
//! | `Closing` | its connection is being closed | `pending` until announced | `Empty` |
//!
//! A slot's epoch grows with each arrow, so whatever quotes an older epoch is recognised.
//!
//! *Total* is every slot that is not `Empty`; *live* leaves out `Closing`. What is live beyond the pool's size
//! is *surplus*.

use std::collections::TryReserveError;

use super::actions::{CheckKind, DestroyReason};
use super::config::PoolConfig;
use super::heap::Heap;
use super::idle::IdleSet;
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
    Checking(CheckKind),
    Closing(DestroyReason),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) epoch: u64,
    pub(super) state: SlotState,
    /// Whether the edge still has to be told to create, check or destroy.
    pub(super) pending: bool,
    watch: Watch,
    /// Whether it is to be replaced.
    pub(super) evicted: bool,
    /// Since when it is idle. Kept up where the configuration asks for it and while there is a surplus: a surplus
    /// begins with no slot idle, since the pool creates for a waiter, up to its size or for
    /// want of an idle slot; and what a resize makes surplus counts from then.
    pub(super) idle_since_ns: u64,
    /// When it was last used or checked, kept up like `idle_since_ns`.
    pub(super) touched_ns: u64,
    /// Since when it is leased, where the configuration asks for it.
    pub(super) leased_at_ns: u64,
    pub(super) created_ns: u64,
    /// When its life ends, `u64::MAX` for never.
    pub(super) expires_ns: u64,
    /// How often its connection was lent.
    pub(super) leases: u64,
    /// The waiter cell that the lease was granted to, `NIL` for one granted at once.
    pub(super) cell: u32,
}

/// Where a leased slot stands with leak detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    None,
    Held,
    Leaking,
}

#[derive(Debug)]
pub(super) struct Slots {
    table: Box<[Slot]>,
    links: Box<[Link]>,
    empty: List,
    pub(super) idle: IdleSet,
    pending: List,
    /// Leases in the order of their grant, where leaks are looked for.
    held: List,
    /// Leases whose leak is to be told.
    leaks: List,
    owners: OwnerIndex,
    /// Idle or leased slots by the end of their life. One that was leased then is out: its return looks.
    lifetimes: Heap,
    /// Slots being checked by the limit of their check.
    checks: Heap,
    watches: bool,
    size: u32,
    capacity: u32,
    leased: u32,
    creating: u32,
    checking: u32,
    closing: u32,
}

impl Slots {
    pub(super) fn new(config: &PoolConfig) -> Result<Self, TryReserveError> {
        let count = config.slots() as usize;
        let slot = Slot {
            epoch: 0,
            state: SlotState::Empty,
            pending: false,
            watch: Watch::None,
            evicted: false,
            idle_since_ns: 0,
            touched_ns: 0,
            leased_at_ns: 0,
            created_ns: 0,
            expires_ns: u64::MAX,
            leases: 0,
            cell: NIL,
        };
        let mut links = Link::table(count)?;
        let empty = List::of_all(&mut links);
        Ok(Self {
            table: table(count, || slot)?,
            links,
            empty,
            idle: IdleSet::new(count, config.order, config.checks_idle())?,
            pending: List::new(),
            held: List::new(),
            leaks: List::new(),
            owners: OwnerIndex::new(count)?,
            lifetimes: Heap::new(count)?,
            checks: Heap::new(count)?,
            watches: config.leak_after_ns > 0,
            size: config.size,
            capacity: config.capacity(),
            leased: 0,
            creating: 0,
            checking: 0,
            closing: 0,
        })
    }

    pub(super) fn resize(&mut self, size: u32, capacity: u32) {
        (self.size, self.capacity) = (size, capacity);
    }

    pub(super) fn count(&self) -> u32 {
        self.table.len() as u32
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

    pub(super) fn checking(&self) -> u32 {
        self.checking
    }

    /// How many connections may be added.
    pub(super) fn room(&self) -> u32 {
        self.capacity.saturating_sub(self.count() - self.empty.len())
    }

    /// Connections that are there, free or not.
    #[inline]
    fn made(&self) -> u32 {
        self.idle.len() + self.leased + self.checking
    }

    /// Whether the pool has fewer live connections than its size.
    pub(super) fn below_size(&self) -> bool {
        self.made() + self.creating < self.size
    }

    /// How many connections the pool's size has room for, those that are being made among them.
    pub(super) fn not_made_within_size(&self) -> u32 {
        self.size.saturating_sub(self.made())
    }

    /// Live connections beyond the pool's size.
    #[inline]
    pub(super) fn surplus(&self) -> u32 {
        (self.made() + self.creating).saturating_sub(self.size)
    }

    /// Whether there are more live connections than there may be, since the pool was made smaller.
    pub(super) fn above_capacity(&self) -> bool {
        self.made() + self.creating > self.capacity
    }

    /// How many connections there may be beside those that are made, being created or yet to be.
    pub(super) fn creatable(&self) -> u32 {
        self.capacity.saturating_sub(self.made())
    }

    /// The slot that is idle for longest, and since when.
    pub(super) fn oldest_idle(&self) -> Option<(u32, u64)> {
        self.idle.oldest().map(|slot| (slot, self.table[slot as usize].idle_since_ns))
    }

    /// The idle slot that was neither used nor checked for longest, and since when.
    pub(super) fn least_touched(&self) -> Option<(u32, u64)> {
        self.idle.least_touched().map(|slot| (slot, self.table[slot as usize].touched_ns))
    }

    /// The next end of a life.
    pub(super) fn next_expiry(&self) -> Option<(u32, u64)> {
        self.lifetimes.first()
    }

    /// Its life ended while somebody held it.
    pub(super) fn forget_expiry(&mut self, slot: u32) {
        self.lifetimes.remove(slot);
    }

    /// Sets the end of a life, which may have one.
    pub(super) fn set_expiry(&mut self, slot: u32, at_ns: u64) {
        self.lifetimes.remove(slot);
        self.table[slot as usize].expires_ns = at_ns;
        if at_ns != u64::MAX {
            self.lifetimes.insert(slot, at_ns);
        }
    }

    pub(super) fn mark_evicted(&mut self, slot: u32) {
        self.table[slot as usize].evicted = true;
    }

    /// The check whose limit is next.
    pub(super) fn next_check_limit(&self) -> Option<(u32, u64)> {
        self.checks.first()
    }

    /// The lease that is the longest not reported as leaked, and since when it is held.
    pub(super) fn longest_held(&self) -> Option<(u32, u64)> {
        self.held.front().map(|slot| (slot, self.table[slot as usize].leased_at_ns))
    }

    /// Has the leak told.
    pub(super) fn leaks(&mut self, slot: u32) {
        self.held.remove(&mut self.links, slot);
        self.leaks.push_back(&mut self.links, slot);
        self.table[slot as usize].watch = Watch::Leaking;
    }

    pub(super) fn has_leaks(&self) -> bool {
        !self.leaks.is_empty()
    }

    /// The next leak to tell, which is told by this call.
    pub(super) fn announce_leak(&mut self) -> Option<(u32, Slot, Owner)> {
        let slot = self.leaks.pop_front(&mut self.links)?;
        self.table[slot as usize].watch = Watch::None;
        Some((slot, self.table[slot as usize], self.owners.owner_of(slot)))
    }

    pub(super) fn owner_of(&self, slot: u32) -> Owner {
        self.owners.owner_of(slot)
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
    pub(super) fn lease_idle(&mut self, owner: Owner) -> Option<(u32, u64)> {
        let slot = self.idle.pop()?;
        Some((slot, self.lease(slot, owner, NIL)))
    }

    /// A slot that is in no list becomes leased.
    #[inline]
    fn lease(&mut self, slot: u32, owner: Owner, cell: u32) -> u64 {
        let entry = self.enter(slot, SlotState::Leased);
        entry.cell = cell;
        entry.leases += 1;
        let epoch = entry.epoch;
        self.leased += 1;
        self.owners.insert(slot, owner);
        epoch
    }

    /// Notes when a lease began.
    pub(super) fn stamp_lease(&mut self, slot: u32, now_ns: u64) {
        let entry = &mut self.table[slot as usize];
        entry.leased_at_ns = now_ns;
        if self.watches {
            entry.watch = Watch::Held;
            self.held.push_back(&mut self.links, slot);
        }
    }

    /// Leaves any state but empty for whatever the caller does next with the slot.
    #[inline]
    fn leave(&mut self, slot: u32) {
        let entry = &mut self.table[slot as usize];
        match entry.state {
            SlotState::Leased => {
                entry.cell = NIL;
                let watch = std::mem::replace(&mut entry.watch, Watch::None);
                match watch {
                    Watch::None => {}
                    Watch::Held => self.held.remove(&mut self.links, slot),
                    Watch::Leaking => self.leaks.remove(&mut self.links, slot),
                }
                self.leased -= 1;
                self.owners.remove(slot);
            }
            SlotState::Idle => self.idle.remove(slot),
            _ => self.leave_work(slot),
        }
    }

    /// Leaves a state in which the edge works on the slot.
    #[cold]
    fn leave_work(&mut self, slot: u32) {
        let entry = &mut self.table[slot as usize];
        if std::mem::replace(&mut entry.pending, false) {
            self.pending.remove(&mut self.links, slot);
        }
        match entry.state {
            SlotState::Creating => self.creating -= 1,
            SlotState::Closing(_) => self.closing -= 1,
            SlotState::Checking(kind) => {
                self.checks.remove(slot);
                self.checking -= 1;
                if kind == CheckKind::Idle {
                    self.idle.remove(slot);
                }
            }
            other => unreachable!("{other:?} is left elsewhere"),
        }
    }

    /// Leased, creating or checking to leased by the waiter in `cell`.
    pub(super) fn hand_to(&mut self, slot: u32, owner: Owner, cell: u32) -> u64 {
        self.leave(slot);
        self.lease(slot, owner, cell)
    }

    /// Leased, creating or checking to idle.
    #[inline]
    pub(super) fn make_idle(&mut self, slot: u32, since_ns: u64) {
        self.leave(slot);
        let entry = self.enter(slot, SlotState::Idle);
        entry.idle_since_ns = since_ns;
        entry.touched_ns = since_ns;
        let leases = entry.leases;
        self.idle.push(slot, leases);
    }

    /// Any state with a connection to closing; the edge will be told to destroy.
    pub(super) fn close(&mut self, slot: u32, reason: DestroyReason) {
        self.leave(slot);
        self.lifetimes.remove(slot);
        self.enter(slot, SlotState::Closing(reason)).pending = true;
        self.closing += 1;
        self.pending.push_back(&mut self.links, slot);
    }

    /// Leased or idle to checking; the edge will be told to check, until `limit_ns`.
    pub(super) fn begin_check(&mut self, slot: u32, kind: CheckKind, limit_ns: u64) {
        match kind {
            CheckKind::Idle => self.idle.send_away(slot),
            CheckKind::Return => self.leave(slot),
        }
        self.enter(slot, SlotState::Checking(kind)).pending = true;
        self.checking += 1;
        self.pending.push_back(&mut self.links, slot);
        if limit_ns != u64::MAX {
            self.checks.insert(slot, limit_ns);
        }
    }

    /// Checking to idle, at the place that it had.
    pub(super) fn return_from_check(&mut self, slot: u32, now_ns: u64) {
        self.checks.remove(slot);
        self.checking -= 1;
        let entry = self.enter(slot, SlotState::Idle);
        entry.touched_ns = now_ns;
        let leases = entry.leases;
        self.idle.bring_back(slot, leases);
    }

    /// Notes what a connection starts its life with.
    pub(super) fn stamp_created(&mut self, slot: u32, now_ns: u64, expires_ns: u64) {
        let entry = &mut self.table[slot as usize];
        entry.created_ns = now_ns;
        entry.leases = 0;
        self.set_expiry(slot, expires_ns);
    }

    /// When the limit of the slot's check is.
    pub(super) fn check_limit(&self, slot: u32) -> u64 {
        self.checks.key_of(slot).unwrap_or(u64::MAX)
    }

    /// Empty to creating; the edge will be told to create.
    pub(super) fn begin_create(&mut self) {
        let Some(slot) = self.empty.pop_front(&mut self.links) else { return };
        let entry = self.enter(slot, SlotState::Creating);
        entry.pending = true;
        entry.evicted = false;
        entry.expires_ns = u64::MAX;
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
            let entry = &self.table[slot as usize];
            if entry.pending && entry.state == SlotState::Creating {
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
