//! The pool's rules once more, as naively as possible: a list of slots, a list of waiters, linear searches.
//! It is what the property test compares with and what the vectors are generated from.
//!
//! Times are plain integers. Back-offs in the tests are below 4 ns, where jitter, a quarter at most, is 0.

use elixirscope::pool::{Condition, CreateFailure, GiveUp, IdleOrder, PoolConfig, Refusal, Wait};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    Empty,
    Creating,
    Idle { since: u64 },
    Leased { owner: u64, token: Option<u64> },
    Closing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Granted(u32),
    Queued,
    Rejected(Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    Granted(u32),
    TimedOut,
    Closed,
    CreateFailed(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Create(u32),
    Destroy(u32),
}

#[derive(Debug, Clone, Copy)]
pub struct Waiter {
    pub token: u64,
    pub owner: u64,
    pub deadline: u64,
    pub for_creation: bool,
    within_size: bool,
}

pub struct Model {
    config: PoolConfig,
    pub slots: Vec<Slot>,
    /// Empty slots, the one that is empty for longest first.
    empty: Vec<u32>,
    /// Idle slots in the order of their return.
    idle: Vec<u32>,
    pub queue: Vec<Waiter>,
    pub closed: bool,
    failures: u32,
    retry_at: u64,
    /// What the last event asks the edge for.
    pub told: Vec<(u64, Told)>,
    pub work: Vec<Work>,
}

impl Model {
    pub fn new(config: PoolConfig) -> Self {
        let capacity = config.size + config.max_overflow;
        Self {
            config,
            slots: vec![Slot::Empty; capacity as usize],
            empty: (0..capacity).collect(),
            idle: Vec::new(),
            queue: Vec::new(),
            closed: false,
            failures: 0,
            retry_at: 0,
            told: Vec::new(),
            work: Vec::new(),
        }
    }

    fn count(&self, wanted: impl Fn(&Slot) -> bool) -> u32 {
        self.slots.iter().filter(|slot| wanted(slot)).count() as u32
    }

    pub fn idle(&self) -> u32 {
        self.count(|slot| matches!(slot, Slot::Idle { .. }))
    }

    pub fn leased(&self) -> u32 {
        self.count(|slot| matches!(slot, Slot::Leased { .. }))
    }

    pub fn creating(&self) -> u32 {
        self.count(|slot| matches!(slot, Slot::Creating))
    }

    pub fn closing(&self) -> u32 {
        self.count(|slot| matches!(slot, Slot::Closing))
    }

    pub fn overflow(&self) -> u32 {
        (self.idle() + self.leased() + self.creating()).saturating_sub(self.config.size)
    }

    fn may_create(&self, within_size: bool, now: u64) -> bool {
        let live = self.idle() + self.leased() + self.creating();
        !self.empty.is_empty()
            && (!within_size || live < self.config.size)
            && (self.failures == 0 || (self.creating() == 0 && now >= self.retry_at))
    }

    /// Creations that the waiters are worth: one each, but for those who keep the pool within its size only as many
    /// as fit into it.
    pub fn creations_due(&self) -> u32 {
        let within = self.queue.iter().filter(|waiter| waiter.within_size).count() as u32;
        let below_size = self.config.size.saturating_sub(self.idle() + self.leased());
        let free = self.empty.len() as u32 + self.creating();
        (self.queue.len() as u32 - within + within.min(below_size)).min(free)
    }

    fn create(&mut self) {
        let slot = self.empty.remove(0);
        self.slots[slot as usize] = Slot::Creating;
        self.work.push(Work::Create(slot));
    }

    fn destroy(&mut self, slot: u32) {
        self.idle.retain(|&idle| idle != slot);
        self.slots[slot as usize] = Slot::Closing;
        self.work.push(Work::Destroy(slot));
    }

    fn create_for_waiters(&mut self, now: u64) {
        while !self.closed && self.creating() < self.creations_due() && self.may_create(false, now) {
            self.create();
        }
    }

    fn give(&mut self, slot: u32, now: u64) {
        while !self.queue.is_empty() {
            let waiter = self.queue.remove(0);
            if waiter.deadline <= now {
                self.told.push((waiter.token, Told::TimedOut));
                continue;
            }
            self.slots[slot as usize] = Slot::Leased { owner: waiter.owner, token: Some(waiter.token) };
            self.told.push((waiter.token, Told::Granted(slot)));
            return;
        }
        self.slots[slot as usize] = Slot::Idle { since: now };
        self.idle.push(slot);
        self.close_surplus(now);
    }

    fn surplus_due(&self) -> Option<u64> {
        let oldest = *self.idle.first().filter(|_| self.overflow() > 0)?;
        match self.slots[oldest as usize] {
            Slot::Idle { since } => Some(since.saturating_add(self.config.overflow_ttl_ns)),
            other => panic!("{other:?} among the idle"),
        }
    }

    fn close_surplus(&mut self, now: u64) {
        while self.surplus_due().is_some_and(|due| due <= now) {
            self.destroy(self.idle[0]);
        }
    }

    pub fn checkout(&mut self, owner: u64, wait: Wait, token: u64, now: u64) -> Answer {
        self.ask(owner, wait, false, token, now)
    }

    pub fn checkout_within_size(&mut self, owner: u64, wait: Wait, token: u64, now: u64) -> Answer {
        self.ask(owner, wait, true, token, now)
    }

    fn ask(&mut self, owner: u64, wait: Wait, within_size: bool, token: u64, now: u64) -> Answer {
        if self.closed {
            return Answer::Rejected(Refusal::Closed);
        }
        if matches!(wait, Wait::Until(deadline) if deadline <= now) {
            return Answer::Rejected(Refusal::TimedOut);
        }
        if !self.idle.is_empty() {
            let slot = match self.config.order {
                IdleOrder::RoundRobin | IdleOrder::LeastUsed => panic!("not here"),
                IdleOrder::Lifo => self.idle.remove(self.idle.len() - 1),
                IdleOrder::Fifo => self.idle.remove(0),
            };
            self.slots[slot as usize] = Slot::Leased { owner, token: None };
            return Answer::Granted(slot);
        }
        let waiting = self.queue.len() as u32;
        let (deadline, for_creation) = match wait {
            Wait::Never | Wait::For(0) => {
                if self.creating() <= waiting && self.may_create(within_size, now) {
                    self.create();
                }
                return Answer::Rejected(Refusal::Exhausted);
            }
            Wait::ForCreation => {
                let others_too = self.queue.iter().all(|waiter| waiter.for_creation);
                if !others_too || !(self.creating() > waiting || self.may_create(within_size, now)) {
                    return Answer::Rejected(Refusal::Exhausted);
                }
                (u64::MAX, true)
            }
            Wait::For(ns) => (now.saturating_add(ns), false),
            Wait::Until(deadline) => (deadline, false),
            Wait::Forever => (u64::MAX, false),
        };
        if waiting >= self.config.max_waiters {
            return Answer::Rejected(Refusal::QueueFull);
        }
        self.queue.push(Waiter { token, owner, deadline, for_creation, within_size });
        if for_creation && self.creating() <= waiting {
            self.create();
        }
        self.create_for_waiters(now);
        Answer::Queued
    }

    pub fn checkin(&mut self, slot: u32, condition: Condition, now: u64) {
        if condition == Condition::Broken || self.closed {
            self.destroy(slot);
        } else {
            self.give(slot, now);
        }
        self.create_for_waiters(now);
    }

    /// Whether the waiter was still there to give up.
    pub fn cancel(&mut self, token: u64, _reason: GiveUp) -> bool {
        let before = self.queue.len();
        self.queue.retain(|waiter| waiter.token != token);
        self.queue.len() < before
    }

    pub fn owner_gone(&mut self, owner: u64, now: u64) {
        self.queue.retain(|waiter| waiter.owner != owner);
        for slot in 0..self.slots.len() as u32 {
            if matches!(self.slots[slot as usize], Slot::Leased { owner: holder, .. } if holder == owner) {
                self.destroy(slot);
            }
        }
        self.create_for_waiters(now);
    }

    pub fn created(&mut self, slot: u32, result: Result<(), u64>, now: u64) {
        match result {
            Ok(()) => {
                self.failures = 0;
                if self.closed {
                    self.destroy(slot);
                } else {
                    self.give(slot, now);
                }
            }
            Err(code) => {
                self.slots[slot as usize] = Slot::Empty;
                self.empty.push(slot);
                if self.failures == 0 || now >= self.retry_at {
                    let doubled = self.config.create_backoff_ns << self.failures.min(8);
                    self.retry_at = now + doubled.min(self.config.create_backoff_cap_ns);
                    self.failures += 1;
                }
                let fail_fast = self.config.create_failure == CreateFailure::FailFast;
                if self.queue.first().is_some_and(|head| fail_fast || head.for_creation) {
                    let head = self.queue.remove(0);
                    self.told.push((head.token, Told::CreateFailed(code)));
                }
            }
        }
        self.create_for_waiters(now);
    }

    pub fn destroyed(&mut self, slot: u32, now: u64) {
        self.slots[slot as usize] = Slot::Empty;
        self.empty.push(slot);
        self.create_for_waiters(now);
    }

    /// The connection in a slot died. Everybody here is told at once, so nobody is left to be told first.
    pub fn lost(&mut self, slot: u32, now: u64) {
        if matches!(self.slots[slot as usize], Slot::Idle { .. } | Slot::Leased { .. }) {
            self.destroy(slot);
            self.create_for_waiters(now);
        }
    }

    pub fn maintain(&mut self, now: u64) {
        let (late, rest) = self.queue.iter().copied().partition(|waiter: &Waiter| waiter.deadline <= now);
        self.queue = rest;
        self.told.extend(late.into_iter().map(|waiter: Waiter| (waiter.token, Told::TimedOut)));
        self.close_surplus(now);
        self.create_for_waiters(now);
    }

    pub fn close(&mut self) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.told.extend(self.queue.drain(..).map(|waiter| (waiter.token, Told::Closed)));
        for slot in self.idle.clone() {
            self.destroy(slot);
        }
    }

    /// When idle time or back-off needs `maintain`.
    pub fn alarm(&self) -> Option<u64> {
        let held_back = self.creating() == 0 && self.creations_due() > 0 && self.failures > 0;
        self.surplus_due().into_iter().chain(held_back.then_some(self.retry_at)).min()
    }

    /// When anything needs `maintain`.
    pub fn next_deadline(&self) -> Option<u64> {
        let waiters = self.queue.iter().map(|waiter| waiter.deadline).filter(|&at| at != u64::MAX);
        waiters.chain(self.alarm()).min()
    }
}
