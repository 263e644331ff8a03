//! Token-bucket limiter of many keys.

use std::cell::Cell;

use elixirscope::error::ConfigError;
use elixirscope::limiter::{Decision, KeyedRule, Limiter, LimiterConfig, Rule, Verdict};
use rustler::{Atom, Encoder, Env, NifMap, ResourceArc, Term};

use crate::atoms;
use crate::clock::ObjectClock;
use crate::key::{self, Unfit};
use crate::live::Live;
use crate::refusal::{created, refusal};

/// A limiter and its clock.
pub struct LimiterResource {
    core: Limiter,
    clock: ObjectClock,
    _live: Live,
}

#[rustler::resource_impl(name = "escope_limiter")]
impl rustler::Resource for LimiterResource {}

type RuleArgs = (u64, u64, u64);

thread_local! {
    // Making a rule reduces a fraction, and nearly every call of a scheduler brings the rule of the one before.
    static LATEST: Cell<Option<(RuleArgs, KeyedRule)>> = const { Cell::new(None) };
}

/// The rule of `tokens` per `period_ns` with a `burst`.
#[inline]
fn rule(args: RuleArgs) -> Result<KeyedRule, ConfigError> {
    match LATEST.get() {
        Some((same, rule)) if same == args => Ok(rule),
        _ => {
            let (tokens, period_ns, burst) = args;
            let rule = KeyedRule::new(Rule::new(tokens, period_ns, burst)?)?;
            LATEST.set(Some((args, rule)));
            Ok(rule)
        }
    }
}

enum Refused {
    Rule(ConfigError),
    Key(Unfit),
}

impl From<ConfigError> for Refused {
    fn from(error: ConfigError) -> Self {
        Self::Rule(error)
    }
}

impl From<Unfit> for Refused {
    fn from(unfit: Unfit) -> Self {
        Self::Key(unfit)
    }
}

impl LimiterResource {
    #[inline]
    fn check(&self, key: Term, args: RuleArgs, cost: u64) -> Result<Decision, Refused> {
        let rule = rule(args)?;
        let key = key::key(&self.core, key)?;
        Ok(self.core.check(key, &rule, cost, || self.clock.now_ns()))
    }

    fn peek(&self, key: Term, args: RuleArgs) -> Result<Decision, Refused> {
        let rule = rule(args)?;
        let key = key::key(&self.core, key)?;
        Ok(self.core.peek(key, &rule, || self.clock.now_ns()))
    }
}

#[rustler::nif]
fn limiter_new<'a>(env: Env<'a>, max_keys: u64, clock: ObjectClock) -> Term<'a> {
    let core = Limiter::new(&LimiterConfig { max_keys, ..LimiterConfig::default() });
    created(env, core.map(|core| LimiterResource { core, clock, _live: Live::limiter() }))
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
    match limiter.check(key, (limit, window_ns, limit), cost) {
        Ok(decision) if decision.is_allowed() => atoms::ok().to_term(env),
        Ok(decision) => (verdict_atom(decision.verdict), decision.retry_after_ms()).encode(env),
        Err(refused) => encode_refused(env, refused),
    }
}

/// `{verdict, remaining, limit, retry_after_ns, reset_after_ns}`, or `{error, ...}`.
#[rustler::nif]
fn limiter_decide<'a>(
    env: Env<'a>,
    limiter: &'a LimiterResource,
    key: Term<'a>,
    rule: RuleArgs,
    cost: u64,
) -> Term<'a> {
    encode_decision(env, limiter.check(key, rule, cost))
}

/// What `limiter_decide` would say at cost one; changes nothing.
#[rustler::nif]
fn limiter_peek<'a>(env: Env<'a>, limiter: &'a LimiterResource, key: Term<'a>, rule: RuleArgs) -> Term<'a> {
    encode_decision(env, limiter.peek(key, rule))
}

/// Whether the key had an entry, or `{error, ...}`.
#[rustler::nif]
fn limiter_reset<'a>(env: Env<'a>, limiter: &'a LimiterResource, key: Term<'a>) -> Term<'a> {
    match key::key(&limiter.core, key) {
        Ok(key) => limiter.core.reset(key).encode(env),
        Err(error) => encode_refused(env, error.into()),
    }
}

#[derive(NifMap)]
struct Stats {
    allowed: u64,
    limited: u64,
    never: u64,
    table_full: u64,
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
        capacity: now.capacity,
        bytes: now.bytes,
    }
}

/// Keys that owe tokens. Reads the whole table, so it runs apart from the normal schedulers.
#[rustler::nif(schedule = "DirtyCpu")]
fn limiter_live_keys(limiter: ResourceArc<LimiterResource>) -> u64 {
    limiter.core.live_keys(|| limiter.clock.now_ns())
}

fn verdict_atom(verdict: Verdict) -> Atom {
    match verdict {
        Verdict::Allowed => atoms::allowed(),
        Verdict::Limited => atoms::rate_limited(),
        Verdict::Never => atoms::never(),
        Verdict::TableFull => atoms::table_full(),
    }
}

fn encode_decision<'a>(env: Env<'a>, result: Result<Decision, Refused>) -> Term<'a> {
    match result {
        Ok(Decision { verdict, remaining, limit, retry_after_ns, reset_after_ns }) => {
            (verdict_atom(verdict), remaining, limit, retry_after_ns, reset_after_ns).encode(env)
        }
        Err(refused) => encode_refused(env, refused),
    }
}

fn encode_refused<'a>(env: Env<'a>, refused: Refused) -> Term<'a> {
    match refused {
        Refused::Rule(error) => (atoms::error(), refusal(error)).encode(env),
        Refused::Key(Unfit::TooLarge) => (atoms::error(), atoms::key_too_large()).encode(env),
        Refused::Key(Unfit::Opaque) => (atoms::error(), atoms::key_opaque()).encode(env),
    }
}
