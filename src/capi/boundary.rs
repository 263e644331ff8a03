//! What stands between a C caller and the core: panics, pointers, messages.
//!
//! Every exported function that can fail is one [`guarded`] closure. Inside it a raw pointer becomes a
//! reference or an [`Out`] exactly once, here, so that the checks for NULL and alignment cannot be forgotten
//! and the files of the primitives stay translation.
//!
//! Invariant: an argument is checked before anything happens, so a call that returns `INVALID_ARGUMENT`
//! changed nothing and wrote nothing.

use std::any::Any;
use std::ffi::{CStr, c_char};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use super::status::{escope_status, remember};
use crate::error::ConfigError;
use crate::status::Status;

/// A negative status whose message is already stored. Only [`fail`] makes one, so no failure is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure(Status);

/// Result of a guarded body: OK or a refusal, else a failure with its message.
pub type Verdict = Result<Status, Failure>;

/// Stores the message of a failure for the calling thread.
#[cold]
pub fn fail(status: Status, message: fmt::Arguments<'_>) -> Failure {
    remember(message);
    Failure(status)
}

/// The failure "`argument` is VALUE, allowed is ALLOWED".
#[cold]
pub fn invalid(argument: &str, value: impl fmt::Display, allowed: impl fmt::Display) -> Failure {
    fail(Status::InvalidArgument, format_args!("`{argument}` is {value}, allowed is {allowed}"))
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        fail(Status::InvalidArgument, format_args!("{error}"))
    }
}

/// Runs `body` and turns its verdict, or its panic, into a code. The panic hook is the host's and is left
/// alone, so it may still print.
#[inline]
pub fn guarded(body: impl FnOnce() -> Verdict) -> escope_status {
    // The core changes shared state by single compare-and-swaps or under a lock that no user code runs in,
    // so an unwound call leaves the object usable: AssertUnwindSafe holds.
    let status = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(status)) => status,
        Ok(Err(Failure(status))) => status,
        Err(payload) => panicked(&*payload),
    };
    status as escope_status
}

#[cold]
fn panicked(payload: &(dyn Any + Send)) -> Status {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    remember(format_args!("internal panic: {text}"));
    Status::Panic
}

/// Refuses machines on which a state of 128 bits would be guarded by a hidden lock.
pub fn require_wide_words() -> Result<(), Failure> {
    if crate::sync::wide_is_lock_free() {
        return Ok(());
    }
    Err(fail(Status::Unsupported, format_args!("this machine has no lock-free 128-bit atomic")))
}

/// Refuses NULL and a misaligned pointer without reading it.
#[inline]
pub fn check<T>(pointer: *const T, argument: &str) -> Result<(), Failure> {
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(unfit(pointer.cast(), align_of::<T>(), argument));
    }
    Ok(())
}

/// By value, so that a fit pointer need not stand in memory for the message.
#[cold]
#[inline(never)]
fn unfit(pointer: *const (), alignment: usize, argument: &str) -> Failure {
    if pointer.is_null() {
        return invalid(argument, "NULL", "a valid pointer");
    }
    let allowed = format_args!("a pointer aligned to {alignment} bytes");
    invalid(argument, format_args!("{pointer:p}"), allowed)
}

/// Borrows an input that must be there.
///
/// # Safety
/// `pointer` is NULL or misaligned (both are refused), or it points to an initialised `T` that stays valid for `'a`.
#[inline]
pub unsafe fn input<'a, T>(pointer: *const T, argument: &str) -> Result<&'a T, Failure> {
    check(pointer, argument)?;
    // SAFETY: not NULL and aligned by `check`; initialised and valid for 'a by the caller's contract.
    Ok(unsafe { &*pointer })
}

/// Borrows `length` bytes; NULL is allowed for none.
///
/// # Safety
/// `pointer` is NULL, or it points to `length` readable bytes that stay valid and unchanged for `'a`.
#[inline]
pub unsafe fn bytes<'a>(pointer: *const u8, length: usize, argument: &str) -> Result<&'a [u8], Failure> {
    if length == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(invalid(argument, format_args!("NULL with a length of {length}"), "a valid pointer"));
    }
    if length > isize::MAX as usize {
        return Err(invalid(
            argument,
            format_args!("{length} bytes long"),
            "at most half of the address space",
        ));
    }
    // SAFETY: not NULL and not longer than isize::MAX as just checked; readable by the caller's contract.
    Ok(unsafe { std::slice::from_raw_parts(pointer, length) })
}

/// Borrows a text that ends in NUL.
///
/// # Safety
/// `pointer` is NULL, or it points to bytes that end in NUL and stay valid and unchanged for `'a`.
pub unsafe fn text<'a>(pointer: *const c_char, argument: &str) -> Result<&'a CStr, Failure> {
    check(pointer, argument)?;
    // SAFETY: not NULL as just checked; ends in NUL by the caller's contract.
    Ok(unsafe { CStr::from_ptr(pointer) })
}

/// A place for a result, checked before the operation and written after it.
#[derive(Debug)]
pub struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    /// A place that must be there.
    ///
    /// # Safety
    /// `pointer` is NULL or misaligned (both are refused), or it is valid for writing a `T` as long as the
    /// value lives, and nobody else reads or writes it meanwhile.
    #[inline]
    pub unsafe fn required(pointer: *mut T, argument: &str) -> Result<Self, Failure> {
        check(pointer, argument)?;
        // SAFETY: `check` refused NULL.
        Ok(Self(unsafe { NonNull::new_unchecked(pointer) }))
    }

    /// A place that the caller may leave out with NULL.
    ///
    /// # Safety
    /// As for [`Out::required`].
    #[inline]
    pub unsafe fn optional(pointer: *mut T, argument: &str) -> Result<Option<Self>, Failure> {
        if pointer.is_null() {
            return Ok(None);
        }
        // SAFETY: the caller's contract is the same.
        unsafe { Self::required(pointer, argument) }.map(Some)
    }

    /// Writes the result. What was there before is not dropped: C memory holds plain values.
    #[inline]
    pub fn set(&self, value: T) {
        // SAFETY: not NULL, aligned, and valid for writes by the contract of the constructors.
        unsafe { self.0.as_ptr().write(value) }
    }

    /// The checked pointer, for a result that is written in part.
    #[inline]
    pub fn as_ptr(&self) -> *mut T {
        self.0.as_ptr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capi::status::message_of_this_thread;

    #[test]
    fn a_panic_becomes_a_code_and_a_message() {
        assert_eq!(guarded(|| panic!("wire {} cut", 7)), Status::Panic as i32);
        assert_eq!(message_of_this_thread(), "internal panic: wire 7 cut");
        assert_eq!(guarded(|| std::panic::panic_any(5_u8)), Status::Panic as i32);
        assert_eq!(message_of_this_thread(), "internal panic: no text");
    }

    #[test]
    fn null_and_misaligned_pointers_are_refused_by_name() {
        let words = [0_u64; 2];
        let odd = words.as_ptr().cast::<u8>().wrapping_add(1).cast::<u64>();
        // SAFETY: NULL and misaligned pointers are what the function refuses without reading them.
        unsafe {
            assert!(input::<u64>(std::ptr::null(), "rule").is_err());
            assert_eq!(message_of_this_thread(), "`rule` is NULL, allowed is a valid pointer");
            assert!(input(odd, "rule").is_err());
            assert!(message_of_this_thread().ends_with("allowed is a pointer aligned to 8 bytes"));
        }
    }

    #[test]
    fn no_bytes_need_no_pointer() {
        // SAFETY: NULL is allowed for length 0 and refused without reading for another.
        unsafe {
            assert_eq!(bytes(std::ptr::null(), 0, "key"), Ok(&[][..]));
            assert!(bytes(std::ptr::null(), 3, "key").is_err());
            assert!(bytes(NonNull::dangling().as_ptr(), usize::MAX, "key").is_err());
        }
    }
}
