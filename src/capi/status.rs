//! Codes and messages. The codes are the table of [`crate::status`]; the header lists it from there.
//!
//! A refusal has no message. A failure writes one into a buffer of the calling thread: of fixed size and
//! without a destructor, so that it allocates nothing, leaks nothing and works while a thread ends.

use std::cell::RefCell;
use std::ffi::c_char;
use std::fmt::{self, Write};

use super::boundary::{Out, guarded, invalid};
use crate::status::Status;

/// Code that a function returns: 0, a refusal above it, a failure below it.
pub type escope_status = i32;

const CAPACITY: usize = 256;

struct Message {
    text: [u8; CAPACITY],
    length: usize,
}

impl Write for Message {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = CAPACITY - self.length;
        let end = if part.len() <= room { part.len() } else { part.floor_char_boundary(room) };
        self.text[self.length..self.length + end].copy_from_slice(&part.as_bytes()[..end]);
        self.length += end;
        if end == part.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

thread_local! {
    static MESSAGE: RefCell<Message> = const { RefCell::new(Message { text: [0; CAPACITY], length: 0 }) };
}

/// Replaces the message of the calling thread; a text above the capacity is cut.
pub(super) fn remember(text: fmt::Arguments<'_>) {
    MESSAGE.with(|message| {
        // A `Display` of an argument cannot call back into the library, so the cell is never borrowed twice.
        let mut message = message.borrow_mut();
        message.length = 0;
        // An error only says that the text was cut.
        let _ = message.write_fmt(text);
    });
}

#[cfg(test)]
pub(super) fn message_of_this_thread() -> String {
    MESSAGE.with_borrow(|message| String::from_utf8_lossy(&message.text[..message.length]).into_owned())
}

/// Gives a sentence for a status.
///
/// Ownership: the text is static and belongs to the library; it is never NULL.
///
/// @param status a status; an unknown number gives a text that says so.
/// @return the text, ending in NUL.
///
/// Thread safety: any thread, concurrently; async-signal-safe. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub extern "C" fn escope_status_str(status: escope_status) -> *const c_char {
    Status::from_code(status)
        .map_or(c"This number is no status of this version of the library.", Status::c_text)
        .as_ptr()
}

/// Copies the message of the calling thread's last failure.
///
/// The message names the argument, its value and what is allowed. It stays until the next call on this
/// thread that returns a negative status; a success or a refusal leaves it. It is empty before the first.
///
/// Ownership: `buffer` stays the caller's.
///
/// @param buffer   receives the text, cut to `capacity - 1` bytes, and a NUL; may be NULL if `capacity` is 0.
/// @param capacity size of `buffer` in bytes.
/// @param length   receives the length of the whole text without NUL, at most 256; may be NULL.
/// @return OK; INVALID_ARGUMENT if `buffer` is NULL and `capacity` is not 0.
///
/// Thread safety: any thread, concurrently; each thread sees its own message. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_last_error(
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> escope_status {
    guarded(|| {
        if buffer.is_null() && capacity != 0 {
            return Err(invalid(
                "buffer",
                format_args!("NULL with a capacity of {capacity}"),
                "a valid pointer",
            ));
        }
        // SAFETY: the caller gives NULL or a writable place.
        let length = unsafe { Out::optional(length, "length") }?;
        MESSAGE.with_borrow(|message| {
            if capacity > 0 {
                let copied = message.length.min(capacity - 1);
                // SAFETY: `buffer` has room for `capacity` bytes by the caller's contract, and `copied` and
                // the NUL stay below it; the message is the library's own, so the two cannot overlap.
                unsafe {
                    buffer.copy_from_nonoverlapping(message.text.as_ptr().cast(), copied);
                    buffer.add(copied).write(0);
                }
            }
            if let Some(length) = length {
                length.set(message.length);
            }
        });
        Ok(Status::Ok)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        remember(format_args!("{}ü", "x".repeat(CAPACITY - 1)));
        assert_eq!(message_of_this_thread(), "x".repeat(CAPACITY - 1));
        remember(format_args!("short"));
        assert_eq!(message_of_this_thread(), "short");
    }
}
