//! Connection pools: terms in, terms out. What happens in between is in `shared`.
//!
//! * `shared`: the resource; who may write what, and what a killed process leaves behind.
//! * `processes`: what is known about each process that uses the pool.
//! * `connection`: terms that outlive a call.

mod connection;
mod processes;
mod shared;

use elixirscope::error::ConfigError;
use elixirscope::pool::{Condition, HealthChecks, IdleOrder, Pool, PoolConfig, Refusal, Wait};
use rustler::{Atom, Encoder, Env, NifMap, NifResult, ResourceArc, Term};

use crate::atoms;
use crate::clock::ObjectClock;
use crate::refusal::refusal;
use shared::{SharedPool, Taken};

#[derive(NifMap)]
struct Options {
    size: u32,
    max_overflow: u32,
    order: Atom,
    max_waiters: u32,
    max_slots: u32,
    min_idle: u32,
    max_creating: u32,
    idle_timeout_ns: u64,
    max_lifetime_ns: u64,
    max_lifetime_jitter_ns: u64,
    keepalive_ns: u64,
    health: Atom,
    health_interval_ns: u64,
    check_limit_ns: u64,
    leak_after_ns: u64,
    queue_target_ns: u64,
    queue_interval_ns: u64,
    overflow_ttl_ns: u64,
    backoff_ns: u64,
    backoff_cap_ns: u64,
    jitter_seed: u64,
}

impl Options {
    fn config(&self) -> PoolConfig {
        PoolConfig {
            size: self.size,
            max_overflow: self.max_overflow,
            order: order(self.order),
            max_waiters: self.max_waiters,
            max_slots: self.max_slots,
            min_idle: self.min_idle,
            max_concurrent_creates: self.max_creating,
            idle_timeout_ns: self.idle_timeout_ns,
            max_lifetime_ns: self.max_lifetime_ns,
            max_lifetime_jitter_ns: self.max_lifetime_jitter_ns,
            keepalive_ns: self.keepalive_ns,
            health: health(self.health),
            health_interval_ns: self.health_interval_ns,
            check_limit_ns: self.check_limit_ns,
            return_limit_ns: self.check_limit_ns,
            leak_after_ns: self.leak_after_ns,
            queue_target_ns: self.queue_target_ns,
            queue_interval_ns: self.queue_interval_ns,
            overflow_ttl_ns: self.overflow_ttl_ns,
            create_backoff_ns: self.backoff_ns,
            create_backoff_cap_ns: self.backoff_cap_ns,
            jitter_seed: self.jitter_seed,
            ..PoolConfig::default()
        }
    }
}

/// Elixir has checked that it is one of these.
fn order(order: Atom) -> IdleOrder {
    if order == atoms::fifo() {
        IdleOrder::Fifo
    } else if order == atoms::round_robin() {
        IdleOrder::RoundRobin
    } else if order == atoms::least_used() {
        IdleOrder::LeastUsed
    } else {
        IdleOrder::Lifo
    }
}

/// Likewise.
fn health(health: Atom) -> HealthChecks {
    if health == atoms::passive() {
        HealthChecks::Passive
    } else if health == atoms::active() {
        HealthChecks::Active
    } else if health == atoms::mixed() {
        HealthChecks::Mixed
    } else {
        HealthChecks::Off
    }
}

/// A pool that belongs to the calling process. Dirty: it sets aside the memory of all waiters.
#[rustler::nif(schedule = "DirtyCpu")]
fn pool_new<'a>(env: Env<'a>, options: Options, clock: ObjectClock) -> Term<'a> {
    match open(env, &options.config(), clock) {
        Ok(pool) => (atoms::ok(), pool).encode(env),
        Err(error) => (atoms::error(), refusal(error)).encode(env),
    }
}

fn open(
    env: Env<'_>,
    config: &PoolConfig,
    clock: ObjectClock,
) -> Result<ResourceArc<SharedPool>, ConfigError> {
    let server = env.pid();
    let pool = ResourceArc::new(SharedPool::new(Pool::new(config)?, config.slots(), clock, server));
    // `None` is a caller that is being killed: the pool dies with the only reference to it.
    let _ = env.monitor(&pool, &server);
    Ok(pool)
}

/// `{connection, slot, epoch}`, `:wait`, or the refusal. A wait ends with `{reference, the same}`.
#[rustler::nif]
fn pool_checkout<'a>(
    env: Env<'a>,
    pool: ResourceArc<SharedPool>,
    reference: Term<'a>,
    wait_ns: u64,
    overflow: bool,
) -> Term<'a> {
    let wait = match wait_ns {
        0 => Wait::ForCreation,
        u64::MAX => Wait::Forever,
        wait_ns => Wait::For(wait_ns),
    };
    match SharedPool::checkout(&pool, env, reference, wait, overflow) {
        Some(Taken::Granted(lease)) => pool.granted(env, lease),
        Some(Taken::Waiting) => atoms::wait().encode(env),
        Some(Taken::Refused(why)) => word(why).encode(env),
        None => atoms::pool_closed().encode(env),
    }
}

fn word(refusal: Refusal) -> Atom {
    match refusal {
        Refusal::Exhausted => atoms::pool_exhausted(),
        Refusal::TimedOut => atoms::pool_timeout(),
        Refusal::QueueFull => atoms::queue_full(),
        Refusal::Closed => atoms::pool_closed(),
        Refusal::Shed => atoms::shed(),
    }
}

/// `:cancelled`, or `:ended`: then the message that says how is on its way.
#[rustler::nif]
fn pool_cancel(env: Env<'_>, pool: ResourceArc<SharedPool>) -> Atom {
    if pool.cancel(env) { atoms::cancelled() } else { atoms::ended() }
}

fn condition(broken: bool) -> Condition {
    if broken { Condition::Broken } else { Condition::Good }
}

fn ok_or<E>(result: Result<(), E>, error: Atom) -> Atom {
    if result.is_ok() { atoms::ok() } else { error }
}

/// Gives back a connection of the calling process.
#[rustler::nif]
fn pool_checkin(env: Env<'_>, pool: ResourceArc<SharedPool>, connection: Term<'_>, broken: bool) -> Atom {
    ok_or(pool.checkin(env, connection, condition(broken)), atoms::stale_lease())
}

/// Gives back a lease.
#[rustler::nif]
fn pool_checkin_lease(
    env: Env<'_>,
    pool: ResourceArc<SharedPool>,
    slot: u32,
    epoch: u64,
    broken: bool,
) -> Atom {
    ok_or(pool.checkin_lease(env, pool.lease(slot, epoch), condition(broken)), atoms::stale_lease())
}

#[rustler::nif]
fn pool_created(
    env: Env<'_>,
    pool: ResourceArc<SharedPool>,
    slot: u32,
    epoch: u64,
    connection: Term<'_>,
) -> Atom {
    ok_or(pool.created(env, slot, epoch, Ok(connection)), atoms::stale())
}

#[rustler::nif]
fn pool_create_failed(
    env: Env<'_>,
    pool: ResourceArc<SharedPool>,
    slot: u32,
    epoch: u64,
    reason: Term<'_>,
) -> Atom {
    ok_or(pool.created(env, slot, epoch, Err(reason)), atoms::stale())
}

#[rustler::nif]
fn pool_checked(env: Env<'_>, pool: ResourceArc<SharedPool>, slot: u32, epoch: u64, healthy: bool) -> Atom {
    ok_or(pool.checked(env, slot, epoch, healthy), atoms::stale())
}

/// `:ok`, or what is wrong. Dirty: a smaller pool closes what it has too many of.
#[rustler::nif(schedule = "DirtyCpu")]
fn pool_resize<'a>(env: Env<'a>, pool: ResourceArc<SharedPool>, size: u32, max_overflow: u32) -> Term<'a> {
    match pool.resize(env, size, max_overflow) {
        Ok(()) => atoms::ok().encode(env),
        Err(error) => (atoms::error(), refusal(error)).encode(env),
    }
}

/// Dirty: it looks at every slot.
#[rustler::nif(schedule = "DirtyCpu")]
fn pool_evict(env: Env<'_>, pool: ResourceArc<SharedPool>, spread_ns: u64) -> Atom {
    pool.evict(env, spread_ns);
    atoms::ok()
}

#[rustler::nif]
fn pool_destroyed(env: Env<'_>, pool: ResourceArc<SharedPool>, slot: u32, epoch: u64) -> Atom {
    ok_or(pool.destroyed(env, slot, epoch), atoms::stale())
}

#[rustler::nif]
fn pool_connection_lost(env: Env<'_>, pool: ResourceArc<SharedPool>, slot: u32) -> Atom {
    pool.lost(env, slot);
    atoms::ok()
}

/// `{:ok, connection}` or `:none`.
#[rustler::nif]
fn pool_connection<'a>(env: Env<'a>, pool: ResourceArc<SharedPool>, slot: u32) -> Term<'a> {
    match pool.connection(env, slot) {
        Some(connection) => (atoms::ok(), connection).encode(env),
        None => atoms::none().encode(env),
    }
}

/// How old the connection in a slot is, in nanoseconds.
#[rustler::nif]
fn pool_connection_age(env: Env<'_>, pool: ResourceArc<SharedPool>, slot: u32) -> Option<u64> {
    pool.age_ns(env, slot)
}

/// Slots with a connection. Dirty: it looks at every slot.
#[rustler::nif(schedule = "DirtyCpu")]
fn pool_slots(pool: ResourceArc<SharedPool>) -> Vec<u32> {
    pool.slots_in_use()
}

/// Why the last creation failed, nil after one that succeeded.
#[rustler::nif]
fn pool_last_error<'a>(env: Env<'a>, pool: ResourceArc<SharedPool>) -> Option<Term<'a>> {
    pool.last_error(env)
}

/// Milliseconds until the next call, rounded up, or `:infinity`.
#[rustler::nif]
fn pool_maintain<'a>(env: Env<'a>, pool: ResourceArc<SharedPool>) -> Term<'a> {
    match pool.maintain(env) {
        Some(wait_ns) => wait_ns.div_ceil(1_000_000).encode(env),
        None => atoms::infinity().encode(env),
    }
}

/// Closes the pool. Dirty: it wakes all waiters.
#[rustler::nif(schedule = "DirtyCpu")]
fn pool_close(env: Env<'_>, pool: ResourceArc<SharedPool>) -> Atom {
    pool.close(env);
    atoms::ok()
}

/// Pools that exist in this VM.
#[rustler::nif]
fn pool_live() -> i64 {
    shared::live()
}

#[derive(NifMap)]
struct Stats {
    size: u32,
    capacity: u32,
    idle: u32,
    in_use: u32,
    creating: u32,
    checking: u32,
    closing: u32,
    waiting: u32,
    overflow: u32,
    closed: bool,
    failing: u32,
    requests: u64,
    granted: u64,
    timed_out: u64,
    cancelled: u64,
    exhausted: u64,
    queue_full: u64,
    closed_requests: u64,
    create_failed: u64,
    shed: u64,
    returned: u64,
    broken: u64,
    reclaimed: u64,
    created: u64,
    create_errors: u64,
    destroyed: u64,
    checks_passed: u64,
    checks_failed: u64,
    leaks: u64,
}

#[rustler::nif]
fn pool_stats(env: Env<'_>, pool: ResourceArc<SharedPool>) -> NifResult<Stats> {
    let snapshot = pool.snapshot(env);
    let counts = snapshot.counts;
    Ok(Stats {
        size: snapshot.size,
        capacity: snapshot.capacity,
        idle: snapshot.idle,
        in_use: snapshot.leased,
        creating: snapshot.creating,
        checking: snapshot.checking,
        closing: snapshot.closing,
        waiting: snapshot.waiting,
        overflow: snapshot.overflow,
        closed: snapshot.is_closed,
        failing: snapshot.failing,
        requests: counts.requests,
        granted: counts.granted,
        timed_out: counts.timed_out,
        cancelled: counts.cancelled,
        exhausted: counts.exhausted,
        queue_full: counts.queue_full,
        closed_requests: counts.closed,
        create_failed: counts.create_failed,
        shed: counts.shed,
        returned: counts.returned,
        broken: counts.broken,
        reclaimed: counts.reclaimed,
        created: counts.created,
        create_errors: counts.create_errors,
        destroyed: counts.destroys,
        checks_passed: counts.checks_passed,
        checks_failed: counts.checks_failed,
        leaks: counts.leaks,
    })
}
