//! What a caller gets: an idle slot, a place in the queue, or a refusal.

use super::{Now, State, limit};
use crate::pool::config::NO_PRE_PING;
use crate::pool::lease::{Checkout, Lease, Owner, Refusal, Wait};
use crate::pool::waiters::{NO_DEADLINE, NewWaiter};

/// How far the pool may grow on a caller's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pool) enum Growth {
    Size,
    Overflow,
}

impl State {
    #[inline]
    pub(in crate::pool) fn checkout<F: FnOnce() -> u64>(
        &mut self,
        owner: Owner,
        wait: Wait,
        growth: Growth,
        waiter_token: u64,
        now: &mut Now<F>,
    ) -> Checkout {
        self.counts.requests += 1;
        if self.shut.is_some() {
            return self.reject(Refusal::Closed);
        }
        if let Wait::Until(deadline_ns) = wait
            && now.get() >= deadline_ns
        {
            return self.reject(Refusal::TimedOut);
        }
        if self.ages() {
            self.close_aged(now.get());
        }
        // By invariant W nobody waits while a slot is idle, so this overtakes no one.
        match self.slots.lease_idle(owner) {
            Some((slot, epoch)) => self.grant_idle(slot, epoch, now),
            None => self.checkout_none_idle(owner, wait, growth, waiter_token, now.get()),
        }
    }

    /// Takes an idle slot, if the pool lends one; then [`State::grant_idle`] counts it.
    #[inline(always)]
    pub(in crate::pool) fn lease_idle<F: FnOnce() -> u64>(
        &mut self,
        owner: Owner,
        now: &mut Now<F>,
    ) -> Option<(u32, u64)> {
        if self.shut.is_some() {
            return None;
        }
        if self.ages() {
            self.close_aged(now.get());
        }
        let leased = self.slots.lease_idle(owner)?;
        self.counts.requests += 1;
        Some(leased)
    }

    #[inline(always)]
    pub(in crate::pool) fn grant_idle<F: FnOnce() -> u64>(
        &mut self,
        slot: u32,
        epoch: u64,
        now: &mut Now<F>,
    ) -> Checkout {
        let lease = self.granted(slot, epoch);
        if self.grants_further {
            return self.grant_further(lease, now.get());
        }
        Checkout::Granted(lease)
    }

    /// The lease on an idle slot where [`State::grants_further`] asks for nothing else.
    #[inline(always)]
    pub(in crate::pool) fn granted(&mut self, slot: u32, epoch: u64) -> Lease {
        self.counts.granted += 1;
        self.lease(slot, epoch)
    }

    /// What a grant from idle means to the statistics, to `min_idle` and to the test before use.
    #[cold]
    #[inline(never)]
    fn grant_further(&mut self, lease: Lease, now_ns: u64) -> Checkout {
        let touched_ns = self.slots.get(lease.slot).map_or(now_ns, |slot| slot.touched_ns);
        if self.config.stamps_leases() {
            self.slots.stamp_lease(lease.slot, now_ns);
        }
        self.create_as_due(now_ns);
        let after_ns = self.config.pre_ping_after_ns;
        if after_ns == NO_PRE_PING || (after_ns > 0 && now_ns.saturating_sub(touched_ns) <= after_ns) {
            return Checkout::Granted(lease);
        }
        self.counts.pre_pings += 1;
        Checkout::GrantedUntested { lease, deadline_ns: limit(now_ns, self.config.pre_ping_limit_ns) }
    }

    #[cold]
    #[inline(never)]
    pub(in crate::pool) fn checkout_none_idle(
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
            Wait::ForCreation
                if !cfg!(escope_sabotage = "pool_split_promise")
                    && !self.may_wait_for_creation(growth, now_ns) =>
            {
                return self.reject(Refusal::Exhausted);
            }
            Wait::ForCreation => (NO_DEADLINE, true),
            Wait::For(ns) => (now_ns.saturating_add(ns), false),
            Wait::Until(deadline_ns) => (deadline_ns, false),
            Wait::Forever => (NO_DEADLINE, false),
        };
        if self.waiters.waiting() >= self.config.max_waiters {
            // Where nobody may wait, nobody else would have a connection made.
            if self.config.max_waiters == 0 {
                self.create_ahead(growth, now_ns);
            }
            return self.reject(Refusal::QueueFull);
        }
        if self.waiters.waiting() == 0 {
            self.codel.sheds(None, now_ns);
        }
        let within_size = growth == Growth::Size;
        let waiter = NewWaiter {
            token: waiter_token,
            owner,
            deadline_ns,
            since_ns: now_ns,
            for_creation,
            within_size,
        };
        match self.waiters.enqueue(&self.words, waiter) {
            Some(ticket) => {
                // What invariant W asks for may be covered by a creation that goes to those ahead; this caller waits
                // for no return, so it brings one along.
                if for_creation && self.slots.creating() < self.waiters.waiting() {
                    self.slots.begin_create();
                }
                self.create_as_due(now_ns);
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
            Refusal::Shed => self.counts.shed += 1,
        }
        Checkout::Rejected(refusal)
    }

    /// Whether a creation can be had for one more waiter, with only such waiters ahead of it. Then every one of
    /// them keeps a creation of its own: each creation that ends serves or fails the head of the queue.
    fn may_wait_for_creation(&self, growth: Growth, now_ns: u64) -> bool {
        let (waiting, creating) = (self.waiters.waiting(), self.slots.creating());
        let spare = creating > waiting;
        waiting == self.waiters.for_creation()
            && waiting < self.slots.creatable()
            && (spare || (self.has_room(growth) && self.may_start(now_ns)))
    }

    /// One creation beyond what the waiters need, for a caller that will come again.
    fn create_ahead(&mut self, growth: Growth, now_ns: u64) {
        let creating = self.slots.creating();
        if self.has_room(growth) && creating <= self.waiters.waiting() && self.may_start(now_ns) {
            self.slots.begin_create();
        }
    }

    pub(in crate::pool) fn has_room(&self, growth: Growth) -> bool {
        self.slots.room() > 0 && (growth == Growth::Overflow || self.slots.below_size())
    }
}
