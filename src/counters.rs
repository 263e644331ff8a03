//! Event counters that cost one uncontended addition.
//!
//! A counter is spread over [`STRIPES`] cache lines; a thread always adds to the same one. The sum is exact
//! once the adding threads have stopped; while they run it may miss additions that are in flight. Counters
//! are no cell state: they live in the process-local handle.

use crate::sync::{AtomicU64, Ordering};

/// Cache lines a set of counters is spread over.
#[cfg(not(escope_loom))]
pub const STRIPES: usize = 16;
/// One stripe is enough for a model.
#[cfg(escope_loom)]
pub const STRIPES: usize = 1;

/// `N` counters. `N <= 8` keeps a stripe within one cache line.
#[derive(Debug)]
pub struct Counters<const N: usize> {
    stripes: Box<[Stripe<N>]>,
}

#[derive(Debug)]
#[repr(align(64))]
struct Stripe<const N: usize>([AtomicU64; N]);

impl<const N: usize> Counters<N> {
    /// Counters at zero.
    pub fn new() -> Self {
        let stripe = |_| Stripe(std::array::from_fn(|_| AtomicU64::new(0)));
        Self { stripes: (0..STRIPES).map(stripe).collect() }
    }

    /// Adds one to counter `index`.
    #[inline]
    pub fn increment(&self, index: usize) {
        // Relaxed: a count orders nothing; `sum` says what a concurrent reader may miss.
        self.stripes[stripe_of_thread()].0[index].fetch_add(1, Ordering::Relaxed);
    }

    /// Sum of counter `index` over all stripes.
    pub fn sum(&self, index: usize) -> u64 {
        self.stripes.iter().map(|stripe| stripe.0[index].load(Ordering::Relaxed)).sum()
    }
}

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(not(escope_loom))]
#[inline]
fn stripe_of_thread() -> usize {
    use std::cell::Cell;
    use std::sync::atomic::AtomicUsize as StdAtomicUsize;

    static NEXT: StdAtomicUsize = StdAtomicUsize::new(0);
    thread_local! {
        static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    STRIPE.with(|stripe| {
        let mine = stripe.get();
        if mine < STRIPES {
            return mine;
        }
        let mine = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
        stripe.set(mine);
        mine
    })
}

#[cfg(escope_loom)]
fn stripe_of_thread() -> usize {
    0
}
