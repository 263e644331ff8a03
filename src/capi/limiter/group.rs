//! Many keys in one call: all or nothing, or each by itself.

use std::ffi::c_void;

use super::super::boundary::{Failure, Out, Verdict, bytes, guarded, input, invalid};
use super::super::status::escope_status;
use super::decision::{escope_decision, status};
use super::escope_limiter;
use super::limit::escope_limit;
use super::rule::{escope_rule, keyed};
use crate::limiter::{self, By, Charge, Decision, KeyedRule, Limit, Limiter, MAX_GROUP};
use crate::status::Status;
use crate::sync::monotonic_ns;

/// Most charges of escope_limiter_check_many.
pub const ESCOPE_MAX_GROUP: usize = 32;

/// Whom to debit, by what, how much. Exactly one of `rule` and `limit` is not NULL.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct escope_charge {
    /// Bytes that name the key; may be NULL if `key_len` is 0.
    pub key: *const c_void,
    /// Their number.
    pub key_len: usize,
    /// By this rule;
    pub rule: *const escope_rule,
    /// or by this limit with a name.
    pub limit: *const escope_limit,
    /// Tokens to take.
    pub cost: u64,
}

/// Takes the tokens of all charges, or none: user, organisation and everybody in one call.
///
/// Charges of one key are summed, and measured as the first of them. While a group is under way, another call may be refused
/// a token that the group then gives back; no call is ever admitted beyond what each key allows.
///
/// Ownership: all memory stays the caller's and is not needed after the call.
///
/// @param limiter        the limiter.
/// @param charges        whom to debit; NULL is allowed for none.
/// @param count          their number, 0 to ESCOPE_MAX_GROUP.
/// @param decisions      `count` places that receive what each key says by itself, on OK and on a refusal; those whose
///                       status is not OK are to blame. May be NULL.
/// @param refused        receives the index of the first charge that is refused as the group is; `count` on OK. May be NULL.
/// @param retry_after_ns receives the time until the group is admitted if nobody else comes: 0 on OK, UINT64_MAX for
///                       NEVER. May be NULL.
/// @return OK: all were taken; else nothing was, and the gravest refusal: NEVER, TABLE_FULL, RATE_LIMITED; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_check_many(
    limiter: *mut escope_limiter,
    charges: *const escope_charge,
    count: usize,
    decisions: *mut escope_decision,
    refused: *mut usize,
    retry_after_ns: *mut u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe {
        check_many(limiter, charges, count, decisions, refused, retry_after_ns, monotonic_ns)
    })
}

/// escope_limiter_check_many at a given time.
///
/// Ownership: all memory stays the caller's and is not needed after the call.
///
/// @param limiter        the limiter.
/// @param charges        whom to debit; NULL is allowed for none.
/// @param count          their number, 0 to ESCOPE_MAX_GROUP.
/// @param decisions      `count` places that receive what each key says by itself, on OK and on a refusal; those whose
///                       status is not OK are to blame. May be NULL.
/// @param refused        receives the index of the first charge that is refused as the group is; `count` on OK. May be NULL.
/// @param retry_after_ns receives the time until the group is admitted if nobody else comes: 0 on OK, UINT64_MAX for
///                       NEVER. May be NULL.
/// @param now_ns         the time.
/// @return as escope_limiter_check_many.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_check_many_at(
    limiter: *mut escope_limiter,
    charges: *const escope_charge,
    count: usize,
    decisions: *mut escope_decision,
    refused: *mut usize,
    retry_after_ns: *mut u64,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { check_many(limiter, charges, count, decisions, refused, retry_after_ns, || now_ns) })
}

/// Checks each charge by itself, in order, as so many calls would at the same moment. A refusal does not stop the rest.
///
/// Ownership: all memory stays the caller's and is not needed after the call.
///
/// @param limiter   the limiter.
/// @param charges   whom to debit; NULL is allowed for none.
/// @param count     their number; any.
/// @param decisions `count` places that receive what each charge says, its status among it; may be NULL for none.
/// @param admitted  receives how many were admitted; may be NULL.
/// @return OK, whatever the single verdicts are; INVALID_ARGUMENT: nothing was taken.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_check_batch(
    limiter: *mut escope_limiter,
    charges: *const escope_charge,
    count: usize,
    decisions: *mut escope_decision,
    admitted: *mut usize,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { check_batch(limiter, charges, count, decisions, admitted, monotonic_ns) })
}

/// escope_limiter_check_batch at a given time.
///
/// Ownership: all memory stays the caller's and is not needed after the call.
///
/// @param limiter   the limiter.
/// @param charges   whom to debit; NULL is allowed for none.
/// @param count     their number; any.
/// @param decisions `count` places that receive what each charge says, its status among it; may be NULL for none.
/// @param admitted  receives how many were admitted; may be NULL.
/// @param now_ns    the time.
/// @return as escope_limiter_check_batch.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_check_batch_at(
    limiter: *mut escope_limiter,
    charges: *const escope_charge,
    count: usize,
    decisions: *mut escope_decision,
    admitted: *mut usize,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { check_batch(limiter, charges, count, decisions, admitted, || now_ns) })
}

/// A caller's charge, checked.
pub(super) struct ChargeInput<'a> {
    key: &'a [u8],
    by: ByInput<'a>,
    cost: u64,
}

enum ByInput<'a> {
    Rule(KeyedRule),
    Limit(&'a Limit),
}

impl<'a> ChargeInput<'a> {
    /// # Safety
    /// The pointers in `charge` are NULL or valid for what the header says, for `'a`.
    pub(super) unsafe fn new(charge: &escope_charge) -> Result<Self, Failure> {
        let escope_charge { key, key_len, rule, limit, cost } = *charge;
        // SAFETY: the caller's contract.
        let key = unsafe { bytes(key.cast(), key_len, "key") }?;
        let by = match (rule.is_null(), limit.is_null()) {
            // SAFETY: the caller's contract.
            (false, true) => ByInput::Rule(keyed(unsafe { input(rule, "rule") }?)?),
            // SAFETY: the caller's contract.
            (true, false) => ByInput::Limit(unsafe { input::<escope_limit>(limit, "limit") }?.core()),
            (true, true) => return Err(invalid("rule", "NULL, as is `limit`", "one of the two")),
            (false, false) => return Err(invalid("rule", "given, as is `limit`", "one of the two")),
        };
        Ok(Self { key, by, cost })
    }

    /// The charge as the core takes it.
    pub(super) fn charge(&self, limiter: &Limiter) -> Charge<'_> {
        let by = match &self.by {
            ByInput::Rule(rule) => By::Rule(rule),
            ByInput::Limit(limit) => By::Limit(limit),
        };
        Charge { key: limiter.key(self.key), by, cost: self.cost }
    }
}

/// What a decision is before it is made.
const NO_DECISION: Decision = Decision {
    verdict: limiter::Verdict::Never,
    remaining: 0,
    limit: 0,
    retry_after_ns: u64::MAX,
    reset_after_ns: 0,
};

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn check_many(
    limiter: *const escope_limiter,
    charges: *const escope_charge,
    count: usize,
    decisions: *mut escope_decision,
    refused: *mut usize,
    retry_after_ns: *mut u64,
    now: impl FnOnce() -> u64,
) -> Verdict {
    if count > MAX_GROUP {
        return Err(invalid("count", count, "0 to 32"));
    }
    // SAFETY: the caller's contract.
    let (limiter, charges, out, refused, retry) = unsafe {
        (
            &input::<escope_limiter>(limiter, "limiter")?.core,
            list(charges, count)?,
            Out::optional(decisions, "decisions")?,
            Out::optional(refused, "refused")?,
            Out::optional(retry_after_ns, "retry_after_ns")?,
        )
    };
    let mut told = [NO_DECISION; MAX_GROUP];
    let told = &mut told[..count];
    // SAFETY: the caller's contract.
    let group = unsafe { with_charges(limiter, charges, |charges| limiter.check_many(charges, told, now)) }??;
    if let Some(out) = out {
        // SAFETY: the caller's memory has room for `count` decisions.
        unsafe { write(&out, told) };
    }
    if let Some(refused) = refused {
        let as_the_group = |decision: &Decision| decision.verdict == group.verdict;
        refused.set(match group.verdict {
            limiter::Verdict::Allowed => count,
            _ => told.iter().position(as_the_group).unwrap_or(count),
        });
    }
    if let Some(retry) = retry {
        retry.set(group.retry_after_ns);
    }
    Ok(status(group.verdict))
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn check_batch(
    limiter: *const escope_limiter,
    charges: *const escope_charge,
    count: usize,
    decisions: *mut escope_decision,
    admitted: *mut usize,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (limiter, charges, out, admitted) = unsafe {
        (
            &input::<escope_limiter>(limiter, "limiter")?.core,
            list(charges, count)?,
            Out::optional(decisions, "decisions")?,
            Out::optional(admitted, "admitted")?,
        )
    };
    if out.is_none() && count > 0 {
        return Err(invalid("decisions", "NULL", "a valid pointer where there are charges"));
    }
    // All are looked at before one is debited, and then a group's worth at a time: nothing is allocated.
    for charge in charges {
        // SAFETY: the caller's contract.
        unsafe { ChargeInput::new(charge) }?;
    }
    let (now, mut allowed) = (now(), 0);
    for (number, charges) in charges.chunks(MAX_GROUP).enumerate() {
        let mut told = [NO_DECISION; MAX_GROUP];
        let told = &mut told[..charges.len()];
        // SAFETY: the caller's contract.
        unsafe { with_charges(limiter, charges, |charges| limiter.check_batch(charges, told, || now)) }??;
        allowed += told.iter().filter(|decision| decision.is_allowed()).count();
        if let Some(out) = &out {
            // SAFETY: the caller's memory has room for `count` decisions, of which these are a part.
            unsafe { write(&Out::required(out.as_ptr().add(number * MAX_GROUP), "decisions")?, told) };
        }
    }
    if let Some(admitted) = admitted {
        admitted.set(allowed);
    }
    Ok(Status::Ok)
}

/// # Safety
/// `charges` is NULL or misaligned, or it points to `count` charges that stay valid for `'a`.
unsafe fn list<'a>(charges: *const escope_charge, count: usize) -> Result<&'a [escope_charge], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    if count > isize::MAX as usize / size_of::<escope_charge>() {
        return Err(invalid("count", count, "as many charges as the address space holds"));
    }
    // SAFETY: the caller's contract.
    let first = unsafe { input(charges, "charges") }?;
    // SAFETY: not NULL and aligned as just checked, not longer than isize::MAX bytes; valid by the caller's contract.
    Ok(unsafe { std::slice::from_raw_parts(first, count) })
}

/// Gives at most [`MAX_GROUP`] charges to the core, in memory of the stack.
///
/// # Safety
/// The pointers in `charges` are NULL or valid for what the header says.
unsafe fn with_charges<R>(
    limiter: &Limiter,
    charges: &[escope_charge],
    run: impl FnOnce(&[Charge<'_>]) -> R,
) -> Result<R, Failure> {
    let mut inputs = [const { None }; MAX_GROUP];
    for (input, charge) in inputs.iter_mut().zip(charges) {
        // SAFETY: the caller's contract.
        *input = Some(unsafe { ChargeInput::new(charge) }?);
    }
    let mut charges = inputs.iter().flatten().map(|input| input.charge(limiter));
    let Some(first) = charges.next() else { return Ok(run(&[])) };
    let mut taken = [first; MAX_GROUP];
    let mut count = 1;
    for charge in charges {
        taken[count] = charge;
        count += 1;
    }
    Ok(run(&taken[..count]))
}

/// # Safety
/// `out` has room for as many.
unsafe fn write(out: &Out<escope_decision>, decisions: &[Decision]) {
    for (at, decision) in decisions.iter().enumerate() {
        // SAFETY: the caller's contract.
        unsafe { out.as_ptr().add(at).write((*decision).into()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_charges_are_as_large_as_the_header_says() {
        assert_eq!(ESCOPE_MAX_GROUP, MAX_GROUP);
        assert_eq!(size_of::<escope_charge>(), 40);
    }
}
