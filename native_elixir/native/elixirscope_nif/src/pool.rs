//! Connection pools: terms in, terms out. What happens in between is in `shared`.
//!
//! * `shared`: the resource; who may write what, and what a killed process leaves behind.
//! * `processes`: what is known about each process that uses the pool.
//! * `connection`: terms that outlive a call.
//! * `options`, `stats`: what a pool is told when it is made, and what it tells of itself.

mod connection;
mod options;
mod processes;
mod shared;
mod stats;

use elixirscope::error::ConfigError;
use elixirscope::pool::{Condition, Pool, PoolConfig, Refusal, Wait};
use rustler::{Atom, Decoder, Encoder, Env, Error, NifResult, ResourceArc, Term};

use crate::atoms;
use crate::clock::ObjectClock;
use crate::hot::hot_nif;
use crate::refusal::refusal;
use options::Options;
use shared::{SharedPool, Taken};
use stats::Stats;

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

/// How long a check-out waits: nanoseconds, 0 for no longer than a creation takes, or `:late` for a call whose time was
/// over before it got here.
struct AskedWait(Wait);

impl<'a> Decoder<'a> for AskedWait {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        match term.decode() {
            Ok(0) => Ok(Self(Wait::ForCreation)),
            Ok(u64::MAX) => Ok(Self(Wait::Forever)),
            Ok(wait_ns) => Ok(Self(Wait::For(wait_ns))),
            Err(_) if atoms::late() == term => Ok(Self(Wait::Until(0))),
            Err(_) => Err(Error::BadArg),
        }
    }
}

/// `{connection, slot, epoch}`, with a fourth element `:untested` where the caller has to test it first; `:wait`; or the
/// refusal. A wait ends with `{reference, the same}`, but never untested, and with `:lost` where the connection that it
/// ended in has died and its lease is over: then the caller may ask again.
fn pool_checkout<'a>(env: Env<'a>, [pool, reference, wait, overflow]: [Term<'a>; 4]) -> NifResult<Term<'a>> {
    let pool: ResourceArc<SharedPool> = pool.decode()?;
    let (AskedWait(wait), overflow) = (wait.decode()?, overflow.decode()?);
    Ok(match SharedPool::checkout(&pool, env, reference, wait, overflow) {
        Some(Taken::Granted(lease, connection)) => (connection, lease.slot, lease.epoch).encode(env),
        Some(Taken::Untested(lease, connection)) => {
            (connection, lease.slot, lease.epoch, atoms::untested()).encode(env)
        }
        Some(Taken::Waiting) => atoms::wait().encode(env),
        Some(Taken::Refused(why)) => word(why).encode(env),
        None => atoms::pool_closed().encode(env),
    })
}

hot_nif!(pool_checkout, 4);

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
fn pool_checkin<'a>(env: Env<'a>, [pool, connection, broken]: [Term<'a>; 3]) -> NifResult<Term<'a>> {
    let pool: ResourceArc<SharedPool> = pool.decode()?;
    let condition = condition(broken.decode()?);
    Ok(ok_or(pool.checkin(env, connection, condition), atoms::stale_lease()).to_term(env))
}

hot_nif!(pool_checkin, 3);

/// Gives back a lease.
fn pool_checkin_lease<'a>(env: Env<'a>, [pool, slot, epoch, broken]: [Term<'a>; 4]) -> NifResult<Term<'a>> {
    let pool: ResourceArc<SharedPool> = pool.decode()?;
    let (lease, broken) = (pool.lease(slot.decode()?, epoch.decode()?), condition(broken.decode()?));
    Ok(ok_or(pool.checkin_lease(env, lease, broken), atoms::stale_lease()).to_term(env))
}

hot_nif!(pool_checkin_lease, 4);

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

/// Closes the pool; leases end when `within_ns` is over. Dirty: it wakes all waiters.
#[rustler::nif(schedule = "DirtyCpu")]
fn pool_close(env: Env<'_>, pool: ResourceArc<SharedPool>, within_ns: u64) -> Atom {
    pool.close(env, within_ns);
    atoms::ok()
}

/// Closes the pool to new callers. Dirty: it closes all that is idle.
#[rustler::nif(schedule = "DirtyCpu")]
fn pool_drain(env: Env<'_>, pool: ResourceArc<SharedPool>) -> Atom {
    pool.drain(env);
    atoms::ok()
}

/// Whether a lease is live.
#[rustler::nif]
fn pool_is_leased(env: Env<'_>, pool: ResourceArc<SharedPool>, slot: u32, epoch: u64) -> bool {
    pool.is_leased(env, slot, epoch)
}

/// Pools that exist in this VM.
#[rustler::nif]
fn pool_live() -> i64 {
    shared::live()
}

/// State and counts of one instant.
#[rustler::nif]
fn pool_stats(env: Env<'_>, pool: ResourceArc<SharedPool>) -> Stats {
    Stats::of(&pool.snapshot(env))
}
