//! The calls of a pool: each on the library and on the model.

use super::edge::ABANDONED;
use super::{AN_HOUR_NS, MOST_SLOTS, Run, Waiter};
use crate::pool_model::{Answer, Slot};
use elixirscope::capi::pool::admin::*;
use elixirscope::capi::pool::calls::*;
use elixirscope::capi::pool::waiter::*;
use elixirscope::pool::{Condition, GiveUp, Refusal, Wait};
use elixirscope::status::Status;
use std::ffi::c_void;
use std::ptr::{null, null_mut};

impl Run {
    pub(super) fn checkout(&mut self, creation_fails: bool, check_fails: bool) {
        self.callbacks_do(creation_fails, check_fails);
        let (mut lease, mut connection) = (no_lease(), null_mut());
        // SAFETY: the pool is alive, the places are writable.
        let status = unsafe { escope_pool_checkout_at(self.pool, &mut lease, &mut connection, self.now_ns) };
        let granted = loop {
            match self.ask(Wait::ForCreation) {
                Ok(Answer::Granted(slot)) => break Ok(slot),
                Ok(Answer::Queued) => {
                    let token = self.tokens;
                    break loop {
                        if let Some(told) = self.told(token) {
                            break told;
                        }
                        assert!(self.do_chore(), "who waits for a creation has one");
                    };
                }
                Ok(Answer::Rejected(Refusal::Exhausted)) if self.do_chore() => {}
                Ok(Answer::Rejected(refusal)) => break Err(refusal.status()),
                Err(_unfit) => {}
            }
        };
        self.answered("checkout", status, granted, lease, connection);
    }

    pub(super) fn begin(&mut self, timeout_ns: u64, check_fails: bool) {
        self.callbacks_do(false, check_fails);
        let (mut lease, mut connection, mut place) = (no_lease(), null_mut(), null_mut());
        // SAFETY: the pool is alive, the places are writable.
        let status = unsafe {
            escope_pool_checkout_begin_at(
                self.pool,
                timeout_ns,
                &mut lease,
                &mut connection,
                &mut place,
                self.now_ns,
            )
        };
        let granted = loop {
            match self.ask(Wait::For(timeout_ns)) {
                Ok(Answer::Granted(slot)) => break Ok(slot),
                Ok(Answer::Queued) => {
                    assert!(!place.is_null());
                    let deadline_ns = self.now_ns + timeout_ns;
                    self.waiters.push(Waiter { place, token: self.tokens, deadline_ns });
                    break Err(Status::PoolExhausted);
                }
                Ok(Answer::Rejected(refusal)) => break Err(refusal.status()),
                Err(_unfit) => {}
            }
        };
        self.answered("begin", status, granted, lease, connection);
    }

    pub(super) fn wait(&mut self, which: usize, creation_fails: bool, check_fails: bool) {
        if self.waiters.is_empty() {
            return;
        }
        let which = which % self.waiters.len();
        let Waiter { place, token, deadline_ns } = self.waiters[which];
        self.callbacks_do(creation_fails, check_fails);
        let (mut lease, mut connection) = (no_lease(), null_mut());
        // SAFETY: the place is alive, the others are writable.
        let status = unsafe { escope_waiter_wait_at(place, &mut lease, &mut connection, self.now_ns) };
        let granted = loop {
            if let Some(told) = self.told(token) {
                break told;
            }
            if self.now_ns >= deadline_ns {
                assert!(self.model.cancel(token, GiveUp::TimedOut));
                break Err(Status::PoolTimeout);
            }
            if !self.do_chore() {
                break Err(Status::PoolExhausted);
            }
        };
        if granted != Err(Status::PoolExhausted) {
            self.waiters.remove(which);
            // SAFETY: the place is the run's to give, and its wait has ended.
            unsafe { escope_waiter_free(place) };
        }
        self.answered("wait", status, granted, lease, connection);
    }

    pub(super) fn give_up(&mut self, which: usize, check_fails: bool) {
        if self.waiters.is_empty() {
            return;
        }
        let Waiter { place, token, .. } = self.waiters.remove(which % self.waiters.len());
        self.callbacks_do(false, check_fails);
        // SAFETY: NULL is refused, but the place has heard the time, by which it is given up.
        let status = unsafe { escope_waiter_wait_at(place, null_mut(), null_mut(), self.now_ns) };
        self.saw("wait", status, Status::InvalidArgument);
        // SAFETY: the place is the run's to give.
        unsafe { escope_waiter_free(place) };
        match self.told(token) {
            Some(Ok(slot)) => {
                self.model.checkin(slot, Condition::Good, self.now_ns);
                self.settle();
            }
            Some(Err(_)) => {}
            None => assert!(self.model.cancel(token, GiveUp::Cancelled)),
        }
    }

    pub(super) fn answered(
        &mut self,
        operation: &'static str,
        status: i32,
        expected: Result<u32, Status>,
        lease: escope_lease,
        connection: *mut c_void,
    ) {
        match expected {
            Ok(slot) => {
                self.saw(operation, status, Status::Ok);
                assert_eq!(Some(&(connection as usize)), self.connections.get(&slot));
                self.leases.push((lease, slot));
            }
            Err(expected) => {
                self.saw(operation, status, expected);
                assert!(connection.is_null());
            }
        }
    }

    pub(super) fn checkin(&mut self, which: usize, broken: bool, check_fails: bool) {
        if self.leases.is_empty() {
            return;
        }
        let (lease, slot) = self.leases.remove(which % self.leases.len());
        self.callbacks_do(false, check_fails);
        // SAFETY: the pool and the lease are alive.
        let status = unsafe { escope_pool_checkin_at(self.pool, &lease, i32::from(broken), self.now_ns) };
        self.saw("checkin", status, Status::Ok);
        self.model.checkin(slot, if broken { Condition::Broken } else { Condition::Good }, self.now_ns);
        self.settle();
        self.returned.push(lease);
    }

    pub(super) fn stale(&mut self, which: usize) {
        if let Some(lease) = self.returned.get(which % self.returned.len().max(1)) {
            // SAFETY: the pool is alive.
            let status = unsafe { escope_pool_checkin_at(self.pool, lease, 0, self.now_ns) };
            self.saw("checkin", status, Status::StaleLease);
        }
    }

    pub(super) fn invalid(&mut self, condition: i32) {
        // SAFETY: NULL is refused.
        let status = unsafe { escope_pool_checkin_at(self.pool, null(), 0, self.now_ns) };
        self.saw("checkin", status, Status::InvalidArgument);
        if let (Some((lease, _)), false) = (self.leases.first(), (0..2).contains(&condition)) {
            // SAFETY: the pool is alive.
            let status = unsafe { escope_pool_checkin_at(self.pool, lease, condition, self.now_ns) };
            self.saw("checkin", status, Status::InvalidArgument);
        }
    }

    pub(super) fn resize(&mut self, size: u32, max_overflow: u32) {
        // SAFETY: the pool is alive.
        let status = unsafe { escope_pool_resize_at(self.pool, size, max_overflow, self.now_ns) };
        if (1..=MOST_SLOTS).contains(&(size + max_overflow)) {
            self.saw("resize", status, Status::Ok);
            self.model.resize(size, max_overflow, self.now_ns);
            self.settle();
        } else {
            self.saw("resize", status, Status::InvalidArgument);
        }
    }

    pub(super) fn evict(&mut self) {
        // SAFETY: the pool is alive.
        let status = unsafe { escope_pool_evict_at(self.pool, 0, self.now_ns) };
        self.saw("evict", status, Status::Ok);
        self.model.evict(self.now_ns);
        self.settle();
    }

    pub(super) fn maintain(&mut self, creation_fails: bool, check_fails: bool) {
        self.callbacks_do(creation_fails, check_fails);
        let mut next_ns = 0;
        // SAFETY: the pool is alive, the place is writable.
        let status = unsafe { escope_pool_maintain_at(self.pool, &mut next_ns, self.now_ns) };
        self.saw("maintain", status, Status::Ok);
        self.model.maintain(self.now_ns);
        self.settle();
        while self.do_chore() {}
        // P08. It may come earlier, for a connection that was in use meanwhile.
        assert!(next_ns > self.now_ns);
        let wanted = self.model.next_deadline().unwrap_or(u64::MAX);
        // After a failure the pause is longer at random than the model's.
        assert!(next_ns <= wanted || wanted >= AN_HOUR_NS, "{next_ns}, at most {wanted}");
    }

    /// Rarely: a closed pool has little more to show.
    pub(super) fn shut(&mut self, how: u8) {
        self.callbacks_do(false, false);
        match how {
            0..8 => {
                // SAFETY: the pool is alive.
                let status = unsafe { escope_pool_close_at(self.pool, self.now_ns) };
                self.saw("close", status, Status::Ok);
                self.model.shut(u64::MAX, false, self.now_ns);
                self.is_closed = true;
                self.settle();
                while let Some(slot) = self.chores.pop_front() {
                    self.model.created(slot, Err(ABANDONED), self.now_ns);
                    self.settle();
                }
            }
            8..16 => {
                // SAFETY: the pool is alive.
                let status = unsafe { escope_pool_drain_at(self.pool, self.now_ns) };
                self.model.shut(u64::MAX, true, self.now_ns);
                self.settle();
                while self.do_chore() {}
                let empty = self.model.slots.iter().all(|slot| matches!(slot, Slot::Empty));
                let expected =
                    if empty && self.model.queue.is_empty() { Status::Ok } else { Status::PoolTimeout };
                self.saw("drain", status, expected);
            }
            _ => {}
        }
    }
}

fn no_lease() -> escope_lease {
    escope_lease { private_pool: 0, private_epoch: 0, private_slot: 0, private_reserved: 0 }
}
