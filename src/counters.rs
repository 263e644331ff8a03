//! Event counters that cost a load and a store.
//!
//! A counter is spread over cache lines. The first sixteen threads of the process own one each, and add
//! without an atomic read-modify-write, which alone would cost as much as a whole check; all other threads
//! share the rest. The sum is exact once the adding threads have stopped; while they run it may miss additions
//! that are in flight. Counters are no cell state: they live in the process-local handle.

use crate::sync::{AtomicU64, Ordering};

/// Cache lines that belong to one thread each.
#[cfg(not(escope_loom))]
const OWNED: usize = 16;
/// Cache lines a set of counters is spread over.
#[cfg(not(escope_loom))]
pub const STRIPES: usize = OWNED + 8;

/// One shared stripe is enough for a model.
#[cfg(escope_loom)]
pub const STRIPES: usize = 1;

/// `N` counters. `N <= 8` keeps a stripe within one cache line.
#[derive(Debug)]
pub struct Counters<const N: usize> {
    stripes: Box<[Stripe<N>; STRIPES]>,
}

#[derive(Debug)]
#[repr(align(64))]
struct Stripe<const N: usize>([AtomicU64; N]);

impl<const N: usize> Counters<N> {
    /// Counters at zero.
    pub fn new() -> Self {
        let stripe = |_| Stripe(std::array::from_fn(|_| AtomicU64::new(0)));
        Self { stripes: Box::new(std::array::from_fn(stripe)) }
    }

    /// Adds one to counter `index`.
    #[inline]
    pub fn increment(&self, index: usize) {
        match owned_stripe() {
            Some(stripe) => {
                let counter = &self.stripes[stripe].0[index];
                // Relaxed: a count orders nothing; `sum` says what a concurrent reader may miss.
                counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
            None => self.increment_shared(index),
        }
    }

    /// The increment of a thread that owns no stripe, and of one that looks for one first.
    #[cold]
    fn increment_shared(&self, index: usize) {
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
use owner::{owned_stripe, stripe_of_thread};

#[cfg(escope_loom)]
fn owned_stripe() -> Option<usize> {
    None
}

#[cfg(escope_loom)]
fn stripe_of_thread() -> usize {
    0
}

/// Which thread owns which stripe.
#[cfg(not(escope_loom))]
mod owner {
    use super::{OWNED, STRIPES};
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

    /// A bit for each owned stripe that has an owner.
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    static NEXT_SHARED: AtomicUsize = AtomicUsize::new(0);

    thread_local! {
        /// This thread's stripe. Apart from its owner, so that reading it runs no destructor check.
        static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
        static OWNER: Cell<Option<Owner>> = const { Cell::new(None) };
    }

    /// Gives the stripe back when the thread ends.
    struct Owner(usize);

    impl Drop for Owner {
        fn drop(&mut self) {
            STRIPE.set(OWNED);
            // Release: pairs with the acquire in `claim`, so the next owner goes on from our last count.
            TAKEN.fetch_and(!(1 << self.0), Ordering::Release);
        }
    }

    /// The stripe that this thread owns, if it is known to own one.
    #[inline]
    pub fn owned_stripe() -> Option<usize> {
        let stripe = STRIPE.get();
        (stripe < OWNED).then_some(stripe)
    }

    /// This thread's stripe, which it claims now if it has none.
    pub fn stripe_of_thread() -> usize {
        let stripe = STRIPE.get();
        if stripe < STRIPES { stripe } else { claim() }
    }

    fn claim() -> usize {
        const ALL: u32 = (1 << OWNED) - 1;
        let mut taken = TAKEN.load(Ordering::Relaxed);
        while taken != ALL {
            let free = taken.trailing_ones() as usize;
            // Acquire: pairs with the release of the thread that owned the stripe before.
            match TAKEN.compare_exchange_weak(taken, taken | 1 << free, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => {
                    // A thread that is past its thread-local destructors counts on a shared stripe.
                    let owner = Some(Owner(free));
                    if OWNER.try_with(move |cell| cell.set(owner)).is_ok() {
                        STRIPE.set(free);
                        return free;
                    }
                    break;
                }
                Err(now) => taken = now,
            }
        }
        let shared = OWNED + NEXT_SHARED.fetch_add(1, Ordering::Relaxed) % (STRIPES - OWNED);
        STRIPE.set(shared);
        shared
    }
}
