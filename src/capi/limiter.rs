//! The rate limiter in C.
//!
//! * [`options`] says how a limiter is made, [`rule`] what is allowed, [`decision`] what a check says;
//! * [`check`] is the hot path; [`reserve`] debits with a [`receipt`], by which tokens come back; [`group`] is about many
//!   keys at once; [`wait`] puts the thread to sleep until its turn;
//! * [`limit`] are rules with a name, which may change; [`header_fields`] tells a client of HTTP what was decided;
//! * [`stats`] counts, and [`mod@file`] keeps what is owed.

use std::collections::HashMap;
use std::sync::atomic::AtomicU32;

use super::boundary::{Out, Verdict, fail, guarded, require_wide_words};
use super::handle::{self, Reference};
use super::options as growing;
use super::status::escope_status;
use crate::limiter::{Limiter, LimiterConfig};
use crate::status::Status;
use crate::sync::Mutex;

pub mod check;
pub mod decision;
pub mod file;
pub mod group;
pub mod header_fields;
pub mod limit;
pub mod options;
pub mod receipt;
pub mod reserve;
pub mod rule;
pub mod stats;
pub mod wait;

use limit::escope_limit;
use options::escope_limiter_options;

/// A table of token buckets, one a key. Opaque; shared by any number of threads.
pub struct escope_limiter {
    /// By which a receipt names its limiter. Of the limiters of a process two share a number only after 2^32 others.
    id: u32,
    core: Limiter,
    limits: Mutex<HashMap<Box<[u8]>, Reference<escope_limit>>>,
    max_waiting: u32,
    waiting: AtomicU32,
}

impl escope_limiter {
    fn new(core: Limiter, max_waiting: u32) -> Self {
        Self {
            id: handle::next_id() as u32,
            core,
            limits: Mutex::new(HashMap::new()),
            max_waiting,
            waiting: AtomicU32::new(0),
        }
    }
}

/// Makes a limiter in which every key has its full burst. All memory its keys will ever need is allocated here.
///
/// Ownership: `*out` is one reference, the caller's; give it back with escope_limiter_free. `options` and the secret
/// stay the caller's and are not needed after the call.
///
/// @param options how it is made; NULL for the defaults.
/// @param out     receives the limiter.
/// @return OK; INVALID_ARGUMENT naming the option; OUT_OF_MEMORY; UNSUPPORTED on a machine without a lock-free 128-bit
///         atomic.
///
/// Thread safety: any thread, concurrently. Never blocks; allocates.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_new(
    options: *const escope_limiter_options,
    out: *mut *mut escope_limiter,
) -> escope_status {
    // SAFETY: the caller gives NULL, a writable place, and a struct as large as it states.
    guarded(|| unsafe { make(options, out) })
}

/// Adds a reference.
///
/// Ownership: the result is a reference of its own, to be given back with escope_limiter_free.
///
/// @param limiter a limiter, or NULL.
/// @return `limiter`.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_ref(limiter: *mut escope_limiter) -> *mut escope_limiter {
    // SAFETY: the caller gives NULL or a live handle.
    unsafe { handle::share(limiter) }
}

/// Gives a reference back; the last one ends the limiter.
///
/// Ownership: takes the caller's reference; using it afterwards is undefined. Receipts are plain memory and need no end;
/// a limit with a name lives on while the program has a reference to it.
///
/// @param limiter a limiter; NULL does nothing.
///
/// Thread safety: any thread, but not concurrently with a call that relies on the same reference. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_free(limiter: *mut escope_limiter) {
    // SAFETY: the caller gives NULL or a reference that it owns.
    unsafe { handle::release(limiter) }
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn make(options: *const escope_limiter_options, out: *mut *mut escope_limiter) -> Verdict {
    // SAFETY: the caller's contract.
    let (out, options) = unsafe { (Out::required(out, "out")?, growing::read(options, "options")?) };
    require_wide_words()?;
    // SAFETY: the caller's secret has `secret_len` bytes.
    let config = unsafe { options.config() }?;
    config.validate()?;
    out.set(handle::give(escope_limiter::new(core(&config)?, options.max_waiting)));
    Ok(Status::Ok)
}

/// A valid configuration fails for want of memory only.
fn core(config: &LimiterConfig) -> Result<Limiter, super::boundary::Failure> {
    Limiter::new(config).map_err(|error| fail(Status::OutOfMemory, format_args!("{error}")))
}
