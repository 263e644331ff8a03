//! Fault injection, for development and tests: only a library built with the feature `fault-injection` has it.

use super::super::boundary::{guarded, input};
use super::super::status::escope_status;
use super::escope_breaker;
use crate::breaker::Faults;
use crate::status::Status;

/// Makes chosen calls of a closed breaker fail, or wait first; only in a library built with fault injection, and
/// declared only where the program defines ESCOPE_FAULT_INJECTION.
///
/// A call that is chosen to fail gets FAULT_INJECTED from escope_breaker_acquire and counts as a failure. One that is
/// chosen to wait sleeps in escope_breaker_acquire, also when that is given a time. Which calls are chosen follows
/// from `seed` and from how many calls the breaker admitted since. Shares of 0 end it.
///
/// Ownership: takes nothing.
///
/// @param breaker    the breaker.
/// @param failure_bp share of calls that fail, in basis points, 0 to 10000.
/// @param delay_bp   share of the others that wait, in basis points, 0 to 10000.
/// @param delay_ns   how long they wait, up to 2^62 - 1 nanoseconds.
/// @param seed       equal seeds choose the same calls.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[cfg(feature = "fault-injection")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_inject_faults(
    breaker: *mut escope_breaker,
    failure_bp: u32,
    delay_bp: u32,
    delay_ns: u64,
    seed: u64,
) -> escope_status {
    guarded(|| {
        // SAFETY: the caller gives NULL or a live breaker.
        let breaker = unsafe { input(breaker, "breaker") }?;
        breaker.core.inject_faults(&Faults { failure_bp, delay_bp, delay_ns, seed })?;
        Ok(Status::Ok)
    })
}

/// Waits an injected delay, whatever signals come.
#[inline]
pub(super) fn wait(delay_ns: u64) {
    if delay_ns > 0 {
        std::thread::sleep(std::time::Duration::from_nanos(delay_ns));
    }
}
