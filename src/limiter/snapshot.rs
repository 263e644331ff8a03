//! What a limiter's keys owe, as bytes: to outlive a restart.
//!
//! ```text
//! magic "ESCOPEL1" | secret 16 | max_keys 8 | wall clock in ns 8 | overflow bucket 16 | entries 8 | entries 16 each | checksum 8
//!
//! an entry, and the overflow bucket, whose key is 0:   { section: 2 | n: 6 | key: 56 } 8 | debt in ticks, n a nanosecond 8
//! ```
//!
//! All numbers are little-endian. With its section, a key gets back into the line that it was in, so every key finds a place
//! that had one. The debt is what is owed at the time of the snapshot: the monotonic clock begins anew
//! with the machine, so what has been paid back meanwhile is taken from the wall clock; where that has gone back, nothing
//! was. Keys that owe nothing are left out: absent means full. A debt is kept as time, also across a change of rule: the rules of
//! limits with a name are their owner's to keep.
//!
//! The checksum is SipHash-1-3 of everything before it under a fixed key: it finds damage, not forgery. The bytes hold the
//! secret, so they are as confidential as it is.

use super::entry::{EMPTY, Entry, MAX_N, MAX_NOW_NS, MAX_TAT};
use super::key::{KEY_BITS, Key};
use super::keyed::{Limiter, LimiterConfig};
use super::overflow::Seat;
use siphasher::sip::SipHasher13;
use std::fmt;

const MAGIC: &[u8; 8] = b"ESCOPEL1";
const HEADER: usize = 8 + 16 + 8 + 8 + 16 + 8;
const ENTRY: usize = 16;
const CHECKSUM: usize = 8;
/// Where the section stands in an entry's first word.
const SECTION_SHIFT: u32 = KEY_BITS + 6;

/// Why bytes are no snapshot that can be restored. Nothing was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreError {
    /// They do not begin like one.
    NotASnapshot,
    /// They are of another length than their header says.
    Truncated {
        /// Bytes that there are.
        length: u64,
        /// Bytes that there should be.
        expected: u64,
    },
    /// They were changed since they were written.
    Damaged,
    /// There is no memory for a table of this many keys.
    TooLarge {
        /// Keys of the snapshot's limiter.
        max_keys: u64,
    },
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASnapshot => write!(f, "not a snapshot of a limiter"),
            Self::Truncated { length, expected } => {
                write!(f, "a snapshot of {length} bytes that should have {expected}")
            }
            Self::Damaged => write!(f, "a snapshot whose checksum does not match"),
            Self::TooLarge { max_keys } => {
                write!(f, "a snapshot of a limiter for {max_keys} keys, too many for this machine")
            }
        }
    }
}

impl std::error::Error for RestoreError {}

impl Limiter {
    /// What every key owes at `now`, which `wall_ns`, since 1970, is the same moment as. Reads the whole table while others
    /// may change it; each key is as of a moment during the call.
    pub fn snapshot(&self, now: u64, wall_ns: u64) -> Vec<u8> {
        let now = now.min(MAX_NOW_NS);
        let mut bytes = Vec::with_capacity(HEADER + CHECKSUM);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(self.secret_bytes());
        let [overflow, owed] = match self.table().seated(Key::from_raw(0), Seat::Overflow) {
            Some((_, entry)) => saved(0, entry, now),
            None => [0, 0],
        };
        for number in [self.stats().capacity, wall_ns, overflow, owed, 0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let mut entries = 0_u64;
        self.table().for_each_live(now, |section, entry| {
            for number in saved(section, entry, now) {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            entries += 1;
        });
        bytes[HEADER - 8..HEADER].copy_from_slice(&entries.to_le_bytes());
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The limiter of a snapshot, as if it had gone on: at `now`, the same moment as `wall_ns`. It has the snapshot's secret
    /// and size; other settings are those of `config`.
    pub fn restore(
        bytes: &[u8],
        config: &LimiterConfig,
        now: u64,
        wall_ns: u64,
    ) -> Result<Self, RestoreError> {
        if bytes.len() < HEADER + CHECKSUM || &bytes[..8] != MAGIC {
            return Err(RestoreError::NotASnapshot);
        }
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let [max_keys, taken_ns, overflow, owed, entries] = [24, 32, 40, 48, 56].map(number);
        let expected = entries.saturating_mul(ENTRY as u64).saturating_add((HEADER + CHECKSUM) as u64);
        if bytes.len() as u64 != expected {
            return Err(RestoreError::Truncated { length: bytes.len() as u64, expected });
        }
        let end = bytes.len() - CHECKSUM;
        if checksum(&bytes[..end]) != number(end) {
            return Err(RestoreError::Damaged);
        }
        let secret = bytes[8..24].try_into().expect("sixteen bytes");
        let config = LimiterConfig { max_keys, secret: Some(secret), ..config.clone() };
        let limiter = Self::new(&config).map_err(|_| RestoreError::TooLarge { max_keys })?;
        let elapsed = wall_ns.saturating_sub(taken_ns);
        let restored = |name, debt| restored(name, debt, now.min(MAX_NOW_NS), elapsed);
        for at in (HEADER..end).step_by(ENTRY) {
            let name = number(at);
            if let Some(entry) = restored(name, number(at + 8)) {
                limiter.table().put_back((name >> SECTION_SHIFT) as usize, entry);
            }
        }
        if let Some(entry) = restored(overflow, owed) {
            limiter.table().overflow().replace(EMPTY, entry.0);
        }
        Ok(limiter)
    }
}

/// An entry as it is written.
fn saved(section: usize, entry: Entry, now: u64) -> [u64; 2] {
    let debt = entry.raw_tat().saturating_sub(entry.n() * now);
    [(section as u64) << SECTION_SHIFT | entry.n() << KEY_BITS | entry.key().to_raw(), debt]
}

/// The entry that was written, if it still owes something.
fn restored(name: u64, debt: u64, now: u64, elapsed: u64) -> Option<Entry> {
    let n = (name >> KEY_BITS & 0x3F).clamp(1, MAX_N);
    let left = u128::from(debt).saturating_sub(u128::from(n) * u128::from(elapsed)) as u64;
    let tat = (n * now).saturating_add(left).min(MAX_TAT);
    (left > 0).then(|| Entry::committed(Key::from_raw(name), 0, n, tat))
}

fn checksum(bytes: &[u8]) -> u64 {
    SipHasher13::new_with_key(b"elixirscope 2026").hash(bytes)
}
