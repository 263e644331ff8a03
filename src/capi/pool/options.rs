//! What a pool is told when it is made: the core's configuration as a flat struct, and the program's callbacks.
//!
//! The core checks the values; what is checked here is what the core's types cannot hold, and that there is a callback
//! for what is asked.

use std::ffi::c_void;

use super::super::boundary::{Failure, guarded, invalid};
use super::super::options::{self, Growing};
use super::super::status::escope_status;
use super::callbacks::{
    Callbacks, escope_pool_check_fn, escope_pool_create_fn, escope_pool_destroy_fn, escope_pool_leaked_fn,
};
use crate::pool::{CreateFailure, HealthChecks, IdleOrder, NO_PRE_PING, PoolConfig};
use crate::status::Status;
use crate::sync::monotonic_ns;

/// The connection that was returned last goes out first.
pub const ESCOPE_ORDER_LIFO: i32 = 0;
/// The connection that was returned first goes out first.
pub const ESCOPE_ORDER_FIFO: i32 = 1;
/// Connections go out in turn, by the number of their slot.
pub const ESCOPE_ORDER_ROUND_ROBIN: i32 = 2;
/// The connection that was lent least often goes out first.
pub const ESCOPE_ORDER_LEAST_USED: i32 = 3;

/// Nothing is tested without anybody asking.
pub const ESCOPE_HEALTH_OFF: i32 = 0;
/// Connections are tested when they come back.
pub const ESCOPE_HEALTH_PASSIVE: i32 = 1;
/// All idle connections are tested once an interval.
pub const ESCOPE_HEALTH_ACTIVE: i32 = 2;
/// Connections are tested when they come back; and of the idle ones, once an interval, the half that was longest neither
/// used nor tested.
pub const ESCOPE_HEALTH_MIXED: i32 = 3;

/// A failed creation ends the wait of the thread at the head of the queue, with CREATE_FAILED.
pub const ESCOPE_CREATE_FAILURE_FAIL_FAST: i32 = 0;
/// A failed creation is tried again; the wait goes on until its time is up.
pub const ESCOPE_CREATE_FAILURE_RETRY: i32 = 1;

/// How a pool behaves. Set it up with escope_pool_options_init, then set at least `create` and `destroy`.
///
/// Times are nanoseconds. What time asks for is done by threads that wait, and by escope_pool_maintain: a program whose
/// threads seldom wait calls that when its `next_deadline_ns` has come.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct escope_pool_options {
    /// Size of this struct as the program was compiled.
    pub struct_size: usize,
    /// Makes a connection; required.
    pub create: escope_pool_create_fn,
    /// Destroys a connection; required.
    pub destroy: escope_pool_destroy_fn,
    /// Brings a connection that comes back into its first state; NULL, the default, for none.
    pub reset: escope_pool_check_fn,
    /// Tests a connection; required by `health`, `keepalive_ns` and `pre_ping_after_ns`. NULL, the default, for none.
    pub check: escope_pool_check_fn,
    /// Hears of leases that last too long; required by `leak_after_ns`. NULL, the default, for none.
    pub leaked: escope_pool_leaked_fn,
    /// First argument of all of them; may be NULL. It must outlive the pool and the connections on loan.
    pub userdata: *mut c_void,
    /// How long a connection above `size` stays idle before it is destroyed; 0 destroys it on return. Default 0.
    pub overflow_ttl_ns: u64,
    /// How long a connection stays idle before it is destroyed, as long as more than `min_idle` are; 0, the default, for
    /// ever.
    pub idle_timeout_ns: u64,
    /// How old a connection gets: it is not lent at this age, and destroyed when nobody holds it; 0, the default, for ever.
    pub max_lifetime_ns: u64,
    /// By how much, at random, a connection's life is shorter than that, up to `max_lifetime_ns`. Default 0.
    pub max_lifetime_jitter_ns: u64,
    /// How long an idle connection is neither used nor tested before it is tested; 0, the default, for ever.
    pub keepalive_ns: u64,
    /// Time between tests of idle connections; 1 or more with HEALTH_ACTIVE and HEALTH_MIXED. Default 0.
    pub health_interval_ns: u64,
    /// Time limit of the test of an idle connection; 0, the default, for none. A test that overruns it has failed.
    pub check_limit_ns: u64,
    /// Time limit of reset and test on return together; 0, the default, for none.
    pub return_limit_ns: u64,
    /// A connection that was neither used nor tested for longer than this is tested before it is lent; 0 tests every one
    /// that was idle, UINT64_MAX, the default, none.
    pub pre_ping_after_ns: u64,
    /// Time limit of that test; 0, the default, for none.
    pub pre_ping_limit_ns: u64,
    /// How long a lease lasts before `leaked` hears of it, once; the lease goes on. 0, the default, for never.
    pub leak_after_ns: u64,
    /// How long the head of the queue may have waited while all is well; see `queue_interval_ns`. Default 0.
    pub queue_target_ns: u64,
    /// When the head of the queue has been above `queue_target_ns` for this long, waits are ended with SHED; 0, the default,
    /// for never. After CoDel (RFC 8289).
    pub queue_interval_ns: u64,
    /// Pause after a failed creation, doubling with each further one; 1 or more. Default 100 ms.
    pub create_backoff_ns: u64,
    /// Longest such pause. Default 10 s.
    pub create_backoff_cap_ns: u64,
    /// Connections that are kept. Default 5.
    pub size: u32,
    /// Connections above `size` that a burst may add; both together 1 to 65,536. Default 10.
    pub max_overflow: u32,
    /// Most connections that escope_pool_resize may ask for, to 65,536; 0, the default, for `size` and `max_overflow`.
    pub max_slots: u32,
    /// Connections that are idle or being made ahead of demand, up to `size`; escope_pool_maintain makes them. Default 0.
    pub min_idle: u32,
    /// Connections that are made at a time; 1 or more. Default 65,536.
    pub max_concurrent_creates: u32,
    /// Threads that may wait at a time, those that make a connection among them; 1 to 1,000,000. Default 10,000.
    pub max_waiters: u32,
    /// ESCOPE_ORDER_*. Default LIFO.
    pub order: i32,
    /// ESCOPE_HEALTH_*. Default OFF.
    pub health: i32,
    /// ESCOPE_CREATE_FAILURE_*. Default FAIL_FAST.
    pub create_failure: i32,
    /// Switch: 1 keeps the times of use for the statistics, which costs a look at the clock with every call. Default 0.
    pub measure: u32,
}

// SAFETY: repr(C), `struct_size` first, integers, a pointer and nullable function pointers only; 22 words and ten halves
// leave no padding. A bit pattern that is no function is the program's word that it is one.
unsafe impl Growing for escope_pool_options {
    const FIRST_SIZE: usize = 216;

    fn set_struct_size(&mut self, size: usize) {
        self.struct_size = size;
    }
}

impl Default for escope_pool_options {
    fn default() -> Self {
        let config = PoolConfig::default();
        Self {
            struct_size: size_of::<Self>(),
            create: None,
            destroy: None,
            reset: None,
            check: None,
            leaked: None,
            userdata: std::ptr::null_mut(),
            overflow_ttl_ns: config.overflow_ttl_ns,
            idle_timeout_ns: config.idle_timeout_ns,
            max_lifetime_ns: config.max_lifetime_ns,
            max_lifetime_jitter_ns: config.max_lifetime_jitter_ns,
            keepalive_ns: config.keepalive_ns,
            health_interval_ns: config.health_interval_ns,
            check_limit_ns: config.check_limit_ns,
            return_limit_ns: config.return_limit_ns,
            pre_ping_after_ns: config.pre_ping_after_ns,
            pre_ping_limit_ns: config.pre_ping_limit_ns,
            leak_after_ns: config.leak_after_ns,
            queue_target_ns: config.queue_target_ns,
            queue_interval_ns: config.queue_interval_ns,
            create_backoff_ns: config.create_backoff_ns,
            create_backoff_cap_ns: config.create_backoff_cap_ns,
            size: config.size,
            max_overflow: config.max_overflow,
            max_slots: config.max_slots,
            min_idle: config.min_idle,
            max_concurrent_creates: config.max_concurrent_creates,
            max_waiters: config.max_waiters,
            order: ESCOPE_ORDER_LIFO,
            health: ESCOPE_HEALTH_OFF,
            create_failure: ESCOPE_CREATE_FAILURE_FAIL_FAST,
            measure: 0,
        }
    }
}

impl escope_pool_options {
    /// The core's configuration, or which option is wrong.
    pub fn config(&self) -> Result<PoolConfig, Failure> {
        // At this edge a thread waits for the connection that it makes.
        if self.max_waiters == 0 {
            return Err(invalid("max_waiters", 0, "1 to 1000000"));
        }
        let config = PoolConfig {
            size: self.size,
            max_overflow: self.max_overflow,
            order: self.order()?,
            max_waiters: self.max_waiters,
            max_slots: self.max_slots,
            min_idle: self.min_idle,
            max_concurrent_creates: self.max_concurrent_creates,
            overflow_ttl_ns: self.overflow_ttl_ns,
            idle_timeout_ns: self.idle_timeout_ns,
            max_lifetime_ns: self.max_lifetime_ns,
            max_lifetime_jitter_ns: self.max_lifetime_jitter_ns,
            keepalive_ns: self.keepalive_ns,
            health: self.health()?,
            health_interval_ns: self.health_interval_ns,
            check_limit_ns: self.check_limit_ns,
            reset_on_return: self.reset.is_some(),
            return_limit_ns: self.return_limit_ns,
            pre_ping_after_ns: self.pre_ping_after_ns,
            pre_ping_limit_ns: self.pre_ping_limit_ns,
            leak_after_ns: self.leak_after_ns,
            queue_target_ns: self.queue_target_ns,
            queue_interval_ns: self.queue_interval_ns,
            measure: switch("measure", self.measure)?,
            create_failure: self.create_failure()?,
            create_backoff_ns: self.create_backoff_ns,
            create_backoff_cap_ns: self.create_backoff_cap_ns,
            jitter_seed: monotonic_ns(),
            // No owner of this edge dies: a thread that ends keeps its lease.
            ..PoolConfig::default()
        };
        config.validate()?;
        self.callbacks_asked_for(&config)?;
        Ok(config)
    }

    /// What the program gave to make, test and destroy connections.
    pub fn callbacks(&self) -> Result<Callbacks, Failure> {
        let missing = |name| invalid(name, "NULL", "a function");
        Ok(Callbacks {
            create: self.create.ok_or_else(|| missing("create"))?,
            destroy: self.destroy.ok_or_else(|| missing("destroy"))?,
            reset: self.reset,
            check: self.check,
            leaked: self.leaked,
            userdata: self.userdata,
        })
    }

    fn callbacks_asked_for(&self, config: &PoolConfig) -> Result<(), Failure> {
        let tests = config.health != HealthChecks::Off
            || config.keepalive_ns > 0
            || config.pre_ping_after_ns != NO_PRE_PING;
        if tests && self.check.is_none() {
            return Err(invalid(
                "check",
                "NULL",
                "a function with health, keepalive_ns or pre_ping_after_ns",
            ));
        }
        if config.leak_after_ns > 0 && self.leaked.is_none() {
            return Err(invalid("leaked", "NULL", "a function with leak_after_ns"));
        }
        Ok(())
    }

    fn order(&self) -> Result<IdleOrder, Failure> {
        match self.order {
            ESCOPE_ORDER_LIFO => Ok(IdleOrder::Lifo),
            ESCOPE_ORDER_FIFO => Ok(IdleOrder::Fifo),
            ESCOPE_ORDER_ROUND_ROBIN => Ok(IdleOrder::RoundRobin),
            ESCOPE_ORDER_LEAST_USED => Ok(IdleOrder::LeastUsed),
            other => Err(invalid("order", other, "0 (lifo), 1 (fifo), 2 (round robin) or 3 (least used)")),
        }
    }

    fn health(&self) -> Result<HealthChecks, Failure> {
        match self.health {
            ESCOPE_HEALTH_OFF => Ok(HealthChecks::Off),
            ESCOPE_HEALTH_PASSIVE => Ok(HealthChecks::Passive),
            ESCOPE_HEALTH_ACTIVE => Ok(HealthChecks::Active),
            ESCOPE_HEALTH_MIXED => Ok(HealthChecks::Mixed),
            other => Err(invalid("health", other, "0 (off), 1 (passive), 2 (active) or 3 (mixed)")),
        }
    }

    fn create_failure(&self) -> Result<CreateFailure, Failure> {
        match self.create_failure {
            ESCOPE_CREATE_FAILURE_FAIL_FAST => Ok(CreateFailure::FailFast),
            ESCOPE_CREATE_FAILURE_RETRY => Ok(CreateFailure::Retry),
            other => Err(invalid("create_failure", other, "0 (fail fast) or 1 (retry)")),
        }
    }
}

fn switch(name: &str, value: u32) -> Result<bool, Failure> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(invalid(name, other, "0 or 1")),
    }
}

/// Fills pool options with the defaults, without callbacks.
///
/// Ownership: `options` stays the caller's.
///
/// @param options the struct to fill.
/// @param size    `sizeof *options`.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_pool_options_init(
    options: *mut escope_pool_options,
    size: usize,
) -> escope_status {
    // SAFETY: the caller gives NULL or `size` writable bytes.
    guarded(|| unsafe { options::init(options, size, "options") }.map(|()| Status::Ok))
}
