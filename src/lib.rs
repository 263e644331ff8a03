//! Circuit breaker, token-bucket rate limiter and connection pool as pure decision makers.
//!
//! A core type takes the time as an argument and returns a decision. It never spawns, sleeps, parks,
//! logs, reads a clock, calls user code or allocates on a hot path; whoever embeds it (the C ABI, the
//! BEAM NIF, Python) does that at the edge.
//!
//! * [`breaker`]: circuit breaker with single-use, leased half-open probes. A lock-free *cell*:
//!   atomics in position-independent memory.
//! * [`limiter`]: the generic cell rate algorithm (GCRA) in exact integer ticks, for one bucket and for
//!   a keyed table of fixed capacity. Also cells.
//! * [`pool`]: a connection pool that hands out slot numbers and leases, never connections.
//! * [`clock`]: monotonic nanoseconds, and a manual clock for tests.
//! * [`counters`]: striped event counters that live in a handle, outside of any cell.
//! * [`status`], [`error`]: the one table of refusals, and what is wrong with an argument.
//! * [`seqlock`]: words that are read as a whole while somebody replaces them.
//! * `random`: numbers that a seed repeats, for jitter and injected faults.
//! * [`mod@file`]: a limiter's snapshot in a file; no core type knows of files.
//! * [`sync`]: the only module that names where an atomic type comes from, so that loom and shuttle
//!   can model the shipped code.
//!
//! `capi` (feature, on by default) translates all of it to the C ABI of `include/elixirscope.h`.

pub mod breaker;
pub mod clock;
pub mod counters;
pub mod error;
pub mod file;
pub mod limiter;
pub mod pool;
mod random;
pub mod seqlock;
pub mod status;
pub mod sync;

#[cfg(all(feature = "capi", not(escope_model)))]
pub mod capi;

/// Version of the library, equal in the crate, the C header, the mix project and the wheel.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

// The README's Rust block runs with the examples of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
