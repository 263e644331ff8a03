//! Where atomics and locks come from: the standard library and portable-atomic in the product, loom under
//! `--cfg escope_loom`. No other module names an origin, so the models run the shipped code. The one system
//! call of the core, reading the monotonic clock, stands here too.
//!
//! # The wide word
//!
//! Breaker and limiter keep a state that must change as a whole in one [`AtomicWide`]: two halves of 64
//! bits, always accessed 128 bits wide. loom has no 128-bit atomic, so there the word has two halves of 32
//! bits and every layout narrows its fields by [`HALF`]; the protocols are the same code.

#[cfg(not(escope_loom))]
mod origin {
    pub use portable_atomic::AtomicU128 as AtomicWide;
    pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence};

    /// Value of an [`AtomicWide`].
    pub type Wide = u128;
    /// One half of a [`Wide`].
    pub type Half = u64;
    /// Bits in one half of a [`Wide`].
    pub const HALF: u32 = 64;

    /// Mutual exclusion for the pool; no user code runs while it is held.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(parking_lot::Mutex<T>);

    impl<T> Mutex<T> {
        /// A mutex that holds `value`.
        pub const fn new(value: T) -> Self {
            Self(parking_lot::Mutex::new(value))
        }

        /// Waits for the lock.
        pub fn lock(&self) -> parking_lot::MutexGuard<'_, T> {
            self.0.lock()
        }

        /// Takes the lock if it is free.
        pub fn try_lock(&self) -> Option<parking_lot::MutexGuard<'_, T>> {
            self.0.try_lock()
        }
    }

    /// Whether the wide word is lock-free on this machine. portable-atomic's fallback locks would be
    /// invisible to another process, so the edges refuse to start where this is false.
    pub fn wide_is_lock_free() -> bool {
        AtomicWide::is_lock_free()
    }
}

#[cfg(escope_loom)]
mod origin {
    pub use loom::sync::atomic::AtomicU64 as AtomicWide;
    pub use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence};

    /// Value of an [`AtomicWide`].
    pub type Wide = u64;
    /// One half of a [`Wide`].
    pub type Half = u32;
    /// Bits in one half of a [`Wide`].
    pub const HALF: u32 = 32;

    /// loom's mutex behind the same interface.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        /// A mutex that holds `value`.
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        /// Waits for the lock.
        pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("no model panics while it holds the lock")
        }

        /// Takes the lock if it is free.
        pub fn try_lock(&self) -> Option<loom::sync::MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    /// Models always run.
    pub fn wide_is_lock_free() -> bool {
        true
    }
}

pub use origin::*;
pub use std::sync::atomic::Ordering;

/// Joins two halves.
#[inline]
pub const fn wide(hi: Half, lo: Half) -> Wide {
    (hi as Wide) << HALF | lo as Wide
}

/// Upper half of a word.
#[inline]
pub const fn hi(word: Wide) -> Half {
    (word >> HALF) as Half
}

/// Lower half of a word.
#[inline]
pub const fn lo(word: Wide) -> Half {
    word as Half
}

/// Asks the processor to fetch the cache line of `target`, which is going to be read.
#[inline]
#[allow(unsafe_code)]
pub fn prefetch<T>(target: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of every x86-64, and a prefetch is a hint that never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(target).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = target;
}

/// Nanoseconds of `CLOCK_MONOTONIC`, through the vDSO.
#[inline]
#[allow(unsafe_code)]
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec for the duration of the call. CLOCK_MONOTONIC exists on
    // every Linux, so the call cannot fail and always fills it.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
