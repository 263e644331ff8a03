//! Waiting for tokens: a reservation, and then sleep.
//!
//! Who waits holds a debit in the future, so the order of the queue is that of the reservations, and no thread is woken by
//! another: each knows when its turn comes. A wait that would be too long is refused at once, so none ever ends without its
//! tokens, and nothing has to be given back.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::super::boundary::{Out, Verdict, guarded, input};
use super::super::status::escope_status;
use super::decision::{answer, escope_decision};
use super::escope_limiter;
use super::group::{ChargeInput, escope_charge};
use super::receipt::escope_receipt;
use crate::status::Status;
use crate::sync::monotonic_ns;

/// Takes tokens, and sleeps until they may be used: first come, first served. A wait that would take longer than
/// `timeout_ns` is refused at once, without a sleep and without taking anything.
///
/// A program that wants to give up a wait before its time reserves (escope_limiter_reserve), sleeps by itself and cancels
/// (escope_limiter_cancel). A signal does not end the wait: handlers run, and the sleep goes on. The thread must not be
/// ended by pthread_cancel meanwhile.
///
/// Ownership: all memory stays the caller's. The caller's reference to the limiter must live until the call returns.
///
/// @param limiter    the limiter.
/// @param charge     whom to debit, by what, how much.
/// @param timeout_ns longest wait; 0 for none. A limit with a name may allow less.
/// @param receipt    receives the means to give tokens back, on OK; may be NULL.
/// @param decision   receives the details, on OK and on a refusal but QUEUE_FULL, as of the time before the sleep; may be
///                   NULL.
/// @return OK: the tokens may be used now; RATE_LIMITED: the wait would be too long; NEVER, TABLE_FULL as
///         escope_limiter_check; QUEUE_FULL: `max_waiting` threads wait for this limiter already; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. May block, for up to `timeout_ns`; so not in a signal handler.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_acquire(
    limiter: *mut escope_limiter,
    charge: *const escope_charge,
    timeout_ns: u64,
    receipt: *mut escope_receipt,
    decision: *mut escope_decision,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { acquire(limiter, charge, timeout_ns, receipt, decision) })
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn acquire(
    limiter: *const escope_limiter,
    charge: *const escope_charge,
    timeout_ns: u64,
    receipt: *mut escope_receipt,
    decision: *mut escope_decision,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (limiter, charge, receipt, decision) = unsafe {
        (
            input::<escope_limiter>(limiter, "limiter")?,
            ChargeInput::new(input(charge, "charge")?)?,
            Out::optional(receipt, "receipt")?,
            Out::optional(decision, "decision")?,
        )
    };
    let charge = charge.charge(&limiter.core);
    let reserve =
        |max_wait_ns, now: u64| limiter.core.reserve(charge.key, charge.by, charge.cost, max_wait_ns, || now);
    // A place in the queue comes before the reservation: one that is made is never taken back.
    let place = if timeout_ns > 0 { Place::take(&limiter.waiting, limiter.max_waiting) } else { None };
    let now = monotonic_ns();
    let reserved = reserve(if place.is_some() { timeout_ns } else { 0 }, now);
    if reserved.decision.verdict == crate::limiter::Verdict::Limited && place.is_none() && timeout_ns > 0 {
        return Ok(Status::QueueFull);
    }
    let status = answer(reserved.decision, decision.as_ref());
    if status == Status::Ok {
        if let Some(receipt) = receipt {
            receipt.set(escope_receipt::new(limiter.id, reserved.receipt));
        }
        if reserved.wait_ns > 0 {
            sleep_until(now.saturating_add(reserved.wait_ns));
        }
    }
    Ok(status)
}

/// One of the threads that may wait, until dropped.
struct Place<'a>(&'a AtomicU32);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicU32, most: u32) -> Option<Self> {
        let one_more = |now| (now < most).then_some(now + 1);
        // Relaxed: it counts, and orders nothing.
        waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok().map(|_| Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// On a condition variable that nobody rings: its wait goes on after a signal, and is no point at which a thread is cancelled.
fn sleep_until(deadline_ns: u64) {
    let (nobody, bell) = (Mutex::new(()), Condvar::new());
    let mut guard = nobody.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(left @ 1..) = deadline_ns.checked_sub(monotonic_ns()) {
        let rest = Duration::from_nanos(left);
        guard = bell.wait_timeout(guard, rest).unwrap_or_else(PoisonError::into_inner).0;
    }
}
