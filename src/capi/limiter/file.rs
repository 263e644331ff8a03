//! What is owed, in a file.

use std::ffi::{CStr, OsStr, c_char};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::boundary::{
    Failure, Out, Verdict, fail, guarded, input, invalid, require_wide_words, text,
};
use super::super::handle;
use super::super::options as growing;
use super::super::status::escope_status;
use super::escope_limiter;
use super::options::escope_limiter_options;
use crate::file::{LoadError, load_limiter, save_limiter};
use crate::limiter::{LimiterConfig, RestoreError};
use crate::status::Status;
use crate::sync::monotonic_ns;

/// Writes what every key owes to a file, which is replaced as a whole: whenever the machine stops, the name stands for the
/// old content or for the new. Others may use the limiter meanwhile; each key is as of a moment during the call.
///
/// The file holds the secret of the keys: only its owner may read it. Limits with a name are not in it. Its folder must be
/// one that the process may read and write.
///
/// Ownership: all memory stays the caller's.
///
/// @param limiter the limiter.
/// @param path    name of the file, ending in NUL.
/// @return OK: it will be there after a crash of the machine, too; INVALID_ARGUMENT: the file cannot be written, and why; it is
///         as it was, unless escope_last_error says that it was replaced, where a disk failed at the very end.
///
/// Thread safety: any thread, concurrently. May block, on the disk; so not in a signal handler.
/// Allocates.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_save(
    limiter: *const escope_limiter,
    path: *const c_char,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { save(limiter, path, monotonic_ns, wall_ns) })
}

/// escope_limiter_save at a given time.
///
/// Ownership: all memory stays the caller's.
///
/// @param limiter the limiter.
/// @param path    name of the file, ending in NUL.
/// @param now_ns  the time.
/// @param wall_ns the same moment on the wall clock, since 1970.
/// @return as escope_limiter_save.
///
/// Thread safety: any thread, concurrently. May block, on the disk; so not in a signal handler.
/// Allocates.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_save_at(
    limiter: *const escope_limiter,
    path: *const c_char,
    now_ns: u64,
    wall_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { save(limiter, path, || now_ns, || wall_ns) })
}

/// Makes a limiter of a file that escope_limiter_save wrote, as if it had gone on since. What has been paid back
/// meanwhile is taken from the wall clock; where that has gone back, nothing was.
///
/// Ownership: `*out` is one reference, the caller's; give it back with escope_limiter_free. `path` and `options` stay
/// the caller's and are not needed after the call.
///
/// @param path    name of the file, ending in NUL.
/// @param options how the limiter is made; NULL for the defaults. Secret and size are the file's, whatever it says here.
/// @param out     receives the limiter.
/// @return OK; INVALID_ARGUMENT: the file cannot be read, holds no limiter, was cut or damaged, and how; it stays as
///         it is; OUT_OF_MEMORY; UNSUPPORTED as escope_limiter_new.
///
/// Thread safety: any thread, concurrently. May block, on the disk; so not in a signal handler.
/// Allocates.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_load(
    path: *const c_char,
    options: *const escope_limiter_options,
    out: *mut *mut escope_limiter,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { load(path, options, out, monotonic_ns, wall_ns) })
}

/// escope_limiter_load at a given time.
///
/// Ownership: `*out` is one reference, the caller's; give it back with escope_limiter_free. `path` and `options` stay
/// the caller's and are not needed after the call.
///
/// @param path    name of the file, ending in NUL.
/// @param options how the limiter is made; NULL for the defaults. Secret and size are the file's, whatever it says here.
/// @param out     receives the limiter.
/// @param now_ns  the time.
/// @param wall_ns the same moment on the wall clock, since 1970.
/// @return as escope_limiter_load.
///
/// Thread safety: any thread, concurrently. May block, on the disk; so not in a signal handler.
/// Allocates.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_load_at(
    path: *const c_char,
    options: *const escope_limiter_options,
    out: *mut *mut escope_limiter,
    now_ns: u64,
    wall_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { load(path, options, out, || now_ns, || wall_ns) })
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn save(
    limiter: *const escope_limiter,
    path: *const c_char,
    now: impl FnOnce() -> u64,
    wall: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (limiter, name) = unsafe { (input::<escope_limiter>(limiter, "limiter")?, text(path, "path")?) };
    save_limiter(&limiter.core, path_of(name), now(), wall())
        .map_err(|error| bad_file(name, &error, "a file that can be written"))?;
    Ok(Status::Ok)
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn load(
    path: *const c_char,
    options: *const escope_limiter_options,
    out: *mut *mut escope_limiter,
    now: impl FnOnce() -> u64,
    wall: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (name, options, out) =
        unsafe { (text(path, "path")?, growing::read(options, "options")?, Out::required(out, "out")?) };
    require_wide_words()?;
    let config = LimiterConfig { full_policy: options.full_policy()?, ..LimiterConfig::default() };
    let core = load_limiter(path_of(name), &config, now(), wall()).map_err(|error| match error {
        LoadError::Restore(RestoreError::TooLarge { .. }) => {
            fail(Status::OutOfMemory, format_args!("`path` is {name:?}: {error}"))
        }
        error => bad_file(name, &error, "a file that escope_limiter_save wrote"),
    })?;
    out.set(handle::give(escope_limiter::new(core, options.max_waiting)));
    Ok(Status::Ok)
}

fn path_of(name: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(name.to_bytes()))
}

/// What is wrong stands first: a message is cut at its end.
fn bad_file(name: &CStr, error: &dyn fmt::Display, allowed: &str) -> Failure {
    invalid("path", format_args!("a file with this wrong: {error} ({name:?})"), allowed)
}

/// Nanoseconds since 1970; 0 before that.
fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
