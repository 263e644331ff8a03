//! The limiter that a process holds: a table on the heap, its secret, its counters.

use super::decision::{Decision, Verdict};
use super::group::{By, Charge, GroupDecision};
use super::key::{Key, KeyHasher, Secret, random};
use super::limit::Limit;
use super::measure::Measure;
use super::places::Line;
use super::receipt::{Adjusted, Receipt};
use super::reserve::Reservation;
use super::rule::KeyedRule;
use super::table::{FullPolicy, Host, Table};
use crate::counters::{Counters, STRIPES};
use crate::error::ConfigError;
use crate::sync::{AtomicU64, HugeBox, Ordering};

/// So many members of a batch are fetched before the one that is checked: as long as a check takes, memory takes ten times.
const AHEAD: usize = 16;

/// Largest `max_keys`: a table of 7.2 GB.
const MAX_KEYS: u64 = 1 << 28;

/// How a [`Limiter`] is made.
#[derive(Debug, Clone)]
pub struct LimiterConfig {
    /// Keys that owe tokens at the same time, which the table is sized for: 1 to 2^28. Below that, fewer than
    /// one new key in 10,000 is refused.
    pub max_keys: u64,
    /// Secret of the key hash; `None` draws one from the operating system.
    pub secret: Option<[u8; 16]>,
    /// What a new key gets when all its places are taken by keys that owe tokens.
    pub full_policy: FullPolicy,
}

impl Default for LimiterConfig {
    fn default() -> Self {
        Self { max_keys: 65_536, secret: None, full_policy: FullPolicy::DenyNew }
    }
}

impl LimiterConfig {
    /// Says what is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if (1..=MAX_KEYS).contains(&self.max_keys) {
            return Ok(());
        }
        Err(ConfigError { argument: "max_keys", value: self.max_keys, allowed: "1 to 268435456" })
    }
}

/// What a limiter has done, and how big it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LimiterStats {
    /// Checks that were admitted; a reservation counts as one, and so does a group.
    pub allowed: u64,
    /// Checks that were refused for now.
    pub limited: u64,
    /// Checks whose cost is above the burst.
    pub never: u64,
    /// Checks of a new key that found no place.
    pub table_full: u64,
    /// Keys that lost their place while they owed tokens.
    pub evicted: u64,
    /// Checks that were admitted by the overflow bucket.
    pub overflowed: u64,
    /// Refunds, cancellations and settlements that gave nothing back.
    pub forfeited: u64,
    /// Groups, among the refused, whose debits were given back: a member was used up, or found no place, in the middle of
    /// the call.
    pub rolled_back: u64,
    /// Live keys that the table is meant for, at least `max_keys`.
    pub capacity: u64,
    /// Bytes of memory in all.
    pub bytes: u64,
}

const ALLOWED: usize = 0;
const LIMITED: usize = 1;
const NEVER: usize = 2;
const TABLE_FULL: usize = 3;
const EVICTED: usize = 4;
const OVERFLOWED: usize = 5;
const FORFEITED: usize = 6;
const ROLLED_BACK: usize = 7;
const COUNTERS: usize = 8;

/// Limits the rate of many keys in memory of a fixed size.
///
/// ```
/// use elixirscope::clock::{Clock, Monotonic};
/// use elixirscope::limiter::{KeyedRule, Limiter, LimiterConfig, Rule};
///
/// let limiter = Limiter::new(&LimiterConfig::default())?;
/// let ten_a_minute = KeyedRule::new(Rule::new(10, 60_000_000_000, 10)?)?;
///
/// let decision = limiter.check(limiter.key(b"ann"), &ten_a_minute, 1, || Monotonic.now_ns());
/// assert!(decision.is_allowed());
/// assert_eq!(decision.remaining, 9);
/// # Ok::<(), elixirscope::error::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Limiter {
    table: Table<HugeBox<Line>>,
    secret: Secret,
    secret_bytes: [u8; 16],
    counters: Counters<COUNTERS>,
    nonce: Nonce,
}

/// Source of nonces. On a cache line of its own, since first touches write it and every check reads its
/// neighbours.
#[derive(Debug)]
#[repr(align(64))]
struct Nonce(AtomicU64);

impl Limiter {
    /// A limiter whose keys all have their full burst.
    pub fn new(config: &LimiterConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let no_memory = ConfigError {
            argument: "max_keys",
            value: config.max_keys,
            allowed: "a number of keys whose table fits in memory",
        };
        let length = Table::<HugeBox<Line>>::lines_for(config.max_keys) as usize;
        let table = HugeBox::new(length, Line::new).and_then(Table::over).ok_or(no_memory)?;
        let table = table.with_full_policy(config.full_policy);
        let secret = config
            .secret
            .unwrap_or_else(|| (u128::from(random()) << 64 | u128::from(random())).to_le_bytes());
        let first = if cfg!(escope_model) { 0 } else { random() };
        let nonce = Nonce(AtomicU64::new(first));
        let secret_bytes = secret;
        Ok(Self { table, secret: Secret::new(&secret), secret_bytes, counters: Counters::new(), nonce })
    }

    /// The key of a binary: the same in every language under the same secret.
    #[inline]
    pub fn key(&self, bytes: &[u8]) -> Key {
        self.secret.key(bytes)
    }

    /// Starts the key of a structured value; see [`KeyHasher`].
    #[inline]
    pub fn key_hasher(&self) -> KeyHasher {
        self.secret.hasher()
    }

    /// Debits `cost` from `key` if `rule` admits it. `now` is read once.
    ///
    /// The rule comes with the call. A key that was last checked under another rule keeps its debt as time: who
    /// had to wait ten seconds for a full bucket still has to, even where the new rule fills one in less.
    /// [`Limiter::reset`] forgives it.
    #[inline(always)]
    pub fn check(&self, key: Key, rule: &KeyedRule, cost: u64, now: impl FnOnce() -> u64) -> Decision {
        self.check_by(key, rule, cost, now())
    }

    /// Debits `cost` from `key` if the limit's rule of now admits it. The key must not be used by a rule or by another
    /// limit as well: its name belongs into what the key is made of.
    #[inline]
    pub fn check_limit(&self, key: Key, limit: &Limit, cost: u64, now: impl FnOnce() -> u64) -> Decision {
        self.check_by(key, limit.terms(), cost, now())
    }

    /// Announces a check of `key`, so that it need not wait for memory. For whoever knows some keys ahead of their checks.
    #[inline]
    pub fn prefetch(&self, key: Key) {
        self.table.prefetch(key);
    }

    /// What a check of cost one would say, without a debit. Not counted.
    pub fn peek(&self, key: Key, rule: &KeyedRule, now: impl FnOnce() -> u64) -> Decision {
        self.table.peek(key, rule, now())
    }

    /// As [`Limiter::peek`], by a limit.
    pub fn peek_limit(&self, key: Key, limit: &Limit, now: impl FnOnce() -> u64) -> Decision {
        self.table.peek_by(key, limit.terms(), now())
    }

    /// Debits all of `charges`, at most [`MAX_GROUP`](super::MAX_GROUP), or nothing: see [`GroupDecision`]. `decisions`,
    /// as many, receive what each key says by itself; after a refusal those that are not allowed are to blame.
    pub fn check_many(
        &self,
        charges: &[Charge<'_>],
        decisions: &mut [Decision],
        now: impl FnOnce() -> u64,
    ) -> Result<GroupDecision, ConfigError> {
        let group = self.table.check_many_by(charges, decisions, now(), self)?;
        self.count(group.verdict);
        if group.rolled_back {
            self.counters.increment(ROLLED_BACK);
        }
        Ok(group)
    }

    /// Checks each of `charges` by itself, in order, as so many calls would at the same moment. `decisions`, as many, receive
    /// what each says; a refusal does not stop the rest.
    pub fn check_batch(
        &self,
        charges: &[Charge<'_>],
        decisions: &mut [Decision],
        now: impl FnOnce() -> u64,
    ) -> Result<(), ConfigError> {
        if decisions.len() != charges.len() {
            let allowed = "as many as decisions";
            return Err(ConfigError { argument: "charges", value: charges.len() as u64, allowed });
        }
        let now = now();
        charges.iter().take(AHEAD).for_each(|charge| self.prefetch(charge.key));
        for (index, (Charge { key, by, cost }, decision)) in charges.iter().zip(decisions).enumerate() {
            if let Some(ahead) = charges.get(index + AHEAD) {
                self.prefetch(ahead.key);
            }
            *decision = match by {
                By::Rule(rule) => self.check_by(*key, *rule, *cost, now),
                By::Limit(limit) => self.check_by(*key, limit.terms(), *cost, now),
            };
        }
        Ok(())
    }

    /// Debits `cost` if it is granted within `max_wait_ns`, at once with 0. The caller uses it when the wait is over.
    /// A named limit may allow less of a wait.
    pub fn reserve(
        &self,
        key: Key,
        by: By<'_>,
        cost: u64,
        max_wait_ns: u64,
        now: impl FnOnce() -> u64,
    ) -> Reservation {
        let reservation = self.table.reserve_by(key, by, cost, max_wait_ns, now(), &mut &*self);
        self.count(reservation.decision.verdict);
        reservation
    }

    /// Gives `amount` of the tokens of a receipt back, at most all. In tokens of the limit's rule of now if a limit is
    /// given, else the time that they were worth. An amount above the cost is refused and leaves the cost debited.
    pub fn refund(
        &self,
        receipt: Receipt,
        amount: u64,
        limit: Option<&Limit>,
        now: impl FnOnce() -> u64,
    ) -> Result<Adjusted, ConfigError> {
        self.table.refund(receipt, amount, limit, now()).inspect(|adjusted| self.count_adjusted(*adjusted))
    }

    /// Gives back the `cost` of a check that was admitted, as a refund would, had it left a receipt. At most once a check,
    /// and by what it was made by: nothing here can tell.
    pub fn refund_check(&self, key: Key, by: By<'_>, cost: u64, now: impl FnOnce() -> u64) -> Adjusted {
        let adjusted = self.table.refund_check(key, by, cost, now());
        self.count_adjusted(adjusted);
        adjusted
    }

    /// Takes a reservation back before its time has come.
    pub fn cancel(&self, receipt: Receipt, now: impl FnOnce() -> u64) -> Adjusted {
        let adjusted = self.table.cancel(receipt, now());
        self.count_adjusted(adjusted);
        adjusted
    }

    /// Replaces the estimate that a receipt stands for by what was used: the difference is refunded, or debited without a
    /// test, so that the balance may become negative, by up to one full bucket.
    pub fn settle(
        &self,
        receipt: Receipt,
        actual: u64,
        limit: Option<&Limit>,
        now: impl FnOnce() -> u64,
    ) -> Adjusted {
        let adjusted = self.table.settle_by(receipt, actual, limit, now(), self);
        self.count_adjusted(adjusted);
        adjusted
    }

    /// Gives `key` its full burst back. Tells whether the table had an entry of it, which may have owed nothing.
    pub fn reset(&self, key: Key) -> bool {
        self.table.reset(key)
    }

    /// Keys that owe tokens at `now`. Reads the whole table.
    pub fn live_keys(&self, now: impl FnOnce() -> u64) -> u64 {
        self.table.live_keys(now())
    }

    /// Counts and sizes.
    pub fn stats(&self) -> LimiterStats {
        let stripes = STRIPES * size_of::<Line>();
        LimiterStats {
            allowed: self.counters.sum(ALLOWED),
            limited: self.counters.sum(LIMITED),
            never: self.counters.sum(NEVER),
            table_full: self.counters.sum(TABLE_FULL),
            evicted: self.counters.sum(EVICTED),
            overflowed: self.counters.sum(OVERFLOWED),
            forfeited: self.counters.sum(FORFEITED),
            rolled_back: self.counters.sum(ROLLED_BACK),
            capacity: self.table.capacity(),
            bytes: (size_of::<Self>() + stripes + self.table.lines.bytes()) as u64,
        }
    }

    #[inline(always)]
    fn check_by(&self, key: Key, measure: impl Measure, cost: u64, now: u64) -> Decision {
        let decision = self.table.check_by(key, measure, cost, now, self);
        if decision.is_allowed() {
            self.counters.increment(ALLOWED);
        } else {
            self.count(decision.verdict);
        }
        decision
    }

    #[inline(never)]
    fn count(&self, verdict: Verdict) {
        self.counters.increment(match verdict {
            Verdict::Allowed => ALLOWED,
            Verdict::Never => NEVER,
            Verdict::TableFull => TABLE_FULL,
            Verdict::Limited => LIMITED,
        });
    }

    fn count_adjusted(&self, adjusted: Adjusted) {
        if adjusted == Adjusted::Forfeited {
            self.counters.increment(FORFEITED);
        }
    }

    pub(super) fn table(&self) -> &Table<HugeBox<Line>> {
        &self.table
    }

    pub(super) fn secret_bytes(&self) -> &[u8; 16] {
        &self.secret_bytes
    }
}

impl Host for &Limiter {
    #[inline]
    fn nonce(&mut self) -> u64 {
        // Relaxed: a nonce only has to differ from others, and orders nothing.
        self.nonce.0.fetch_add(1, Ordering::Relaxed)
    }

    fn evicted(&mut self) {
        self.counters.increment(EVICTED);
    }

    fn overflowed(&mut self) {
        self.counters.increment(OVERFLOWED);
    }

    fn forfeited(&mut self) {
        self.counters.increment(FORFEITED);
    }
}

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::*;

    #[test]
    fn l02_no_two_first_touches_of_a_limiter_have_the_same_nonce() {
        let limiter = Limiter::new(&LimiterConfig { max_keys: 1, ..LimiterConfig::default() }).unwrap();
        let [first, second, third] = std::array::from_fn(|_| (&limiter).nonce());
        assert!(first != second && second != third && third != first);
    }
}
