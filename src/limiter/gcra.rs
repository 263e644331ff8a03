//! The generic cell rate algorithm in integer ticks. Pure: no atomics, no clock.
//!
//! A rate of `N` tokens per `W` nanoseconds, reduced by their greatest common divisor to `n` per `w`, is
//! counted in *ticks*: one nanosecond is `n` ticks and one token is `w` ticks. The emission interval `w / n`
//! stays a rational that is never divided out, so no rate is rounded: three per second is not once every
//! 333,333,333 ns.
//!
//! The whole state of a bucket is `tat`, the theoretical arrival time of the next cell, in ticks. What it lies
//! ahead of now is the *debt*: `debt = max(0, tat - n * now)`. A bucket with no debt is full, and cannot be
//! told from one that was never used. A cost `c` is admitted if `debt + c * w <= burst * w`.
//!
//! Source: ITU-T I.371, annex A (the virtual scheduling algorithm), with `burst` as the total number of
//! tokens: its tolerance is `(burst - 1) * w / n`.
//!
//! # Ranges
//!
//! `n`, `w`, `burst` and `now` are below 2^62, so a product of two is below 2^124 and a sum of up to eight
//! products fits `u128` without a check. `burst * w / n` is below 2^62 ns, so every wait fits `u64`. Where a
//! caller has proved that `n * now + burst * w` is below 2^64 for every `now` that it lets through, the same
//! formulas run on `u64`, which a third of a check's time depends on: see [`Tick`].

use std::num::{NonZeroU64, NonZeroU128};
use std::ops::{Add, Mul, Sub};

/// Largest value of tokens, period, burst and `now`.
pub(super) const MAX_VALUE: u64 = (1 << 62) - 1;

/// A number of ticks: `u128` always, `u64` where that is proved to be enough.
pub(super) trait Tick:
    Copy + Ord + From<u64> + Into<u128> + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self>
{
    /// `ticks`, which fits.
    fn narrow(ticks: u128) -> Self;
}

impl Tick for u64 {
    #[inline]
    fn narrow(ticks: u128) -> Self {
        ticks as u64
    }
}

impl Tick for u128 {
    #[inline]
    fn narrow(ticks: u128) -> Self {
        ticks
    }
}

/// A rate and a burst in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticks {
    /// Ticks in a nanosecond.
    pub n: NonZeroU64,
    /// Ticks in a token.
    pub w: NonZeroU64,
    /// Tokens in a full bucket.
    pub burst: u64,
    /// Ticks in a full bucket: the largest debt that a debit may leave.
    pub full: u128,
}

impl Ticks {
    /// `now` on the scale of `tat`.
    #[inline]
    pub fn instant<T: Tick>(&self, now: u64) -> T {
        T::from(self.n.get()) * T::from(now)
    }

    /// What is owed at `now`.
    #[inline]
    pub fn debt<T: Tick>(&self, tat: T, now: u64) -> T {
        let instant = self.instant(now);
        if tat > instant { tat - instant } else { T::from(0) }
    }

    /// The debt after `cost` more, if that is admitted; a cost of zero always is. Debt and cost may be any number.
    #[inline]
    pub fn after<T: Tick>(&self, debt: T, cost: u64) -> Option<T> {
        self.after_within(debt, cost, T::narrow(self.full))
    }

    /// The debt after `cost` more, if that leaves at most `most`, which is at least a full bucket.
    #[inline]
    pub fn after_within<T: Tick>(&self, debt: T, cost: u64, most: T) -> Option<T> {
        if cost > self.burst {
            return None;
        }
        let price = self.price::<T>(cost);
        // Under another rule, or to an older clock, more than a full bucket may be owed.
        (debt <= most - price || cost == 0).then(|| debt + price)
    }

    /// Nanoseconds until `cost`, which is not above the burst, is admitted: at that instant it is, and one
    /// nanosecond earlier it is not.
    #[inline]
    pub fn wait(&self, debt: u128, cost: u64) -> u64 {
        divide_up((debt + self.price::<u128>(cost)).saturating_sub(self.full), self.n)
    }

    /// The largest cost that is admitted.
    #[inline]
    pub fn remaining(&self, debt: u128) -> u64 {
        divide(self.full.saturating_sub(debt), self.w)
    }

    /// Nanoseconds until nothing is owed.
    #[inline]
    pub fn time_to_full(&self, debt: u128) -> u64 {
        divide_up(debt, self.n)
    }

    /// `cost`, which is not above the burst, in ticks.
    #[inline]
    fn price<T: Tick>(&self, cost: u64) -> T {
        T::from(cost) * T::from(self.w.get())
    }
}

/// `ticks / by`, which the ranges above keep within `u64`. Nearly every call divides a 64-bit number, which
/// the processor does several times faster. The divisor's type lets a caller who needs no quotient pay nothing.
#[inline]
pub(super) fn divide(ticks: u128, by: NonZeroU64) -> u64 {
    match u64::try_from(ticks) {
        Ok(small) => small / by,
        Err(_) => (ticks / NonZeroU128::from(by)) as u64,
    }
}

/// Like [`divide`], rounded up.
#[inline]
pub(super) fn divide_up(ticks: u128, by: NonZeroU64) -> u64 {
    divide(ticks + u128::from(by.get() - 1), by)
}
