//! Verdicts of the core as terms.

use elixirscope::error::ConfigError;
use elixirscope::limiter::{Adjusted, Decision, Verdict};
use rustler::{Atom, Encoder, Env, Term};

use crate::atoms;
use crate::key::Unfit;
use crate::refusal::refusal;

/// Why there was no decision.
pub enum Refused {
    Config(ConfigError),
    Key(Unfit),
}

impl From<ConfigError> for Refused {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<Unfit> for Refused {
    fn from(unfit: Unfit) -> Self {
        Self::Key(unfit)
    }
}

pub fn verdict_atom(verdict: Verdict) -> Atom {
    match verdict {
        Verdict::Allowed => atoms::allowed(),
        Verdict::Limited => atoms::rate_limited(),
        Verdict::Never => atoms::never(),
        Verdict::TableFull => atoms::table_full(),
    }
}

/// `{verdict, remaining, limit, retry_after_ns, reset_after_ns}`.
pub fn decision_term<'a>(env: Env<'a>, decision: &Decision) -> Term<'a> {
    let Decision { verdict, remaining, limit, retry_after_ns, reset_after_ns } = *decision;
    (verdict_atom(verdict), remaining, limit, retry_after_ns, reset_after_ns).encode(env)
}

pub fn encode_decision<'a>(env: Env<'a>, result: Result<Decision, Refused>) -> Term<'a> {
    match result {
        Ok(decision) => decision_term(env, &decision),
        Err(refused) => encode_refused(env, refused),
    }
}

/// `ok`, `{refusal, retry_after_ms}` or `{error, ...}`.
pub fn encode_check<'a>(env: Env<'a>, result: Result<Decision, Refused>) -> Term<'a> {
    match result {
        Ok(decision) if decision.is_allowed() => atoms::ok().to_term(env),
        Ok(decision) => (verdict_atom(decision.verdict), decision.retry_after_ms()).encode(env),
        Err(refused) => encode_refused(env, refused),
    }
}

pub fn encode_refused<'a>(env: Env<'a>, refused: Refused) -> Term<'a> {
    match refused {
        Refused::Config(error) => (atoms::error(), refusal(error)).encode(env),
        Refused::Key(unfit) => (atoms::error(), unfit_atom(&unfit)).encode(env),
    }
}

pub fn unfit_atom(unfit: &Unfit) -> Atom {
    match unfit {
        Unfit::TooLarge => atoms::key_too_large(),
        Unfit::Opaque => atoms::key_opaque(),
    }
}

/// How a refund went, or why it was not made.
pub fn encode_adjusted<'a>(env: Env<'a>, adjusted: Result<Adjusted, Refused>) -> Term<'a> {
    match adjusted {
        Ok(adjusted) => adjusted_atom(adjusted).to_term(env),
        Err(refused) => encode_refused(env, refused),
    }
}

pub fn adjusted_atom(adjusted: Adjusted) -> Atom {
    match adjusted {
        Adjusted::Applied => atoms::applied(),
        Adjusted::Forfeited => atoms::forfeited(),
        Adjusted::Saturated => atoms::saturated(),
        Adjusted::TooLate => atoms::too_late(),
    }
}
