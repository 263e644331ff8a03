//! The wide word of the product: 128 bits in one access.
//!
//! portable-atomic asks at every access which instructions the processor has, and calls through a pointer; on the fast path
//! of a check that takes as long as the arithmetic. So on x86-64 the two accesses of a fast path, load and
//! compare-and-swap, stand here inline, in the instructions that portable-atomic takes there as well; both may be mixed.

use crate::sync::Ordering;
use portable_atomic::AtomicU128;

/// Value of an [`AtomicWide`].
pub type Wide = u128;

/// A word of 128 bits that changes as a whole.
#[derive(Debug)]
#[repr(transparent)]
pub struct AtomicWide(AtomicU128);

impl AtomicWide {
    /// A word that holds `value`.
    pub const fn new(value: Wide) -> Self {
        Self(AtomicU128::new(value))
    }

    /// Reads the whole word.
    #[inline(always)]
    pub fn load(&self, order: Ordering) -> Wide {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if native::is_known() {
            return native::load(&self.0);
        }
        self.load_elsewhere(order)
    }

    /// Reads the upper half, and after it the lower one, both with acquire ordering: together they may be a word that never
    /// was. Faster than [`AtomicWide::load`], so for a caller who finds out in any case, as a compare-and-swap does.
    #[inline(always)]
    pub fn load_halves(&self) -> Wide {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        return native::load_halves(&self.0);
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        self.load(Ordering::Acquire)
    }

    /// Replaces the whole word.
    #[inline]
    pub fn store(&self, value: Wide, order: Ordering) {
        self.0.store(value, order);
    }

    /// Replaces `old` by `new`; else says what is there.
    #[inline(always)]
    pub fn compare_exchange(
        &self,
        old: Wide,
        new: Wide,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Wide, Wide> {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if native::is_known() {
            return native::compare_exchange(&self.0, old, new);
        }
        self.exchange_elsewhere(old, new, success, failure)
    }

    #[inline(never)]
    fn load_elsewhere(&self, order: Ordering) -> Wide {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        native::ask();
        self.0.load(order)
    }

    #[inline(never)]
    fn exchange_elsewhere(
        &self,
        old: Wide,
        new: Wide,
        success: Ordering,
        failure: Ordering,
    ) -> Result<Wide, Wide> {
        self.0.compare_exchange(old, new, success, failure)
    }
}

/// Whether the wide word is lock-free on this machine. portable-atomic's fallback locks would be
/// invisible to another process, so the edges refuse to start where this is false.
pub fn wide_is_lock_free() -> bool {
    AtomicU128::is_lock_free()
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[allow(unsafe_code)]
mod native {
    use super::{AtomicU128, Ordering, Wide};
    use std::arch::asm;
    use std::arch::x86_64::__m128i;
    use std::sync::atomic::AtomicBool;

    static KNOWN: AtomicBool = AtomicBool::new(false);

    /// Whether the processor was asked, and has AVX: then an aligned load of 16 bytes is one access. Every processor that has
    /// AVX has `cmpxchg16b`.
    #[inline(always)]
    pub fn is_known() -> bool {
        // Relaxed: nothing else depends on it.
        KNOWN.load(Ordering::Relaxed)
    }

    /// Asks the processor.
    pub fn ask() {
        KNOWN.store(std::arch::is_x86_feature_detected!("avx"), Ordering::Relaxed);
    }

    /// Sequentially consistent, as every load of x86-64 is beside locked stores. The compiler may not move memory accesses
    /// across it, for the assembly might do any.
    #[inline(always)]
    pub fn load(word: &AtomicU128) -> Wide {
        let value: __m128i;
        // SAFETY: the pointer is that of a live word, aligned to 16 bytes. With AVX, an aligned load of 16 bytes is
        // atomic (Intel SDM, volume 3, 10.1.1; AMD64 manual, volume 1, 4.9.5).
        unsafe {
            asm!(
                "movdqa {value}, xmmword ptr [{word}]",
                word = in(reg) word.as_ptr(),
                value = out(xmm_reg) value,
                options(nostack, preserves_flags),
            );
            std::mem::transmute::<__m128i, Wide>(value)
        }
    }

    /// An aligned half is one access on every processor, and x86-64 keeps loads in order.
    #[inline(always)]
    pub fn load_halves(word: &AtomicU128) -> Wide {
        let (high, low): (u64, u64);
        // SAFETY: the pointer is that of a live word, aligned to 16 bytes.
        unsafe {
            asm!(
                "mov {high}, qword ptr [{word} + 8]",
                "mov {low}, qword ptr [{word}]",
                word = in(reg) word.as_ptr(),
                high = out(reg) high,
                low = lateout(reg) low,
                options(nostack, preserves_flags),
            );
        }
        u128::from(high) << 64 | u128::from(low)
    }

    /// Sequentially consistent: a locked instruction.
    #[inline(always)]
    pub fn compare_exchange(word: &AtomicU128, old: Wide, new: Wide) -> Result<Wide, Wide> {
        let (seen_low, seen_high): (u64, u64);
        let failed: u8;
        // SAFETY: the pointer is that of a live word, aligned to 16 bytes. The compiler keeps rbx for itself, so it is
        // saved and restored; the pointer has a register of its own, lest it be given that one.
        unsafe {
            asm!(
                "xchg r8, rbx",
                "lock cmpxchg16b xmmword ptr [rsi]",
                "setne cl",
                "mov rbx, r8",
                inout("r8") new as u64 => _,
                in("rcx") (new >> 64) as u64,
                inout("rax") old as u64 => seen_low,
                inout("rdx") (old >> 64) as u64 => seen_high,
                in("rsi") word.as_ptr(),
                lateout("cl") failed,
                options(nostack),
            );
        }
        if failed == 0 { Ok(old) } else { Err(u128::from(seen_high) << 64 | u128::from(seen_low)) }
    }
}
