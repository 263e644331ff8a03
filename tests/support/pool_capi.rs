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
use super::pool_model::{Model, Slot, Told};
use elixirscope::capi::pool::calls::*;
use elixirscope::capi::pool::options::*;
use elixirscope::capi::pool::stats::*;
use elixirscope::capi::pool::waiter::*;
use elixirscope::capi::pool::*;
use elixirscope::pool::{CreateFailure, HealthChecks, IdleOrder, NO_PRE_PING, PoolConfig};
use elixirscope::status::Status;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::c_void;
use std::ptr::null_mut;

#[path = "pool_capi/calls.rs"]
mod calls;
#[path = "pool_capi/edge.rs"]
mod edge;

const ORDERS: [IdleOrder; 4] =
    [IdleOrder::Lifo, IdleOrder::Fifo, IdleOrder::RoundRobin, IdleOrder::LeastUsed];
const MOST_SLOTS: u32 = 6;
const MOST_WAITERS: u32 = 4;
/// Longer than any run.
const AN_HOUR_NS: u64 = 3_600_000_000_000;
/// What `create` returns when it fails.
const NO_LUCK: i32 = 7;

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
