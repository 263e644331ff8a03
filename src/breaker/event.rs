//! What a call changed, as a return value.

use super::control::{Control, Phase};

/// Why a breaker changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// The consecutive failures reached the threshold.
    FailureThreshold = 1,
    /// The open time was over.
    OpenElapsed = 2,
    /// Enough probes succeeded.
    ProbesSucceeded = 3,
    /// So many probes failed that the round could no longer close.
    ProbesFailed = 4,
    /// The same, by a probe whose lease ran out.
    ProbeExpired = 5,
    /// Somebody asked for it. The only cause whose event may have `from` equal to `to`: closed.
    Reset = 6,
}

/// One change of a breaker.
///
/// Each change is returned exactly once, by the call whose compare-and-swap made it; that may be a call that
/// completed what another one began. Who needs order sorts by `sequence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Gapless from 1 within a breaker; wraps with the generation, at 2^28.
    pub sequence: u32,
    /// The generation that began.
    pub generation: u32,
    /// Phase before.
    pub from: Phase,
    /// Phase after.
    pub to: Phase,
    /// Why.
    pub cause: Cause,
    /// When: the time of the call, or the end of the lease that expired.
    pub at_ns: u64,
}

impl Event {
    pub(super) fn new(before: Control, after: Control, cause: Cause, at_ns: u64) -> Self {
        Self {
            sequence: before.generation(),
            generation: after.generation(),
            from: before.phase(),
            to: after.phase(),
            cause,
            at_ns,
        }
    }
}

/// The changes that one call caused, in order: at most three, without an allocation.
///
/// Three is the longest chain one call can settle: a probe's expiry re-opens, the open time has passed as well,
/// and the call itself decides the new round or resets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Events([Option<Event>; 3]);

impl Events {
    pub(super) const NONE: Self = Self([None; 3]);

    pub(super) fn push(&mut self, event: Event) {
        let free = self.0.iter_mut().find(|slot| slot.is_none());
        *free.expect("one call causes at most three changes") = Some(event);
    }

    pub(super) fn is_full(&self) -> bool {
        self.0[2].is_some()
    }

    /// The events in the order in which they happened.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.0.iter().map_while(|event| *event)
    }

    /// Whether nothing changed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }

    /// Number of events, at most three.
    pub fn len(&self) -> usize {
        self.iter().count()
    }
}
