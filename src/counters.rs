//! Event counters that cost a few instructions and no locked one.
//!
//! A counter is spread over cache lines, *stripes*. The first [`OWNED`] threads that count have a stripe of their
//! own in every set of counters, which nobody else writes, so they add by a plain load and store; the threads
//! beyond share one stripe and add atomically. A thread's stripe goes back when the thread ends.
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
        let Some(stripe) = self.0.owned.get(thread::stripe()) else { return self.increment_unowned(index) };
        // Relaxed: a count orders nothing. This thread is the stripe's only writer, and the one before it
        // released the stripe before this one acquired it, so no addition is lost between load and store.
        let counter = &stripe.0[index];
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The first count of a thread, which asks for a stripe, and each one of a thread that got none.
    #[inline(never)]
    fn increment_unowned(&self, index: usize) {
        let stripe = self.0.owned.get(thread::claimed()).unwrap_or(&self.0.shared);
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

/// Which owned stripe the current thread writes: from `OWNED` on, none.
#[cfg(not(escope_model))]
mod thread {
    use super::OWNED;
    use crate::sync::{AtomicU32, Ordering};
    use std::cell::Cell;

    /// A bit for each owned stripe that has an owner. Process state, the same for all sets of counters.
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    const NOT_ASKED: usize = usize::MAX;
    const NONE: usize = OWNED;

    thread_local! {
        // Without a destructor, so that reading it is one load. `OWNER` beside it has the destructor.
        static STRIPE: Cell<usize> = const { Cell::new(NOT_ASKED) };
        static OWNER: Owner = const { Owner };
    }

    /// Gives the thread's stripe back when the thread ends.
    struct Owner;

    #[inline]
    pub(super) fn stripe() -> usize {
        STRIPE.get()
    }

    /// Like [`stripe`], but asks for one if the thread has not asked yet.
    pub(super) fn claimed() -> usize {
        if STRIPE.get() == NOT_ASKED {
            claim();
        }
        STRIPE.get()
    }

    fn claim() {
        let free = |taken: u32| Some(taken | 1 << taken.trailing_ones()).filter(|taken| *taken < 1 << OWNED);
        // Acquire pairs with the Release in `release`: the last owner's additions happened before this one's.
        let claimed = TAKEN.fetch_update(Ordering::Acquire, Ordering::Relaxed, free);
        let stripe = claimed.map_or(NONE, |taken| taken.trailing_ones() as usize);
        STRIPE.set(stripe);
        if stripe != NONE && OWNER.try_with(|_| ()).is_err() {
            // The thread is ending and would never give the stripe back.
            release(stripe);
        }
    }

    fn release(stripe: usize) {
        STRIPE.set(NONE);
        TAKEN.fetch_and(!(1 << stripe), Ordering::Release);
    }

    impl Drop for Owner {
        fn drop(&mut self) {
            release(STRIPE.get());
        }
    }
}

#[cfg(escope_model)]
mod thread {
    pub(super) fn stripe() -> usize {
        super::OWNED
    }

    pub(super) fn claimed() -> usize {
        super::OWNED
    }
}

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::{Counters, STRIPES};
    use std::sync::Barrier;

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
