//! Many checks in one call, each by itself.
//!
//! A native call must be short, whatever it is given. So a call takes as many members from the front of its list as
//! [`STEP`] and [`BYTES`] allow and hands back the rest, with the time that it has read; Elixir calls again with both. A key that has
//! to be written as a binary first stops it as well.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use elixirscope::limiter::{Key, Verdict};
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
/// So many keys are found before the first of them is checked. Their entries are on the way from memory, or from another
/// scheduler's cache, in the meantime.
const AHEAD: usize = 16;

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
}

/// A member whose key is known.
struct Found<M> {
    key: Key,
    /// Length of the key.
    bytes: usize,
    /// By what it is measured, and such.
    member: M,
}

impl<'a> Progress<'a> {
    /// `find` finds a member's key, or says that it has to be written first; `check` answers for it.
    fn over<M>(
        limiter: &LimiterResource,
        list: Term<'a>,
        now_ns: Option<u64>,
        mut find: impl FnMut(Term<'a>) -> NifResult<Result<Found<M>, Unfit>>,
        mut check: impl FnMut(Found<M>, u64) -> Checked<'a>,
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
        let mut ahead = Vec::with_capacity(AHEAD);
        while progress.stopped.is_none() {
            while ahead.len() < AHEAD && progress.results.len() + ahead.len() < STEP && bytes < BYTES {
                let Some((member, rest)) = cell(env, rest_term) else { break };
                // SAFETY: both are terms of the list's environment, in which `env` is.
                match find(unsafe { Term::new(env, member) })? {
                    Ok(found) => {
                        limiter.core.prefetch(found.key);
                        bytes += found.bytes;
                        ahead.push(found);
                        rest_term = rest;
                    }
                    Err(unfit) => {
                        progress.stopped = Some(unfit);
                        break;
                    }
                }
            }
            if ahead.is_empty() {
                break;
            }
            for found in ahead.drain(..) {
                let checked = check(found, now_ns);
                progress.told = progress.told.min(checked.told);
                progress.results.push(checked.result);
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
    let find = |key| Ok(names.next(key).map(|(key, bytes)| Found { key, bytes, member: () }));
    let check = |found: Found<()>, now| {
        let decision = limiter.check(found.key, &by, cost, || now);
        let (result, told) = match decision.verdict {
            Verdict::Allowed => (ok, Told::Admitted),
            Verdict::Limited => {
                let refusal = (atoms::error(), atoms::rate_limited(), decision.retry_after_ms());
                (refusal.encode(env), Told::Plain)
            }
            verdict => ((verdict_atom(verdict), decision.retry_after_ms()).encode(env), Told::Raw),
        };
        Checked { result, told }
    };
    Ok(Progress::over(limiter, keys, now_ns, find, check)?.encode(env))
}

/// Checks members `{key, by, cost}`: each result is as that of `limiter_decide`.
#[rustler::nif]
fn limiter_check_batch<'a>(
    env: Env<'a>,
    limiter: &'a LimiterResource,
    charges: Term<'a>,
    now_ns: Option<u64>,
) -> NifResult<Term<'a>> {
    let find = |charge: Term<'a>| {
        let (key, by, cost): (Term, Term, u64) = charge.decode()?;
        // A rule that is out of range is its member's alone.
        let by = match Measure::decode(by)? {
            Ok(by) => by,
            Err(error) => {
                let member = Err(encode_refused(env, error.into()));
                return Ok(Ok(Found { key: Key::from_raw(0), bytes: 0, member }));
            }
        };
        let key = limiter.keys(&by).next(key);
        Ok(key.map(|(key, bytes)| Found { key, bytes, member: Ok((by, cost)) }))
    };
    let check = |found: Found<Result<(Measure, u64), Term<'a>>>, now| {
        let result = match found.member {
            Ok((by, cost)) => decision_term(env, &limiter.check(found.key, &by, cost, || now)),
            Err(refused) => refused,
        };
        Checked { result, told: Told::Plain }
    };
    Ok(Progress::over(limiter, charges, now_ns, find, check)?.encode(env))
}
