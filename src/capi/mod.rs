//! The C ABI: a translation of the core to `include/elixirscope.h`, which is generated from these files.
//!
//! A file here checks pointers, turns integers into core types and core verdicts into integers; it holds no
//! rule of a breaker, limiter or pool. What every function relies on:
//!
//! * [`boundary`]: no panic crosses, NULL and misaligned pointers become `INVALID_ARGUMENT`, each failure
//!   leaves a message for `escope_last_error`.
//! * [`handle`]: the opaque objects count their references, so `_ref` and `_free` count and everything else
//!   borrows.
//! * [`options`]: structs that start with `struct_size` and may grow.
//! * [`status`], [`version`]: codes, messages, versions, the clock.
//!
//! The types bear their C names, because cbindgen takes them over as they are.

#![allow(unsafe_code, non_camel_case_types)]
// The contract of an exported function is its header text: ownership, arguments, thread safety.
#![allow(clippy::missing_safety_doc)]

#[cfg(panic = "abort")]
compile_error!(
    "feature `capi` needs panic = \"unwind\": an internal panic must become ESCOPE_STATUS_PANIC, \
     not the end of the host process"
);

pub mod boundary;
pub mod breaker;
pub mod handle;
pub mod limiter;
pub mod options;
pub mod pool;
pub mod status;
pub mod version;
