//! What a caller asks with and what it gets: plain integers, so that a stale one is detected, never followed.

use crate::status::Status;

/// The exclusive right to one slot, from its grant until its check-in.
///
/// `epoch` grows with every change of the slot's state, so a lease matches while it lives and never again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The pool that granted it, unique within the process.
    pub pool: u64,
    /// Slot number, below the pool's capacity.
    pub slot: u32,
    /// The slot's epoch at the grant.
    pub epoch: u64,
}

impl Lease {
    /// Whether it is a lease of the connection that was made for its slot at the epoch `created`, that of
    /// [`Action::Create`](super::Action::Create).
    ///
    /// The death of a connection ends its lease in another thread, and the slot may have a connection of somebody
    /// else's by the time that whoever was told of the grant looks for its own.
    #[inline]
    pub fn is_of(&self, created: u64) -> bool {
        created < self.epoch || cfg!(escope_sabotage = "pool_lent_by_slot")
    }
}

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Waiter cell.
    pub index: u32,
    /// The cell's epoch, so that a reused cell is told from this one.
    pub epoch: u64,
}

/// Who holds a lease or waits for one; the edge chooses the number. Its death ends its leases and waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner(pub u64);

impl Owner {
    /// Nobody whose death will be told, such as a thread of a C program.
    pub const NONE: Owner = Owner(0);
}

/// How far a check-out goes when no slot is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: granted or rejected at once. It may start a creation, from which a later call profits.
    Never,
    /// For a connection that is made for this call, not for one that others hold: rejected at once where the
    /// pool is at its capacity, its creations fail or others queue for returned slots.
    ForCreation,
    /// At most so many nanoseconds from now; 0 is [`Wait::Never`].
    For(u64),
    /// Until this instant. One that has passed is rejected, even where a slot is idle.
    Until(u64),
    /// Without limit.
    Forever,
}

/// Answer to a check-out.
// A tag of a whole word, so that a result is written and read in the same pieces: the processor cannot forward
// bytes that were stored in others.
#[repr(u64)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkout {
    /// The caller holds the slot.
    Granted(Lease),
    /// The caller holds the slot, whose connection was neither used nor checked for longer than
    /// [`pre_ping_after_ns`](super::PoolConfig::pre_ping_after_ns): it tests it first, and if that fails or is not over
    /// at `deadline_ns`, gives it back broken and asks again.
    GrantedUntested {
        /// The right to the slot.
        lease: Lease,
        /// When the test counts as failed.
        deadline_ns: u64,
    },
    /// The caller waits; one [`Wake`](super::Action::Wake) or its own `cancel` ends that.
    Queued(Ticket),
    /// The caller gets nothing and nothing was reserved.
    Rejected(Refusal),
}

/// Why a check-out got nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No slot is free and the caller does not wait.
    Exhausted,
    /// The caller's deadline has passed.
    TimedOut,
    /// As many callers wait as may.
    QueueFull,
    /// The pool is closed.
    Closed,
    /// The wait was ended early, because all waits had become too long. A check-out never answers it at once.
    Shed,
}

impl Refusal {
    /// The same refusal in the one table.
    pub const fn status(self) -> Status {
        match self {
            Refusal::Exhausted => Status::PoolExhausted,
            Refusal::TimedOut => Status::PoolTimeout,
            Refusal::QueueFull => Status::QueueFull,
            Refusal::Closed => Status::PoolClosed,
            Refusal::Shed => Status::Shed,
        }
    }
}

/// What is known about a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotInfo {
    /// What it is used for.
    pub state: SlotUse,
    /// The slot's epoch.
    pub epoch: u64,
    /// When its connection was made.
    pub created_ns: u64,
    /// How often its connection was lent.
    pub leases: u64,
}

/// What a slot is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotUse {
    /// No connection.
    Empty,
    /// A connection is being made.
    Creating,
    /// A free connection.
    Idle {
        /// When it was returned; 0 where the pool has no use for it.
        since_ns: u64,
    },
    /// A connection on loan.
    Leased {
        /// Whose death would end the lease.
        owner: Owner,
        /// When it was granted; 0 unless [`measure`](super::PoolConfig::measure) or leak detection is on.
        since_ns: u64,
    },
    /// A connection that is being reset or tested.
    Checking,
    /// A connection that is being closed.
    Closing,
}

/// State of a connection that comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Fit for the next holder.
    Good,
    /// To be destroyed.
    Broken,
}

/// Why a caller gives up waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUp {
    /// Its time is up.
    TimedOut,
    /// It does not want a connection any more.
    Cancelled,
}

/// What ended a wait that its caller wanted to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelOutcome {
    /// This call did; no grant follows.
    Cancelled,
    /// A grant came first: the caller holds this lease.
    Granted(Lease),
    /// `maintain` or a granter found the deadline passed.
    TimedOut,
    /// The pool was closed.
    Closed,
    /// The pool was overloaded and ended the wait.
    Shed,
    /// A creation failed, with this code.
    CreateFailed(u64),
    /// The wait is long over, its lease included.
    Stale,
}

/// The lease is not live: returned before, reclaimed, or granted by another pool. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaleLease;

impl std::fmt::Display for StaleLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(Status::StaleLease.text())
    }
}

impl std::error::Error for StaleLease {}

/// A report about a creation, a check or a destruction that the pool does not wait for. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaleReport;

impl std::fmt::Display for StaleReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("The pool does not wait for this creation, check or destruction.")
    }
}

impl std::error::Error for StaleReport {}
