//! Versions of library and ABI, and the clock that `_at` functions are fed from.

use std::ffi::{CStr, c_char};

use crate::sync::monotonic_ns;

/// Number of the ABI; it grows when a program must be compiled again.
pub const ABI_VERSION: u32 = 1;

const fn number(text: &str) -> u32 {
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut value = 0;
    while at < bytes.len() {
        value = value * 10 + (bytes[at] - b'0') as u32;
        at += 1;
    }
    value
}

/// Parts of the version, as the header's macros state them.
pub const VERSION_PARTS: [u32; 3] = [
    number(env!("CARGO_PKG_VERSION_MAJOR")),
    number(env!("CARGO_PKG_VERSION_MINOR")),
    number(env!("CARGO_PKG_VERSION_PATCH")),
];

const VERSION_TEXT: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("`concat!` ends the text in its only NUL"),
    };

/// Gives the version of the library that is running: major * 10000 + minor * 100 + patch.
///
/// Compare it with ESCOPE_VERSION_NUMBER, the version of the header the program was compiled with.
///
/// @return the number.
///
/// Thread safety: any thread, concurrently; async-signal-safe. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub extern "C" fn escope_version_number() -> u32 {
    let [major, minor, patch] = VERSION_PARTS;
    major * 10_000 + minor * 100 + patch
}

/// Gives the version of the library that is running as a text, such as "0.1.0".
///
/// Ownership: the text is static and belongs to the library.
///
/// @return the text, ending in NUL.
///
/// Thread safety: any thread, concurrently; async-signal-safe. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub extern "C" fn escope_version_string() -> *const c_char {
    VERSION_TEXT.as_ptr()
}

/// Gives the version of the ABI of the library that is running.
///
/// A program works with the library if it equals the program's own ESCOPE_ABI_VERSION.
///
/// @return the number.
///
/// Thread safety: any thread, concurrently; async-signal-safe. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub extern "C" fn escope_abi_version() -> u32 {
    ABI_VERSION
}

/// Reads the clock of all functions that take no time: nanoseconds of CLOCK_MONOTONIC.
///
/// Feed the `_at` functions from it to use one reading for several calls, or to mix them with functions
/// that read the clock themselves.
///
/// @return nanoseconds since an origin that all processes of the machine share.
///
/// Thread safety: any thread, concurrently; async-signal-safe. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub extern "C" fn escope_clock_now_ns() -> u64 {
    monotonic_ns()
}
