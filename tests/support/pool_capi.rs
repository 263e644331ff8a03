//! Reads bytes as options and operations, makes them on a pool through the C ABI and compares each answer with the
//! sequential model: status, connection, which connections were destroyed, counters.
//!
//! Any bytes are a program: `fuzz/fuzz_targets/pool_capi.rs` lets a fuzzer choose them, `tests/fuzz_corpus.rs` replays those
//! that are checked in. The file that includes this one also has the model as its module `pool_model`, and `fuzz_script`.
//!
//! Every call is one at a given time, which only the program moves on, so that nothing waits and what time decides is
//! decided alike. Two things are left out that are the library's to choose: when a failed creation is tried again, which is
//! after any run, and the order of tests that one round asks for.
#![allow(unsafe_code)] // the C ABI is unsafe to call

use super::fuzz_script::*;
use super::pool_model::{Answer, Model, Slot, Told, Work};
use elixirscope::capi::pool::admin::*;
use elixirscope::capi::pool::calls::*;
use elixirscope::capi::pool::options::*;
use elixirscope::capi::pool::stats::*;
use elixirscope::capi::pool::waiter::*;
use elixirscope::capi::pool::*;
use elixirscope::pool::{
    Condition, CreateFailure, GiveUp, HealthChecks, IdleOrder, NO_PRE_PING, PoolConfig, Refusal, Wait,
};
use elixirscope::status::Status;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::c_void;
use std::ptr::{null, null_mut};

const ORDERS: [IdleOrder; 4] =
    [IdleOrder::Lifo, IdleOrder::Fifo, IdleOrder::RoundRobin, IdleOrder::LeastUsed];
const MOST_SLOTS: u32 = 6;
const MOST_WAITERS: u32 = 4;
/// Longer than any run.
const AN_HOUR_NS: u64 = 3_600_000_000_000;
/// What `create` returns when it fails.
const NO_LUCK: i32 = 7;
/// What the core is told of a creation that nobody is left to make.
const ABANDONED: u64 = 1 << 32;

/// What the callbacks do next, and what they have done.
#[derive(Default)]
struct World {
    creation_fails: bool,
    check_fails: bool,
    made: usize,
    destroyed: BTreeSet<usize>,
}

unsafe extern "C" fn create(world: *mut c_void, _: u64, connection: *mut *mut c_void) -> i32 {
    // SAFETY: the world outlives the pool, and one thread makes all calls.
    let world = unsafe { &mut *world.cast::<World>() };
    if world.creation_fails {
        return NO_LUCK;
    }
    world.made += 1;
    // SAFETY: the library gives a writable place. A connection is only a number here.
    unsafe { *connection = world.made as *mut c_void };
    0
}

unsafe extern "C" fn destroy(world: *mut c_void, connection: *mut c_void) {
    // SAFETY: as in `create`.
    let first = unsafe { &mut *world.cast::<World>() }.destroyed.insert(connection as usize);
    assert!(first, "{connection:?} is destroyed twice");
}

unsafe extern "C" fn check(world: *mut c_void, _: *mut c_void, _: u64) -> i32 {
    // SAFETY: as in `create`.
    i32::from(unsafe { &*world.cast::<World>() }.check_fails)
}

struct Waiter {
    place: *mut escope_waiter,
    token: u64,
    deadline_ns: u64,
}

struct Run {
    pool: *mut escope_pool,
    world: *mut World,
    model: Model,
    now_ns: u64,
    /// The connections of the model's slots.
    connections: BTreeMap<u32, usize>,
    made: usize,
    destroyed: BTreeSet<usize>,
    leases: Vec<(escope_lease, u32)>,
    returned: Vec<escope_lease>,
    waiters: Vec<Waiter>,
    /// Creations that are left for whoever waits or maintains; no more once the pool is closed.
    chores: VecDeque<u32>,
    is_closed: bool,
    tokens: u64,
    seen: Seen,
}

/// Runs the program; a difference panics.
pub fn run(bytes: &[u8]) -> Seen {
    let mut script = Script(bytes);
    let mut seen = Seen::new();
    let (size, max_overflow) = (script.small(5), script.small(4));
    let (order, checks) = (script.below(ORDERS.len()), script.below(2));
    let times = script.byte();
    let short = |bit: u8, ns: u64| if times & 1 << bit == 0 { 0 } else { ns };
    let config = PoolConfig {
        size,
        max_overflow,
        max_slots: MOST_SLOTS,
        order: ORDERS[order],
        health: if checks == 1 { HealthChecks::Passive } else { HealthChecks::Off },
        max_waiters: MOST_WAITERS,
        overflow_ttl_ns: short(0, 5),
        idle_timeout_ns: short(1, 12),
        max_lifetime_ns: short(2, 30),
        keepalive_ns: short(3, 7),
        pre_ping_after_ns: if times & 1 << 4 == 0 { NO_PRE_PING } else { short(5, 4) },
        create_failure: if times & 1 << 7 == 0 { CreateFailure::FailFast } else { CreateFailure::Retry },
        min_idle: if times & 1 << 6 == 0 { 0 } else { size / 2 },
        create_backoff_ns: AN_HOUR_NS,
        create_backoff_cap_ns: AN_HOUR_NS,
        ..PoolConfig::default()
    };
    let mut world = World::default();
    let world: *mut World = &mut world;
    let mut options = escope_pool_options {
        create: Some(create),
        destroy: Some(destroy),
        check: Some(check),
        userdata: world.cast(),
        size,
        max_overflow,
        max_slots: MOST_SLOTS,
        order: order as i32,
        health: checks as i32,
        max_waiters: config.max_waiters,
        overflow_ttl_ns: config.overflow_ttl_ns,
        idle_timeout_ns: config.idle_timeout_ns,
        max_lifetime_ns: config.max_lifetime_ns,
        keepalive_ns: config.keepalive_ns,
        pre_ping_after_ns: config.pre_ping_after_ns,
        min_idle: config.min_idle,
        create_failure: i32::from(config.create_failure == CreateFailure::Retry),
        create_backoff_ns: AN_HOUR_NS,
        create_backoff_cap_ns: AN_HOUR_NS,
        ..escope_pool_options::default()
    };
    if script.byte() == 255 {
        options.create = None;
    }
    let mut pool = null_mut();
    // SAFETY: both outlive the call.
    let status = unsafe { escope_pool_new(&options, &mut pool) };
    seen.insert(("new", status));
    let is_valid = options.create.is_some() && (1..=MOST_SLOTS).contains(&(size + max_overflow));
    assert_eq!(status, if is_valid { Status::Ok } else { Status::InvalidArgument } as i32, "{config:?}");
    if !is_valid {
        assert!(pool.is_null());
        return seen;
    }
    let mut run = Run {
        pool,
        world,
        model: Model::new(config),
        now_ns: 0,
        connections: BTreeMap::new(),
        made: 0,
        destroyed: BTreeSet::new(),
        leases: vec![],
        returned: vec![],
        waiters: vec![],
        chores: VecDeque::new(),
        is_closed: false,
        tokens: 0,
        seen,
    };
    for _ in 0..MOST_OPS {
        if script.0.is_empty() {
            break;
        }
        run.operation(&mut script);
        run.compare();
    }
    run.end()
}

impl Run {
    fn operation(&mut self, script: &mut Script) {
        match script.below(32) {
            0..7 => self.checkout(script.small(8) == 7, script.small(4) == 3),
            7..11 => self.begin(1 + u64::from(script.small(40)), script.small(4) == 3),
            11..15 => self.wait(script.below(8), script.small(16) == 15, script.small(4) == 3),
            15 => self.give_up(script.below(8), script.small(4) == 3),
            16..22 => {
                let (which, broken) = (script.below(8), script.small(4) == 3);
                self.checkin(which, broken, script.small(4) == 3);
            }
            22 => self.stale(script.below(8)),
            23 => self.invalid(script.i32()),
            24 => self.resize(script.small(5), script.small(4)),
            25 => self.evict(),
            26..31 => {
                self.now_ns += u64::from(script.small(12));
                self.maintain(script.small(16) == 15, script.small(4) == 3);
            }
            _ => self.shut(script.byte()),
        }
    }

    fn saw(&mut self, operation: &'static str, status: i32, expected: Status) {
        assert_eq!(status, expected as i32, "{operation}");
        self.seen.insert((operation, status));
    }

    fn callbacks_do(&mut self, creation_fails: bool, check_fails: bool) {
        // SAFETY: the world is alive, and no callback runs now.
        let world = unsafe { &mut *self.world };
        (world.creation_fails, world.check_fails) = (creation_fails, check_fails);
    }

    fn fails(&self) -> (bool, bool) {
        // SAFETY: as above.
        let world = unsafe { &*self.world };
        (world.creation_fails, world.check_fails)
    }

    fn checkout(&mut self, creation_fails: bool, check_fails: bool) {
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

    fn begin(&mut self, timeout_ns: u64, check_fails: bool) {
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

    fn wait(&mut self, which: usize, creation_fails: bool, check_fails: bool) {
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

    fn give_up(&mut self, which: usize, check_fails: bool) {
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

    /// Asks the model. An error is a connection that was not fit to be lent, and was given back.
    fn ask(&mut self, wait: Wait) -> Result<Answer, ()> {
        self.tokens += 1;
        let answer = self.model.checkout(1, wait, self.tokens, self.now_ns);
        let untested = self.model.untested;
        self.settle();
        if let (Answer::Granted(slot), true, (_, true)) = (&answer, untested, self.fails()) {
            self.model.checkin(*slot, Condition::Broken, self.now_ns);
            self.settle();
            return Err(());
        }
        Ok(answer)
    }

    /// What the model has said of a wait that has ended.
    fn told(&mut self, token: u64) -> Option<Result<u32, Status>> {
        let at = self.model.told.iter().position(|(of, _)| *of == token)?;
        Some(match self.model.told.swap_remove(at).1 {
            Told::Granted(slot) => Ok(slot),
            Told::TimedOut => Err(Status::PoolTimeout),
            Told::Closed => Err(Status::PoolClosed),
            Told::Shed => Err(Status::Shed),
            Told::CreateFailed(_) => Err(Status::CreateFailed),
        })
    }

    fn answered(
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

    fn checkin(&mut self, which: usize, broken: bool, check_fails: bool) {
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

    fn stale(&mut self, which: usize) {
        if let Some(lease) = self.returned.get(which % self.returned.len().max(1)) {
            // SAFETY: the pool is alive.
            let status = unsafe { escope_pool_checkin_at(self.pool, lease, 0, self.now_ns) };
            self.saw("checkin", status, Status::StaleLease);
        }
    }

    fn invalid(&mut self, condition: i32) {
        // SAFETY: NULL is refused.
        let status = unsafe { escope_pool_checkin_at(self.pool, null(), 0, self.now_ns) };
        self.saw("checkin", status, Status::InvalidArgument);
        if let (Some((lease, _)), false) = (self.leases.first(), (0..2).contains(&condition)) {
            // SAFETY: the pool is alive.
            let status = unsafe { escope_pool_checkin_at(self.pool, lease, condition, self.now_ns) };
            self.saw("checkin", status, Status::InvalidArgument);
        }
    }

    fn resize(&mut self, size: u32, max_overflow: u32) {
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

    fn evict(&mut self) {
        // SAFETY: the pool is alive.
        let status = unsafe { escope_pool_evict_at(self.pool, 0, self.now_ns) };
        self.saw("evict", status, Status::Ok);
        self.model.evict(self.now_ns);
        self.settle();
    }

    fn maintain(&mut self, creation_fails: bool, check_fails: bool) {
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
    fn shut(&mut self, how: u8) {
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

    /// Does in the model what it asks for, as the library's caller does it: all but creations.
    fn settle(&mut self) {
        let (_, check_fails) = self.fails();
        let mut later = VecDeque::new();
        loop {
            for work in std::mem::take(&mut self.model.work) {
                match work {
                    Work::Create(slot) if !self.is_closed => self.chores.push_back(slot),
                    other => later.push_back(other),
                }
            }
            match later.pop_front() {
                None => return,
                Some(Work::Create(slot)) => self.model.created(slot, Err(ABANDONED), self.now_ns),
                Some(Work::Check(slot)) => self.model.checked(slot, !check_fails, self.now_ns),
                Some(Work::Destroy(slot)) => {
                    self.destroyed.extend(self.connections.remove(&slot));
                    self.model.destroyed(slot, self.now_ns);
                }
                Some(Work::Leak(slot)) => panic!("slot {slot} leaks although no limit is set"),
            }
        }
    }

    /// Makes a connection that somebody left to be made; false if there is none.
    fn do_chore(&mut self) -> bool {
        let Some(slot) = self.chores.pop_front() else { return false };
        let (creation_fails, _) = self.fails();
        if creation_fails {
            self.model.created(slot, Err(NO_LUCK as u64), self.now_ns);
        } else {
            self.made += 1;
            self.connections.insert(slot, self.made);
            self.model.created(slot, Ok(()), self.now_ns);
        }
        self.settle();
        true
    }

    fn compare(&mut self) {
        // SAFETY: the world is alive, and no callback runs now.
        let world = unsafe { &*self.world };
        assert_eq!((world.made, &world.destroyed), (self.made, &self.destroyed));
        let mut stats =
            escope_pool_stats { struct_size: size_of::<escope_pool_stats>(), ..Default::default() };
        // SAFETY: the pool is alive, the struct is as large as it states.
        let status = unsafe { escope_pool_snapshot(self.pool, &mut stats) };
        self.saw("snapshot", status, Status::Ok);
        assert_eq!((stats.idle, stats.leased), (self.model.idle(), self.model.leased()));
        assert_eq!((stats.creating, stats.checking), (self.model.creating(), self.model.checking()));
        assert_eq!((stats.waiting, stats.overflow), (self.model.queue.len() as u32, self.model.overflow()));
        assert_eq!(stats.requests, self.tokens);
        assert_eq!(stats.granted, stats.returned + stats.broken + u64::from(stats.leased));
        assert_eq!(stats.created - stats.destroyed, self.connections.len() as u64);
        let lent = self.model.slots.iter().filter(|slot| matches!(slot, Slot::Leased { .. })).count();
        let untold = self.model.told.iter().filter(|(_, told)| matches!(told, Told::Granted(_))).count();
        assert_eq!(lent, self.leases.len() + untold);
    }

    /// Every connection is destroyed once when the pool is gone, those on loan when they come back.
    fn end(mut self) -> Seen {
        while !self.waiters.is_empty() {
            self.give_up(0, false);
        }
        self.compare();
        // SAFETY: the reference is the run's own; the leases keep the memory.
        unsafe { escope_pool_free(self.pool) };
        for (lease, _) in &self.leases {
            // SAFETY: the lease keeps the pool.
            let status = unsafe { escope_pool_checkin_at(self.pool, lease, 0, self.now_ns) };
            assert_eq!(status, Status::Ok as i32);
        }
        // SAFETY: the world is alive, and the pool is gone.
        let world = unsafe { &*self.world };
        assert_eq!(world.destroyed, (1..=world.made).collect());
        self.seen
    }
}

fn no_lease() -> escope_lease {
    escope_lease { private_pool: 0, private_epoch: 0, private_slot: 0, private_reserved: 0 }
}
