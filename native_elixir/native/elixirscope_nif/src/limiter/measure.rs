//! By what a call is measured: a rule `{tokens, period_ns, burst}`, or a limit with a name.

use std::cell::Cell;

use elixirscope::error::ConfigError;
use elixirscope::limiter::{By, KeyedRule, Rule};
use rustler::{Error, NifResult, ResourceArc, Term};

use super::limit::LimitResource;

pub type RuleArgs = (u64, u64, u64);

thread_local! {
    // Making a rule reduces a fraction, and nearly every call of a scheduler brings the rule of the one before.
    static LATEST: Cell<Option<(RuleArgs, KeyedRule)>> = const { Cell::new(None) };
}

/// The rule of `tokens` per `period_ns` with a `burst`.
#[inline]
pub fn rule(args: RuleArgs) -> Result<KeyedRule, ConfigError> {
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

pub enum Measure {
    Rule(KeyedRule),
    Limit(ResourceArc<LimitResource>),
}

impl Measure {
    /// A term that is neither is a bad argument, a rule that is out of range a refusal.
    pub fn decode(term: Term) -> NifResult<Result<Self, ConfigError>> {
        if term.is_tuple() {
            return Ok(rule(term.decode()?).map(Self::Rule));
        }
        let limit: ResourceArc<LimitResource> = term.decode().map_err(|_| Error::BadArg)?;
        Ok(Ok(Self::Limit(limit)))
    }

    pub fn by(&self) -> By<'_> {
        match self {
            Self::Rule(rule) => By::Rule(rule),
            Self::Limit(limit) => By::Limit(limit.core()),
        }
    }

    pub fn limit(&self) -> Option<&ResourceArc<LimitResource>> {
        match self {
            Self::Rule(_) => None,
            Self::Limit(limit) => Some(limit),
        }
    }
}
