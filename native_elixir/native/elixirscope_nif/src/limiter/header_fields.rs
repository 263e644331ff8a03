//! A decision as values of HTTP header fields.

use elixirscope::limiter::{Decision, PolicyName, Rule, Verdict};
use rustler::{Atom, Encoder, Env, NifResult, Term};

use super::answer::encode_refused;
use super::measure::RuleArgs;
use crate::atoms;

fn verdict(name: Atom) -> Option<Verdict> {
    [
        (atoms::allowed(), Verdict::Allowed),
        (atoms::rate_limited(), Verdict::Limited),
        (atoms::never(), Verdict::Never),
        (atoms::table_full(), Verdict::TableFull),
    ]
    .into_iter()
    .find_map(|(known, verdict)| (known == name).then_some(verdict))
}

/// `{policy, limit, retry_after_s | nil}` or `{error, {argument, value, allowed}}`.
#[rustler::nif]
fn limiter_header_fields<'a>(
    env: Env<'a>,
    name: &'a str,
    rule: RuleArgs,
    decision: (Atom, u64, u64, u64, u64),
) -> NifResult<Term<'a>> {
    let (word, remaining, limit, retry_after_ns, reset_after_ns) = decision;
    let verdict = verdict(word).ok_or(rustler::Error::BadArg)?;
    let decision = Decision { verdict, remaining, limit, retry_after_ns, reset_after_ns };
    let (tokens, period_ns, burst) = rule;
    let made = PolicyName::new(name).and_then(|name| Ok((name, Rule::new(tokens, period_ns, burst)?)));
    Ok(match made {
        Ok((name, rule)) => {
            let (mut policy, mut limit) = (String::new(), String::new());
            // Nothing is refused by a string.
            let written = name.write_policy(&rule, &mut policy).and(name.write_limit(&decision, &mut limit));
            debug_assert!(written.is_ok());
            (policy, limit, decision.retry_after_s()).encode(env)
        }
        Err(error) => encode_refused(env, error.into()),
    })
}
