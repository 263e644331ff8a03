//! A caller's memory: events, permits, and whether a call wrote past them.

use super::{Block, UNTOUCHED};
use elixirscope::breaker::Event;
use elixirscope::capi::breaker::event::{escope_event, escope_events};
use elixirscope::capi::breaker::permit::escope_permit;
use elixirscope::capi::breaker::{escope_breaker, escope_breaker_free};
use std::ptr::null_mut;

/// Where a call writes its events, if its caller wants them.
pub(super) struct Events {
    pub(super) wanted: bool,
    pub(super) block: Block<{ size_of::<escope_events>() + 8 }>,
}

impl Events {
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted, block: Block([UNTOUCHED; _]) }
    }

    pub(super) fn pointer(&mut self) -> *mut escope_events {
        if self.wanted { self.block.pointer() } else { null_mut() }
    }

    pub(super) fn untouched(&self) {
        assert!(self.block.0.iter().all(|byte| *byte == UNTOUCHED), "events were written");
    }

    /// Whether exactly these events were written, and nothing behind them.
    pub(super) fn compare(&mut self, events: &[Event]) {
        if !self.wanted {
            return self.untouched();
        }
        // SAFETY: the block is larger than the struct, aligned, and every bit pattern of its integers is valid.
        let written = unsafe { self.block.pointer::<escope_events>().read() };
        let expected = |event: &Event| {
            let (from, to, cause) = (event.from as i32, event.to as i32, event.cause as i32);
            let small = [event.from_level as u8, event.to_level as u8, event.mode as u8, 0];
            (event.at_ns, event.sequence, event.generation, from, to, cause, small)
        };
        let got = |event: &escope_event| {
            let escope_event { at_ns, sequence, generation, from, to, cause, .. } = *event;
            let small = [event.from_level, event.to_level, event.mode, event.reserved];
            (at_ns, sequence, generation, from, to, cause, small)
        };
        let count = written.count as usize;
        assert_eq!((count, written.reserved), (events.len(), 0));
        let items: Vec<_> = written.items[..count].iter().map(got).collect();
        assert_eq!(items, events.iter().map(expected).collect::<Vec<_>>());
        let end = std::mem::offset_of!(escope_events, items) + count * size_of::<escope_event>();
        assert!(self.block.0[end..].iter().all(|byte| *byte == UNTOUCHED), "written past the events");
    }
}

/// 32 bytes for a permit, as plain words: they may also hold what no call ever wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory(pub(super) [u64; 4]);

impl Memory {
    pub(super) const BLANK: Self = Self([0; 4]);

    pub(super) fn pointer(&mut self) -> *mut escope_permit {
        self.0.as_mut_ptr().cast()
    }

    pub(super) fn state(self) -> u32 {
        (self.0[3] >> 32) as u32
    }

    pub(super) fn with_state(mut self, state: u32) -> Self {
        self.0[3] = self.0[3] & u64::from(u32::MAX) | u64::from(state) << 32;
        self
    }

    /// A probe of the same breaker that nobody was granted.
    pub(super) fn forged(self, generation: u32, slot: u32, epoch: u32, state: u32) -> Self {
        let words =
            [u64::from(generation) | u64::from(slot) << 32, u64::from(epoch) | u64::from(state) << 32];
        Self([self.0[0], self.0[1], words[0], words[1]])
    }
}

/// A permit that the model knows by its number in the list.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) memory: Memory,
    pub(super) used_up: bool,
}

/// A reference to a breaker of the library.
pub(super) struct Handle(pub(super) *mut escope_breaker);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the reference is this value's own.
        unsafe { escope_breaker_free(self.0) }
    }
}
