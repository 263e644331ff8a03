//! Slow start: after probes have closed a breaker, the share of calls that it admits grows.
//!
//! The control word says whether the breaker is ramping; the word here since when, and how often it had
//! opened, which a trip during the ramp goes on from. It is written before the control word is: whoever sees the
//! one sees the other.
//!
//! ```text
//! high half   instant at which the ramp began
//! low half    bits 0..28   generation that it belongs to      bits 28..36   opens
//! ```

use super::cell::{Cell, View};
use super::config::WHOLE_BP;
use super::control::{Control, GENERATION};
use super::field::Field;
use super::settings::Settings;
use crate::sync::Ordering;

const OWNER: Field = Field::first(28, 8);
const OPENS: Field = OWNER.then(8, 4);
const SINCE: Field = Field::high(64, 32);
const _: () = assert!(OWNER.max() == GENERATION.max());

impl Cell<'_> {
    /// The control word that closes the round of `control` at `at`, ramping if that is configured.
    ///
    /// Callers that race to close the same round write the same ramp, or one that is as good.
    pub(super) fn closed_by_probes(self, control: Control, settings: &Settings, at: u64) -> Control {
        if settings.ramp_ns() == 0 {
            return control.close(settings);
        }
        let next = control.close_ramping(settings);
        let ramp = OWNER.put(next.generation().into()) | OPENS.put(control.opens().into()) | SINCE.put(at);
        loop {
            let found = self.head.ramp.load(Ordering::Acquire);
            // Nobody else writes a ramp of this generation but for the same end of the same round.
            let is_written = OWNER.get(found) == u64::from(next.generation());
            // AcqRel: the Release of the control word that follows publishes it.
            if is_written
                || self.head.control() != control
                || self.head.ramp.compare_exchange(found, ramp, Ordering::AcqRel, Ordering::Acquire).is_ok()
            {
                return next;
            }
        }
    }

    /// Share of the calls that a ramping breaker admits at `now`; none when the ramp is over.
    pub(super) fn ramp_share_bp(self, view: &View, now: u64) -> Option<u64> {
        let ramp = self.head.ramp.load(Ordering::Acquire);
        let (length, elapsed) = (view.settings.ramp_ns(), now.saturating_sub(SINCE.get(ramp)));
        if OWNER.get(ramp) != u64::from(view.control.generation()) || elapsed >= length {
            return None;
        }
        let (from, whole) = (view.settings.ramp_from_bp(), u64::from(WHOLE_BP));
        let grown = u128::from(whole - from) * u128::from(elapsed) / u128::from(length);
        Some(from + grown as u64)
    }

    /// How often the breaker had opened before it began to ramp; 0 if it does not ramp at `now`.
    pub(super) fn opens_before_ramp(self, view: &View, now: u64) -> u32 {
        if !view.control.is_ramping() || self.ramp_share_bp(view, now).is_none() {
            return 0;
        }
        let ramp = self.head.ramp.load(Ordering::Acquire);
        let is_current = OWNER.get(ramp) == u64::from(view.control.generation());
        if is_current { OPENS.get(ramp) as u32 } else { 0 }
    }
}

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::*;
    use crate::breaker::BreakerConfig;
    use crate::breaker::cell::Head;
    use crate::breaker::control::GENERATION;

    #[test]
    fn who_ends_a_round_that_is_over_leaves_the_ramp_alone() {
        let head = Head::new(&BreakerConfig { ramp_ns: 10, ..BreakerConfig::default() });
        let cell = Cell::over(&head, &[], &[]);
        let settings = cell.view().settings;
        let over = Control::from_word(GENERATION.put(7));
        cell.closed_by_probes(over, &settings, 5);
        assert_eq!(head.ramp.load(Ordering::Acquire), 0);
        cell.closed_by_probes(head.control(), &settings, 5);
        assert_eq!(SINCE.get(head.ramp.load(Ordering::Acquire)), 5);
    }
}
