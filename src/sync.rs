//! Where atomics and locks come from: the standard library and portable-atomic in the product, loom under
//! `--cfg escope_loom`, shuttle under `--cfg escope_shuttle`. No other module names an origin, so the models run the
//! shipped code. The system calls of the core stand here too: reading the monotonic clock, and asking for huge pages.
//!
//! loom tries every order of a few steps, weak memory included; shuttle tries random orders of many threads, with each
//! access seen by all at once. Both set `escope_model` (`build.rs`).
//!
//! # The wide word
//!
//! Breaker and limiter keep a state that must change as a whole in one [`AtomicWide`]: two halves of 64
//! bits, accessed 128 bits wide but for [`AtomicWide::load_halves`]. Neither loom nor shuttle has a 128-bit atomic, so in a model the word has two
//! halves of 32 bits and every layout narrows its fields by [`HALF`]; the protocols are the same code.

mod huge;
#[cfg(escope_model)]
mod model;
#[cfg_attr(not(escope_model), path = "sync/shipped.rs")]
#[cfg_attr(escope_loom, path = "sync/loom.rs")]
#[cfg_attr(escope_shuttle, path = "sync/shuttle.rs")]
mod origin;
mod push_list;

pub use huge::HugeBox;
#[cfg(escope_model)]
pub use model::*;
pub use origin::*;
pub use push_list::{PushBatch, PushList};
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

/// A number that no earlier call in this process returned; never 0.
pub fn unique_id() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    // Relaxed: uniqueness needs the order of this one word only.
    NEXT.fetch_add(1, Ordering::Relaxed)
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

/// Starts to fetch the cache line of `value` for a write to come, and waits for nothing: a hint, which may do nothing at all.
#[inline(always)]
#[allow(unsafe_code)]
pub fn prefetch_for_write<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri), not(escope_model)))]
    // SAFETY: a prefetch changes no register, no flag and no value in memory. A processor without the instruction takes it for
    // a no-op.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) value, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri), not(escope_model))))]
    let _ = value;
}

/// A number below 2^57 that names the calling thread among those that are alive, and is not 0.
#[inline(always)]
#[allow(unsafe_code)]
pub fn thread_pointer() -> u64 {
    #[cfg(all(target_arch = "x86_64", target_pointer_width = "64", target_os = "linux"))]
    {
        let pointer: u64;
        // SAFETY: on Linux, in the x86-64 ABI for thread-local storage (Drepper, *ELF Handling For Thread-Local Storage*) the word at
        // fs:0 is the thread pointer itself. It is only read.
        unsafe {
            std::arch::asm!("mov {}, fs:0", out(reg) pointer, options(pure, readonly, nostack, preserves_flags));
        }
        pointer
    }
    #[cfg(not(all(target_arch = "x86_64", target_pointer_width = "64", target_os = "linux")))]
    {
        thread_local!(static HERE: u8 = const { 0 });
        HERE.with(|here| std::ptr::from_ref(here).addr() as u64)
    }
}
