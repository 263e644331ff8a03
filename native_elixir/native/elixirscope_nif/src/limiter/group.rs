//! Several keys in one call, all or nothing.

use elixirscope::limiter::{Charge, Decision, Key, MAX_GROUP, Verdict};
use rustler::{Encoder, Env, NifResult, Term};

use super::LimiterResource;
use super::answer::{decision_term, encode_refused, unfit_atom, verdict_atom};
use super::measure::Measure;
use crate::atoms;

const NOTHING: Decision =
    Decision { verdict: Verdict::Allowed, remaining: 0, limit: 0, retry_after_ns: 0, reset_after_ns: 0 };

/// Debits members `{key, by, cost}`: `{verdict, retry_after_ns, decisions}`, or `{error, {argument, value, allowed}}`, or
/// `{error, {key_opaque | key_too_large, index}}`.
#[rustler::nif]
fn limiter_check_many<'a>(
    env: Env<'a>,
    limiter: &'a LimiterResource,
    charges: Term<'a>,
) -> NifResult<Term<'a>> {
    let mut members: Vec<(Key, Measure, u64)> = Vec::with_capacity(MAX_GROUP);
    let mut rest = charges;
    // One more than may be is enough for the core to refuse them.
    while !rest.is_empty_list() && members.len() <= MAX_GROUP {
        let (charge, tail) = rest.list_get_cell()?;
        let (key, by, cost): (Term, Term, u64) = charge.decode()?;
        let by = match Measure::decode(by)? {
            Ok(by) => by,
            Err(error) => return Ok(encode_refused(env, error.into())),
        };
        match limiter.key(key, &by) {
            Ok(key) => members.push((key, by, cost)),
            Err(unfit) => return Ok((atoms::error(), (unfit_atom(&unfit), members.len())).encode(env)),
        }
        rest = tail;
    }
    let charges: Vec<Charge> =
        members.iter().map(|(key, by, cost)| Charge { key: *key, by: by.by(), cost: *cost }).collect();
    let mut decisions = vec![NOTHING; charges.len()];
    Ok(match limiter.core.check_many(&charges, &mut decisions, || limiter.clock.now_ns()) {
        Ok(group) => {
            let decisions: Vec<Term> = decisions.iter().map(|one| decision_term(env, one)).collect();
            (verdict_atom(group.verdict), group.retry_after_ns, decisions).encode(env)
        }
        Err(error) => encode_refused(env, error.into()),
    })
}
