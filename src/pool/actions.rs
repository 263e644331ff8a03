//! What the edge has to do after a call, in a buffer that it brings along.
//!
//! A call decides everything under the lock, but hands out at most [`Actions::CAPACITY`] actions: what does
//! not fit stays in the pool's lists, and [`Actions::more`] says so. The edge then carries out what it has,
//! clears the buffer and calls `maintain`, until nothing is left.

use super::lease::{Lease, Owner};

/// One thing to do, outside of any lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make a connection for this slot, then report `created` with the same epoch.
    Create {
        /// Slot number.
        slot: u32,
        /// Epoch to report with.
        epoch: u64,
    },
    /// Close the slot's connection, then report `destroyed` with the same epoch.
    Destroy {
        /// Slot number.
        slot: u32,
        /// Epoch to report with.
        epoch: u64,
        /// Why it goes.
        reason: DestroyReason,
    },
    /// Reset or test the slot's connection, then report `checked` with the same epoch.
    Check {
        /// Slot number.
        slot: u32,
        /// Epoch to report with.
        epoch: u64,
        /// What for.
        kind: CheckKind,
        /// When it counts as failed if it is not reported: then the connection is to be destroyed, which may be asked
        /// for while the check still runs. `u64::MAX`: never.
        deadline_ns: u64,
    },
    /// Nothing to carry out: a lease lasts longer than it should. It is told once and stays alive.
    Leaked {
        /// The lease.
        lease: Lease,
        /// Who holds it.
        owner: Owner,
        /// Since when.
        since_ns: u64,
    },
    /// Tell a waiter how its wait ended.
    Wake {
        /// What the edge gave at the check-out.
        waiter_token: u64,
        /// How the wait ended.
        outcome: WakeOutcome,
    },
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestroyReason {
    /// It came back broken.
    Broken,
    /// It died by itself.
    Lost,
    /// It was above the pool's size and idle for long enough.
    Overflow,
    /// Its holder died; what state it is in, nobody knows.
    OwnerGone,
    /// The pool is closed.
    PoolClosed,
    /// It was idle for too long.
    Idle,
    /// It has reached its age.
    Lifetime,
    /// [`Pool::evict`](super::Pool::evict) wants it replaced.
    Evicted,
    /// It failed a check, or the check took too long.
    CheckFailed,
    /// The pool has become smaller.
    Resized,
}

/// What a connection is checked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckKind {
    /// It came back: reset it if the pool is set so, test it under passive and mixed health checks.
    Return,
    /// It is idle: test it.
    Idle,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeOutcome {
    /// The waiter holds this lease.
    Granted(Lease),
    /// Its deadline passed.
    TimedOut,
    /// The pool was closed.
    Closed,
    /// The pool is overloaded and ends the waits of those who came first.
    Shed,
    /// A creation failed, with this code.
    CreateFailed(u64),
}

/// Fixed-capacity buffer for the actions of one call or several.
#[derive(Debug, Clone)]
pub struct Actions {
    items: [Option<Action>; Actions::CAPACITY],
    len: usize,
    more: bool,
    alarm_ns: u64,
}

impl Actions {
    /// Most actions that one buffer takes.
    pub const CAPACITY: usize = 8;

    /// An empty buffer.
    #[inline]
    pub const fn new() -> Self {
        Self { items: [None; Self::CAPACITY], len: 0, more: false, alarm_ns: u64::MAX }
    }

    /// The actions, in the order in which to start them.
    pub fn iter(&self) -> impl Iterator<Item = Action> + '_ {
        self.items[..self.len].iter().flatten().copied()
    }

    /// How many actions there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no action.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the pool has more to do than fitted: carry these out, `clear`, call `maintain`.
    #[inline]
    pub fn more(&self) -> bool {
        self.more
    }

    /// When `maintain` must be called at the latest, if that became earlier than the pool had said before.
    /// It covers all but the deadlines of waiters, which are their own timers' business.
    #[inline]
    pub fn alarm_ns(&self) -> Option<u64> {
        (self.alarm_ns != u64::MAX).then_some(self.alarm_ns)
    }

    /// Whether the call asked for nothing at all: no action, none left over, no alarm.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.is_empty() && !self.more && self.alarm_ns == u64::MAX
    }

    /// Empties the buffer for the next call.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
        self.more = false;
        self.alarm_ns = u64::MAX;
    }

    pub(super) fn room(&self) -> bool {
        self.len < Self::CAPACITY
    }

    pub(super) fn push(&mut self, action: Action) {
        self.items[self.len] = Some(action);
        self.len += 1;
    }

    #[inline]
    pub(super) fn set_more(&mut self, more: bool) {
        self.more = more;
    }

    pub(super) fn ring_at(&mut self, at_ns: u64) {
        self.alarm_ns = self.alarm_ns.min(at_ns);
    }
}

impl Default for Actions {
    fn default() -> Self {
        Self::new()
    }
}
