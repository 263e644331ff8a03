//! How many native objects exist in this VM, for leak tests.

use std::sync::atomic::{AtomicI64, Ordering};

use rustler::NifMap;

static BREAKERS: AtomicI64 = AtomicI64::new(0);
static PERMITS: AtomicI64 = AtomicI64::new(0);
static LEASHES: AtomicI64 = AtomicI64::new(0);
static LIMITERS: AtomicI64 = AtomicI64::new(0);
static LIMITS: AtomicI64 = AtomicI64::new(0);
static RECEIPTS: AtomicI64 = AtomicI64::new(0);
static WAITERS: AtomicI64 = AtomicI64::new(0);

/// A part of an object that counts the object while it exists.
pub struct Live(&'static AtomicI64);

impl Live {
    pub fn breaker() -> Self {
        Self::new(&BREAKERS)
    }

    pub fn permit() -> Self {
        Self::new(&PERMITS)
    }

    pub fn leash() -> Self {
        Self::new(&LEASHES)
    }

    pub fn limiter() -> Self {
        Self::new(&LIMITERS)
    }

    pub fn limit() -> Self {
        Self::new(&LIMITS)
    }

    pub fn receipt() -> Self {
        Self::new(&RECEIPTS)
    }

    pub fn waiter() -> Self {
        Self::new(&WAITERS)
    }

    fn new(count: &'static AtomicI64) -> Self {
        // Relaxed, here and below: a count that orders nothing.
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(NifMap)]
struct Objects {
    breakers: i64,
    permits: i64,
    leashes: i64,
    limiters: i64,
    limits: i64,
    receipts: i64,
    waiters: i64,
}

#[rustler::nif]
fn live_objects() -> Objects {
    Objects {
        breakers: BREAKERS.load(Ordering::Relaxed),
        permits: PERMITS.load(Ordering::Relaxed),
        leashes: LEASHES.load(Ordering::Relaxed),
        limiters: LIMITERS.load(Ordering::Relaxed),
        limits: LIMITS.load(Ordering::Relaxed),
        receipts: RECEIPTS.load(Ordering::Relaxed),
        waiters: WAITERS.load(Ordering::Relaxed),
    }
}
