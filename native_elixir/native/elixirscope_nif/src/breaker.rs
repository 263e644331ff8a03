//! Circuit breaker.
//!
//! The usual call is two NIFs, acquire and record, on a closed breaker: the permit is its generation, a small
//! integer, and nothing is allocated. A probe decides whether the breaker closes, so its permit is a resource
//! that watches its owner (`permit`).

use elixirscope::breaker::{
    Breaker, BreakerConfig, Outcome, Permit, RawPermit, RecordVerdict, RejectReason, Rejection,
};
use elixirscope::error::ConfigError;
use rustler::{Atom, Decoder, Encoder, Env, Error, LocalPid, NifMap, NifResult, ResourceArc, Term};

use crate::atoms;
use crate::clock::ObjectClock;
use crate::events::{Publisher, phase_atom};
use crate::live::Live;
use crate::permit;
use crate::refusal::{created, narrow};

/// A breaker with all that its edge needs.
pub struct BreakerResource {
    core: Breaker,
    clock: ObjectClock,
    id: u64,
    publisher: Publisher,
    _live: Live,
}

#[rustler::resource_impl(name = "escope_breaker")]
impl rustler::Resource for BreakerResource {}

impl BreakerResource {
    #[inline]
    fn acquire(&self, env: Env) -> Result<Permit, Rejection> {
        let acquired = self.core.acquire(|| self.clock.now_ns());
        self.publisher.publish(env, self.id, &acquired.events);
        acquired.verdict
    }

    #[inline]
    pub fn record(&self, env: Env, permit: Permit, outcome: Outcome) -> RecordVerdict {
        let recorded = self.core.record(permit, outcome, || self.clock.now_ns());
        self.publisher.publish(env, self.id, &recorded.events);
        recorded.verdict
    }
}

#[derive(NifMap)]
struct Options {
    failure_threshold: u64,
    open_for_ns: u64,
    half_open_permits: u64,
    successes_to_close: u64,
    probe_lease_ns: u64,
}

impl Options {
    fn build(&self) -> Result<Breaker, ConfigError> {
        Breaker::new(&BreakerConfig {
            failure_threshold: narrow("failure_threshold", self.failure_threshold)?,
            open_for_ns: self.open_for_ns,
            half_open_permits: narrow("half_open_permits", self.half_open_permits)?,
            successes_to_close: narrow("successes_to_close", self.successes_to_close)?,
            probe_lease_ns: self.probe_lease_ns,
        })
    }
}

/// A breaker that sends its events, marked with `id`, to `publisher`.
#[rustler::nif]
fn breaker_new<'a>(
    env: Env<'a>,
    options: Options,
    clock: ObjectClock,
    id: u64,
    publisher: LocalPid,
) -> Term<'a> {
    let publisher = Publisher::new(publisher);
    created(
        env,
        options.build().map(|core| BreakerResource { core, clock, id, publisher, _live: Live::breaker() }),
    )
}

#[rustler::nif]
fn breaker_publish_to(breaker: ResourceArc<BreakerResource>, publisher: LocalPid) -> Atom {
    breaker.publisher.set(publisher);
    atoms::ok()
}

/// A small integer while closed, a permit resource for a probe, or `{reason, retry_after_ns}`.
#[rustler::nif]
fn breaker_acquire<'a>(env: Env<'a>, breaker: ResourceArc<BreakerResource>) -> Term<'a> {
    match breaker.acquire(env) {
        Ok(permit) if permit.is_probe() => permit::grant(env, breaker, permit),
        Ok(permit) => permit.into_raw().generation.encode(env),
        Err(rejection) => rejected(env, rejection),
    }
}

/// A permit resource in any phase, for a permit that is recorded later or elsewhere.
#[rustler::nif]
fn breaker_acquire_owned<'a>(env: Env<'a>, breaker: ResourceArc<BreakerResource>) -> Term<'a> {
    match breaker.acquire(env) {
        Ok(permit) => permit::grant(env, breaker, permit),
        Err(rejection) => rejected(env, rejection),
    }
}

/// Records the result of a call that `breaker_acquire` admitted with a small integer.
#[rustler::nif]
fn breaker_record(
    env: Env,
    breaker: ResourceArc<BreakerResource>,
    generation: u32,
    outcome: OutcomeArg,
) -> Atom {
    let permit = Permit::from_raw(RawPermit { generation, slot: u32::MAX, epoch: 0 });
    verdict_atom(breaker.record(env, permit, outcome.0))
}

#[rustler::nif]
fn breaker_reset(env: Env, breaker: ResourceArc<BreakerResource>) -> Atom {
    let events = breaker.core.reset(|| breaker.clock.now_ns());
    breaker.publisher.publish(env, breaker.id, &events);
    atoms::ok()
}

#[derive(NifMap)]
struct Stats {
    state: Atom,
    generation: u32,
    failure_count: u32,
    opens: u32,
    live_probes: u32,
    retry_after_ns: u64,
    admitted: u64,
    succeeded: u64,
    failed: u64,
    ignored: u64,
    rejected_open: u64,
    rejected_half_open: u64,
    stale: u64,
    expired: u64,
}

#[rustler::nif]
fn breaker_stats(breaker: ResourceArc<BreakerResource>) -> Stats {
    let now = breaker.core.snapshot(|| breaker.clock.now_ns());
    Stats {
        state: phase_atom(now.phase),
        generation: now.generation,
        failure_count: now.consecutive_failures,
        opens: now.opens,
        live_probes: now.live_probes,
        retry_after_ns: now.retry_after_ns,
        admitted: now.admitted,
        succeeded: now.succeeded,
        failed: now.failed,
        ignored: now.ignored,
        rejected_open: now.rejected_open,
        rejected_half_open: now.rejected_half_open,
        stale: now.stale,
        expired: now.expired,
    }
}

/// How a call went, as the number that every language uses.
pub struct OutcomeArg(pub Outcome);

impl<'a> Decoder<'a> for OutcomeArg {
    #[inline]
    fn decode(term: Term<'a>) -> NifResult<Self> {
        match term.decode::<u32>()? {
            0 => Ok(Self(Outcome::Success)),
            1 => Ok(Self(Outcome::Failure)),
            2 => Ok(Self(Outcome::Ignored)),
            _ => Err(Error::BadArg),
        }
    }
}

pub fn verdict_atom(verdict: RecordVerdict) -> Atom {
    match verdict {
        RecordVerdict::Applied => atoms::applied(),
        RecordVerdict::Stale => atoms::stale(),
        RecordVerdict::Expired => atoms::expired(),
        RecordVerdict::AlreadyDone => atoms::already_done(),
    }
}

fn rejected<'a>(env: Env<'a>, rejection: Rejection) -> Term<'a> {
    let reason = match rejection.reason {
        RejectReason::Open => atoms::circuit_open(),
        RejectReason::HalfOpenFull => atoms::half_open_full(),
    };
    (reason, rejection.retry_after_ns).encode(env)
}
