//! What a pool can be told when it is made.

use crate::error::ConfigError;

/// Most slots a pool may have.
pub const MAX_SLOTS: u32 = 65_536;
/// Most waiters a pool may be told to queue.
pub const MAX_WAITERS: u32 = 1_000_000;

/// As [`PoolConfig::pre_ping_after_ns`]: no connection is tested at check-out.
pub const NO_PRE_PING: u64 = u64::MAX;

/// Which idle slot a check-out takes. Waiters are first in, first out under any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleOrder {
    /// The one that was returned last: warm caches, and the others may age out.
    Lifo,
    /// The one that was returned first: even use of all.
    Fifo,
    /// The one with the next higher slot number after that lent last, from the lowest again at the end.
    RoundRobin,
    /// The one that was lent least often, of several the one with the lowest slot number. O(log n) instead of O(1).
    LeastUsed,
}

/// When connections are checked without anybody asking for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthChecks {
    /// Never.
    Off,
    /// When they come back.
    Passive,
    /// All idle ones, once an interval.
    Active,
    /// When they come back; and of the idle ones, once an interval, the half that was longest neither used nor checked.
    Mixed,
}

/// What becomes of a connection whose holder died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerDeath {
    /// It is destroyed: it may be in the middle of something.
    Destroy,
    /// It is reset and checked as on return, and destroyed if that fails.
    Check,
}

/// What a failed creation does to the waiter at the head of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateFailure {
    /// It keeps waiting, for a returned slot or for a later attempt, until its time-out.
    Retry,
    /// It is woken with the error.
    FailFast,
}

/// Settings of a pool. [`Pool::resize`](super::Pool::resize) changes `size` and `max_overflow`; nothing else changes.
///
/// Times are in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Steady number of connections; idle ones up to this number are kept.
    pub size: u32,
    /// Connections above `size` that a burst may add.
    pub max_overflow: u32,
    /// Which idle slot a check-out takes.
    pub order: IdleOrder,
    /// Callers that may wait at a time; 0: none, and a call that finds nothing starts a creation for a later one. Memory for
    /// them, some 130 bytes each, is set aside when the pool is made.
    pub max_waiters: u32,
    /// Most slots that a resize may ask for; 0 stands for `size` and `max_overflow` together. Memory for them, some 200
    /// bytes each, is set aside when the pool is made.
    pub max_slots: u32,
    /// Connections that are idle or being made ahead of demand, `size` at most, whatever that is resized to. The first
    /// `maintain` begins with them.
    pub min_idle: u32,
    /// Connections that are made at a time.
    pub max_concurrent_creates: u32,
    /// How long a connection above `size` stays idle before it is closed; 0 closes it on return.
    pub overflow_ttl_ns: u64,
    /// How long a connection stays idle before it is closed, as long as more than `min_idle` are; 0: for ever.
    pub idle_timeout_ns: u64,
    /// How old a connection gets: it is not lent at this age, and closed when nobody holds it; 0: for ever.
    pub max_lifetime_ns: u64,
    /// By how much, at random, a connection's life is shorter than that, so that not all end at once.
    pub max_lifetime_jitter_ns: u64,
    /// How long an idle connection is neither used nor checked before it is checked; 0: for ever.
    pub keepalive_ns: u64,
    /// Checks without anybody asking.
    pub health: HealthChecks,
    /// Time between rounds of active checks; 1 or more with [`HealthChecks::Active`] and [`HealthChecks::Mixed`].
    pub health_interval_ns: u64,
    /// Time limit of the check of an idle connection; 0: none.
    pub check_limit_ns: u64,
    /// Whether connections are reset when they come back.
    pub reset_on_return: bool,
    /// Time limit of reset and check on return together; 0: none.
    pub return_limit_ns: u64,
    /// A connection that is lent after it was neither used nor checked for longer than this is to be tested first; 0 tests
    /// every one that was idle, [`NO_PRE_PING`] none.
    pub pre_ping_after_ns: u64,
    /// Time limit of that test; 0: none.
    pub pre_ping_limit_ns: u64,
    /// What becomes of a connection whose holder died.
    pub owner_death: OwnerDeath,
    /// How long a lease lasts before it is reported as leaked, once; it goes on. 0: no report.
    pub leak_after_ns: u64,
    /// How long the head of the queue may have waited while all is well; see `queue_interval_ns`.
    pub queue_target_ns: u64,
    /// When the head of the queue has been above `queue_target_ns` for this long, waits are shed; 0: never.
    pub queue_interval_ns: u64,
    /// Whether times of use are kept for the statistics; it costs a look at the clock with every call.
    pub measure: bool,
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
            max_slots: 0,
            min_idle: 0,
            max_concurrent_creates: MAX_SLOTS,
            overflow_ttl_ns: 0,
            idle_timeout_ns: 0,
            max_lifetime_ns: 0,
            max_lifetime_jitter_ns: 0,
            keepalive_ns: 0,
            health: HealthChecks::Off,
            health_interval_ns: 0,
            check_limit_ns: 0,
            reset_on_return: false,
            return_limit_ns: 0,
            pre_ping_after_ns: NO_PRE_PING,
            pre_ping_limit_ns: 0,
            owner_death: OwnerDeath::Destroy,
            leak_after_ns: 0,
            queue_target_ns: 0,
            queue_interval_ns: 0,
            measure: false,
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
        let refuse = |argument, value, allowed| Err(ConfigError { argument, value, allowed });
        let slots = u64::from(self.size) + u64::from(self.max_overflow);
        if slots > u64::from(MAX_SLOTS) {
            let allowed = "0 to 65536, together with the other of size and max_overflow";
            return match self.size {
                size if size > MAX_SLOTS => refuse("size", u64::from(size), allowed),
                _ => refuse("max_overflow", u64::from(self.max_overflow), allowed),
            };
        }
        if slots == 0 {
            return refuse("size", 0, "1 or more when max_overflow is 0");
        }
        if self.max_waiters > MAX_WAITERS {
            return refuse("max_waiters", u64::from(self.max_waiters), "0 to 1000000");
        }
        if self.max_slots != 0 && (slots > u64::from(self.max_slots) || self.max_slots > MAX_SLOTS) {
            let allowed = "0, or size and max_overflow together to 65536";
            return refuse("max_slots", u64::from(self.max_slots), allowed);
        }
        if self.min_idle > self.size {
            return refuse("min_idle", u64::from(self.min_idle), "0 to size");
        }
        if self.max_concurrent_creates == 0 {
            return refuse("max_concurrent_creates", 0, "1 or more");
        }
        if self.max_lifetime_jitter_ns > self.max_lifetime_ns {
            return refuse("max_lifetime_jitter_ns", self.max_lifetime_jitter_ns, "0 to max_lifetime_ns");
        }
        if self.checks_in_rounds() && self.health_interval_ns == 0 {
            return refuse("health_interval_ns", 0, "1 or more with active or mixed health checks");
        }
        if self.create_backoff_ns == 0 {
            return refuse("create_backoff_ns", 0, "1 or more");
        }
        if self.create_backoff_cap_ns < self.create_backoff_ns {
            return refuse("create_backoff_cap_ns", self.create_backoff_cap_ns, "create_backoff_ns or more");
        }
        Ok(())
    }

    /// Slots of the pool: the most connections that exist at a time.
    pub fn capacity(&self) -> u32 {
        self.size + self.max_overflow
    }

    /// Slot numbers are below this, whatever the pool is resized to.
    pub fn slots(&self) -> u32 {
        self.max_slots.max(self.capacity())
    }

    pub(super) fn checks_in_rounds(&self) -> bool {
        matches!(self.health, HealthChecks::Active | HealthChecks::Mixed)
    }

    /// Whether a connection that comes back goes through the edge's hands before it is lent again.
    pub(super) fn checks_on_return(&self) -> bool {
        self.reset_on_return || matches!(self.health, HealthChecks::Passive | HealthChecks::Mixed)
    }

    /// Whether idle connections are checked.
    pub(super) fn checks_idle(&self) -> bool {
        self.keepalive_ns > 0 || self.checks_in_rounds()
    }

    /// Whether it matters since when a connection is idle, beyond what a surplus asks for.
    pub(super) fn stamps_idle(&self) -> bool {
        self.checks_idle()
            || self.idle_timeout_ns > 0
            || self.pre_ping_after_ns != NO_PRE_PING
            || self.measure
    }

    /// Whether it matters since when a connection is lent.
    pub(super) fn stamps_leases(&self) -> bool {
        self.leak_after_ns > 0 || self.measure
    }
}
