//! Permits and outcomes.
//!
//! A permit lives in 32 bytes of the caller's memory. Its last word is an atomic state, so that of several
//! records of one permit exactly one reaches the core, also when threads race. It names its breaker by a
//! number that is never reused within a process; an address would be.

use std::sync::atomic::{AtomicU32, Ordering};

use super::super::boundary::{Failure, fail, invalid};
use crate::breaker::{Outcome, Permit, RawPermit};
use crate::status::Status;

/// The call succeeded.
pub const ESCOPE_OUTCOME_SUCCESS: i32 = 0;
/// The call failed.
pub const ESCOPE_OUTCOME_FAILURE: i32 = 1;
/// The call says nothing about the health of what it called, such as a refused argument.
pub const ESCOPE_OUTCOME_IGNORED: i32 = 2;
/// The call succeeded, but took too long. With `slow_call_ns` the breaker finds that out by itself.
pub const ESCOPE_OUTCOME_SLOW: i32 = 3;
/// The call was given up before it could tell anything: like ignored, and counted apart.
pub const ESCOPE_OUTCOME_CANCELLED: i32 = 4;

/// The right to make one call, in the caller's memory. Its fields are private to the library; do not copy
/// the struct, for a copy is a second permit that only a half-open breaker would notice.
#[repr(C)]
#[derive(Debug)]
pub struct escope_permit {
    /// Private.
    pub private_breaker: u64,
    /// Private.
    pub private_started_ns: u64,
    /// Private.
    pub private_generation: u32,
    /// Private.
    pub private_slot: u32,
    /// Private.
    pub private_epoch: u32,
    /// Private; an atomic.
    pub private_state: u32,
}

/// State of a permit that may be recorded. Neither this nor [`DONE`] is likely in memory that is not a permit.
const LIVE: u32 = 0x5045_524d;
/// State of a permit that was recorded.
const DONE: u32 = 0x646f_6e65;

impl escope_permit {
    pub(super) fn new(breaker: u64, permit: Permit) -> Self {
        let raw = permit.into_raw();
        Self {
            private_breaker: breaker,
            private_started_ns: raw.started_ns,
            private_generation: raw.generation,
            private_slot: raw.slot,
            private_epoch: raw.epoch,
            private_state: LIVE,
        }
    }

    /// Takes the permit out of the caller's memory; of several racing calls one gets it.
    ///
    /// The exchange is the one locked instruction that C pays above Rust. A load and a store would tell a second record
    /// that comes later, but let two that race both count.
    ///
    /// Inlined, for the result would go through memory in parts and be read back as a whole, which a processor cannot
    /// forward: a third of the time of a record.
    ///
    /// # Safety
    /// `this` points to initialised memory that no other thread writes, but by this function.
    #[inline(always)]
    pub(super) unsafe fn take(this: *mut Self, breaker: u64) -> Result<Permit, Failure> {
        // SAFETY: in bounds of `*this`, aligned, and changed only through this atomic while calls race.
        let state = unsafe { AtomicU32::from_ptr(&raw mut (*this).private_state) };
        // Acquire pairs with the AcqRel exchange below; the other fields were written by this caller's own
        // acquire, and how the permit came to this thread is the program's synchronisation.
        match state.load(Ordering::Acquire) {
            LIVE => {}
            DONE => return Err(already_done()),
            word => return Err(no_permit(word)),
        }
        // SAFETY: initialised, and no call writes the fields but `private_state`, by the caller's contract.
        let (owner, raw) = unsafe {
            let raw = RawPermit {
                started_ns: (*this).private_started_ns,
                generation: (*this).private_generation,
                slot: (*this).private_slot,
                epoch: (*this).private_epoch,
            };
            ((*this).private_breaker, raw)
        };
        if owner != breaker {
            return Err(of_another(owner, breaker));
        }
        // AcqRel: of all exchanges one succeeds, and what its thread did before it is visible to the losers,
        // which may free the memory after they have seen ALREADY_DONE.
        match state.compare_exchange(LIVE, DONE, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(Permit::from_raw(raw)),
            Err(_) => Err(already_done()),
        }
    }
}

#[cold]
fn no_permit(word: u32) -> Failure {
    let value = format_args!("memory without a permit (state {word:#x})");
    invalid("permit", value, "a permit that escope_breaker_acquire filled")
}

#[cold]
fn of_another(owner: u64, breaker: u64) -> Failure {
    let value = format_args!("a permit of breaker number {owner}");
    invalid("permit", value, format_args!("a permit of this breaker, number {breaker}"))
}

#[cold]
pub(super) fn already_done() -> Failure {
    fail(Status::AlreadyDone, format_args!("`permit` was recorded before, allowed is one record per permit"))
}

#[cold]
pub(super) fn not_found() -> Failure {
    fail(
        Status::PermitNotFound,
        format_args!("`permit` is a probe that this breaker never granted, allowed is one that it did"),
    )
}

/// The outcome with this number.
#[inline]
pub(super) fn outcome(number: i32) -> Result<Outcome, Failure> {
    match number {
        ESCOPE_OUTCOME_SUCCESS => Ok(Outcome::Success),
        ESCOPE_OUTCOME_FAILURE => Ok(Outcome::Failure),
        ESCOPE_OUTCOME_IGNORED => Ok(Outcome::Ignored),
        ESCOPE_OUTCOME_SLOW => Ok(Outcome::Slow),
        ESCOPE_OUTCOME_CANCELLED => Ok(Outcome::Cancelled),
        other => {
            Err(invalid("outcome", other, "0 (success), 1 (failure), 2 (ignored), 3 (slow) or 4 (cancelled)"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_outcomes_are_the_cores() {
        for number in ESCOPE_OUTCOME_SUCCESS..=ESCOPE_OUTCOME_CANCELLED {
            assert_eq!(outcome(number).map(|outcome| outcome as i32), Ok(number));
        }
        assert!(outcome(-1).is_err() && outcome(ESCOPE_OUTCOME_CANCELLED + 1).is_err());
    }

    #[test]
    fn a_permit_has_the_size_that_programs_were_compiled_with() {
        assert_eq!(size_of::<escope_permit>(), 32);
        assert_eq!(std::mem::offset_of!(escope_permit, private_state), 28);
    }
}
