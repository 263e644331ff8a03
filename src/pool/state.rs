//! What happens under the lock: every event, and invariant W after each.
//!
//! Invariant W: while somebody waits no slot is idle, and a creation is in flight for every waiter as far as slots
//! are empty; of those who ask that the pool not grow above its size on their account, for as many as fit into it.
//! Only a running back-off, with `next_deadline` set, and `max_concurrent_creates` may hold creations back.
//! While nobody waits, creations are in flight for what lacks to `min_idle`.
//!
//! It holds by construction. A slot becomes free in [`State::offer`] only, which looks at the queue first. A
//! caller queues only when no slot is idle. Whatever lengthens the queue or empties a slot ends in
//! [`State::create_as_due`].

mod aging;
mod checkout;
mod checks;
mod ends;
mod output;
mod reports;
mod shape;

use std::collections::TryReserveError;
use std::sync::Arc;

use super::actions::{CheckKind, DestroyReason, WakeOutcome};
use super::backoff::Backoff;
use super::codel::Codel;
use super::config::{NO_PRE_PING, PoolConfig};
use super::lease::{Condition, Lease, StaleLease};
use super::list::NIL;
use super::random::Random;
use super::slots::{SlotState, Slots};
use super::snapshot::Counts;
use super::waiters::{Cell, End, Waiters, Words};
pub(super) use checkout::Growth;
use checks::Rounds;
use ends::Shut;

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

#[derive(Debug)]
pub(super) struct State {
    id: u64,
    config: PoolConfig,
    words: Arc<Words>,
    pub(super) slots: Slots,
    waiters: Waiters,
    backoff: Backoff,
    codel: Codel,
    rounds: Rounds,
    lives: Random,
    counts: Counts,
    shut: Option<Shut>,
    /// Check-ins whose actions are still carried out, and whether only they and leases keep the pool: see
    /// [`unowned`](super::unowned).
    pub(super) settling: u32,
    pub(super) abandoned: bool,
    /// `min_idle` as it was asked for; the configuration's fits into the size of now.
    min_idle: u32,
    /// When the size last changed: what is surplus since then counts as idle from then on.
    resized_ns: u64,
    /// Whether a grant from idle, and a return, has more to do than to move the slot.
    pub(super) grants_further: bool,
    returns_further: bool,
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
            config: PoolConfig { min_idle: config.min_idle.min(config.size), ..*config },
            words,
            slots: Slots::new(config)?,
            waiters: Waiters::new(cells)?,
            backoff: Backoff::new(config),
            codel: Codel::new(config.queue_target_ns, config.queue_interval_ns),
            rounds: Rounds::default(),
            // Another stream than the back-off's.
            lives: Random::new(!config.jitter_seed),
            counts: Counts::default(),
            shut: None,
            settling: 0,
            abandoned: false,
            min_idle: config.min_idle,
            resized_ns: 0,
            grants_further: config.stamps_leases()
                || config.pre_ping_after_ns != NO_PRE_PING
                || config.min_idle > 0,
            returns_further: config.stamps_leases()
                || config.stamps_idle()
                || config.checks_on_return()
                || config.min_idle > 0,
            alarm_ns: u64::MAX,
        })
    }

    #[inline]
    fn lease(&self, slot: u32, epoch: u64) -> Lease {
        Lease { pool: self.id, slot, epoch }
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
        let ageless = self.slots.get(lease.slot).is_some_and(|slot| slot.expires_ns == u64::MAX);
        let plain = condition == Condition::Good && !self.returns_further && ageless && self.shut.is_none();
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
        self.count_use(slot, now_ns);
        if condition == Condition::Broken {
            self.close_slot(slot, DestroyReason::Broken);
        } else {
            self.take_back(slot, self.config.checks_on_return(), now_ns);
        }
        self.create_as_due(now_ns);
    }

    /// A leased slot that nobody holds any more: closes, is checked, goes to a waiter or becomes idle.
    fn take_back(&mut self, slot: u32, check: bool, now_ns: u64) {
        if let Some(reason) = self.reason_to_retire(slot, now_ns) {
            self.close_slot(slot, reason);
        } else if check {
            let limit_ns = limit(now_ns, self.config.return_limit_ns);
            self.slots.begin_check(slot, CheckKind::Return, limit_ns);
        } else {
            self.offer(slot, now_ns);
        }
    }

    /// Why a connection that comes from somewhere does not go on to a next holder.
    fn reason_to_retire(&self, slot: u32, now_ns: u64) -> Option<DestroyReason> {
        let entry = self.slots.get(slot)?;
        if self.keeps_nothing() && self.waiters.waiting() == 0 {
            Some(DestroyReason::PoolClosed)
        } else if entry.expires_ns == u64::MAX || now_ns < entry.expires_ns {
            self.slots.above_capacity().then_some(DestroyReason::Resized)
        } else if entry.evicted {
            Some(DestroyReason::Evicted)
        } else {
            Some(DestroyReason::Lifetime)
        }
    }

    /// Whether a connection that nobody waits for is closed, since the pool is.
    fn keeps_nothing(&self) -> bool {
        self.shut.is_some() && !cfg!(escope_sabotage = "pool_keeps_late")
    }

    fn count_use(&mut self, slot: u32, now_ns: u64) {
        if self.config.stamps_leases()
            && let Some(entry) = self.slots.get(slot)
        {
            let use_ns = now_ns.saturating_sub(entry.leased_at_ns);
            self.counts.use_ns = self.counts.use_ns.saturating_add(use_ns);
        }
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
                let &Cell { owner, since_ns, .. } = self.waiters.cell(cell);
                let queued_ns = now_ns.saturating_sub(since_ns);
                self.counts.queue_ns = self.counts.queue_ns.saturating_add(queued_ns);
                self.counts.longest_queue_ns = self.counts.longest_queue_ns.max(queued_ns);
                let epoch = self.slots.hand_to(slot, owner, cell);
                if self.config.stamps_leases() {
                    self.slots.stamp_lease(slot, now_ns);
                }
                self.count_end(End::Granted);
                self.waiters.wake_queued(cell, WakeOutcome::Granted(self.lease(slot, epoch)));
            }
            None if self.keeps_nothing() => self.close_slot(slot, DestroyReason::PoolClosed),
            None => {
                self.slots.make_idle(slot, now_ns);
                self.close_surplus(now_ns);
            }
        }
    }

    /// The oldest waiter whose wait this call ends as granted. Those ahead of it that gave up or whose deadline
    /// has passed leave the queue.
    fn next_waiter(&mut self, now_ns: u64) -> Option<u32> {
        self.shed(now_ns);
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
            End::Shed => self.counts.shed += 1,
        }
    }

    /// Starts the creations that invariant W asks for.
    fn create_as_due(&mut self, now_ns: u64) {
        while self.wants_creation() && self.may_start(now_ns) {
            self.slots.begin_create();
        }
    }

    /// Whether a creation may begin.
    fn may_start(&self, now_ns: u64) -> bool {
        let creating = self.slots.creating();
        creating < self.config.max_concurrent_creates && self.backoff.allows(creating, now_ns)
    }

    /// Whether a waiter, or the pool's stock of idle connections, lacks a creation that could be started.
    fn wants_creation(&self) -> bool {
        let creating = self.slots.creating();
        let waiting = self.waiters.waiting();
        if self.slots.room() == 0 {
            return false;
        }
        if waiting == 0 {
            let idle = self.slots.idle() + self.slots.idle.away() + creating;
            return self.shut.is_none() && idle < self.config.min_idle && self.slots.below_size();
        }
        let within_size = self.waiters.within_size();
        creating < waiting - within_size + within_size.min(self.slots.not_made_within_size())
    }
}

/// The instant at which something that takes `limit_ns` at most, 0 for any time, is over.
fn limit(now_ns: u64, limit_ns: u64) -> u64 {
    if limit_ns == 0 { u64::MAX } else { now_ns.saturating_add(limit_ns) }
}
