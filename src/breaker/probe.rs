//! A probe slot: who holds one of the permits of a half-open round, and what came of it.
//!
//! ```text
//! high half   instant          live: lease ends    result: when it was recorded or expired
//! low half    bits  0..3       state
//!             bit   3          counted: the control word's tally holds this result
//!             bits  4..36      epoch: how often the slot was claimed in this round
//!             bits 36..64      generation of the round
//! ```
//!
//! | state | may become | by |
//! | --- | --- | --- |
//! | free (also: any word of an earlier round) | live | an acquire, with the next epoch |
//! | live | succeeded, failed, free | the permit's result; free if it was ignored |
//! | live | expired | any call at or past the lease's end |
//! | succeeded, failed, expired | the same, counted | whoever finds the control word's `pending` naming it |
//!
//! A result is final for its round, so a permit's single use is the one compare-and-swap that leaves `live`.
//! Slot 0 belongs to the acquire that made the round: until something is written to it in this round it reads
//! as live, so that one compare-and-swap of the control word both enters half-open and admits the first probe.

use super::control::{Control, GENERATION_BITS};
use crate::sync::{HALF, Half, Wide, hi, lo, wide};

/// What a slot's permit has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    Free = 0,
    Live = 1,
    Succeeded = 2,
    Failed = 3,
    Expired = 4,
}

const STATE_MASK: Half = 0b111;
const COUNTED_BIT: Half = 1 << 3;
const EPOCH_SHIFT: u32 = 4;
const EPOCH_BITS: u32 = if HALF == 64 { 32 } else { 8 };
const EPOCH_MASK: Half = (1 << EPOCH_BITS) - 1;
const GENERATION_SHIFT: u32 = EPOCH_SHIFT + EPOCH_BITS;
const _: () = assert!(GENERATION_SHIFT + GENERATION_BITS <= HALF);

/// Epoch of the permit that the acquire which enters half-open holds on slot 0.
pub(super) const FIRST_EPOCH: u32 = 1;

/// A slot's word, read as of one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) generation: u32,
    pub(super) epoch: u32,
    pub(super) state: State,
    pub(super) counted: bool,
    pub(super) instant: u64,
}

impl Probe {
    pub(super) fn from_word(word: Wide) -> Self {
        let low = lo(word);
        Self {
            generation: (low >> GENERATION_SHIFT) as u32,
            epoch: (low >> EPOCH_SHIFT & EPOCH_MASK) as u32,
            state: match low & STATE_MASK {
                0 => State::Free,
                1 => State::Live,
                2 => State::Succeeded,
                3 => State::Failed,
                _ => State::Expired,
            },
            counted: low & COUNTED_BIT != 0,
            instant: hi(word) as u64,
        }
    }

    pub(super) fn word(self) -> Wide {
        let counted = if self.counted { COUNTED_BIT } else { 0 };
        let epoch = (self.epoch as Half & EPOCH_MASK) << EPOCH_SHIFT;
        let low = self.state as Half | counted | epoch | (self.generation as Half) << GENERATION_SHIFT;
        wide(self.instant as Half, low)
    }

    /// The slot as of the round in `control`, when the word at `slot` is left from an earlier one.
    pub(super) fn untouched(slot: usize, control: Control, lease_ns: u64) -> Self {
        let generation = control.generation();
        let free = Self { generation, epoch: 0, state: State::Free, counted: false, instant: 0 };
        if slot > 0 { free } else { free.claim(control.instant().saturating_add(lease_ns)) }
    }

    /// Live under the next epoch until `deadline`.
    pub(super) fn claim(self, deadline: u64) -> Self {
        let epoch = ((self.epoch as Half + 1) & EPOCH_MASK) as u32;
        Self { epoch, state: State::Live, counted: false, instant: deadline, ..self }
    }

    /// A result that the tally does not hold yet.
    pub(super) fn uncounted_result(self) -> bool {
        matches!(self.state, State::Succeeded | State::Failed | State::Expired) && !self.counted
    }
}
