//! Event counters that cost a few instructions and no locked one.
//!
//! A counter is spread over cache lines, *stripes*. The first [`OWNED`] threads that count have a stripe of their
//! own in every set of counters, which nobody else writes, so they add by a plain load and store; the threads
//! beyond share one stripe and add atomically. A thread's stripe goes back when the thread ends. An addition is no
//! single step: a signal handler must not count.
//!
//! The sum is exact once the adding threads have stopped; while they run it may miss additions that are in
//! flight. Counters are no cell state: they live in the process-local handle.

use crate::sync::{AtomicU64, Ordering};

/// Stripes that belong to one thread at a time.
const OWNED: usize = if cfg!(escope_model) { 0 } else { 16 };
/// Stripes of a set: the owned ones and the shared one.
pub const STRIPES: usize = OWNED + 1;

/// `N` counters. `N <= 8` keeps a stripe within one cache line.
#[derive(Debug)]
pub struct Counters<const N: usize>(Box<Stripes<N>>);

#[derive(Debug)]
struct Stripes<const N: usize> {
    owned: [Stripe<N>; OWNED],
    shared: Stripe<N>,
}

#[derive(Debug)]
#[repr(align(64))]
struct Stripe<const N: usize>([AtomicU64; N]);

impl<const N: usize> Stripe<N> {
    fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl<const N: usize> Counters<N> {
    /// Counters at zero.
    pub fn new() -> Self {
        let owned = std::array::from_fn(|_| Stripe::new());
        Self(Box::new(Stripes { owned, shared: Stripe::new() }))
    }

    /// Adds one to counter `index`.
    #[inline]
    pub fn increment(&self, index: usize) {
        let Some(stripe) = thread::stripe() else { return self.increment_unowned(index) };
        let stripe = &self.0.owned[stripe];
        // Relaxed: a count orders nothing. This thread is the stripe's only writer, and the one before it
        // released the stripe before this one acquired it, so no addition is lost between load and store.
        let counter = &stripe.0[index];
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The first count of a thread, which asks for a stripe, and each one of a thread that got none.
    #[inline(never)]
    fn increment_unowned(&self, index: usize) {
        let stripe = thread::claimed().map_or(&self.0.shared, |stripe| &self.0.owned[stripe]);
        // An addition on an owned stripe may be atomic too.
        stripe.0[index].fetch_add(1, Ordering::Relaxed);
    }

    /// Sum of counter `index` over all stripes.
    pub fn sum(&self, index: usize) -> u64 {
        let stripes = self.0.owned.iter().chain([&self.0.shared]);
        stripes.map(|stripe| stripe.0[index].load(Ordering::Relaxed)).sum()
    }
}

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Which owned stripe the current thread writes, if any.
///
/// A thread-local variable would say so too, but in a shared library each look at one is a call. The thread pointer is
/// a register, and a table of those that own a stripe one load.
#[cfg(not(escope_model))]
mod thread {
    use super::OWNED;
    use crate::sync::{AtomicU32, AtomicU64, Ordering, thread_pointer};
    use std::cell::Cell;

    /// A bit for each owned stripe that has an owner. Process state, the same for all sets of counters.
    static TAKEN: AtomicU32 = AtomicU32::new(0);

    /// Who owns which stripe: `{ stripe: 7 | thread pointer: 57 }`, each in the place that its pointer hashes to. Two
    /// threads of one place cannot both own one. So many places that stacks which lie next to each other share none.
    ///
    /// A stripe whose owner ended without giving it back passes to the next thread with that pointer: a thread that the
    /// parent of a `fork` had, or one that counted first after its thread-local variables were dropped.
    static OWNERS: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];
    const PLACES: usize = 256;
    const POINTER_BITS: u32 = 57;
    const POINTER_MASK: u64 = (1 << POINTER_BITS) - 1;

    thread_local! {
        static ASKED: Cell<bool> = const { Cell::new(false) };
        static OWNER: Owner = const { Owner };
    }

    /// Gives the thread's stripe back when the thread ends.
    struct Owner;

    #[inline]
    pub(super) fn stripe() -> Option<usize> {
        const _: () = assert!(OWNED.is_power_of_two());
        let pointer = thread_pointer();
        // Relaxed: the entry of this thread is written by this thread alone.
        let entry = place(pointer).load(Ordering::Relaxed);
        // The mask changes nothing, but spares the check of an index.
        (entry & POINTER_MASK == pointer).then_some((entry >> POINTER_BITS) as usize & (OWNED - 1))
    }

    /// Like [`stripe`], but asks for one if the thread has not asked yet.
    pub(super) fn claimed() -> Option<usize> {
        if !ASKED.replace(true) {
            claim();
        }
        stripe()
    }

    fn claim() {
        let pointer = thread_pointer();
        if place(pointer).load(Ordering::Relaxed) != 0 {
            return;
        }
        let free = |taken: u32| Some(taken | 1 << taken.trailing_ones()).filter(|taken| *taken < 1 << OWNED);
        // Acquire pairs with the Release in `release`: the last owner's additions happened before this one's.
        let Ok(taken) = TAKEN.fetch_update(Ordering::Acquire, Ordering::Relaxed, free) else { return };
        let stripe = taken.trailing_ones();
        let entry = u64::from(stripe) << POINTER_BITS | pointer;
        let entered = place(pointer).compare_exchange(0, entry, Ordering::Relaxed, Ordering::Relaxed);
        // A thread whose variables were dropped already would not give the stripe back.
        if entered.is_err() || OWNER.try_with(|_| ()).is_err() {
            release(stripe, entered.is_ok());
        }
    }

    fn release(stripe: u32, entered: bool) {
        if entered {
            place(thread_pointer()).store(0, Ordering::Relaxed);
        }
        TAKEN.fetch_and(!(1 << stripe), Ordering::Release);
    }

    #[inline]
    fn place(pointer: u64) -> &'static AtomicU64 {
        &OWNERS[index(pointer)]
    }

    #[inline]
    pub(super) fn index(pointer: u64) -> usize {
        // Fibonacci hashing (Knuth, volume 3, section 6.4): pointers are far apart and end in zeroes.
        let spread = pointer.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (spread >> (64 - PLACES.trailing_zeros())) as usize
    }

    impl Drop for Owner {
        fn drop(&mut self) {
            if let Some(stripe) = stripe() {
                release(stripe as u32, true);
            }
        }
    }
}

#[cfg(escope_model)]
mod thread {
    pub(super) fn stripe() -> Option<usize> {
        None
    }

    pub(super) fn claimed() -> Option<usize> {
        None
    }
}

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::{Counters, OWNED, STRIPES, thread};
    use std::sync::Barrier;

    #[test]
    fn threads_whose_stacks_lie_next_to_each_other_get_places_of_their_own() {
        // What glibc maps for a thread: its stack of 8, 2 or 1 MiB or of 256 KiB, and a guard page.
        for stride in [0x80_1000, 0x20_1000, 0x10_1000, 0x4_1000] {
            for base in (0..1_000).map(|page| 0x7F12_3456_76C0 - page * 4096) {
                let mut places: Vec<_> =
                    (0..OWNED as u64).map(|number| thread::index(base - number * stride)).collect();
                places.sort_unstable();
                places.dedup();
                assert_eq!(places.len(), OWNED, "stride {stride:#x}");
            }
        }
    }

    #[test]
    fn no_addition_is_lost_with_more_threads_than_stripes() {
        let counters = Counters::<2>::new();
        for _ in 0..3 {
            let all_run = Barrier::new(2 * STRIPES);
            std::thread::scope(|scope| {
                for _ in 0..2 * STRIPES {
                    scope.spawn(|| {
                        counters.increment(0);
                        all_run.wait();
                        (0..1_000).for_each(|_| counters.increment(1));
                    });
                }
            });
        }
        assert_eq!(counters.sum(0), 3 * 2 * STRIPES as u64);
        assert_eq!(counters.sum(1), 3 * 2 * STRIPES as u64 * 1_000);
    }
}
