//! A limit with a name: a rule that changes while keys live.

use elixirscope::limiter::{ChangeError, Limit, Strategy};
use rustler::{Binary, Encoder, Env, NifResult, ResourceArc, Term};

use super::LimiterResource;
use super::answer::encode_refused;
use super::measure::{RuleArgs, rule};
use crate::atoms;
use crate::live::Live;
use crate::refusal::created;

pub struct LimitResource {
    core: Limit,
    /// Part of each of its keys, which no rule and no other limit measures.
    name: Box<[u8]>,
    _live: Live,
}

#[rustler::resource_impl(name = "escope_limit")]
impl rustler::Resource for LimitResource {}

impl LimitResource {
    #[inline]
    pub fn core(&self) -> &Limit {
        &self.core
    }

    #[inline]
    pub fn name(&self) -> &[u8] {
        &self.name
    }
}

/// `{ok, limit}` or `{error, {argument, value, allowed}}`.
#[rustler::nif]
fn limit_new<'a>(env: Env<'a>, name: Binary<'a>, numbers: RuleArgs, max_wait_ns: u64) -> Term<'a> {
    let core = rule(numbers).and_then(|rule| Limit::new(&rule, max_wait_ns));
    let name = name.as_slice().into();
    created(env, core.map(|core| LimitResource { core, name, _live: Live::limit() }))
}

/// `ok`, `{change_too_soon, retry_after_ns}` or `{error, {argument, value, allowed}}`.
#[rustler::nif]
fn limit_change<'a>(
    env: Env<'a>,
    limiter: &'a LimiterResource,
    limit: &'a LimitResource,
    numbers: RuleArgs,
    strategy: u64,
) -> NifResult<Term<'a>> {
    let strategy = Strategy::from_number(strategy).ok_or(rustler::Error::BadArg)?;
    let changed = rule(numbers)
        .map_err(ChangeError::Invalid)
        .and_then(|rule| limit.core.change(&rule, strategy, limiter.clock.now_ns()));
    Ok(match changed {
        Ok(()) => atoms::ok().to_term(env),
        Err(ChangeError::TooSoon { retry_after_ns }) => {
            (atoms::change_too_soon(), retry_after_ns).encode(env)
        }
        Err(ChangeError::Invalid(error)) => encode_refused(env, error.into()),
    })
}

/// `{{tokens, period_ns, burst}, max_wait_ns}` of now.
#[rustler::nif]
fn limit_rule(limit: ResourceArc<LimitResource>) -> (RuleArgs, u64) {
    let rule = limit.core.rule();
    ((rule.tokens(), rule.period_ns(), rule.burst()), limit.core.max_wait_ns())
}
