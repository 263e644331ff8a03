//! What a pool tells about itself.

/// State and counts at one instant, taken under the lock, so they always reconcile:
///
/// * `requests = granted + timed_out + cancelled + exhausted + queue_full + closed + create_failed + shed +
///   waiting`
/// * `granted = returned + broken + reclaimed + leased`
/// * `creates = created + create_errors + creating` and `created = destroys + idle + leased + checking`, creating and
///   destroying counted from the moment that the edge was told
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Configured steady number of connections.
    pub size: u32,
    /// Configured most connections.
    pub capacity: u32,
    /// Free connections.
    pub idle: u32,
    /// Connections that somebody holds.
    pub leased: u32,
    /// Connections being made.
    pub creating: u32,
    /// Connections being reset or tested.
    pub checking: u32,
    /// Connections being closed.
    pub closing: u32,
    /// Callers in the queue.
    pub waiting: u32,
    /// Connections above `size`, without those being closed.
    pub overflow: u32,
    /// Whether the pool was closed, at once or after a drain.
    pub is_closed: bool,
    /// Where the pool is in its life.
    pub phase: Phase,
    /// Creations that failed in a row, each after the back-off of the one before.
    pub failing: u32,
    /// Code of the creation that failed last.
    pub last_error: Option<u64>,
    /// When `maintain` has something to do.
    pub next_deadline_ns: Option<u64>,
    /// Counts since the pool was made.
    pub counts: Counts,
}

/// Where a pool is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It takes check-outs.
    Running,
    /// It takes none, and connections or waiters are left.
    Draining,
    /// Nothing is left.
    Closed,
}

/// Counts since the pool was made. Plain integers: they change under the lock that is held anyway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Check-outs asked for.
    pub requests: u64,
    /// Leases granted, at once or to a waiter.
    pub granted: u64,
    /// Waits that ran out of time, and calls that came after their deadline.
    pub timed_out: u64,
    /// Waits that were given up, by the caller or by its death.
    pub cancelled: u64,
    /// Calls that did not wait and found nothing.
    pub exhausted: u64,
    /// Calls that found the queue full.
    pub queue_full: u64,
    /// Calls that found the pool closed, and waits that its closing ended.
    pub closed: u64,
    /// Waits that a failed creation ended.
    pub create_failed: u64,
    /// Leases returned good.
    pub returned: u64,
    /// Leases returned broken.
    pub broken: u64,
    /// Leases ended by their owner's death.
    pub reclaimed: u64,
    /// Creations handed to the edge.
    pub creates: u64,
    /// Creations that succeeded.
    pub created: u64,
    /// Creations that failed.
    pub create_errors: u64,
    /// Connections given up for destruction.
    pub destroys: u64,
    /// Waits ended because the pool was overloaded.
    pub shed: u64,
    /// Checks that connections passed.
    pub checks_passed: u64,
    /// Checks that connections failed, those that took too long among them.
    pub checks_failed: u64,
    /// Connections lent to be tested first.
    pub pre_pings: u64,
    /// Leases reported as leaked.
    pub leaks: u64,
    /// Time that granted waits took, in nanoseconds, together.
    pub queue_ns: u64,
    /// Time that the longest of them took.
    pub longest_queue_ns: u64,
    /// Time that ended leases took, together; 0 unless `measure` or leak detection is on.
    pub use_ns: u64,
}
