//! A probe slot: who holds one of the permits of a half-open round, and what came of it.
//!
//! ```text
//! high half   instant          live: lease ends    decided, released: when it was recorded, or the lease over
//! low half    bits  0..3       state
//!             bit   3          counted: the control word's tally holds this result
//!             bits  4..24      epoch: how often the slot was claimed in this round
//!             bits 24..36      ignored results of this slot in this round; stays at its maximum
//!             bits 36..64      generation of the round
//! ```
//!
//! | state | may become | by |
//! | --- | --- | --- |
//! | free, released (also: any word of an earlier round) | live | an acquire, with the next epoch |
//! | live | succeeded, failed, free | the permit's result; free if it was ignored |
//! | live | expired, released | any call at or past the lease's end; released if so configured |
//! | succeeded, failed, expired | the same, counted | whoever finds the control word's `pending` naming it |
//!
//! A result is final for its round, so a permit's single use is the one compare-and-swap that leaves `live`.
//! Slot 0 belongs to the acquire that made the round: until something is written to it in this round it reads
//! as live, so that one compare-and-swap of the control word both enters half-open and admits the first probe.

use super::cell::View;
use super::control::GENERATION;
use super::field::Field;
use crate::sync::Wide;

/// What a slot's permit has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    Free = 0,
    Live = 1,
    Succeeded = 2,
    Failed = 3,
    Expired = 4,
    /// Free again, by the end of a lease.
    Released = 5,
}

const STATE: Field = Field::first(3, 3);
const COUNTED: Field = STATE.then(1, 1);
const EPOCH: Field = COUNTED.then(20, 8);
const IGNORED: Field = EPOCH.then(12, 4);
const ROUND: Field = IGNORED.then(28, 8);
const INSTANT: Field = Field::high(64, 32);
const _: () = assert!(ROUND.max() == GENERATION.max());

/// Epoch of the permit that the acquire which enters half-open holds on slot 0.
pub(super) const FIRST_EPOCH: u32 = 1;

/// A slot's word, read as of one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) generation: u32,
    pub(super) epoch: u32,
    pub(super) ignored: u32,
    pub(super) state: State,
    pub(super) counted: bool,
    pub(super) instant: u64,
}

impl Probe {
    pub(super) fn from_word(word: Wide) -> Self {
        Self {
            generation: ROUND.get(word) as u32,
            epoch: EPOCH.get(word) as u32,
            ignored: IGNORED.get(word) as u32,
            state: match STATE.get(word) {
                0 => State::Free,
                1 => State::Live,
                2 => State::Succeeded,
                3 => State::Failed,
                4 => State::Expired,
                _ => State::Released,
            },
            counted: COUNTED.get(word) != 0,
            instant: INSTANT.get(word),
        }
    }

    pub(super) fn word(self) -> Wide {
        STATE.put(self.state as u64)
            | COUNTED.put(self.counted.into())
            | EPOCH.put(self.epoch.into())
            | IGNORED.put(self.ignored.into())
            | ROUND.put(self.generation.into())
            | INSTANT.put(self.instant)
    }

    /// The slot as of the round in `view`, when its word is left from an earlier one.
    pub(super) fn untouched(slot: usize, view: &View) -> Self {
        let generation = view.control.generation();
        let free = Self { generation, epoch: 0, ignored: 0, state: State::Free, counted: false, instant: 0 };
        if slot == 0 && view.control.first_probe_is_held() {
            free.claim(view.control.instant().saturating_add(view.settings.probe_lease_ns()))
        } else {
            free
        }
    }

    /// Live under the next epoch until `deadline`: of a free or released slot, which holds no result.
    pub(super) fn claim(self, deadline: u64) -> Self {
        // No permit has epoch 0, so a made-up one is told apart.
        let epoch = self.epoch % EPOCH.max() as u32 + 1;
        Self { epoch, state: State::Live, instant: deadline, ..self }
    }

    /// With a result.
    pub(super) fn finish(self, state: State, instant: u64) -> Self {
        Self { state, instant, ..self }
    }

    /// Free again, without a result.
    pub(super) fn ignore(self) -> Self {
        let ignored = (self.ignored + 1).min(IGNORED.max() as u32);
        Self { state: State::Free, ignored, ..self }
    }

    /// Whether an earlier permit of this slot gave it back by the end of its lease: some did not by being ignored. Where
    /// more were ignored than are counted, none is taken for released, which most breakers do not do at all.
    pub(super) fn was_released(self) -> bool {
        self.ignored < IGNORED.max() as u32
            && self.ignored < self.epoch - u32::from(self.state != State::Free)
    }

    /// A result that the tally does not hold yet.
    pub(super) fn uncounted_result(self) -> bool {
        matches!(self.state, State::Succeeded | State::Failed | State::Expired) && !self.counted
    }
}
