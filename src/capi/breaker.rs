//! The circuit breaker in C.
//!
//! * [`options`] is the core's configuration as a flat struct, [`stats`] its snapshot;
//! * [`permit`] and [`event`] are what calls hand out, with the numbers of outcomes, phases, modes, levels, causes;
//! * [`calls`] is what a guarded call needs, [`admin`] what somebody in charge may do, `faults` fault injection.

use super::boundary::{Out, guarded, require_wide_words};
use super::handle;
use super::options as growing;
use super::status::escope_status;
use crate::breaker::Breaker;
use crate::status::Status;

pub mod admin;
pub mod calls;
pub mod event;
#[cfg(feature = "fault-injection")]
pub mod faults;
pub mod options;
pub mod permit;
pub mod stats;

use options::escope_breaker_options;

/// A circuit breaker. Opaque; shared by any number of threads.
pub struct escope_breaker {
    id: u64,
    core: Breaker,
}

/// Makes a closed breaker.
///
/// Ownership: `*out` is one reference, the caller's; give it back with escope_breaker_free. `options` stays
/// the caller's and is not needed after the call.
///
/// @param options how it behaves; NULL for the defaults.
/// @param out     receives the breaker.
/// @return OK; INVALID_ARGUMENT naming the option; UNSUPPORTED on a machine without a lock-free 128-bit atomic.
///
/// Thread safety: any thread, concurrently. Never blocks; allocates.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_new(
    options: *const escope_breaker_options,
    out: *mut *mut escope_breaker,
) -> escope_status {
    guarded(|| {
        // SAFETY: the caller gives NULL or a writable place.
        let out = unsafe { Out::required(out, "out") }?;
        // SAFETY: the caller gives NULL or a struct as large as it states.
        let options = unsafe { growing::read(options, "options") }?;
        require_wide_words()?;
        let core = Breaker::new(&options.config()?)?;
        out.set(handle::give(escope_breaker { id: handle::next_id(), core }));
        Ok(Status::Ok)
    })
}

/// Adds a reference.
///
/// Ownership: the result is a reference of its own, to be given back with escope_breaker_free.
///
/// @param breaker a breaker, or NULL.
/// @return `breaker`.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_ref(breaker: *mut escope_breaker) -> *mut escope_breaker {
    // SAFETY: the caller gives NULL or a live handle.
    unsafe { handle::share(breaker) }
}

/// Gives a reference back; the last one ends the breaker.
///
/// Ownership: takes the caller's reference; using it afterwards is undefined. Permits are plain memory and
/// need no end.
///
/// @param breaker a breaker; NULL does nothing.
///
/// Thread safety: any thread, but not concurrently with a call that relies on the same reference. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_free(breaker: *mut escope_breaker) {
    // SAFETY: the caller gives NULL or a reference that it owns.
    unsafe { handle::release(breaker) }
}
