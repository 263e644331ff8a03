//! Limits with a name: rules that many keys share and that may change while the keys live.
//!
//! A limit is found by its name once; what calls take is the handle. The names are a limiter's own.

use std::ffi::c_char;

use super::super::boundary::{Failure, Out, Verdict, guarded, input, invalid, text};
use super::super::handle::{self, Reference};
use super::super::status::escope_status;
use super::escope_limiter;
use super::rule::{escope_rule, keyed};
use crate::limiter::{ChangeError, Limit, Strategy};
use crate::status::Status;
use crate::sync::monotonic_ns;

/// A key has as many tokens left as before the change, at most the new burst.
pub const ESCOPE_CHANGE_AS_IS: i32 = 0;
/// A key has the same share of the burst left.
pub const ESCOPE_CHANGE_PROPORTIONAL: i32 = 1;
/// A key has as many left as before, and what the burst has grown by.
pub const ESCOPE_CHANGE_ADDITIVE: i32 = 2;
/// A key has a full bucket.
pub const ESCOPE_CHANGE_RESET: i32 = 3;

/// Longest name of a limit, in bytes.
const MAX_NAME: usize = 255;

/// A limit with a name. Opaque; shared by any number of threads.
pub struct escope_limit {
    core: Limit,
}

impl escope_limit {
    #[inline]
    pub(super) fn core(&self) -> &Limit {
        &self.core
    }
}

/// Defines a limit: a rule with a name, that many keys share and that may change while they live.
///
/// Ownership: `name` and `rule` stay the caller's and are not needed after the call. `*out` is one reference, the
/// caller's; give it back with escope_limit_free. The limiter keeps one too.
///
/// @param limiter     the limiter.
/// @param name        1 to 255 bytes, ending in NUL; a name that was defined before is refused.
/// @param rule        its rule; the burst is at most 2^32 - 1.
/// @param max_wait_ns longest wait of a reservation by this limit, up to 2^58 - 1.
/// @param out         receives the limit; may be NULL.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. May block, for as long as another call defines or looks up a limit of this
/// limiter; so not in a signal handler. Allocates.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_define(
    limiter: *mut escope_limiter,
    name: *const c_char,
    rule: *const escope_rule,
    max_wait_ns: u64,
    out: *mut *mut escope_limit,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { define(limiter, name, rule, max_wait_ns, out) })
}

/// Finds a limit by its name.
///
/// Ownership: `name` stays the caller's. `*out` is one reference, the caller's; give it back with escope_limit_free.
///
/// @param limiter the limiter that it was defined for.
/// @param name    its name, ending in NUL.
/// @param out     receives the limit.
/// @return OK; INVALID_ARGUMENT, also if the limiter has no limit of this name.
///
/// Thread safety: any thread, concurrently. May block, for as long as another call defines or looks up a limit of this
/// limiter; so not in a signal handler.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_lookup(
    limiter: *const escope_limiter,
    name: *const c_char,
    out: *mut *mut escope_limit,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { lookup(limiter, name, out) })
}

/// Adds a reference.
///
/// Ownership: the result is a reference of its own, to be given back with escope_limit_free.
///
/// @param limit a limit, or NULL.
/// @return `limit`.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limit_ref(limit: *mut escope_limit) -> *mut escope_limit {
    // SAFETY: the caller gives NULL or a live handle.
    unsafe { handle::share(limit) }
}

/// Gives a reference back. The limiter's own goes with the limiter; the last one ends the limit.
///
/// Ownership: takes the caller's reference; using it afterwards is undefined.
///
/// @param limit a limit; NULL does nothing.
///
/// Thread safety: any thread, but not concurrently with a call that relies on the same reference. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limit_free(limit: *mut escope_limit) {
    // SAFETY: the caller gives NULL or a reference that it owns.
    unsafe { handle::release(limit) }
}

/// Replaces a limit's rule. Keys that owe tokens are carried over when they are used next, with what they had left at
/// the time of the change.
///
/// Ownership: `rule` stays the caller's and is not needed after the call.
///
/// @param limit          the limit.
/// @param rule           the new rule; the burst is at most 2^32 - 1.
/// @param strategy       ESCOPE_CHANGE_*: what becomes of the tokens that a key has left.
/// @param retry_after_ns receives the time until the change is possible: 0, or what CHANGE_TOO_SOON waits for; may be NULL.
/// @return OK; CHANGE_TOO_SOON: keys may still owe from the rule that was in force four changes before; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. May block, for as long as another call changes this limit; so not in a
/// signal handler. Checks by the limit never wait.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limit_change(
    limit: *mut escope_limit,
    rule: *const escope_rule,
    strategy: i32,
    retry_after_ns: *mut u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { change(limit, rule, strategy, retry_after_ns, monotonic_ns) })
}

/// escope_limit_change at a given time.
///
/// Ownership: `rule` stays the caller's and is not needed after the call.
///
/// @param limit          the limit.
/// @param rule           the new rule; the burst is at most 2^32 - 1.
/// @param strategy       ESCOPE_CHANGE_*: what becomes of the tokens that a key has left.
/// @param retry_after_ns receives the time until the change is possible: 0, or what CHANGE_TOO_SOON waits for; may be NULL.
/// @param now_ns         the time; one before the last change counts as that.
/// @return as escope_limit_change.
///
/// Thread safety: any thread, concurrently. May block, for as long as another call changes this limit; so not in a
/// signal handler. Checks by the limit never wait.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limit_change_at(
    limit: *mut escope_limit,
    rule: *const escope_rule,
    strategy: i32,
    retry_after_ns: *mut u64,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { change(limit, rule, strategy, retry_after_ns, || now_ns) })
}

/// Tells the rule of now, as it is applied: the one that was given, or the nearest slower one that the table can hold, by
/// less than 0.1 %.
///
/// Ownership: `rule` stays the caller's.
///
/// @param limit the limit.
/// @param rule  receives the rule.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limit_rule(
    limit: *const escope_limit,
    rule: *mut escope_rule,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { rule_of(limit, rule) })
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn define(
    limiter: *const escope_limiter,
    name: *const c_char,
    rule: *const escope_rule,
    max_wait_ns: u64,
    out: *mut *mut escope_limit,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (limiter, name, rule, out) = unsafe {
        (input(limiter, "limiter")?, text(name, "name")?, input(rule, "rule")?, Out::optional(out, "out")?)
    };
    let key = name.to_bytes();
    if !(1..=MAX_NAME).contains(&key.len()) {
        return Err(invalid("name", format_args!("{} bytes long", key.len()), "1 to 255 bytes"));
    }
    let core = Limit::new(&keyed(rule)?, max_wait_ns)?;
    let mut limits = limiter.limits.lock();
    if limits.contains_key(key) {
        let value = format_args!("\"{}\"", name.to_string_lossy());
        return Err(invalid("name", value, "a name that this limiter has no limit of yet"));
    }
    let limit = Reference::new(escope_limit { core });
    if let Some(out) = out {
        out.set(limit.share());
    }
    limits.insert(key.into(), limit);
    Ok(Status::Ok)
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn lookup(
    limiter: *const escope_limiter,
    name: *const c_char,
    out: *mut *mut escope_limit,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (limiter, name, out) =
        unsafe { (input(limiter, "limiter")?, text(name, "name")?, Out::required(out, "out")?) };
    match limiter.limits.lock().get(name.to_bytes()) {
        Some(limit) => out.set(limit.share()),
        None => {
            let value = format_args!("\"{}\"", name.to_string_lossy());
            return Err(invalid("name", value, "a limit that was defined for this limiter"));
        }
    }
    Ok(Status::Ok)
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn change(
    limit: *const escope_limit,
    rule: *const escope_rule,
    number: i32,
    retry_after_ns: *mut u64,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (limit, rule, wait) = unsafe {
        (input(limit, "limit")?, input(rule, "rule")?, Out::optional(retry_after_ns, "retry_after_ns")?)
    };
    let (status, retry_after_ns) = match limit.core.change(&keyed(rule)?, strategy(number)?, now()) {
        Ok(()) => (Status::Ok, 0),
        Err(ChangeError::TooSoon { retry_after_ns }) => (Status::ChangeTooSoon, retry_after_ns),
        Err(ChangeError::Invalid(error)) => return Err(error.into()),
    };
    if let Some(wait) = wait {
        wait.set(retry_after_ns);
    }
    Ok(status)
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn rule_of(limit: *const escope_limit, rule: *mut escope_rule) -> Verdict {
    // SAFETY: the caller's contract.
    let (limit, rule) = unsafe { (input(limit, "limit")?, Out::required(rule, "rule")?) };
    rule.set((&limit.core.rule()).into());
    Ok(Status::Ok)
}

/// The strategy with this number.
fn strategy(number: i32) -> Result<Strategy, Failure> {
    u64::try_from(number)
        .ok()
        .and_then(Strategy::from_number)
        .ok_or_else(|| invalid("strategy", number, "0 (as is), 1 (proportional), 2 (additive) or 3 (reset)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_strategies_are_the_cores() {
        for number in ESCOPE_CHANGE_AS_IS..=ESCOPE_CHANGE_RESET {
            assert_eq!(strategy(number).map(|strategy| strategy as i32), Ok(number));
        }
        assert!(strategy(-1).is_err() && strategy(ESCOPE_CHANGE_RESET + 1).is_err());
    }
}
