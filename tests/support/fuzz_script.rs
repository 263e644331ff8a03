//! What the runs of a fuzzer's programs share: the program itself, memory that a call may write to, and what was seen.
#![allow(dead_code)] // each run uses its own part

use elixirscope::capi::options::Growing;
use elixirscope::status::Status;
use std::collections::BTreeSet;

/// What a run has come by: operations with their statuses, and causes of events.
pub type Seen = BTreeSet<(&'static str, i32)>;

/// Operations of one run, so that a long input takes no time that a short one would not show.
pub const MOST_OPS: usize = 400;
/// A caller's struct may state up to so many bytes.
pub const MOST_BYTES: usize = 4096;
/// What memory holds that a call must not write.
pub const UNTOUCHED: u8 = 0xA5;
pub const UNWRITTEN: u64 = u64::from_ne_bytes([UNTOUCHED; 8]);

/// The program, read from front to back; past its end all bytes are zero.
pub struct Script<'a>(pub &'a [u8]);

impl Script<'_> {
    pub fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (now, later) = self.0.split_at(self.0.len().min(N));
        self.0 = later;
        let mut bytes = [0; N];
        bytes[..now.len()].copy_from_slice(now);
        bytes
    }

    pub fn i32(&mut self) -> i32 {
        i32::from_le_bytes(self.bytes())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// From 0, in a byte.
    pub fn small(&mut self, bound: u8) -> u32 {
        u32::from(self.byte() % bound)
    }

    pub fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }
}

/// `N` bytes aligned for each struct of the ABI, more than a call may write.
#[repr(C, align(8))]
pub struct Block<const N: usize>(pub [u8; N]);

/// Room for a struct of any size that the library takes, and for noticing a write past it.
pub type Room = Block<{ MOST_BYTES + 8 }>;

impl<const N: usize> Block<N> {
    /// A struct that states this size in its first field.
    pub fn stating(size: usize, fill: u8) -> Self {
        let mut block = Self([fill; N]);
        block.0[..8].copy_from_slice(&size.to_le_bytes());
        block
    }

    pub fn pointer<T>(&mut self) -> *mut T {
        self.0.as_mut_ptr().cast()
    }
}

pub fn known<T: Copy>(values: &[T], number: i32) -> Option<T> {
    usize::try_from(number).ok().and_then(|number| values.get(number)).copied()
}

/// Whether a call has filled a struct up to its stated size, or refused that and left the memory alone.
pub fn filled<T: Growing>(bytes: &[u8], size: usize, status: i32) {
    let valid = (T::FIRST_SIZE..=MOST_BYTES).contains(&size);
    let expected = if valid { Status::Ok } else { Status::InvalidArgument };
    assert_eq!(status, expected as i32, "{size} bytes");
    let (written, rest) = bytes.split_at(if valid { size } else { 8 });
    assert!(rest.iter().all(|byte| *byte == UNTOUCHED), "written past {size} bytes");
    assert_eq!(written[..8], size.to_le_bytes());
    let unknown = &written[written.len().min(size_of::<T>())..];
    assert!(unknown.iter().all(|byte| *byte == 0), "what the library does not know is zero");
}
