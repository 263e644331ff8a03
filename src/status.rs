//! The one table of refusals and failures, from which every language is checked.
//!
//! Zero is OK. A positive value is a refusal, part of normal life: no message, no allocation. A negative
//! value is misuse or failure. Numbers are forever; a retired one stays reserved.

use std::ffi::CStr;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $word:literal, $text:literal;)*) => {
        /// Outcome of a call, the same number in C and the same word in every language.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum Status {
            $(#[doc = $text] $name = $value,)*
        }

        impl Status {
            /// Every status, in the order of the table.
            pub const ALL: &'static [Status] = &[$(Status::$name,)*];

            /// The word that names this status in every language, such as `circuit_open`.
            pub const fn word(self) -> &'static str {
                match self { $(Status::$name => $word,)* }
            }

            /// A sentence for a log or an error message.
            pub const fn text(self) -> &'static str {
                match self { $(Status::$name => $text,)* }
            }

            /// [`Status::text`] as C reads it.
            pub const fn c_text(self) -> &'static CStr {
                const fn terminated(text: &'static str) -> &'static CStr {
                    match CStr::from_bytes_with_nul(text.as_bytes()) {
                        Ok(text) => text,
                        Err(_) => panic!("`concat!` ends each text in its only NUL"),
                    }
                }
                match self { $(Status::$name => const { terminated(concat!($text, "\0")) },)* }
            }

            /// The status with this number, if there is one.
            pub const fn from_code(code: i32) -> Option<Status> {
                match code { $($value => Some(Status::$name),)* _ => None }
            }
        }
    };
}

statuses! {
    Ok = 0, "ok", "The call did what it was asked to.";
    CircuitOpen = 1, "circuit_open", "The circuit breaker is open.";
    HalfOpenFull = 2, "half_open_full", "The circuit breaker is half-open and all its probes are taken.";
    RateLimited = 3, "rate_limited", "The rate limit is used up for now.";
    Never = 4, "never", "The cost is above the burst, so the call can never be admitted.";
    TableFull = 5, "table_full", "The table has no place for a new key.";
    PoolTimeout = 6, "pool_timeout", "No connection became free within the time-out.";
    PoolExhausted = 7, "pool_exhausted", "No connection is free and the call does not wait.";
    PoolClosed = 8, "pool_closed", "The pool is closed.";
    QueueFull = 9, "queue_full", "Too many callers wait already.";
    Stale = 10, "stale", "The permit belongs to an earlier generation of the breaker; it changed nothing.";
    Expired = 11, "expired", "The probe's lease had run out; it was already counted as a failure.";
    ForcedOpen = 12, "forced_open", "Somebody has forced the circuit breaker open.";
    ServiceDegraded = 13, "service_degraded", "The circuit breaker admits only a share of the calls for now.";
    FaultInjected = 14, "fault_injected", "The call was chosen to fail by fault injection.";
    TooLate = 15, "too_late", "The time of the reservation has come, so it cannot be cancelled.";
    Forfeited = 16, "forfeited", "Nothing was given back, for later reservations rely on it.";
    ChangeTooSoon = 17, "change_too_soon", "Keys may still owe from the rule that was in force four changes before.";
    Shed = 18, "shed", "The wait for a connection was ended early because all waits had become too long.";
    InvalidArgument = -1, "invalid_argument", "An argument is invalid.";
    AlreadyDone = -2, "already_done", "The permit or receipt was used before.";
    StaleLease = -3, "stale_lease", "The lease was returned before, or belongs to another pool.";
    OutOfMemory = -4, "out_of_memory", "There is not enough memory.";
    Panic = -5, "panic", "The library failed internally; the object stays usable.";
    Unsupported = -6, "unsupported", "This machine has no lock-free 128-bit atomic.";
    CreateFailed = -7, "create_failed", "The callback that makes a connection failed.";
    Forked = -8, "forked", "The pool belongs to the parent process.";
    PermitNotFound = -9, "permit_not_found", "The breaker never granted such a probe.";
    BadReceipt = -10, "bad_receipt", "This is no receipt of this limiter.";
}
