//! Many checks in one call, each by itself.
//!
//! A native call must be short, whatever it is given. So a call takes as many members from the front of its list as
//! [`STEP`] and [`BYTES`] allow and hands back the rest, with the time that it has read; Elixir calls again with both. A key that has
//! to be written as a binary first stops it as well.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use elixirscope::limiter::Verdict;
use rustler::sys::{self, ErlNifTerm};
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
    told: Told,
}

/// What all results have in common, the least of their own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    /// Some are not what the caller is told.
    Raw,
    Plain,
    /// Each is `ok`.
    Admitted,
}

/// One member's.
struct Checked<'a> {
    result: Term<'a>,
    told: Told,
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
        let mut progress = Self {
            results: Vec::with_capacity(STEP),
            rest: list,
            now_ns,
            stopped: None,
            told: Told::Admitted,
        };
        let (env, mut rest_term, mut bytes) = (list.get_env(), list.as_c_arg(), 0);
        while progress.results.len() < STEP && bytes < BYTES {
            let Some((member, rest)) = cell(env, rest_term) else { break };
            // SAFETY: both are terms of the list's environment, in which `env` is.
            let member = unsafe { Term::new(env, member) };
            match check(member, now_ns)? {
                Ok(checked) => {
                    bytes += checked.bytes;
                    progress.told = progress.told.min(checked.told);
                    progress.results.push(checked.result);
                    rest_term = rest;
                }
                Err(unfit) => {
                    progress.stopped = Some(unfit);
                    break;
                }
            }
        }
        // SAFETY: it is a tail of the list.
        progress.rest = unsafe { Term::new(env, rest_term) };
        Ok(progress)
    }

    /// `{results, raw | plain | allowed, rest, now_ns, ok | why it stopped}`.
    fn encode(self, env: Env<'a>) -> Term<'a> {
        let share = self.results.len() as i32 * SLICE / STEP as i32;
        rustler::schedule::consume_timeslice(env, share.clamp(1, 100));
        let stopped = self.stopped.as_ref().map_or(atoms::ok(), unfit_atom);
        let told = match self.told {
            Told::Raw => atoms::raw(),
            Told::Plain => atoms::plain(),
            Told::Admitted => atoms::allowed(),
        };
        (self.results, told, self.rest, self.now_ns, stopped).encode(env)
    }
}

/// Head and tail of a list, as bare words: rustler's pair of terms is copied by a load that waits for its last store, a tenth
/// of the time that a check takes.
#[inline]
fn cell(env: Env, list: ErlNifTerm) -> Option<(ErlNifTerm, ErlNifTerm)> {
    let (mut head, mut tail) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: both pointers are valid for a write, and both are written where the answer is not zero.
    unsafe {
        let is_cell =
            sys::enif_get_list_cell(env.as_c_arg(), list, head.as_mut_ptr(), tail.as_mut_ptr()) != 0;
        is_cell.then(|| (head.assume_init(), tail.assume_init()))
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
    let mut names = limiter.keys(&by);
    let check = |key: Term<'a>, now| {
        Ok(names.next(key).map(|(key, bytes)| {
            let decision = limiter.check(key, &by, cost, || now);
            let (result, told) = match decision.verdict {
                Verdict::Allowed => (ok, Told::Admitted),
                Verdict::Limited => {
                    let refusal = (atoms::error(), atoms::rate_limited(), decision.retry_after_ms());
                    (refusal.encode(env), Told::Plain)
                }
                verdict => ((verdict_atom(verdict), decision.retry_after_ms()).encode(env), Told::Raw),
            };
            Checked { result, told, bytes }
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
                return Ok(Ok(Checked { result, told: Told::Plain, bytes: 0 }));
            }
        };
        Ok(limiter.keys(&by).next(key).map(|(key, bytes)| {
            let result = decision_term(env, &limiter.check(key, &by, cost, || now));
            Checked { result, told: Told::Plain, bytes }
        }))
    };
    Ok(Progress::over(limiter, charges, now_ns, check)?.encode(env))
}
