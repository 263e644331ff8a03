//! What a debit leaves its caller: the means to give it back, or to settle it.
//!
//! A receipt is used once, by a refund, a cancellation or a settlement. What it gives back can be less than it took, never
//! more: a refund, also that of a group or of a settlement below the estimate, counts only while the key's balance is not
//! negative, and a cancellation only while nothing has been written to the key since. Anything else would let later
//! reservations, which keep their times, over-admit; what is forfeited is counted.
//!
//! That nothing has been written is known from the entry's instant, which every debit moves on and nothing moves back while
//! somebody waits, but a cancellation of the newest. A reset and an eviction forget the reservations of their key: who
//! cancels one of those later gets nothing, unless the key has come to the very same instant again.

use super::entry::{Entry, MAX_N, MAX_NOW_NS, MAX_TAT};
use super::group::By;
use super::key::{KEY_BITS, Key};
use super::limit::Limit;
use super::measure::Measure;
use super::overflow::Seat;
use super::places::Line;
use super::table::{Host, Table};
use super::touch::Touch;
use crate::error::ConfigError;
use std::cmp::Ordering;

/// The proof of one debit, good for one use. It is moved when it is used, so safe code uses it once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a receipt that is dropped leaves the cost debited"]
pub struct Receipt {
    pub(super) key: Key,
    pub(super) mark: u8,
    pub(super) n: u8,
    /// The entry's instant after the debit.
    pub(super) tat: u64,
    /// Ticks in a token, and in a full bucket.
    pub(super) w: u64,
    pub(super) full: u64,
    pub(super) cost: u64,
}

/// A receipt's fields, for an edge that keeps it in foreign memory and guards it against a second use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct RawReceipt {
    /// Key, mark and ticks a nanosecond.
    pub key: u64,
    /// The entry's instant after the debit, in ticks.
    pub tat: u64,
    /// Ticks in a token.
    pub w: u64,
    /// Ticks in a full bucket.
    pub full: u64,
    /// What was debited.
    pub cost: u64,
}

/// What became of a refund, a cancellation or a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Adjusted {
    /// It counts.
    Applied,
    /// Nothing was changed: others have reserved since, or written to the key; or there was no place to write a debt to.
    Forfeited,
    /// The debt was cut at one full bucket below empty.
    Saturated,
    /// A reservation whose time has come cannot be cancelled.
    TooLate,
}

impl Receipt {
    /// The fields, for an edge that stores them.
    pub fn into_raw(self) -> RawReceipt {
        let marks = u64::from(self.mark) << 62 | u64::from(self.n) << KEY_BITS;
        RawReceipt {
            key: self.key.to_raw() | marks,
            tat: self.tat,
            w: self.w,
            full: self.full,
            cost: self.cost,
        }
    }

    /// The receipt again; none if the fields are not those of one. Made-up fields can give back what was never taken: an
    /// edge that keeps them in its caller's memory, as C's does, tells it not to write them.
    pub fn from_raw(raw: RawReceipt) -> Option<Self> {
        let RawReceipt { key, tat, w, full, cost } = raw;
        let (mark, n) = ((key >> 62) as u8, (key >> KEY_BITS & 0x3F) as u8);
        let in_range = (1..=MAX_N).contains(&u64::from(n)) && w > 0 && full <= MAX_TAT && tat <= MAX_TAT;
        let is_one = in_range && cost > 0 && cost.checked_mul(w).is_some_and(|price| price <= full.min(tat));
        is_one.then_some(Self { key: Key::from_raw(key), mark, n, tat, w, full, cost })
    }

    /// What was debited.
    pub const fn cost(&self) -> u64 {
        self.cost
    }

    /// Says whether a refund may give so much back: at most what was debited.
    pub fn check_refund(&self, amount: u64) -> Result<(), ConfigError> {
        if amount <= self.cost {
            return Ok(());
        }
        let allowed = "0 to the cost of the receipt";
        Err(ConfigError { argument: "amount", value: amount, allowed })
    }
}

/// How an entry is read and written for a receipt.
struct Scale {
    mark: u8,
    n: u64,
    tat: u64,
    /// Ticks of the tokens in question, and of a full bucket.
    ticks: u64,
    full: u64,
}

impl<S: AsRef<[Line]>> Table<S> {
    /// Gives `amount` of the tokens of a receipt back, at most all. In tokens of the limit's rule of now if a limit is
    /// given, else the time that they were worth. An amount above the cost is refused and leaves the cost debited.
    pub fn refund(
        &self,
        receipt: Receipt,
        amount: u64,
        limit: Option<&Limit>,
        now: u64,
    ) -> Result<Adjusted, ConfigError> {
        receipt.check_refund(amount)?;
        Ok(self.give_back(&receipt, Seat::Own, amount, limit, now))
    }

    /// Gives back the `cost` of a check that was admitted, as a refund would, had it left a receipt. A check by itself costs
    /// less than one with a receipt; whoever calls this vouches that it is done at most once a check, and by what the
    /// check was made by.
    pub fn refund_check(&self, key: Key, by: By<'_>, cost: u64, now: u64) -> Adjusted {
        let measure = by.resolve();
        let ticks = measure.rule().ticks();
        // Only a cancellation would look at the instant.
        let receipt = Receipt {
            key,
            mark: measure.mark(),
            n: ticks.n.get() as u8,
            tat: 0,
            w: ticks.w.get(),
            full: ticks.full as u64,
            cost,
        };
        self.give_back(&receipt, Seat::Own, cost, by.limit(), now)
    }

    /// Replaces the estimate that a receipt stands for by what was used: the difference is refunded, or debited without a
    /// test, so that the balance may become negative, by up to one full bucket.
    pub fn settle(
        &self,
        receipt: Receipt,
        actual: u64,
        limit: Option<&Limit>,
        now: u64,
        nonce: impl FnMut() -> u64,
    ) -> Adjusted {
        self.settle_by(receipt, actual, limit, now, nonce)
    }

    pub(super) fn settle_by(
        &self,
        receipt: Receipt,
        actual: u64,
        limit: Option<&Limit>,
        now: u64,
        host: impl Host,
    ) -> Adjusted {
        let estimate = receipt.cost;
        match actual.cmp(&estimate) {
            Ordering::Equal => Adjusted::Applied,
            Ordering::Less => self.give_back(&receipt, Seat::Own, estimate - actual, limit, now),
            Ordering::Greater => self.take_more(&receipt, actual - estimate, limit, now, host),
        }
    }

    /// Gives `amount` tokens of the debit back, to the entry of `seat`.
    pub(super) fn give_back(
        &self,
        receipt: &Receipt,
        seat: Seat,
        amount: u64,
        limit: Option<&Limit>,
        now: u64,
    ) -> Adjusted {
        let now = now.min(MAX_NOW_NS);
        // Who shares the overflow bucket is not measured by a limit's mark.
        let limit = limit.filter(|_| seat == Seat::Own);
        while let Some((place, entry)) = self.seated(receipt.key, seat) {
            let Some(scale) = Scale::of(entry, receipt, amount, limit, false) else { continue };
            let instant = scale.n * now;
            let debt = scale.tat.saturating_sub(instant);
            if debt > scale.full && !cfg!(escope_sabotage = "limiter_refund_balance") {
                return Adjusted::Forfeited;
            }
            if debt == 0 || amount == 0 {
                return Adjusted::Applied;
            }
            let tat = instant + debt.saturating_sub(scale.ticks);
            let refunded = Entry::committed(receipt.key, scale.mark, scale.n, tat);
            let old = if cfg!(escope_sabotage = "limiter_refund_blind") { place.load() } else { entry.0 };
            if place.replace(old, refunded.0) {
                return Adjusted::Applied;
            }
        }
        // The key owes nothing.
        Adjusted::Applied
    }

    /// Takes a whole reservation back before its time has come, as if it had never been made.
    pub fn cancel(&self, receipt: Receipt, now: u64) -> Adjusted {
        // The floor is an instant that has passed. A first touch counts from it, so its grant may lie behind `now`.
        let now = now.min(MAX_NOW_NS).max(self.floor());
        let n = u64::from(receipt.n);
        if receipt.tat.saturating_sub(receipt.full) <= n * now {
            return Adjusted::TooLate;
        }
        if let Some((place, entry)) = self.find(receipt.key) {
            let mine = Entry::committed(receipt.key, receipt.mark, n, receipt.tat);
            let before = receipt.tat - receipt.cost * receipt.w;
            let restored = Entry::committed(receipt.key, receipt.mark, n, before);
            let is_mine = entry.0 == mine.0 || cfg!(escope_sabotage = "limiter_cancel_compare");
            if is_mine && place.replace(entry.0, restored.0) {
                return Adjusted::Applied;
            }
        }
        Adjusted::Forfeited
    }

    /// Debits `amount` tokens more, whether they are there or not, down to one full bucket below empty.
    fn take_more(
        &self,
        receipt: &Receipt,
        amount: u64,
        limit: Option<&Limit>,
        now: u64,
        mut host: impl Host,
    ) -> Adjusted {
        let now = now.min(MAX_NOW_NS);
        loop {
            if let Some((place, entry)) = self.find(receipt.key) {
                let Some(scale) = Scale::of(entry, receipt, amount, limit, true) else { continue };
                let (tat, outcome) = scale.more(now);
                let taken = Entry::committed(receipt.key, scale.mark, scale.n, tat);
                if place.replace(entry.0, taken.0) {
                    return outcome;
                }
                continue;
            }
            let empty = Entry::committed(receipt.key, receipt.mark, receipt.n.into(), 0);
            let Some(scale) = Scale::of(empty, receipt, amount, limit, true) else { continue };
            let marks = (scale.mark, scale.n);
            match self.first_touch(receipt.key, marks, now, &mut host, |at| scale.more(at).0) {
                Touch::Committed { .. } => return scale.more(now).1,
                // There is no place to write the debt down.
                Touch::Full(_) => return Adjusted::Forfeited,
                Touch::Again if cfg!(escope_sabotage = "limiter_settle_touch") => return Adjusted::Applied,
                Touch::Again => {}
            }
        }
    }
}

impl Scale {
    /// For `amount` tokens of a receipt on this entry: in tokens of the limit's rule of now where there is one, else by
    /// the time that they are worth. None if the limit changes at this moment.
    fn of(entry: Entry, receipt: &Receipt, amount: u64, limit: Option<&Limit>, up: bool) -> Option<Self> {
        if let Some(limit) = limit {
            let terms = limit.terms();
            let ticks = terms.rule().ticks();
            return Some(Self {
                mark: terms.mark(),
                n: ticks.n.get(),
                tat: terms.tat(entry)?,
                ticks: amount.saturating_mul(ticks.w.get()),
                full: ticks.full as u64,
            });
        }
        let (n, from) = (entry.n(), u64::from(receipt.n));
        let price = u128::from(amount) * u128::from(receipt.w);
        let by_time = |ticks: u128| ticks.saturating_mul(n.into());
        let scaled =
            if up { by_time(price).div_ceil(from.into()) } else { by_time(price) / u128::from(from) };
        let full = by_time(receipt.full.into()) / u128::from(from);
        Some(Self {
            mark: entry.mark(),
            n,
            tat: entry.raw_tat(),
            ticks: u64::try_from(scaled).unwrap_or(u64::MAX),
            full: u64::try_from(full).unwrap_or(u64::MAX),
        })
    }

    /// The instant after a debit at `now` that nothing forbids.
    fn more(&self, now: u64) -> (u64, Adjusted) {
        let instant = self.n * now;
        let room = MAX_TAT - instant;
        // A debt that a change of rule has carried over may be beyond what an entry can hold.
        let debt = self.tat.saturating_sub(instant).min(room);
        let most = self.full.saturating_mul(2).min(room);
        let wanted = debt.saturating_add(self.ticks);
        if wanted <= most {
            (instant + wanted, Adjusted::Applied)
        } else {
            (instant + most.max(debt), Adjusted::Saturated)
        }
    }
}
