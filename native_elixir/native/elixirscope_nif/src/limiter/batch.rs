//! Many checks in one call, each by itself.
//!
//! A native call must be short, whatever it is given. So a call takes as many members from the front of its list as
//! [`STEP`] and [`BYTES`] allow and hands back the rest, with the time that it has read; Elixir calls again with both. A key that has
//! to be written as a binary first stops it as well.

use elixirscope::limiter::Verdict;
use rustler::{Encoder, Env, NifResult, Term};

use super::LimiterResource;
use super::answer::{decision_term, encode_refused, unfit_atom, verdict_atom};
use super::measure::Measure;
use crate::atoms;
use crate::key::{MAX_BYTES, Unfit};

/// Most members of a call.
const STEP: usize = 1_000;
/// Members that are long by themselves count for many.
const BYTES: usize = 4 * MAX_BYTES;
/// What a full call takes of a process's time slice, in percent.
const SLICE: i32 = 10;

/// Of one list, as far as a call has come.
struct Progress<'a> {
    results: Vec<Term<'a>>,
    rest: Term<'a>,
    now_ns: u64,
    stopped: Option<Unfit>,
    /// Whether each result is what the caller is told.
    plain: bool,
}

/// One member's.
struct Checked<'a> {
    result: Term<'a>,
    plain: bool,
    /// Length of its key.
    bytes: usize,
}

impl<'a> Progress<'a> {
    /// `check` answers for a member, or says that its key has to be written first.
    fn over(
        limiter: &LimiterResource,
        list: Term<'a>,
        now_ns: Option<u64>,
        mut check: impl FnMut(Term<'a>, u64) -> NifResult<Result<Checked<'a>, Unfit>>,
    ) -> NifResult<Self> {
        let now_ns = now_ns.unwrap_or_else(|| limiter.clock.now_ns());
        let mut progress =
            Self { results: Vec::with_capacity(STEP), rest: list, now_ns, stopped: None, plain: true };
        let mut bytes = 0;
        while progress.results.len() < STEP && bytes < BYTES {
            if progress.rest.is_empty_list() {
                break;
            }
            let (member, rest) = progress.rest.list_get_cell()?;
            match check(member, now_ns)? {
                Ok(checked) => {
                    bytes += checked.bytes;
                    progress.plain &= checked.plain;
                    progress.results.push(checked.result);
                    progress.rest = rest;
                }
                Err(unfit) => {
                    progress.stopped = Some(unfit);
                    break;
                }
            }
        }
        Ok(progress)
    }

    /// `{results, plain, rest, now_ns, ok | why it stopped}`.
    fn encode(self, env: Env<'a>) -> Term<'a> {
        let share = self.results.len() as i32 * SLICE / STEP as i32;
        rustler::schedule::consume_timeslice(env, share.clamp(1, 100));
        let stopped = self.stopped.as_ref().map_or(atoms::ok(), unfit_atom);
        (self.results, self.plain, self.rest, self.now_ns, stopped).encode(env)
    }
}

/// Checks keys by one rule or limit: each result is `ok`, `{error, rate_limited, retry_after_ms}`, or not plain,
/// `{refusal, retry_after_ms}`.
#[rustler::nif]
fn limiter_check_each<'a>(
    env: Env<'a>,
    limiter: &'a LimiterResource,
    keys: Term<'a>,
    by: Term<'a>,
    cost: u64,
    now_ns: Option<u64>,
) -> NifResult<Term<'a>> {
    let by = match Measure::decode(by)? {
        Ok(by) => by,
        Err(error) => return Ok(encode_refused(env, error.into())),
    };
    let ok = atoms::ok().to_term(env);
    let check = |key: Term<'a>, now| {
        Ok(limiter.sized_key(key, &by).map(|(key, bytes)| {
            let decision = limiter.check(key, &by, cost, || now);
            let (result, plain) = match decision.verdict {
                Verdict::Allowed => (ok, true),
                Verdict::Limited => {
                    let refusal = (atoms::error(), atoms::rate_limited(), decision.retry_after_ms());
                    (refusal.encode(env), true)
                }
                verdict => ((verdict_atom(verdict), decision.retry_after_ms()).encode(env), false),
            };
            Checked { result, plain, bytes }
        }))
    };
    Ok(Progress::over(limiter, keys, now_ns, check)?.encode(env))
}

/// Checks members `{key, by, cost}`: each result is as that of `limiter_decide`.
#[rustler::nif]
fn limiter_check_batch<'a>(
    env: Env<'a>,
    limiter: &'a LimiterResource,
    charges: Term<'a>,
    now_ns: Option<u64>,
) -> NifResult<Term<'a>> {
    let check = |charge: Term<'a>, now| {
        let (key, by, cost): (Term, Term, u64) = charge.decode()?;
        let by = match Measure::decode(by)? {
            Ok(by) => by,
            Err(error) => {
                let result = encode_refused(env, error.into());
                return Ok(Ok(Checked { result, plain: true, bytes: 0 }));
            }
        };
        Ok(limiter.sized_key(key, &by).map(|(key, bytes)| {
            let result = decision_term(env, &limiter.check(key, &by, cost, || now));
            Checked { result, plain: true, bytes }
        }))
    };
    Ok(Progress::over(limiter, charges, now_ns, check)?.encode(env))
}
