//! What a pool can be told when it is made.

use crate::error::ConfigError;

/// Most slots a pool may have.
pub const MAX_SLOTS: u32 = 65_536;
/// Most waiters a pool may be told to queue.
pub const MAX_WAITERS: u32 = 1_000_000;

/// Which idle slot a check-out takes. Waiters are first in, first out under either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleOrder {
    /// The one that was returned last: warm caches, and the others may age out.
    Lifo,
    /// The one that was returned first: even use of all.
    Fifo,
}

/// What a failed creation does to the waiter at the head of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateFailure {
    /// It keeps waiting, for a returned slot or for a later attempt, until its time-out.
    Retry,
    /// It is woken with the error.
    FailFast,
}

/// Settings of a pool. Nothing here changes while the pool lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Steady number of connections; idle ones up to this number are kept.
    pub size: u32,
    /// Connections above `size` that a burst may add.
    pub max_overflow: u32,
    /// Which idle slot a check-out takes.
    pub order: IdleOrder,
    /// Callers that may wait at a time. Memory for them, some 130 bytes each, is set aside when the pool is made.
    pub max_waiters: u32,
    /// How long a connection above `size` stays idle before it is closed; 0 closes it on return.
    pub overflow_ttl_ns: u64,
    /// What a failed creation does to the head of the queue.
    pub create_failure: CreateFailure,
    /// Pause after the first failed creation; it doubles with each further one.
    pub create_backoff_ns: u64,
    /// Longest pause between creations that fail, before jitter.
    pub create_backoff_cap_ns: u64,
    /// Seed of the jitter that keeps many pools from trying in step.
    pub jitter_seed: u64,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            size: 5,
            max_overflow: 10,
            order: IdleOrder::Lifo,
            max_waiters: 10_000,
            overflow_ttl_ns: 0,
            create_failure: CreateFailure::Retry,
            create_backoff_ns: 100_000_000,
            create_backoff_cap_ns: 10_000_000_000,
            jitter_seed: 0,
        }
    }
}

impl PoolConfig {
    /// Whether every value is in range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let slots = u64::from(self.size) + u64::from(self.max_overflow);
        if slots > u64::from(MAX_SLOTS) {
            return Err(self.refuse_slots());
        }
        if slots == 0 {
            return Err(ConfigError {
                argument: "size",
                value: 0,
                allowed: "1 or more when max_overflow is 0",
            });
        }
        if self.max_waiters > MAX_WAITERS {
            return Err(ConfigError {
                argument: "max_waiters",
                value: u64::from(self.max_waiters),
                allowed: "0 to 1000000",
            });
        }
        if self.create_backoff_ns == 0 {
            return Err(ConfigError { argument: "create_backoff_ns", value: 0, allowed: "1 or more" });
        }
        if self.create_backoff_cap_ns < self.create_backoff_ns {
            return Err(ConfigError {
                argument: "create_backoff_cap_ns",
                value: self.create_backoff_cap_ns,
                allowed: "create_backoff_ns or more",
            });
        }
        Ok(())
    }

    /// Slots of the pool: the most connections that exist at a time.
    pub fn capacity(&self) -> u32 {
        self.size + self.max_overflow
    }

    fn refuse_slots(&self) -> ConfigError {
        let allowed = "0 to 65536, together with the other of size and max_overflow";
        if self.size > MAX_SLOTS {
            ConfigError { argument: "size", value: u64::from(self.size), allowed }
        } else {
            ConfigError { argument: "max_overflow", value: u64::from(self.max_overflow), allowed }
        }
    }
}
