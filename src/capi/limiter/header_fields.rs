//! Decisions as HTTP header fields.

use std::ffi::c_char;
use std::fmt::{self, Write};

use super::super::boundary::{Failure, Out, Verdict, guarded, input, invalid, text};
use super::super::status::escope_status;
use super::decision::escope_decision;
use super::rule::{escope_rule, keyed};
use crate::limiter::PolicyName;
use crate::status::Status;

/// Size of a buffer that holds any of these values, with its NUL.
pub const ESCOPE_FIELD_SIZE: usize = 192;

/// Writes the value of the header field `RateLimit-Policy`, such as `"api";q=10;w=60`.
///
/// As in the IETF draft draft-ietf-httpapi-ratelimit-headers: the quota `q` of a window of `w` seconds, rounded up.
///
/// Ownership: all memory stays the caller's.
///
/// @param rule     the rule.
/// @param name     name of the policy: 1 to 64 printable ASCII characters, ending in NUL.
/// @param buffer   receives the text and a NUL.
/// @param capacity size of `buffer` in bytes; ESCOPE_FIELD_SIZE always suffices.
/// @param length   receives the length of the text without NUL; may be NULL.
/// @return OK; INVALID_ARGUMENT, also where the text does not fit.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_rule_render_policy(
    rule: *const escope_rule,
    name: *const c_char,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { policy(rule, name, buffer, capacity, length) })
}

/// Writes the value of the header field `RateLimit`, such as `"api";r=9;t=6`: `r` tokens remain, and after `t` seconds,
/// rounded up, there are more: all, or, after a refusal, enough.
///
/// Ownership: all memory stays the caller's.
///
/// @param decision what a check said.
/// @param name     name of the policy, as for escope_rule_render_policy.
/// @param buffer   receives the text and a NUL.
/// @param capacity size of `buffer` in bytes; ESCOPE_FIELD_SIZE always suffices.
/// @param length   receives the length of the text without NUL; may be NULL.
/// @return OK; INVALID_ARGUMENT, also where the text does not fit.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_decision_render_limit(
    decision: *const escope_decision,
    name: *const c_char,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { limit(decision, name, buffer, capacity, length) })
}

/// Writes the value of the header field `Retry-After` in seconds, rounded up, at least 1. Empty where there is none to send:
/// the check was admitted, or no wait helps.
///
/// Ownership: all memory stays the caller's.
///
/// @param decision what a check said.
/// @param buffer   receives the text and a NUL.
/// @param capacity size of `buffer` in bytes; ESCOPE_FIELD_SIZE always suffices.
/// @param length   receives the length of the text without NUL; may be NULL.
/// @return OK; INVALID_ARGUMENT, also where the text does not fit.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_decision_render_retry_after(
    decision: *const escope_decision,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { retry_after(decision, buffer, capacity, length) })
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn policy(
    rule: *const escope_rule,
    name: *const c_char,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (rule, name, field) =
        unsafe { (input(rule, "rule")?, policy_name(name)?, Field::new(buffer, capacity, length)?) };
    let rule = keyed(rule)?;
    field.set(|out| name.write_policy(rule.effective(), out))
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn limit(
    decision: *const escope_decision,
    name: *const c_char,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (decision, name, field) = unsafe {
        let decision = input::<escope_decision>(decision, "decision")?.decision()?;
        (decision, policy_name(name)?, Field::new(buffer, capacity, length)?)
    };
    field.set(|out| name.write_limit(&decision, out))
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn retry_after(
    decision: *const escope_decision,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (decision, field) = unsafe {
        let decision = input::<escope_decision>(decision, "decision")?.decision()?;
        (decision, Field::new(buffer, capacity, length)?)
    };
    field.set(|out| decision.retry_after_s().map_or(Ok(()), |seconds| write!(out, "{seconds}")))
}

/// # Safety
/// `name` is NULL or valid for what the header says.
unsafe fn policy_name<'a>(name: *const c_char) -> Result<PolicyName<'a>, Failure> {
    // SAFETY: the caller's contract.
    let name = unsafe { text(name, "name") }?;
    let Ok(name) = name.to_str() else {
        return Err(invalid("name", format_args!("{name:?}"), "1 to 64 printable ASCII characters"));
    };
    Ok(PolicyName::new(name)?)
}

/// A caller's buffer for one field.
struct Field {
    buffer: Out<c_char>,
    capacity: usize,
    length: Option<Out<usize>>,
}

impl Field {
    /// # Safety
    /// Each pointer is NULL or valid for what the header says.
    unsafe fn new(buffer: *mut c_char, capacity: usize, length: *mut usize) -> Result<Self, Failure> {
        // SAFETY: the caller's contract.
        let (buffer, length) =
            unsafe { (Out::required(buffer, "buffer")?, Out::optional(length, "length")?) };
        Ok(Self { buffer, capacity, length })
    }

    /// Writes the whole text or nothing.
    fn set(&self, write: impl FnOnce(&mut Text) -> fmt::Result) -> Verdict {
        let mut text = Text { bytes: [0; ESCOPE_FIELD_SIZE], length: 0 };
        write(&mut text).expect("no field is longer than the longest");
        let size = text.length + 1;
        if size > self.capacity {
            return Err(invalid("capacity", self.capacity, format_args!("{size} or more for this field")));
        }
        // SAFETY: the buffer has `capacity` bytes by the contract of `new`, and `size` is not above it. The text's last byte
        // is NUL, for the array began as zeros.
        unsafe { self.buffer.as_ptr().copy_from_nonoverlapping(text.bytes.as_ptr().cast(), size) };
        if let Some(length) = &self.length {
            length.set(text.length);
        }
        Ok(Status::Ok)
    }
}

struct Text {
    bytes: [u8; ESCOPE_FIELD_SIZE],
    length: usize,
}

impl Write for Text {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = self.length + part.len();
        // The last byte stays NUL.
        if end >= ESCOPE_FIELD_SIZE {
            return Err(fmt::Error);
        }
        self.bytes[self.length..end].copy_from_slice(part.as_bytes());
        self.length = end;
        Ok(())
    }
}
