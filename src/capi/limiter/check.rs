//! Checks: the hot path.

use std::ffi::c_void;

use super::super::boundary::{Failure, Out, Verdict, bytes, guarded, input};
use super::super::status::escope_status;
use super::decision::{answer, escope_decision};
use super::escope_limiter;
use super::limit::escope_limit;
use super::rule::{escope_rule, keyed, with_keyed};
use crate::limiter::{Key, Limiter};
use crate::status::Status;
use crate::sync::monotonic_ns;

/// Takes `cost` tokens from a key's bucket, if they are there.
///
/// A key that was last checked under another rule keeps its debt as time. A refusal changes nothing.
///
/// Ownership: all memory stays the caller's and is not needed after the call.
///
/// @param limiter  the limiter.
/// @param key      bytes that name the key; may be NULL if `key_len` is 0.
/// @param key_len  their number.
/// @param rule     the rule.
/// @param cost     tokens to take; 0 takes none and is admitted where any cost could be.
/// @param decision receives the details, on OK and on a refusal; may be NULL.
/// @return OK: admitted; RATE_LIMITED; NEVER: `cost` is above the burst; TABLE_FULL: no place for a new key;
///         INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_check(
    limiter: *mut escope_limiter,
    key: *const c_void,
    key_len: usize,
    rule: *const escope_rule,
    cost: u64,
    decision: *mut escope_decision,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { check(limiter, key, key_len, rule, cost, decision, monotonic_ns) })
}

/// escope_limiter_check at a given time.
///
/// Ownership: all memory stays the caller's and is not needed after the call.
///
/// @param limiter  the limiter.
/// @param key      bytes that name the key; may be NULL if `key_len` is 0.
/// @param key_len  their number.
/// @param rule     the rule.
/// @param cost     tokens to take.
/// @param decision receives the details, on OK and on a refusal; may be NULL.
/// @param now_ns   the time; one that goes back is never more generous.
/// @return as escope_limiter_check.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_check_at(
    limiter: *mut escope_limiter,
    key: *const c_void,
    key_len: usize,
    rule: *const escope_rule,
    cost: u64,
    decision: *mut escope_decision,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { check(limiter, key, key_len, rule, cost, decision, || now_ns) })
}

/// As escope_limiter_check, by a limit with a name, as its rule is now.
///
/// A key that is measured by a limit must not be measured by a rule or by another limit as well: put the limit's
/// name into what the key is made of, such as "user:ann".
///
/// Ownership: all memory stays the caller's and is not needed after the call.
///
/// @param limiter  the limiter.
/// @param key      bytes that name the key; may be NULL if `key_len` is 0.
/// @param key_len  their number.
/// @param limit    the limit.
/// @param cost     tokens to take; 0 takes none and is admitted where any cost could be.
/// @param decision receives the details, on OK and on a refusal; may be NULL.
/// @return as escope_limiter_check.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_check_limit(
    limiter: *mut escope_limiter,
    key: *const c_void,
    key_len: usize,
    limit: *const escope_limit,
    cost: u64,
    decision: *mut escope_decision,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { check_limit(limiter, key, key_len, limit, cost, decision, monotonic_ns) })
}

/// escope_limiter_check_limit at a given time.
///
/// Ownership: all memory stays the caller's and is not needed after the call.
///
/// @param limiter  the limiter.
/// @param key      bytes that name the key; may be NULL if `key_len` is 0.
/// @param key_len  their number.
/// @param limit    the limit.
/// @param cost     tokens to take.
/// @param decision receives the details, on OK and on a refusal; may be NULL.
/// @param now_ns   the time.
/// @return as escope_limiter_check.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_check_limit_at(
    limiter: *mut escope_limiter,
    key: *const c_void,
    key_len: usize,
    limit: *const escope_limit,
    cost: u64,
    decision: *mut escope_decision,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { check_limit(limiter, key, key_len, limit, cost, decision, || now_ns) })
}

/// Says what a check of cost 1 would say, and takes nothing. Not counted.
///
/// Ownership: all memory stays the caller's and is not needed after the call.
///
/// @param limiter  the limiter.
/// @param key      bytes that name the key; may be NULL if `key_len` is 0.
/// @param key_len  their number.
/// @param rule     the rule.
/// @param decision receives the details, on OK and on a refusal; may be NULL.
/// @return as escope_limiter_check.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_peek(
    limiter: *const escope_limiter,
    key: *const c_void,
    key_len: usize,
    rule: *const escope_rule,
    decision: *mut escope_decision,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { peek(limiter, key, key_len, rule, decision, monotonic_ns) })
}

/// escope_limiter_peek at a given time.
///
/// Ownership: all memory stays the caller's and is not needed after the call.
///
/// @param limiter  the limiter.
/// @param key      bytes that name the key; may be NULL if `key_len` is 0.
/// @param key_len  their number.
/// @param rule     the rule.
/// @param decision receives the details, on OK and on a refusal; may be NULL.
/// @param now_ns   the time.
/// @return as escope_limiter_check.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_peek_at(
    limiter: *const escope_limiter,
    key: *const c_void,
    key_len: usize,
    rule: *const escope_rule,
    decision: *mut escope_decision,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { peek(limiter, key, key_len, rule, decision, || now_ns) })
}

/// As escope_limiter_peek, by a limit with a name, as its rule is now.
///
/// Ownership: all memory stays the caller's and is not needed after the call.
///
/// @param limiter  the limiter.
/// @param key      bytes that name the key; may be NULL if `key_len` is 0.
/// @param key_len  their number.
/// @param limit    the limit.
/// @param decision receives the details, on OK and on a refusal; may be NULL.
/// @return as escope_limiter_check.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_peek_limit(
    limiter: *const escope_limiter,
    key: *const c_void,
    key_len: usize,
    limit: *const escope_limit,
    decision: *mut escope_decision,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { peek_limit(limiter, key, key_len, limit, decision, monotonic_ns) })
}

/// escope_limiter_peek_limit at a given time.
///
/// Ownership: all memory stays the caller's and is not needed after the call.
///
/// @param limiter  the limiter.
/// @param key      bytes that name the key; may be NULL if `key_len` is 0.
/// @param key_len  their number.
/// @param limit    the limit.
/// @param decision receives the details, on OK and on a refusal; may be NULL.
/// @param now_ns   the time.
/// @return as escope_limiter_check.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_peek_limit_at(
    limiter: *const escope_limiter,
    key: *const c_void,
    key_len: usize,
    limit: *const escope_limit,
    decision: *mut escope_decision,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { peek_limit(limiter, key, key_len, limit, decision, || now_ns) })
}

/// Gives a key its full burst back, and forgets the reservations of it. A key that owes nothing stays as it is.
///
/// Ownership: `key` stays the caller's.
///
/// @param limiter the limiter.
/// @param key     bytes that name the key; may be NULL if `key_len` is 0.
/// @param key_len their number.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_reset(
    limiter: *mut escope_limiter,
    key: *const c_void,
    key_len: usize,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { reset(limiter, key, key_len) })
}

/// Whom a call is about, and where its details go.
struct Subject<'a> {
    limiter: &'a Limiter,
    key: Key,
    decision: Option<Out<escope_decision>>,
}

impl<'a> Subject<'a> {
    /// # Safety
    /// Each pointer is NULL or valid for what the header says, for `'a`.
    #[inline(always)]
    unsafe fn new(
        limiter: *const escope_limiter,
        key: *const c_void,
        key_len: usize,
        decision: *mut escope_decision,
    ) -> Result<Self, Failure> {
        // SAFETY: the caller's contract.
        let (limiter, key, decision) = unsafe {
            (
                &input::<escope_limiter>(limiter, "limiter")?.core,
                bytes(key.cast(), key_len, "key")?,
                Out::optional(decision, "decision")?,
            )
        };
        Ok(Self { limiter, key: limiter.key(key), decision })
    }
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
#[inline(always)]
unsafe fn check(
    limiter: *const escope_limiter,
    key: *const c_void,
    key_len: usize,
    rule: *const escope_rule,
    cost: u64,
    decision: *mut escope_decision,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (subject, rule) = unsafe { (Subject::new(limiter, key, key_len, decision)?, input(rule, "rule")?) };
    let decision = with_keyed(rule, |rule| subject.limiter.check(subject.key, rule, cost, now))?;
    Ok(answer(decision, subject.decision.as_ref()))
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn check_limit(
    limiter: *const escope_limiter,
    key: *const c_void,
    key_len: usize,
    limit: *const escope_limit,
    cost: u64,
    decision: *mut escope_decision,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (subject, limit) =
        unsafe { (Subject::new(limiter, key, key_len, decision)?, input(limit, "limit")?) };
    let decision = subject.limiter.check_limit(subject.key, limit.core(), cost, now);
    Ok(answer(decision, subject.decision.as_ref()))
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn peek(
    limiter: *const escope_limiter,
    key: *const c_void,
    key_len: usize,
    rule: *const escope_rule,
    decision: *mut escope_decision,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (subject, rule) = unsafe { (Subject::new(limiter, key, key_len, decision)?, input(rule, "rule")?) };
    let decision = subject.limiter.peek(subject.key, &keyed(rule)?, now);
    Ok(answer(decision, subject.decision.as_ref()))
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn peek_limit(
    limiter: *const escope_limiter,
    key: *const c_void,
    key_len: usize,
    limit: *const escope_limit,
    decision: *mut escope_decision,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (subject, limit) =
        unsafe { (Subject::new(limiter, key, key_len, decision)?, input(limit, "limit")?) };
    let decision = subject.limiter.peek_limit(subject.key, limit.core(), now);
    Ok(answer(decision, subject.decision.as_ref()))
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn reset(limiter: *const escope_limiter, key: *const c_void, key_len: usize) -> Verdict {
    // SAFETY: the caller's contract.
    let subject = unsafe { Subject::new(limiter, key, key_len, std::ptr::null_mut()) }?;
    subject.limiter.reset(subject.key);
    Ok(Status::Ok)
}
