//! What happens under the lock: every event, and invariant W after each.
//!
//! Invariant W: while somebody waits no slot is idle, and a creation is in flight for every waiter as far as slots
//! are empty; of those who ask that the pool not grow above its size on their account, for as many as fit into it.
//! Only a running back-off may hold creations back, and then `next_deadline` is set.
//!
//! It holds by construction. A slot becomes free in [`State::offer`] only, which looks at the queue first. A
//! caller queues only when no slot is idle. Whatever lengthens the queue or empties a slot ends in
//! [`State::create_for_waiters`].

mod ends;
mod output;
mod reports;

use std::collections::TryReserveError;
use std::sync::Arc;

use super::actions::{DestroyReason, WakeOutcome};
use super::backoff::Backoff;
use super::config::PoolConfig;
use super::lease::{Checkout, Condition, Lease, Owner, Refusal, StaleLease, Wait};
use super::list::NIL;
use super::slots::{SlotState, Slots};
use super::snapshot::Counts;
use super::waiters::{End, NO_DEADLINE, Waiters, Words};

/// Reads the clock at most once, and only if somebody asks.
pub(super) struct Now<F> {
    read: Option<F>,
    at_ns: u64,
}

impl<F: FnOnce() -> u64> Now<F> {
    #[inline]
    pub(super) fn new(read: F) -> Self {
        Self { read: Some(read), at_ns: 0 }
    }

    #[inline]
    pub(super) fn get(&mut self) -> u64 {
        if let Some(read) = self.read.take() {
            self.at_ns = read();
        }
        self.at_ns
    }
}

/// How far the pool may grow on a caller's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    Size,
    Overflow,
}

#[derive(Debug)]
pub(super) struct State {
    id: u64,
    config: PoolConfig,
    words: Arc<Words>,
    slots: Slots,
    waiters: Waiters,
    backoff: Backoff,
    counts: Counts,
    closed: bool,
    /// The alarm that the edge was given last, `u64::MAX` for none.
    alarm_ns: u64,
}

impl State {
    pub(super) fn new(
        id: u64,
        config: &PoolConfig,
        words: Arc<Words>,
        cells: usize,
    ) -> Result<Self, TryReserveError> {
        Ok(Self {
            id,
            config: *config,
            words,
            slots: Slots::new(config.size, config.capacity())?,
            waiters: Waiters::new(cells)?,
            backoff: Backoff::new(config),
            counts: Counts::default(),
            closed: false,
            alarm_ns: u64::MAX,
        })
    }

    #[inline]
    fn lease(&self, slot: u32, epoch: u64) -> Lease {
        Lease { pool: self.id, slot, epoch }
    }

    #[inline]
    pub(super) fn checkout<F: FnOnce() -> u64>(
        &mut self,
        owner: Owner,
        wait: Wait,
        growth: Growth,
        waiter_token: u64,
        now: &mut Now<F>,
    ) -> Checkout {
        self.counts.requests += 1;
        if self.closed {
            return self.reject(Refusal::Closed);
        }
        if let Wait::Until(deadline_ns) = wait
            && now.get() >= deadline_ns
        {
            return self.reject(Refusal::TimedOut);
        }
        // By invariant W nobody waits while a slot is idle, so this overtakes no one.
        if let Some((slot, epoch)) = self.slots.lease_idle(self.config.order, owner) {
            self.counts.granted += 1;
            return Checkout::Granted(self.lease(slot, epoch));
        }
        self.checkout_none_idle(owner, wait, growth, waiter_token, now.get())
    }

    #[cold]
    #[inline(never)]
    pub(super) fn checkout_none_idle(
        &mut self,
        owner: Owner,
        wait: Wait,
        growth: Growth,
        waiter_token: u64,
        now_ns: u64,
    ) -> Checkout {
        let (deadline_ns, for_creation) = match wait {
            Wait::Never | Wait::For(0) => {
                self.create_ahead(growth, now_ns);
                return self.reject(Refusal::Exhausted);
            }
            Wait::ForCreation if !self.may_wait_for_creation(growth, now_ns) => {
                return self.reject(Refusal::Exhausted);
            }
            Wait::ForCreation => (NO_DEADLINE, true),
            Wait::For(ns) => (now_ns.saturating_add(ns), false),
            Wait::Until(deadline_ns) => (deadline_ns, false),
            Wait::Forever => (NO_DEADLINE, false),
        };
        if self.waiters.waiting() >= self.config.max_waiters {
            return self.reject(Refusal::QueueFull);
        }
        let within_size = growth == Growth::Size;
        match self.waiters.enqueue(&self.words, waiter_token, owner, deadline_ns, for_creation, within_size) {
            Some(ticket) => {
                // What invariant W asks for may be covered by a creation that goes to those ahead; this caller waits
                // for no return, so it brings one along.
                if for_creation && self.slots.creating() < self.waiters.waiting() {
                    self.slots.begin_create();
                }
                self.create_for_waiters(now_ns);
                Checkout::Queued(ticket)
            }
            None => self.reject(Refusal::QueueFull),
        }
    }

    fn reject(&mut self, refusal: Refusal) -> Checkout {
        match refusal {
            Refusal::Exhausted => self.counts.exhausted += 1,
            Refusal::TimedOut => self.counts.timed_out += 1,
            Refusal::QueueFull => self.counts.queue_full += 1,
            Refusal::Closed => self.counts.closed += 1,
        }
        Checkout::Rejected(refusal)
    }

    /// Whether a creation can be had for one more waiter, with only such waiters ahead of it. Then every one of
    /// them keeps a creation of its own: each creation that ends serves or fails the head of the queue.
    fn may_wait_for_creation(&self, growth: Growth, now_ns: u64) -> bool {
        let (waiting, creating) = (self.waiters.waiting(), self.slots.creating());
        let spare = creating > waiting;
        waiting == self.waiters.for_creation()
            && (spare || (self.has_room(growth) && self.backoff.allows(creating, now_ns)))
    }

    /// One creation beyond what the waiters need, for a caller that will come again.
    fn create_ahead(&mut self, growth: Growth, now_ns: u64) {
        let creating = self.slots.creating();
        if self.has_room(growth)
            && creating <= self.waiters.waiting()
            && self.backoff.allows(creating, now_ns)
        {
            self.slots.begin_create();
        }
    }

    #[inline]
    pub(super) fn checkin<F: FnOnce() -> u64>(
        &mut self,
        lease: Lease,
        condition: Condition,
        now: &mut Now<F>,
    ) -> Result<(), StaleLease> {
        let live = |state| state == SlotState::Leased;
        if lease.pool != self.id || !self.slots.is(lease.slot, lease.epoch, live) {
            return Err(StaleLease);
        }
        self.release_cell(lease.slot);
        match condition {
            Condition::Good => self.counts.returned += 1,
            Condition::Broken => self.counts.broken += 1,
        }
        let plain = condition == Condition::Good && !self.closed;
        if plain && self.waiters.waiting() == 0 && self.slots.surplus() == 0 {
            self.slots.make_idle(lease.slot, 0);
        } else {
            self.checkin_further(lease.slot, condition, now.get());
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn checkin_further(&mut self, slot: u32, condition: Condition, now_ns: u64) {
        if self.closed {
            self.close_slot(slot, DestroyReason::PoolClosed);
        } else if condition == Condition::Broken {
            self.close_slot(slot, DestroyReason::Broken);
        } else {
            self.offer(slot, now_ns);
        }
        self.create_for_waiters(now_ns);
    }

    #[inline]
    fn release_cell(&mut self, slot: u32) {
        let cell = self.slots.get(slot).map_or(NIL, |slot| slot.cell);
        if cell != NIL {
            self.waiters.release(cell);
        }
    }

    fn close_slot(&mut self, slot: u32, reason: DestroyReason) {
        self.slots.close(slot, reason);
        self.counts.destroys += 1;
    }

    /// Gives a leased or newly created slot to the oldest waiter, else makes it idle.
    fn offer(&mut self, slot: u32, now_ns: u64) {
        match self.next_waiter(now_ns) {
            Some(cell) => {
                let owner = self.waiters.cell(cell).owner;
                let epoch = self.slots.hand_to(slot, owner, cell);
                self.count_end(End::Granted);
                self.waiters.wake_queued(cell, WakeOutcome::Granted(self.lease(slot, epoch)));
            }
            None => {
                self.slots.make_idle(slot, now_ns);
                self.close_surplus(now_ns);
            }
        }
    }

    /// The oldest waiter whose wait this call ends as granted. Those ahead of it that gave up or whose deadline
    /// has passed leave the queue.
    fn next_waiter(&mut self, now_ns: u64) -> Option<u32> {
        while let Some(cell) = self.waiters.head() {
            if self.waiters.is_late(cell, now_ns) {
                self.end_wait(cell, End::TimedOut, WakeOutcome::TimedOut);
            } else if self.words.decide(self.waiters.ticket(cell), End::Granted) {
                return Some(cell);
            } else {
                self.drop_given_up(cell);
            }
        }
        None
    }

    /// Ends a wait and wakes its caller, unless the caller was faster in giving up.
    fn end_wait(&mut self, cell: u32, end: End, outcome: WakeOutcome) {
        if self.words.decide(self.waiters.ticket(cell), end) {
            self.count_end(end);
            self.waiters.wake_queued(cell, outcome);
        } else {
            self.drop_given_up(cell);
        }
    }

    /// Removes a queued waiter whose word says that it gave up.
    fn drop_given_up(&mut self, cell: u32) {
        if let Some(end) = self.words.end(self.waiters.ticket(cell)) {
            self.count_end(end);
        }
        self.waiters.drop_queued(cell);
    }

    fn count_end(&mut self, end: End) {
        match end {
            End::Granted => self.counts.granted += 1,
            End::TimedOut => self.counts.timed_out += 1,
            End::Cancelled => self.counts.cancelled += 1,
            End::CreateFailed => self.counts.create_failed += 1,
            End::Closed => self.counts.closed += 1,
        }
    }

    /// Starts the creations that invariant W asks for.
    fn create_for_waiters(&mut self, now_ns: u64) {
        while self.wants_creation() && !self.closed && self.backoff.allows(self.slots.creating(), now_ns) {
            self.slots.begin_create();
        }
    }

    /// Whether a waiter lacks a creation that could be started for it.
    fn wants_creation(&self) -> bool {
        let within_size = self.waiters.within_size();
        let growing = self.waiters.waiting() - within_size;
        self.slots.empty() > 0
            && self.slots.creating() < growing + within_size.min(self.slots.not_made_within_size())
    }

    pub(super) fn has_room(&self, growth: Growth) -> bool {
        self.slots.empty() > 0 && (growth == Growth::Overflow || self.slots.below_size())
    }

    /// Closes what is above the pool's size and idle for long enough, the longest idle first.
    fn close_surplus(&mut self, now_ns: u64) {
        while let Some((slot, due_ns)) = self.surplus_due() {
            if now_ns < due_ns {
                return;
            }
            self.close_slot(slot, DestroyReason::Overflow);
        }
    }

    fn surplus_due(&self) -> Option<(u32, u64)> {
        if self.slots.surplus() == 0 {
            return None;
        }
        let (slot, since_ns) = self.slots.oldest_idle()?;
        Some((slot, since_ns.saturating_add(self.config.overflow_ttl_ns)))
    }
}
