//! Receipts.
//!
//! A receipt lives in 48 bytes of the caller's memory. Its last word is an atomic state, so that of several uses of one
//! receipt exactly one reaches the core, also when threads race. It names its limiter by a number.

use std::sync::atomic::{AtomicU32, Ordering};

use super::super::boundary::{Failure, Out, Verdict, check, fail, guarded};
use super::super::status::escope_status;
use crate::limiter::{RawReceipt, Receipt};
use crate::status::Status;

/// The means to give tokens back, in the caller's memory, good for one use. Its fields are private to the library; do not
/// copy the struct, for a copy is a second receipt for the same tokens.
#[repr(C)]
#[derive(Debug)]
pub struct escope_receipt {
    /// Private.
    pub private_key: u64,
    /// Private.
    pub private_instant: u64,
    /// Private.
    pub private_token: u64,
    /// Private.
    pub private_full: u64,
    /// Private.
    pub private_cost: u64,
    /// Private.
    pub private_limiter: u32,
    /// Private; an atomic.
    pub private_state: u32,
}

/// State of a receipt that may be used. None of the three is likely in memory that is not a receipt.
const LIVE: u32 = 0x5243_5054;
/// State of a receipt that was used.
const DONE: u32 = 0x646f_6e65;
/// State of one that never had anything to give back.
const NOTHING: u32 = 0x6e6f_6e65;

/// Tells how many tokens a receipt stands for.
///
/// Ownership: all memory stays the caller's.
///
/// @param receipt a receipt that a reservation filled.
/// @param cost    receives the number: 0 if the receipt was used, and where there was nothing to give back: for a cost
///                of zero, and for a key without a place that shares the overflow bucket.
/// @return OK; BAD_RECEIPT: the memory holds no receipt; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_receipt_cost(
    receipt: *const escope_receipt,
    cost: *mut u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { cost_of(receipt, cost) })
}

impl escope_receipt {
    pub(super) fn new(limiter: u32, receipt: Option<Receipt>) -> Self {
        let state = if receipt.is_some() { LIVE } else { NOTHING };
        let none = RawReceipt { key: 0, tat: 0, w: 0, full: 0, cost: 0 };
        let raw = receipt.map_or(none, Receipt::into_raw);
        Self {
            private_key: raw.key,
            private_instant: raw.tat,
            private_token: raw.w,
            private_full: raw.full,
            private_cost: raw.cost,
            private_limiter: limiter,
            private_state: state,
        }
    }

    /// Takes the receipt out of the caller's memory if it is as `check` wants; of several racing calls one gets it.
    ///
    /// # Safety
    /// `this` points to initialised memory that no other thread writes, but by this function.
    pub(super) unsafe fn take(
        this: *mut Self,
        limiter: u32,
        check: impl FnOnce(&Receipt) -> Result<(), Failure>,
    ) -> Result<Receipt, Failure> {
        // SAFETY: in bounds of `*this`, aligned, and changed only through this atomic while calls race.
        let state = unsafe { AtomicU32::from_ptr(&raw mut (*this).private_state) };
        // Acquire pairs with the AcqRel exchange below; the other fields were written by this caller's own
        // reservation, and how the receipt came to this thread is the program's synchronisation.
        match state.load(Ordering::Acquire) {
            LIVE => {}
            DONE => return Err(already_done()),
            NOTHING => return Err(bad(format_args!("one without tokens to give back"))),
            word => return Err(bad(format_args!("memory without a receipt (state {word:#x})"))),
        }
        // SAFETY: initialised, and no call writes the fields but `private_state`, by the caller's contract.
        let (owner, raw) = unsafe {
            let raw = RawReceipt {
                key: (*this).private_key,
                tat: (*this).private_instant,
                w: (*this).private_token,
                full: (*this).private_full,
                cost: (*this).private_cost,
            };
            ((*this).private_limiter, raw)
        };
        if owner != limiter {
            return Err(bad(format_args!("a receipt of limiter number {owner}, not of this one, {limiter}")));
        }
        let Some(receipt) = Receipt::from_raw(raw) else {
            return Err(bad(format_args!("one with made-up fields")));
        };
        check(&receipt)?;
        // AcqRel: of all exchanges one succeeds, and what its thread did before it is visible to the losers,
        // which may free the memory after they have seen ALREADY_DONE.
        match state.compare_exchange(LIVE, DONE, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(receipt),
            Err(_) => Err(already_done()),
        }
    }
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn cost_of(receipt: *const escope_receipt, cost: *mut u64) -> Verdict {
    check(receipt, "receipt")?;
    // SAFETY: the caller gives NULL or a writable place.
    let cost = unsafe { Out::required(cost, "cost") }?;
    // SAFETY: in bounds of a receipt by the caller's contract, aligned, and only read here; others change it atomically.
    let state = unsafe { AtomicU32::from_ptr((&raw const (*receipt).private_state).cast_mut()) };
    // Acquire: as in `take`.
    match state.load(Ordering::Acquire) {
        // SAFETY: initialised by the caller's contract, and no call writes it.
        LIVE => cost.set(unsafe { (*receipt).private_cost }),
        DONE | NOTHING => cost.set(0),
        word => return Err(bad(format_args!("memory without a receipt (state {word:#x})"))),
    }
    Ok(Status::Ok)
}

#[cold]
fn bad(what: std::fmt::Arguments<'_>) -> Failure {
    fail(
        Status::BadReceipt,
        format_args!("`receipt` is {what}, allowed is a receipt that a reservation of this limiter filled"),
    )
}

#[cold]
fn already_done() -> Failure {
    fail(Status::AlreadyDone, format_args!("`receipt` was used before, allowed is one use per receipt"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_has_the_size_that_programs_were_compiled_with() {
        assert_eq!(size_of::<escope_receipt>(), 48);
        assert_eq!(std::mem::offset_of!(escope_receipt, private_state), 44);
    }
}
