//! Debits that leave a receipt, and what is done with it: cancel, refund, settle.

use super::super::boundary::{Failure, Out, Verdict, check, guarded, input, invalid};
use super::super::status::escope_status;
use super::decision::{answer, escope_decision};
use super::escope_limiter;
use super::group::{ChargeInput, escope_charge};
use super::limit::escope_limit;
use super::receipt::escope_receipt;
use crate::limiter::{Adjusted, Limit, Receipt};
use crate::status::Status;
use crate::sync::monotonic_ns;

/// Takes tokens now for use now or later: a place in the key's queue, first come, first served. With `max_wait_ns` 0 it is
/// a check that leaves a receipt.
///
/// Ownership: all memory stays the caller's; `charge` is not needed after the call. `receipt` needs no end.
///
/// @param limiter     the limiter.
/// @param charge      whom to debit, by what, how much.
/// @param max_wait_ns longest wait that is taken; 0 for none. A limit with a name may allow less.
/// @param receipt     receives the means to give tokens back, on OK; may be NULL.
/// @param wait_ns     receives the time until the tokens may be used, on OK: 0 for at once; may be NULL if `max_wait_ns`
///                    is 0.
/// @param decision    receives the details, on OK and on a refusal; may be NULL. After a refusal `retry_after_ns` is the
///                    time until a check is admitted, not until this reservation would be.
/// @return OK: taken, for use after `*wait_ns` and no earlier; RATE_LIMITED, NEVER, TABLE_FULL as
///         escope_limiter_check, and nothing was taken; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_reserve(
    limiter: *mut escope_limiter,
    charge: *const escope_charge,
    max_wait_ns: u64,
    receipt: *mut escope_receipt,
    wait_ns: *mut u64,
    decision: *mut escope_decision,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { reserve(limiter, charge, max_wait_ns, receipt, wait_ns, decision, monotonic_ns) })
}

/// escope_limiter_reserve at a given time.
///
/// Ownership: all memory stays the caller's; `charge` is not needed after the call. `receipt` needs no end.
///
/// @param limiter     the limiter.
/// @param charge      whom to debit, by what, how much.
/// @param max_wait_ns longest wait that is taken; 0 for none. A limit with a name may allow less.
/// @param receipt     receives the means to give tokens back, on OK; may be NULL.
/// @param wait_ns     receives the time until the tokens may be used, on OK: 0 for at once; may be NULL if `max_wait_ns`
///                    is 0.
/// @param decision    receives the details, on OK and on a refusal; may be NULL. After a refusal `retry_after_ns` is the
///                    time until a check is admitted, not until this reservation would be.
/// @param now_ns      the time.
/// @return as escope_limiter_reserve.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_reserve_at(
    limiter: *mut escope_limiter,
    charge: *const escope_charge,
    max_wait_ns: u64,
    receipt: *mut escope_receipt,
    wait_ns: *mut u64,
    decision: *mut escope_decision,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { reserve(limiter, charge, max_wait_ns, receipt, wait_ns, decision, || now_ns) })
}

/// Takes a whole reservation back before its time has come. That counts only while nothing else was written to the
/// key since: later reservations keep their times, and rely on it.
///
/// Ownership: all memory stays the caller's; the receipt is used up.
///
/// @param limiter the limiter.
/// @param receipt the receipt.
/// @return OK; FORFEITED: others have used the key since, nothing changed; TOO_LATE: the time has come, nothing changed;
///         ALREADY_DONE: the receipt was used before; BAD_RECEIPT: no receipt of this limiter, or one
///         without tokens; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_cancel(
    limiter: *mut escope_limiter,
    receipt: *mut escope_receipt,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { cancel(limiter, receipt, monotonic_ns) })
}

/// escope_limiter_cancel at a given time.
///
/// Ownership: all memory stays the caller's; the receipt is used up.
///
/// @param limiter the limiter.
/// @param receipt the receipt.
/// @param now_ns  the time.
/// @return as escope_limiter_cancel.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_cancel_at(
    limiter: *mut escope_limiter,
    receipt: *mut escope_receipt,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { cancel(limiter, receipt, || now_ns) })
}

/// Gives tokens back that were taken and not used. That counts only while the key's balance is not negative: no
/// reservation waits.
///
/// Ownership: all memory stays the caller's; the receipt is used up, but not by a negative status.
///
/// @param limiter the limiter.
/// @param receipt the receipt.
/// @param amount  tokens to give back, at most what the receipt stands for (escope_receipt_cost).
/// @param limit   the limit that the tokens were taken by: they are worth what its rule of now says. NULL if they were
///                taken by a rule.
/// @return OK; FORFEITED: reservations wait, nothing changed;
///         ALREADY_DONE: the receipt was used before; BAD_RECEIPT: no receipt of this limiter, or one
///         without tokens; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_refund(
    limiter: *mut escope_limiter,
    receipt: *mut escope_receipt,
    amount: u64,
    limit: *const escope_limit,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { refund(limiter, receipt, amount, limit, monotonic_ns) })
}

/// escope_limiter_refund at a given time.
///
/// Ownership: all memory stays the caller's; the receipt is used up, but not by a negative status.
///
/// @param limiter the limiter.
/// @param receipt the receipt.
/// @param amount  tokens to give back, at most what the receipt stands for (escope_receipt_cost).
/// @param limit   the limit that the tokens were taken by: they are worth what its rule of now says. NULL if they were
///                taken by a rule.
/// @param now_ns  the time.
/// @return as escope_limiter_refund.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_refund_at(
    limiter: *mut escope_limiter,
    receipt: *mut escope_receipt,
    amount: u64,
    limit: *const escope_limit,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { refund(limiter, receipt, amount, limit, || now_ns) })
}

/// Replaces the estimate that a receipt stands for by what was used: the difference is given back as by
/// escope_limiter_refund, or taken without a test, so that the balance may become negative, by up to one full bucket.
///
/// Ownership: all memory stays the caller's; the receipt is used up.
///
/// @param limiter   the limiter.
/// @param receipt   the receipt.
/// @param actual    tokens that were used.
/// @param limit     as for escope_limiter_refund.
/// @param saturated receives 1 if the debt was cut at one full bucket below empty, else 0; may be NULL.
/// @return OK; FORFEITED: nothing changed, for reservations wait, or there is no place to write a debt to;
///         ALREADY_DONE: the receipt was used before; BAD_RECEIPT: no receipt of this limiter, or one
///         without tokens; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_settle(
    limiter: *mut escope_limiter,
    receipt: *mut escope_receipt,
    actual: u64,
    limit: *const escope_limit,
    saturated: *mut i32,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { settle(limiter, receipt, actual, limit, saturated, monotonic_ns) })
}

/// escope_limiter_settle at a given time.
///
/// Ownership: all memory stays the caller's; the receipt is used up.
///
/// @param limiter   the limiter.
/// @param receipt   the receipt.
/// @param actual    tokens that were used.
/// @param limit     as for escope_limiter_refund.
/// @param saturated receives 1 if the debt was cut at one full bucket below empty, else 0; may be NULL.
/// @param now_ns    the time.
/// @return as escope_limiter_settle.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_settle_at(
    limiter: *mut escope_limiter,
    receipt: *mut escope_receipt,
    actual: u64,
    limit: *const escope_limit,
    saturated: *mut i32,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { settle(limiter, receipt, actual, limit, saturated, || now_ns) })
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn reserve(
    limiter: *const escope_limiter,
    charge: *const escope_charge,
    max_wait_ns: u64,
    receipt: *mut escope_receipt,
    wait_ns: *mut u64,
    decision: *mut escope_decision,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (limiter, charge, receipt, wait, decision) = unsafe {
        let limiter = input::<escope_limiter>(limiter, "limiter")?;
        (
            limiter,
            ChargeInput::new(input(charge, "charge")?)?,
            Out::optional(receipt, "receipt")?,
            Out::optional(wait_ns, "wait_ns")?,
            Out::optional(decision, "decision")?,
        )
    };
    if wait.is_none() && max_wait_ns > 0 {
        return Err(invalid("wait_ns", "NULL", "a valid pointer, or a `max_wait_ns` of 0"));
    }
    let charge = charge.charge(&limiter.core);
    let reserved = limiter.core.reserve(charge.key, charge.by, charge.cost, max_wait_ns, now);
    if reserved.decision.is_allowed() {
        if let Some(receipt) = receipt {
            receipt.set(escope_receipt::new(limiter.id, reserved.receipt));
        }
        if let Some(wait) = wait {
            wait.set(reserved.wait_ns);
        }
    }
    Ok(answer(reserved.decision, decision.as_ref()))
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn cancel(
    limiter: *const escope_limiter,
    receipt: *mut escope_receipt,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (limiter, receipt) = unsafe {
        let limiter = input::<escope_limiter>(limiter, "limiter")?;
        (limiter, take(limiter, receipt, |_| Ok(()))?)
    };
    Ok(adjusted(limiter.core.cancel(receipt, now)))
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn refund(
    limiter: *const escope_limiter,
    receipt: *mut escope_receipt,
    amount: u64,
    limit: *const escope_limit,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (limiter, limit, receipt) = unsafe {
        let (limiter, limit) = (input::<escope_limiter>(limiter, "limiter")?, limit_of(limit)?);
        (limiter, limit, take(limiter, receipt, |receipt| Ok(receipt.check_refund(amount)?))?)
    };
    Ok(adjusted(limiter.core.refund(receipt, amount, limit, now)?))
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn settle(
    limiter: *const escope_limiter,
    receipt: *mut escope_receipt,
    actual: u64,
    limit: *const escope_limit,
    saturated: *mut i32,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (limiter, limit, saturated, receipt) = unsafe {
        let (limiter, limit) = (input::<escope_limiter>(limiter, "limiter")?, limit_of(limit)?);
        let saturated = Out::optional(saturated, "saturated")?;
        (limiter, limit, saturated, take(limiter, receipt, |_| Ok(()))?)
    };
    let outcome = limiter.core.settle(receipt, actual, limit, now);
    let status = adjusted(outcome);
    if let Some(saturated) = saturated.filter(|_| status == Status::Ok) {
        saturated.set(i32::from(outcome == Adjusted::Saturated));
    }
    Ok(status)
}

/// # Safety
/// `receipt` is NULL or valid for what the header says.
unsafe fn take(
    limiter: &escope_limiter,
    receipt: *mut escope_receipt,
    wanted: impl FnOnce(&Receipt) -> Result<(), Failure>,
) -> Result<Receipt, Failure> {
    check(receipt.cast_const(), "receipt")?;
    // SAFETY: not NULL and aligned as just checked; initialised by the caller's contract.
    unsafe { escope_receipt::take(receipt, limiter.id, wanted) }
}

/// # Safety
/// `limit` is NULL or valid for what the header says.
unsafe fn limit_of<'a>(limit: *const escope_limit) -> Result<Option<&'a Limit>, Failure> {
    if limit.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's contract.
    Ok(Some(unsafe { input::<escope_limit>(limit, "limit") }?.core()))
}

fn adjusted(outcome: Adjusted) -> Status {
    match outcome {
        Adjusted::Applied | Adjusted::Saturated => Status::Ok,
        Adjusted::Forfeited => Status::Forfeited,
        Adjusted::TooLate => Status::TooLate,
    }
}
