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
//! products fits `u128` without a check. `burst * w / n` is below 2^62 ns, so every wait fits `u64`.

use std::num::{NonZeroU64, NonZeroU128};

/// Largest value of tokens, period, burst and `now`.
pub(super) const MAX_VALUE: u64 = (1 << 62) - 1;

/// A rate and a burst in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticks {
    /// Ticks in a nanosecond.
    pub n: NonZeroU64,
    /// Ticks in a token.
    pub w: NonZeroU64,
    /// Ticks in a full bucket: the largest debt that a debit may leave.
    pub full: u128,
}

impl Ticks {
    /// `now` on the scale of `tat`.
    #[inline]
    pub fn instant(&self, now: u64) -> u128 {
        u128::from(self.n.get()) * u128::from(now)
    }

    /// What is owed at `now`.
    #[inline]
    pub fn debt(&self, tat: u128, now: u64) -> u128 {
        tat.saturating_sub(self.instant(now))
    }

    /// The debt after `cost` more, if that is admitted. `cost` may be any number.
    #[inline]
    pub fn after(&self, debt: u128, cost: u64) -> Option<u128> {
        let after = debt + u128::from(cost) * u128::from(self.w.get());
        (after <= self.full).then_some(after)
    }

    /// Nanoseconds until `cost`, which is not above the burst, is admitted: at that instant it is, and one
    /// nanosecond earlier it is not.
    #[inline]
    pub fn wait(&self, debt: u128, cost: u64) -> u64 {
        let after = debt + u128::from(cost) * u128::from(self.w.get());
        divide_up(after.saturating_sub(self.full), self.n)
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
}

/// `ticks / by`, which the ranges above keep within `u64`. Nearly every call divides a 64-bit number, which
/// the processor does several times faster. A divisor that cannot be zero cannot panic, so a quotient that the
/// caller drops is not computed.
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
