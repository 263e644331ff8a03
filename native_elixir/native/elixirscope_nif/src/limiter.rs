//! Token-bucket limiter of many keys.
//!
//! * `measure`: rules and limits as they come from Elixir.
//! * `limit`: limits with a name, which may change.
//! * `batch`: many checks in one call; `group`: several keys, all or nothing.
//! * `receipt`: reservations, and what becomes of them; `waiter`: a reservation whose owner waits.
//! * `file`: snapshots; `header_fields`: a decision for HTTP.
//! * `answer`: verdicts as terms.

mod answer;
mod batch;
mod file;
mod group;
mod header_fields;
mod limit;
mod measure;
mod receipt;
mod waiter;

use std::sync::atomic::{AtomicU64, Ordering};

use elixirscope::limiter::{Decision, FullPolicy, Key, Limiter, LimiterConfig};
use rustler::{Atom, Encoder, Env, NifMap, ResourceArc, Term};

use crate::atoms;
use crate::clock::ObjectClock;
use crate::key::{self, Keys, Unfit};
use crate::live::Live;
use crate::refusal::created;
use answer::{Refused, encode_adjusted, encode_check, encode_decision, encode_refused};
use limit::LimitResource;
use measure::Measure;

/// A limiter, its clock, and how many callers wait for a grant of it.
pub struct LimiterResource {
    core: Limiter,
    clock: ObjectClock,
    waiting: AtomicU64,
    max_waiting: u64,
    _live: Live,
}

#[rustler::resource_impl(name = "escope_limiter")]
impl rustler::Resource for LimiterResource {}

impl LimiterResource {
    fn new(core: Limiter, max_waiting: u64, clock: ObjectClock) -> Self {
        Self { core, clock, waiting: AtomicU64::new(0), max_waiting, _live: Live::limiter() }
    }

    /// Finds the keys of terms.
    #[inline]
    fn keys<'l>(&'l self, by: &'l Measure) -> Keys<'l> {
        Keys::new(&self.core, by.limit().map(|limit| limit.name()))
    }

    fn key(&self, key: Term, by: &Measure) -> Result<Key, Unfit> {
        Ok(self.keys(by).next(key)?.0)
    }

    #[inline]
    fn check(&self, key: Key, by: &Measure, cost: u64, now: impl FnOnce() -> u64) -> Decision {
        match by {
            Measure::Rule(rule) => self.core.check(key, rule, cost, now),
            Measure::Limit(limit) => self.core.check_limit(key, limit.core(), cost, now),
        }
    }
}

fn policy(name: Atom) -> Option<FullPolicy> {
    [
        (atoms::deny_new(), FullPolicy::DenyNew),
        (atoms::evict_most_full(), FullPolicy::EvictMostFull),
        (atoms::overflow_key(), FullPolicy::OverflowKey),
    ]
    .into_iter()
    .find_map(|(known, policy)| (known == name).then_some(policy))
}

/// Dirty: it sets aside the memory of all keys.
#[rustler::nif(schedule = "DirtyCpu")]
fn limiter_new<'a>(
    env: Env<'a>,
    max_keys: u64,
    full_policy: Atom,
    max_waiting: u64,
    clock: ObjectClock,
) -> Result<Term<'a>, rustler::Error> {
    let full_policy = policy(full_policy).ok_or(rustler::Error::BadArg)?;
    let core = Limiter::new(&LimiterConfig { max_keys, full_policy, ..LimiterConfig::default() });
    Ok(created(env, core.map(|core| LimiterResource::new(core, max_waiting, clock))))
}

/// `ok`, or `{refusal, retry_after_ms}`, or `{error, ...}`. The rule is `limit` per window and at once.
#[rustler::nif]
fn limiter_check<'a>(
    env: Env<'a>,
    limiter: &'a LimiterResource,
    key: Term<'a>,
    limit: u64,
    window_ns: u64,
    cost: u64,
) -> Term<'a> {
    let decided = measure::rule((limit, window_ns, limit)).map_err(Refused::from).and_then(|rule| {
        let key = key::key(&limiter.core, key)?;
        Ok(limiter.core.check(key, &rule, cost, || limiter.clock.now_ns()))
    });
    encode_check(env, decided)
}

/// The same, by a limit with a name.
#[rustler::nif]
fn limiter_check_limit<'a>(
    env: Env<'a>,
    limiter: &'a LimiterResource,
    key: Term<'a>,
    limit: &'a LimitResource,
    cost: u64,
) -> Term<'a> {
    let decided = Keys::new(&limiter.core, Some(limit.name())).next(key).map_err(Refused::from);
    let now = || limiter.clock.now_ns();
    encode_check(env, decided.map(|(key, _)| limiter.core.check_limit(key, limit.core(), cost, now)))
}

/// Gives back what such a check of `cost` has debited: `applied`, `forfeited`, or `{error, ...}`.
#[rustler::nif]
fn limiter_refund_check<'a>(
    env: Env<'a>,
    limiter: &'a LimiterResource,
    key: Term<'a>,
    by: Term<'a>,
    cost: u64,
) -> Result<Term<'a>, rustler::Error> {
    let now = || limiter.clock.now_ns();
    let refunded = Measure::decode(by)?
        .map_err(Refused::from)
        .and_then(|by| Ok(limiter.core.refund_check(limiter.key(key, &by)?, by.by(), cost, now)));
    Ok(encode_adjusted(env, refunded))
}

/// `{verdict, remaining, limit, retry_after_ns, reset_after_ns}`, or `{error, ...}`.
#[rustler::nif]
fn limiter_decide<'a>(
    env: Env<'a>,
    limiter: &'a LimiterResource,
    key: Term<'a>,
    by: Term<'a>,
    cost: u64,
) -> Result<Term<'a>, rustler::Error> {
    let decision = Measure::decode(by)?
        .map_err(Refused::from)
        .and_then(|by| Ok(limiter.check(limiter.key(key, &by)?, &by, cost, || limiter.clock.now_ns())));
    Ok(encode_decision(env, decision))
}

/// What `limiter_decide` would say at cost one; changes nothing.
#[rustler::nif]
fn limiter_peek<'a>(
    env: Env<'a>,
    limiter: &'a LimiterResource,
    key: Term<'a>,
    by: Term<'a>,
) -> Result<Term<'a>, rustler::Error> {
    let decision = Measure::decode(by)?.map_err(Refused::from).and_then(|by| {
        let (key, now) = (limiter.key(key, &by)?, || limiter.clock.now_ns());
        Ok(match &by {
            Measure::Rule(rule) => limiter.core.peek(key, rule, now),
            Measure::Limit(limit) => limiter.core.peek_limit(key, limit.core(), now),
        })
    });
    Ok(encode_decision(env, decision))
}

/// Whether the key had an entry, or `{error, ...}`. `limit` is the key's limit, or nil for one that rules measure.
#[rustler::nif]
fn limiter_reset<'a>(
    env: Env<'a>,
    limiter: &'a LimiterResource,
    key: Term<'a>,
    limit: Option<&'a LimitResource>,
) -> Term<'a> {
    match Keys::new(&limiter.core, limit.map(|limit| limit.name())).next(key) {
        Ok((key, _)) => limiter.core.reset(key).encode(env),
        Err(unfit) => encode_refused(env, unfit.into()),
    }
}

#[derive(NifMap)]
struct Stats {
    allowed: u64,
    limited: u64,
    never: u64,
    table_full: u64,
    evicted: u64,
    overflowed: u64,
    forfeited: u64,
    rolled_back: u64,
    waiting: u64,
    capacity: u64,
    bytes: u64,
}

#[rustler::nif]
fn limiter_stats(limiter: ResourceArc<LimiterResource>) -> Stats {
    let now = limiter.core.stats();
    Stats {
        allowed: now.allowed,
        limited: now.limited,
        never: now.never,
        table_full: now.table_full,
        evicted: now.evicted,
        overflowed: now.overflowed,
        forfeited: now.forfeited,
        rolled_back: now.rolled_back,
        // Relaxed: a count that orders nothing.
        waiting: limiter.waiting.load(Ordering::Relaxed),
        capacity: now.capacity,
        bytes: now.bytes,
    }
}

/// Keys that owe tokens. Reads the whole table, so it runs apart from the normal schedulers.
#[rustler::nif(schedule = "DirtyCpu")]
fn limiter_live_keys(limiter: ResourceArc<LimiterResource>) -> u64 {
    limiter.core.live_keys(|| limiter.clock.now_ns())
}

/// The time as the limiter reads it.
#[rustler::nif]
fn limiter_now(limiter: &LimiterResource) -> u64 {
    limiter.clock.now_ns()
}
