//! Reads bytes as options and operations, makes them on a pool through the C ABI and compares each answer with the
//! sequential model: status, connection, which connections were destroyed, counters.
//!
//! Any bytes are a program: `fuzz/fuzz_targets/pool_capi.rs` lets a fuzzer choose them, `tests/fuzz_corpus.rs` replays those
//! that are checked in. The file that includes this one also has the model as its module `pool_model`, and `fuzz_script`.
//!
//! The C ABI reads the real clock, so a program holds nothing that time decides: no check-out waits, and the pause after a
//! failed creation is longer than any run. The model's time stands still.
#![allow(unsafe_code)] // the C ABI is unsafe to call

use super::fuzz_script::*;
use super::pool_model::{Answer, Model, Slot, Told, Work};
use elixirscope::capi::pool::admin::*;
use elixirscope::capi::pool::calls::*;
use elixirscope::capi::pool::options::*;
use elixirscope::capi::pool::stats::*;
use elixirscope::capi::pool::*;
use elixirscope::pool::{Condition, HealthChecks, IdleOrder, PoolConfig, Refusal, Wait};
use elixirscope::status::Status;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_void;
use std::ptr::{null, null_mut};

const ORDERS: [IdleOrder; 4] =
    [IdleOrder::Lifo, IdleOrder::Fifo, IdleOrder::RoundRobin, IdleOrder::LeastUsed];
const MOST_SLOTS: u32 = 8;
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

struct Run {
    pool: *mut escope_pool,
    world: *mut World,
    model: Model,
    /// The connections of the model's slots.
    connections: BTreeMap<u32, usize>,
    made: usize,
    destroyed: BTreeSet<usize>,
    leases: Vec<(escope_lease, u32)>,
    returned: Vec<escope_lease>,
    tokens: u64,
    seen: Seen,
}

/// Runs the program; a difference panics.
pub fn run(bytes: &[u8]) -> Seen {
    let mut script = Script(bytes);
    let mut seen = Seen::new();
    let (size, max_overflow) = (script.small(5), script.small(4));
    let (order, checks) = (script.below(ORDERS.len()), script.below(2));
    let config = PoolConfig {
        size,
        max_overflow,
        max_slots: MOST_SLOTS,
        order: ORDERS[order],
        health: if checks == 1 { HealthChecks::Passive } else { HealthChecks::Off },
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
    let is_valid = options.create.is_some() && size + max_overflow > 0;
    assert_eq!(status, if is_valid { Status::Ok } else { Status::InvalidArgument } as i32, "{config:?}");
    if !is_valid {
        assert!(pool.is_null());
        return seen;
    }
    let mut run = Run {
        pool,
        world,
        model: Model::new(config),
        connections: BTreeMap::new(),
        made: 0,
        destroyed: BTreeSet::new(),
        leases: vec![],
        returned: vec![],
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
            0..14 => self.checkout(script.small(8) == 7),
            14..24 => {
                let (which, broken) = (script.below(8), script.small(4) == 3);
                self.checkin(which, broken, script.small(4) == 3);
            }
            24 => self.stale(script.below(8)),
            25 => self.invalid(script.i32()),
            26 | 27 => self.resize(script.small(6), script.small(5)),
            28 | 29 => {
                // SAFETY: the pool is alive.
                let status = unsafe { escope_pool_evict(self.pool, 0) };
                self.saw("evict", status, Status::Ok);
                self.model.evict(0);
            }
            30 => {
                // SAFETY: as above.
                let status = unsafe { escope_pool_maintain(self.pool, null_mut()) };
                self.saw("maintain", status, Status::Ok);
                self.model.maintain(0);
            }
            _ => self.shut(script.byte()),
        }
    }

    fn saw(&mut self, operation: &'static str, status: i32, expected: Status) {
        assert_eq!(status, expected as i32, "{operation}");
        self.seen.insert((operation, status));
    }

    fn checkout(&mut self, fails: bool) {
        // SAFETY: the world is alive, and no callback runs now.
        unsafe { (*self.world).creation_fails = fails };
        let (mut lease, mut connection) = (
            escope_lease { private_pool: 0, private_epoch: 0, private_slot: 0, private_reserved: 0 },
            null_mut(),
        );
        // SAFETY: the pool is alive, the places are writable.
        let status = unsafe { escope_pool_checkout(self.pool, 0, &mut lease, &mut connection) };
        self.tokens += 1;
        let answer = self.model.checkout(1, Wait::ForCreation, self.tokens, 0);
        self.carry_out(fails, false);
        let told = std::mem::take(&mut self.model.told);
        let granted = match (answer, &told[..]) {
            (Answer::Granted(slot), []) => Ok(slot),
            (Answer::Queued, [(_, Told::Granted(slot))]) => Ok(*slot),
            (Answer::Queued, [(_, Told::CreateFailed(_))]) => Err(Status::CreateFailed),
            (Answer::Rejected(Refusal::Exhausted), []) => Err(Status::PoolExhausted),
            (Answer::Rejected(Refusal::Closed), []) => Err(Status::PoolClosed),
            other => panic!("{other:?}, the library says {status}"),
        };
        match granted {
            Ok(slot) => {
                self.saw("checkout", status, Status::Ok);
                assert_eq!(Some(&(connection as usize)), self.connections.get(&slot));
                self.leases.push((lease, slot));
            }
            Err(expected) => {
                self.saw("checkout", status, expected);
                assert!(connection.is_null());
            }
        }
    }

    fn checkin(&mut self, which: usize, broken: bool, fails: bool) {
        if self.leases.is_empty() {
            return;
        }
        let (lease, slot) = self.leases.remove(which % self.leases.len());
        // SAFETY: the world is alive, and no callback runs now.
        unsafe { (*self.world).check_fails = fails };
        // SAFETY: the pool and the lease are alive.
        let status = unsafe { escope_pool_checkin(self.pool, &lease, i32::from(broken)) };
        self.saw("checkin", status, Status::Ok);
        self.model.checkin(slot, if broken { Condition::Broken } else { Condition::Good }, 0);
        self.carry_out(false, fails);
        self.returned.push(lease);
    }

    fn stale(&mut self, which: usize) {
        if let Some(lease) = self.returned.get(which % self.returned.len().max(1)) {
            // SAFETY: the pool is alive.
            let status = unsafe { escope_pool_checkin(self.pool, lease, 0) };
            self.saw("checkin", status, Status::StaleLease);
        }
    }

    fn invalid(&mut self, condition: i32) {
        // SAFETY: NULL is refused.
        let status = unsafe { escope_pool_checkin(self.pool, null(), 0) };
        self.saw("checkin", status, Status::InvalidArgument);
        if let (Some((lease, _)), false) = (self.leases.first(), (0..2).contains(&condition)) {
            // SAFETY: the pool is alive.
            let status = unsafe { escope_pool_checkin(self.pool, lease, condition) };
            self.saw("checkin", status, Status::InvalidArgument);
        }
    }

    fn resize(&mut self, size: u32, max_overflow: u32) {
        // SAFETY: the pool is alive.
        let status = unsafe { escope_pool_resize(self.pool, size, max_overflow) };
        if (1..=MOST_SLOTS).contains(&(size + max_overflow)) {
            self.saw("resize", status, Status::Ok);
            self.model.resize(size, max_overflow, 0);
        } else {
            self.saw("resize", status, Status::InvalidArgument);
        }
    }

    /// Rarely: a closed pool has little more to show.
    fn shut(&mut self, how: u8) {
        match how {
            0..8 => {
                // SAFETY: the pool is alive.
                let status = unsafe { escope_pool_close(self.pool) };
                self.saw("close", status, Status::Ok);
                self.model.shut(u64::MAX, false, 0);
            }
            8..16 => {
                // SAFETY: the pool is alive.
                let status = unsafe { escope_pool_drain(self.pool, 0) };
                let expected = if self.leases.is_empty() { Status::Ok } else { Status::PoolTimeout };
                self.saw("drain", status, expected);
                self.model.shut(u64::MAX, true, 0);
            }
            _ => {}
        }
    }

    /// Does in the model what it asks for, as the library's caller does it.
    fn carry_out(&mut self, creation_fails: bool, check_fails: bool) {
        while !self.model.work.is_empty() {
            for work in std::mem::take(&mut self.model.work) {
                match work {
                    Work::Create(slot) if creation_fails => {
                        self.model.created(slot, Err(NO_LUCK as u64), 0);
                    }
                    Work::Create(slot) => {
                        self.made += 1;
                        self.connections.insert(slot, self.made);
                        self.model.created(slot, Ok(()), 0);
                    }
                    Work::Check(slot) => self.model.checked(slot, !check_fails, 0),
                    Work::Destroy(slot) => {
                        self.destroyed.extend(self.connections.remove(&slot));
                        self.model.destroyed(slot, 0);
                    }
                    Work::Leak(slot) => panic!("slot {slot} leaks although no limit is set"),
                }
            }
        }
    }

    fn compare(&mut self) {
        self.carry_out(false, false);
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
        assert_eq!(stats.requests, self.tokens);
        assert_eq!(stats.granted, stats.returned + stats.broken + u64::from(stats.leased));
        assert_eq!(stats.created - stats.destroyed, self.connections.len() as u64);
        let lent = self.model.slots.iter().filter(|slot| matches!(slot, Slot::Leased { .. })).count();
        assert_eq!(lent, self.leases.len());
    }

    /// Every connection is destroyed once when the pool is gone, those on loan when they come back.
    fn end(self) -> Seen {
        // SAFETY: the reference is the run's own; the leases keep the memory.
        unsafe { escope_pool_free(self.pool) };
        for (lease, _) in &self.leases {
            // SAFETY: the lease keeps the pool.
            assert_eq!(unsafe { escope_pool_checkin(self.pool, lease, 0) }, Status::Ok as i32);
        }
        // SAFETY: the world is alive, and the pool is gone.
        let world = unsafe { &*self.world };
        assert_eq!(world.destroyed, (1..=world.made).collect());
        self.seen
    }
}
