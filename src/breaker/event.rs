//! What a call changed, as a return value.

use super::control::{Control, Mode, Phase};
use super::level::Level;

/// Why a breaker changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// The failures used up what the policy tolerates.
    FailureThreshold = 1,
    /// The open time was over.
    OpenElapsed = 2,
    /// Enough probes succeeded.
    ProbesSucceeded = 3,
    /// So many probes failed that the round could no longer close.
    ProbesFailed = 4,
    /// The same, by a probe whose lease ran out.
    ProbeExpired = 5,
    /// Somebody asked for it.
    Reset = 6,
    /// Too large a share of the calls in the window failed.
    FailureRate = 7,
    /// Too large a share of the calls in the window was slow.
    SlowCallRate = 8,
    /// The round's time was over without a verdict.
    HalfOpenLimit = 9,
    /// Too many probes of the round were ignored.
    ProbesIgnored = 10,
    /// Somebody chose another mode.
    ModeChanged = 11,
    /// A reconfiguration started a new round of probes.
    Reconfigured = 12,
    /// The breaker was installed anew.
    Reinstalled = 13,
    /// The used share of the trip budget passed a level, up or down.
    LevelChanged = 14,
    /// The budget is used up, in a mode that only tells.
    WouldOpen = 15,
}

impl Cause {
    /// Every cause, in the order of their numbers, which begin with 1.
    pub const ALL: [Self; 15] = [
        Self::FailureThreshold,
        Self::OpenElapsed,
        Self::ProbesSucceeded,
        Self::ProbesFailed,
        Self::ProbeExpired,
        Self::Reset,
        Self::FailureRate,
        Self::SlowCallRate,
        Self::HalfOpenLimit,
        Self::ProbesIgnored,
        Self::ModeChanged,
        Self::Reconfigured,
        Self::Reinstalled,
        Self::LevelChanged,
        Self::WouldOpen,
    ];

    /// The word that names this cause in every language.
    pub const fn word(self) -> &'static str {
        match self {
            Self::FailureThreshold => "failure_threshold",
            Self::OpenElapsed => "open_elapsed",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::ProbesFailed => "probes_failed",
            Self::ProbeExpired => "probe_expired",
            Self::Reset => "reset",
            Self::FailureRate => "failure_rate",
            Self::SlowCallRate => "slow_call_rate",
            Self::HalfOpenLimit => "half_open_limit",
            Self::ProbesIgnored => "probes_ignored",
            Self::ModeChanged => "mode_changed",
            Self::Reconfigured => "reconfigured",
            Self::Reinstalled => "reinstalled",
            Self::LevelChanged => "level_changed",
            Self::WouldOpen => "would_open",
        }
    }

    /// Whether an event of this cause changed the level, and not the generation.
    pub const fn is_of_level(self) -> bool {
        matches!(self, Self::LevelChanged | Self::WouldOpen)
    }

    /// The cause with this number.
    pub(super) fn from_number(number: u64) -> Option<Self> {
        let index = number.checked_sub(1)?;
        usize::try_from(index).ok().and_then(|index| Self::ALL.get(index)).copied()
    }
}

/// One change of a breaker.
///
/// Each change is returned exactly once, by the call whose compare-and-swap made it; that may be a call that
/// completed what another one began. There are two kinds, each with gapless sequence numbers of its own: changes of
/// the generation, and changes of the level within one ([`Cause::is_of_level`]). Who needs order sorts by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Gapless from 1 within a breaker and a kind. That of a change of generation wraps with it, at 2^28, that of a
    /// change of level at 2^32.
    pub sequence: u32,
    /// The generation that began, or in which the level changed.
    pub generation: u32,
    /// Phase before. Equal to `to` for a change of level, and where something else than the phase changed.
    pub from: Phase,
    /// Phase after.
    pub to: Phase,
    /// Level before, as far as it had been told.
    pub from_level: Level,
    /// Level after; every generation begins without degradation.
    pub to_level: Level,
    /// Mode after.
    pub mode: Mode,
    /// Why.
    pub cause: Cause,
    /// When: the time of the call, or the end of the lease or round that was over.
    pub at_ns: u64,
}

impl Event {
    pub(super) fn of_generation(
        (before, level): (Control, Level),
        after: Control,
        cause: Cause,
        at_ns: u64,
    ) -> Self {
        Self {
            sequence: before.generation(),
            generation: after.generation(),
            from: before.phase(),
            to: after.phase(),
            from_level: level,
            to_level: Level::None,
            mode: after.mode(),
            cause,
            at_ns,
        }
    }

    pub(super) fn of_level(control: Control, sequence: u32, from: Level, to: Level, at_ns: u64) -> Self {
        let cause = if to == Level::Exceeded { Cause::WouldOpen } else { Cause::LevelChanged };
        Self {
            sequence,
            generation: control.generation(),
            from: control.phase(),
            to: control.phase(),
            from_level: from,
            to_level: to,
            mode: control.mode(),
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
    pub(crate) const NONE: Self = Self([None; 3]);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_events_are_all_that_there_is_room_for() {
        let mut events = Events::NONE;
        let event = Event::of_level(Control::from_word(0), 1, Level::None, Level::Light, 0);
        for count in 0..3 {
            assert!(!events.is_full() && events.len() == count);
            events.push(event);
        }
        assert!(events.is_full());
    }
}
