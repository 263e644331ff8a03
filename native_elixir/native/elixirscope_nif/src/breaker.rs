//! Circuit breaker.
//!
//! The usual call is two NIFs, acquire and record, on a closed breaker: the permit is its generation, a small
//! integer, and nothing is allocated; where calls are measured it is `{generation, started_ns}`. A probe decides
//! whether the breaker closes, so its permit is a resource that watches its owner (`permit`).

#[cfg(feature = "fault-injection")]
mod faults;
mod options;
mod stats;

use elixirscope::breaker::{
    Breaker, Events, Mode, Outcome, Permit, RawPermit, RecordVerdict, RejectReason, Rejection,
};
use rustler::{Atom, Decoder, Encoder, Env, Error, LocalPid, NifResult, ResourceArc, Term};

use self::options::Options;
use self::stats::Stats;
use crate::atoms;
use crate::clock::ObjectClock;
use crate::events::Publisher;
use crate::hot::hot_nif;
use crate::live::Live;
use crate::permit;
use crate::refusal::{created, done};

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

/// A permit, and how long the caller is to wait before the call.
struct Granted {
    permit: Permit,
    delay_ns: u64,
}

impl BreakerResource {
    #[inline]
    fn acquire(&self, env: Env) -> Result<Granted, Rejection> {
        let acquired = self.core.acquire(|| self.clock.now_ns());
        self.publish(env, &acquired.events);
        #[cfg(feature = "fault-injection")]
        let delay_ns = acquired.delay_ns;
        #[cfg(not(feature = "fault-injection"))]
        let delay_ns = 0;
        acquired.verdict.map(|permit| Granted { permit, delay_ns })
    }

    #[inline]
    pub fn record(&self, env: Env, permit: Permit, outcome: Outcome) -> RecordVerdict {
        let recorded = self.core.record(permit, outcome, || self.clock.now_ns());
        self.publish(env, &recorded.events);
        recorded.verdict
    }

    #[inline]
    fn publish(&self, env: Env, events: &Events) {
        self.publisher.publish(env, self.id, events);
    }
}

/// The core's defaults, as the map that `breaker_new` takes.
#[rustler::nif]
fn breaker_defaults() -> Options {
    Options::defaults()
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
    let core = options.config().and_then(|config| Breaker::new(&config));
    created(env, core.map(|core| BreakerResource { core, clock, id, publisher, _live: Live::breaker() }))
}

#[rustler::nif]
fn breaker_publish_to(breaker: ResourceArc<BreakerResource>, publisher: LocalPid) -> Atom {
    breaker.publisher.set(publisher);
    atoms::ok()
}

/// A small integer or `{generation, started_ns}` while closed, a permit resource for a probe, or
/// `{reason, retry_after_ns}`. With injected faults also `{:delayed, delay_ns, permit}`.
fn breaker_acquire<'a>(env: Env<'a>, [breaker]: [Term<'a>; 1]) -> NifResult<Term<'a>> {
    // Borrowed for the call: to count a reference and back is a fifth of it.
    let borrowed: &BreakerResource = breaker.decode()?;
    Ok(match borrowed.acquire(env) {
        Ok(Granted { permit, delay_ns }) if permit.is_probe() => {
            delayed(env, delay_ns, permit::grant(env, breaker.decode()?, permit))
        }
        Ok(Granted { permit, delay_ns }) => {
            let RawPermit { generation, started_ns, .. } = permit.into_raw();
            let permit = if RawPermit::unmeasured(generation).started_ns == started_ns {
                generation.encode(env)
            } else {
                (generation, started_ns).encode(env)
            };
            delayed(env, delay_ns, permit)
        }
        Err(rejection) => rejected(env, rejection),
    })
}

hot_nif!(breaker_acquire, 1);

/// As `breaker_acquire`, with a permit resource in any phase: for a permit that is recorded later or elsewhere.
#[rustler::nif]
fn breaker_acquire_owned<'a>(env: Env<'a>, breaker: ResourceArc<BreakerResource>) -> Term<'a> {
    match breaker.acquire(env) {
        Ok(Granted { permit, delay_ns }) => delayed(env, delay_ns, permit::grant(env, breaker, permit)),
        Err(rejection) => rejected(env, rejection),
    }
}

/// Records the result of a call that `breaker_acquire` admitted while closed.
fn breaker_record<'a>(env: Env<'a>, [breaker, permit, outcome]: [Term<'a>; 3]) -> NifResult<Term<'a>> {
    let breaker: &BreakerResource = breaker.decode()?;
    let (ClosedPermit(permit), OutcomeArg(outcome)) = (permit.decode()?, outcome.decode()?);
    Ok(verdict_atom(breaker.record(env, Permit::from_raw(permit), outcome)).to_term(env))
}

hot_nif!(breaker_record, 3);

/// `:ok` or `{reason, retry_after_ns}`, without a permit.
#[rustler::nif]
fn breaker_ask<'a>(env: Env<'a>, breaker: ResourceArc<BreakerResource>) -> Term<'a> {
    let asked = breaker.core.ask(|| breaker.clock.now_ns());
    breaker.publish(env, &asked.events);
    match asked.verdict {
        Ok(()) => atoms::ok().encode(env),
        Err(rejection) => rejected(env, rejection),
    }
}

/// Says how a call went that had no permit.
#[rustler::nif]
fn breaker_report(env: Env, breaker: ResourceArc<BreakerResource>, outcome: OutcomeArg) -> Atom {
    let recorded = breaker.core.report(outcome.0, || breaker.clock.now_ns());
    breaker.publish(env, &recorded.events);
    verdict_atom(recorded.verdict)
}

#[rustler::nif]
fn breaker_settle(env: Env, breaker: ResourceArc<BreakerResource>) -> Atom {
    breaker.publish(env, &breaker.core.settle(|| breaker.clock.now_ns()));
    atoms::ok()
}

#[rustler::nif]
fn breaker_reset(env: Env, breaker: ResourceArc<BreakerResource>) -> Atom {
    breaker.publish(env, &breaker.core.reset(|| breaker.clock.now_ns()));
    atoms::ok()
}

#[rustler::nif]
fn breaker_set_mode(env: Env, breaker: ResourceArc<BreakerResource>, mode: ModeArg) -> Atom {
    breaker.publish(env, &breaker.core.set_mode(mode.0, || breaker.clock.now_ns()));
    atoms::ok()
}

#[rustler::nif]
fn breaker_reconfigure<'a>(
    env: Env<'a>,
    breaker: ResourceArc<BreakerResource>,
    options: Options,
) -> Term<'a> {
    let config = options.config();
    let events = config.and_then(|config| breaker.core.reconfigure(&config, || breaker.clock.now_ns()));
    done(env, events.map(|events| breaker.publish(env, &events)))
}

#[rustler::nif]
fn breaker_reinstall<'a>(env: Env<'a>, breaker: ResourceArc<BreakerResource>, options: Options) -> Term<'a> {
    let config = options.config();
    let events = config.and_then(|config| breaker.core.reinstall(&config, || breaker.clock.now_ns()));
    done(env, events.map(|events| breaker.publish(env, &events)))
}

#[rustler::nif]
fn breaker_stats(breaker: ResourceArc<BreakerResource>) -> Stats {
    let now = breaker.core.snapshot(|| breaker.clock.now_ns());
    Stats::of(now, breaker.core.bytes())
}

/// A permit that is no resource: a generation, or `{generation, started_ns}`.
struct ClosedPermit(RawPermit);

impl<'a> Decoder<'a> for ClosedPermit {
    #[inline]
    fn decode(term: Term<'a>) -> NifResult<Self> {
        match term.decode::<u32>() {
            Ok(generation) => Ok(Self(RawPermit::unmeasured(generation))),
            Err(_) => {
                let (generation, started_ns) = term.decode()?;
                Ok(Self(RawPermit::measured(generation, started_ns)))
            }
        }
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
            3 => Ok(Self(Outcome::Slow)),
            4 => Ok(Self(Outcome::Cancelled)),
            _ => Err(Error::BadArg),
        }
    }
}

/// Who decides, as the number that every language uses.
struct ModeArg(Mode);

impl<'a> Decoder<'a> for ModeArg {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        match term.decode::<u32>()? {
            0 => Ok(Self(Mode::Auto)),
            1 => Ok(Self(Mode::ForcedOpen)),
            2 => Ok(Self(Mode::ForcedClosed)),
            3 => Ok(Self(Mode::MetricsOnly)),
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
        RecordVerdict::NotFound => atoms::permit_not_found(),
    }
}

#[inline]
fn delayed<'a>(env: Env<'a>, delay_ns: u64, permit: Term<'a>) -> Term<'a> {
    if delay_ns == 0 { permit } else { (atoms::delayed(), delay_ns, permit).encode(env) }
}

fn rejected<'a>(env: Env<'a>, rejection: Rejection) -> Term<'a> {
    let reason = match rejection.reason {
        RejectReason::Open => atoms::circuit_open(),
        RejectReason::HalfOpenFull => atoms::half_open_full(),
        RejectReason::ForcedOpen => atoms::forced_open(),
        RejectReason::Degraded => atoms::service_degraded(),
        #[cfg(feature = "fault-injection")]
        RejectReason::FaultInjected => atoms::fault_injected(),
    };
    (reason, rejection.retry_after_ns).encode(env)
}
