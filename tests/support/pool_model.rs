//! The pool's rules once more, as naively as possible: a list of slots, a list of waiters, linear searches.
//! It is what the property test compares with and what the vectors are generated from.
//!
//! Times are plain integers. Back-offs in the tests are below 4 ns, where jitter, a quarter at most, is 0.

use elixirscope::pool::{
    Condition, CreateFailure, GiveUp, HealthChecks, IdleOrder, NO_PRE_PING, OwnerDeath, PoolConfig, Refusal,
    Wait,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    Empty,
    Creating,
    /// `order` and `touch_order` are later for a later return, and a later return or check.
    Idle {
        since: u64,
        order: u64,
        touched: u64,
        touch_order: u64,
    },
    Leased {
        owner: u64,
        token: Option<u64>,
        since: u64,
        told: bool,
    },
    /// `idle` is what an idle slot comes back to.
    Checking {
        idle: Option<(u64, u64)>,
        limit: u64,
    },
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
    Shed,
    CreateFailed(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    Create(u32),
    Check(u32),
    Leak(u32),
    Destroy(u32),
}

/// What is known of a connection whatever it is used for.
#[derive(Debug, Clone, Copy)]
struct Life {
    expires: u64,
    evicted: bool,
    leases: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct Waiter {
    pub token: u64,
    pub owner: u64,
    pub deadline: u64,
    since: u64,
    pub for_creation: bool,
    within_size: bool,
}

pub struct Model {
    config: PoolConfig,
    pub slots: Vec<Slot>,
    /// Empty slots, the one that is empty for longest first.
    empty: Vec<u32>,
    lives: Vec<Life>,
    /// Counts returns and checks.
    clock: u64,
    /// The slot after the one that round robin lent last.
    cursor: u32,
    pub queue: Vec<Waiter>,
    /// Until when leases and waits last, and whether waits are served.
    pub shut: Option<(u64, bool)>,
    resized: u64,
    min_idle: u32,
    next_round: Option<u64>,
    round_began: u64,
    round_left: u32,
    shed_at: Option<u64>,
    shed_in_a_row: u32,
    /// Whether the last check-out is to be tested first.
    pub untested: bool,
    failures: u32,
    retry_at: u64,
    /// What the last event asks the edge for.
    pub told: Vec<(u64, Told)>,
    pub work: Vec<Work>,
}

impl Model {
    pub fn new(config: PoolConfig) -> Self {
        Self {
            config,
            slots: vec![Slot::Empty; config.slots() as usize],
            empty: (0..config.slots()).collect(),
            lives: vec![Life { expires: u64::MAX, evicted: false, leases: 0 }; config.slots() as usize],
            clock: 0,
            cursor: 0,
            queue: Vec::new(),
            shut: None,
            resized: 0,
            min_idle: config.min_idle,
            next_round: None,
            round_began: 0,
            round_left: 0,
            shed_at: None,
            shed_in_a_row: 0,
            untested: false,
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

    pub fn checking(&self) -> u32 {
        self.count(|slot| matches!(slot, Slot::Checking { .. }))
    }

    fn live(&self) -> u32 {
        self.idle() + self.leased() + self.creating() + self.checking()
    }

    pub fn overflow(&self) -> u32 {
        self.live().saturating_sub(self.config.size)
    }

    fn room(&self) -> u32 {
        self.config.capacity().saturating_sub(self.slots.len() as u32 - self.empty.len() as u32)
    }

    /// What the pool may have beside what is there, whether it is being created or not.
    fn creatable(&self) -> u32 {
        self.config.capacity().saturating_sub(self.live() - self.creating())
    }

    /// Idle slots by `key`.
    fn idle_by<K: Ord>(&self, key: impl Fn(u32, Slot) -> K) -> Vec<u32> {
        let mut idle: Vec<u32> = (0..self.slots.len() as u32)
            .filter(|&slot| matches!(self.slots[slot as usize], Slot::Idle { .. }))
            .collect();
        idle.sort_by_key(|&slot| key(slot, self.slots[slot as usize]));
        idle
    }

    fn by_return(&self) -> Vec<u32> {
        self.idle_by(|_, slot| match slot {
            Slot::Idle { order, .. } => order,
            other => panic!("{other:?} among the idle"),
        })
    }

    fn oldest(&self) -> Option<(u32, u64)> {
        let slot = *self.by_return().first()?;
        match self.slots[slot as usize] {
            Slot::Idle { since, .. } => Some((slot, since)),
            other => panic!("{other:?} among the idle"),
        }
    }

    fn least_touched(&self) -> Option<(u32, u64)> {
        let touches = |_, slot| match slot {
            Slot::Idle { touch_order, touched, .. } => (touch_order, touched),
            other => panic!("{other:?} among the idle"),
        };
        let slot = *self.idle_by(touches).first()?;
        Some((slot, touches(slot, self.slots[slot as usize]).1))
    }

    fn limit(now: u64, limit: u64) -> u64 {
        if limit == 0 { u64::MAX } else { now.saturating_add(limit) }
    }

    fn may_create(&self, within_size: bool, now: u64) -> bool {
        self.room() > 0
            && (!within_size || self.live() < self.config.size)
            && self.creating() < self.config.max_concurrent_creates
            && (self.failures == 0 || (self.creating() == 0 && now >= self.retry_at))
    }

    /// Creations that the waiters are worth: one each, but for those who keep the pool within its size only as many
    /// as fit into it. Where nobody waits, what lacks to the stock of idle ones.
    pub fn creations_due(&self) -> u32 {
        let free = self.room() + self.creating();
        if self.queue.is_empty() {
            let away = self.count(|slot| matches!(slot, Slot::Checking { idle: Some(_), .. }));
            let lacking = self.config.min_idle.saturating_sub(self.idle() + away);
            let below = self.config.size.saturating_sub(self.live() - self.creating());
            return if self.shut.is_some() { 0 } else { lacking.min(below).min(free) };
        }
        let within = self.queue.iter().filter(|waiter| waiter.within_size).count() as u32;
        let below_size = self.config.size.saturating_sub(self.live() - self.creating());
        (self.queue.len() as u32 - within + within.min(below_size)).min(free)
    }

    fn create(&mut self) {
        let slot = self.empty.remove(0);
        self.slots[slot as usize] = Slot::Creating;
        self.lives[slot as usize] = Life { expires: u64::MAX, evicted: false, leases: 0 };
        self.work.push(Work::Create(slot));
    }

    fn destroy(&mut self, slot: u32) {
        self.slots[slot as usize] = Slot::Closing;
        self.work.push(Work::Destroy(slot));
    }

    fn create_as_due(&mut self, now: u64) {
        while self.creating() < self.creations_due() && self.may_create(false, now) {
            self.create();
        }
    }

    fn lease(&mut self, slot: u32, owner: u64, token: Option<u64>, now: u64) {
        self.slots[slot as usize] = Slot::Leased { owner, token, since: now, told: false };
        self.lives[slot as usize].leases += 1;
    }

    fn give(&mut self, slot: u32, now: u64) {
        self.shed(now);
        while !self.queue.is_empty() {
            let waiter = self.queue.remove(0);
            if waiter.deadline <= now {
                self.told.push((waiter.token, Told::TimedOut));
                continue;
            }
            self.lease(slot, waiter.owner, Some(waiter.token), now);
            self.told.push((waiter.token, Told::Granted(slot)));
            return;
        }
        if self.shut.is_some() {
            return self.destroy(slot);
        }
        self.clock += 1;
        let order = self.clock;
        self.slots[slot as usize] = Slot::Idle { since: now, order, touched: now, touch_order: order };
        self.close_surplus(now);
    }

    fn retires(&self, slot: u32, now: u64) -> bool {
        let expires = self.lives[slot as usize].expires;
        (self.shut.is_some() && self.queue.is_empty())
            || (expires != u64::MAX && expires <= now)
            || self.live() > self.config.capacity()
    }

    fn take_back(&mut self, slot: u32, check: bool, now: u64) {
        if self.retires(slot, now) {
            self.destroy(slot);
        } else if check {
            let limit = Self::limit(now, self.config.return_limit_ns);
            self.slots[slot as usize] = Slot::Checking { idle: None, limit };
            self.work.push(Work::Check(slot));
        } else {
            self.give(slot, now);
        }
    }

    fn checks_on_return(&self) -> bool {
        self.config.reset_on_return
            || matches!(self.config.health, HealthChecks::Passive | HealthChecks::Mixed)
    }

    fn surplus_due(&self) -> Option<u64> {
        let (_, since) = self.oldest().filter(|_| self.overflow() > 0)?;
        Some(since.max(self.resized).saturating_add(self.config.overflow_ttl_ns))
    }

    fn close_surplus(&mut self, now: u64) {
        while self.surplus_due().is_some_and(|due| due <= now) {
            self.destroy(self.by_return()[0]);
        }
    }

    fn idle_due(&self) -> Option<u64> {
        let counts = self.config.idle_timeout_ns > 0 && self.idle() > self.config.min_idle;
        let (_, since) = self.oldest().filter(|_| counts)?;
        Some(since.saturating_add(self.config.idle_timeout_ns))
    }

    fn close_aged(&mut self, now: u64) {
        for slot in 0..self.slots.len() as u32 {
            let expires = self.lives[slot as usize].expires;
            let idle = matches!(self.slots[slot as usize], Slot::Idle { .. });
            if idle && expires != u64::MAX && expires <= now {
                self.destroy(slot);
            }
        }
        while self.idle_due().is_some_and(|due| due <= now) {
            self.destroy(self.by_return()[0]);
        }
    }

    fn shed(&mut self, now: u64) {
        let (target, interval) = (self.config.queue_target_ns, self.config.queue_interval_ns);
        while let Some(head) = self.queue.first().copied().filter(|_| interval > 0) {
            if now <= head.since + target {
                break;
            }
            let shed_at = *self.shed_at.get_or_insert(head.since + target + interval);
            if now < shed_at {
                return;
            }
            self.shed_in_a_row += 1;
            let pause = interval as f64 / f64::from(self.shed_in_a_row).sqrt();
            self.shed_at = Some(shed_at + (pause as u64).max(1));
            self.queue.remove(0);
            self.told.push((head.token, Told::Shed));
        }
        (self.shed_at, self.shed_in_a_row) = (None, 0);
    }

    /// Begins the checks of idle connections that are due.
    fn check_idle(&mut self, now: u64) {
        if !(self.config.keepalive_ns > 0
            || matches!(self.config.health, HealthChecks::Active | HealthChecks::Mixed))
        {
            return;
        }
        while let Some((slot, touched)) = self.least_touched() {
            if self.count(|slot| matches!(slot, Slot::Checking { idle: Some(_), .. })) >= 8 {
                return;
            }
            let keepalive = self.config.keepalive_ns;
            if self.round_left > 0 && touched <= self.round_began {
                self.round_left -= 1;
            } else if keepalive == 0 || now < touched + keepalive {
                return;
            }
            let Slot::Idle { since, order, .. } = self.slots[slot as usize] else { panic!("not idle") };
            let limit = Self::limit(now, self.config.check_limit_ns);
            self.slots[slot as usize] = Slot::Checking { idle: Some((since, order)), limit };
            self.work.push(Work::Check(slot));
        }
    }

    pub fn checked(&mut self, slot: u32, healthy: bool, now: u64) {
        let Slot::Checking { idle, .. } = self.slots[slot as usize] else { panic!("not checking") };
        match idle {
            _ if !healthy || self.retires(slot, now) => self.destroy(slot),
            Some((since, order)) if self.queue.is_empty() => {
                self.clock += 1;
                let touch_order = self.clock;
                self.slots[slot as usize] = Slot::Idle { since, order, touched: now, touch_order };
                self.close_surplus(now);
                self.close_aged(now);
            }
            _ => self.give(slot, now),
        }
        self.create_as_due(now);
        self.check_idle(now);
    }

    fn begin_round(&mut self, now: u64) {
        let rounds = matches!(self.config.health, HealthChecks::Active | HealthChecks::Mixed);
        if !rounds || self.shut.is_some() || self.next_round.is_some_and(|next| now < next) {
            return;
        }
        if self.next_round.is_some() {
            self.round_began = now;
            let half = self.config.health == HealthChecks::Mixed;
            self.round_left = if half { self.idle().div_ceil(2) } else { self.idle() };
        }
        self.next_round = Some(now + self.config.health_interval_ns);
    }

    pub fn resize(&mut self, size: u32, max_overflow: u32, now: u64) {
        self.resized = now;
        let min_idle = self.min_idle.min(size);
        self.config = PoolConfig { size, max_overflow, min_idle, ..self.config };
        while self.live() > self.config.capacity() && self.idle() > 0 {
            self.destroy(self.by_return()[0]);
        }
        self.close_surplus(now);
        // Those who wait for a creation alone are the head of the queue.
        while self.queue.iter().filter(|waiter| waiter.for_creation).count() as u32 > self.creatable() {
            self.told.push((self.queue.remove(0).token, Told::TimedOut));
        }
        self.create_as_due(now);
    }

    pub fn evict(&mut self, now: u64) {
        for slot in 0..self.slots.len() {
            let life = &mut self.lives[slot];
            match self.slots[slot] {
                Slot::Empty | Slot::Closing => {}
                Slot::Creating => life.evicted = true,
                _ => life.expires = life.expires.min(now),
            }
        }
        self.close_aged(now);
        self.create_as_due(now);
    }

    pub fn checkout(&mut self, owner: u64, wait: Wait, token: u64, now: u64) -> Answer {
        self.ask(owner, wait, false, token, now)
    }

    pub fn checkout_within_size(&mut self, owner: u64, wait: Wait, token: u64, now: u64) -> Answer {
        self.ask(owner, wait, true, token, now)
    }

    fn ask(&mut self, owner: u64, wait: Wait, within_size: bool, token: u64, now: u64) -> Answer {
        self.untested = false;
        if self.shut.is_some() {
            return Answer::Rejected(Refusal::Closed);
        }
        if matches!(wait, Wait::Until(deadline) if deadline <= now) {
            return Answer::Rejected(Refusal::TimedOut);
        }
        self.close_aged(now);
        if self.idle() > 0 {
            let slot = self.pick();
            let Slot::Idle { touched, .. } = self.slots[slot as usize] else { panic!("not idle") };
            let after = self.config.pre_ping_after_ns;
            self.untested = after != NO_PRE_PING && (after == 0 || now - touched > after);
            self.lease(slot, owner, None, now);
            self.create_as_due(now);
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
                let hopeless = waiting >= self.creatable();
                if !others_too
                    || hopeless
                    || !(self.creating() > waiting || self.may_create(within_size, now))
                {
                    return Answer::Rejected(Refusal::Exhausted);
                }
                (u64::MAX, true)
            }
            Wait::For(ns) => (now.saturating_add(ns), false),
            Wait::Until(deadline) => (deadline, false),
            Wait::Forever => (u64::MAX, false),
        };
        if waiting >= self.config.max_waiters {
            if self.config.max_waiters == 0 && self.creating() == 0 && self.may_create(within_size, now) {
                self.create();
            }
            return Answer::Rejected(Refusal::QueueFull);
        }
        if self.queue.is_empty() {
            (self.shed_at, self.shed_in_a_row) = (None, 0);
        }
        self.queue.push(Waiter { token, owner, deadline, since: now, for_creation, within_size });
        if for_creation && self.creating() <= waiting {
            self.create();
        }
        self.create_as_due(now);
        Answer::Queued
    }

    /// The idle slot that goes out next.
    fn pick(&mut self) -> u32 {
        let by_return = self.by_return();
        let lives = &self.lives;
        match self.config.order {
            IdleOrder::Lifo => by_return[by_return.len() - 1],
            IdleOrder::Fifo => by_return[0],
            IdleOrder::LeastUsed => self.idle_by(|slot, _| (lives[slot as usize].leases, slot))[0],
            IdleOrder::RoundRobin => {
                let cursor = self.cursor;
                let slot = self.idle_by(|slot, _| (slot < cursor, slot))[0];
                self.cursor = slot + 1;
                slot
            }
        }
    }

    pub fn checkin(&mut self, slot: u32, condition: Condition, now: u64) {
        if condition == Condition::Broken {
            self.destroy(slot);
        } else {
            self.take_back(slot, self.checks_on_return(), now);
        }
        self.create_as_due(now);
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
                match self.config.owner_death {
                    OwnerDeath::Destroy => self.destroy(slot),
                    OwnerDeath::Check => self.take_back(slot, true, now),
                }
            }
        }
        self.create_as_due(now);
    }

    pub fn created(&mut self, slot: u32, result: Result<(), u64>, now: u64) {
        match result {
            Ok(()) => {
                self.failures = 0;
                let life = &mut self.lives[slot as usize];
                if life.evicted {
                    life.expires = 0;
                } else if self.config.max_lifetime_ns > 0 {
                    life.expires = now + self.config.max_lifetime_ns;
                }
                if self.retires(slot, now) {
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
        self.create_as_due(now);
    }

    pub fn destroyed(&mut self, slot: u32, now: u64) {
        self.slots[slot as usize] = Slot::Empty;
        self.empty.push(slot);
        self.create_as_due(now);
    }

    /// The connection in a slot died. Everybody here is told at once, so nobody is left to be told first.
    pub fn lost(&mut self, slot: u32, now: u64) {
        if matches!(
            self.slots[slot as usize],
            Slot::Idle { .. } | Slot::Leased { .. } | Slot::Checking { .. }
        ) {
            self.destroy(slot);
            self.create_as_due(now);
        }
    }

    pub fn maintain(&mut self, now: u64) {
        let (late, rest) = self.queue.iter().copied().partition(|waiter: &Waiter| waiter.deadline <= now);
        self.queue = rest;
        self.told.extend(late.into_iter().map(|waiter: Waiter| (waiter.token, Told::TimedOut)));
        self.shed(now);
        for slot in 0..self.slots.len() as u32 {
            if matches!(self.slots[slot as usize], Slot::Checking { limit, .. } if limit <= now) {
                self.destroy(slot);
            }
        }
        self.close_surplus(now);
        self.close_aged(now);
        self.end_leases(now);
        if self.config.leak_after_ns > 0 {
            for (slot, state) in self.slots.iter_mut().enumerate() {
                if let Slot::Leased { since, told, .. } = state
                    && !*told
                    && *since + self.config.leak_after_ns <= now
                {
                    *told = true;
                    self.work.push(Work::Leak(slot as u32));
                }
            }
        }
        self.create_as_due(now);
        self.begin_round(now);
        self.check_idle(now);
    }

    pub fn shut(&mut self, deadline: u64, serves: bool, now: u64) {
        self.shut = match self.shut {
            Some((_, served)) if serves || !served => return,
            Some((before, _)) => Some((before.min(deadline), serves)),
            None => Some((deadline, serves)),
        };
        if !serves {
            self.told.extend(self.queue.drain(..).map(|waiter| (waiter.token, Told::Closed)));
        }
        for slot in self.by_return() {
            self.destroy(slot);
        }
        self.end_leases(now);
    }

    fn end_leases(&mut self, now: u64) {
        if self.shut.is_none_or(|(deadline, _)| now < deadline) {
            return;
        }
        self.told.extend(self.queue.drain(..).map(|waiter| (waiter.token, Told::Closed)));
        for slot in 0..self.slots.len() as u32 {
            if matches!(self.slots[slot as usize], Slot::Leased { .. } | Slot::Checking { .. }) {
                self.destroy(slot);
            }
        }
    }

    /// When anything but a waiter's deadline needs `maintain`.
    pub fn alarm(&self) -> Option<u64> {
        let held_back = self.creating() == 0 && self.creations_due() > 0 && self.failures > 0;
        let config = &self.config;
        let head = self.queue.first().filter(|_| config.queue_interval_ns > 0).map(|head| {
            let above = head.since + config.queue_target_ns;
            self.shed_at.unwrap_or(above + config.queue_interval_ns).max(above + 1)
        });
        let away = self.count(|slot| matches!(slot, Slot::Checking { idle: Some(_), .. }));
        let keepalive = self.least_touched().filter(|_| config.keepalive_ns > 0 && away < 8);
        let busy = self.leased() + self.checking() + self.queue.len() as u32;
        let deadline = self.shut.filter(|_| busy > 0).map(|(deadline, _)| deadline);
        let slots = self.slots.iter().zip(&self.lives).filter_map(|(slot, life)| match *slot {
            Slot::Idle { .. } => Some(life.expires),
            Slot::Checking { limit, .. } => Some(limit),
            Slot::Leased { since, told: false, .. } if config.leak_after_ns > 0 => {
                Some(since + config.leak_after_ns)
            }
            _ => None,
        });
        [
            self.surplus_due(),
            self.idle_due(),
            held_back.then_some(self.retry_at),
            head,
            keepalive.map(|(_, touched)| touched + config.keepalive_ns),
            self.next_round.filter(|_| self.shut.is_none()),
            deadline,
        ]
        .into_iter()
        .flatten()
        .chain(slots)
        .filter(|&at| at != u64::MAX)
        .min()
    }

    /// When anything needs `maintain`.
    pub fn next_deadline(&self) -> Option<u64> {
        let waiters = self.queue.iter().map(|waiter| waiter.deadline).filter(|&at| at != u64::MAX);
        waiters.chain(self.alarm()).min()
    }
}
