//! The limiter that a process holds: a table on the heap, its secret, its counters.

use super::decision::{Decision, Verdict};
use super::key::{Key, KeyHasher, Secret, random};
use super::places::Line;
use super::rule::KeyedRule;
use super::table::Table;
use crate::counters::{Counters, STRIPES};
use crate::error::ConfigError;
use crate::sync::{AtomicU64, Ordering};

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
}

impl Default for LimiterConfig {
    fn default() -> Self {
        Self { max_keys: 65_536, secret: None }
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
    /// Checks that were admitted.
    pub allowed: u64,
    /// Checks that were refused for now.
    pub limited: u64,
    /// Checks whose cost is above the burst.
    pub never: u64,
    /// Checks of a new key that found no place.
    pub table_full: u64,
    /// Live keys that the table is meant for, at least `max_keys`.
    pub capacity: u64,
    /// Bytes of memory in all.
    pub bytes: u64,
}

const ALLOWED: usize = 0;
const LIMITED: usize = 1;
const NEVER: usize = 2;
const TABLE_FULL: usize = 3;

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
    table: Table<Box<[Line]>>,
    secret: Secret,
    counters: Counters<4>,
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
        let length = Table::<Box<[Line]>>::lines_for(config.max_keys) as usize;
        let mut lines = Vec::new();
        lines.try_reserve_exact(length).map_err(|_| no_memory)?;
        lines.resize_with(length, Line::new);
        let table = Table::over(lines.into_boxed_slice()).ok_or(no_memory)?;
        let secret = config
            .secret
            .unwrap_or_else(|| (u128::from(random()) << 64 | u128::from(random())).to_le_bytes());
        let first = if cfg!(escope_model) { 0 } else { random() };
        let nonce = Nonce(AtomicU64::new(first));
        Ok(Self { table, secret: Secret::new(&secret), counters: Counters::new(), nonce })
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
    #[inline]
    pub fn check(&self, key: Key, rule: &KeyedRule, cost: u64, now: impl FnOnce() -> u64) -> Decision {
        // Relaxed: a nonce only has to differ from others, and orders nothing.
        let nonce = || self.nonce.0.fetch_add(1, Ordering::Relaxed);
        let decision = self.table.check(key, rule, cost, now(), nonce);
        if decision.is_allowed() {
            self.counters.increment(ALLOWED);
        } else {
            self.count_refusal(decision.verdict);
        }
        decision
    }

    #[inline(never)]
    fn count_refusal(&self, verdict: Verdict) {
        self.counters.increment(match verdict {
            Verdict::Never => NEVER,
            Verdict::TableFull => TABLE_FULL,
            Verdict::Limited | Verdict::Allowed => LIMITED,
        });
    }

    /// What a check of cost one would say, without a debit. Not counted.
    pub fn peek(&self, key: Key, rule: &KeyedRule, now: impl FnOnce() -> u64) -> Decision {
        self.table.peek(key, rule, now())
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
            capacity: self.table.capacity(),
            bytes: (size_of::<Self>() + stripes + self.table.bytes()) as u64,
        }
    }
}
