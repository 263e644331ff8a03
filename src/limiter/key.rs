//! From bytes to the 56 bits that name a key.
//!
//! SipHash-1-3 under a secret, so that nobody outside can choose keys that crowd into the same places.
//! Binaries hash as their raw bytes: C, Python and the BEAM meet in one bucket when they share a secret. Two
//! keys share a bucket by accident once in 2^56 pairs: with 65,536 live keys, less than once in 30 million
//! tables.
//!
//! Structured keys (terms of the BEAM) are fed piece by piece to a [`KeyHasher`], with tags and lengths that
//! make the encoding injective. It runs under a second secret, so that a structured key never meets a binary
//! that spells the same bytes.

use crate::sync::HALF;
use siphasher::sip::SipHasher13;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Bits of a key.
pub(super) const KEY_BITS: u32 = HALF - 8;

/// Name of a key within its limiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// The key with these bits; all but the low 56 are ignored.
    #[inline]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw & ((1 << KEY_BITS) - 1))
    }

    /// The 56 bits.
    #[inline]
    pub const fn to_raw(self) -> u64 {
        self.0
    }
}

/// Names a structured key that is written piece by piece.
#[derive(Debug, Clone)]
pub struct KeyHasher(SipHasher13);

impl KeyHasher {
    /// Adds bytes. Two pieces hash like their concatenation, so a caller marks where one ends.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// Adds a tag.
    #[inline]
    pub fn write_u8(&mut self, tag: u8) {
        self.write(&[tag]);
    }

    /// Adds a number or a length.
    #[inline]
    pub fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    /// The key of everything written.
    #[inline]
    pub fn finish(&self) -> Key {
        Key::from_raw(self.0.finish())
    }

    /// The key of everything written and of these last bytes: for a key that is one piece, all at once.
    #[inline]
    pub fn finish_with(&self, last: &[u8]) -> Key {
        Key::from_raw(self.0.hash(last))
    }
}

/// A limiter's secret, for binaries and for structured keys.
#[derive(Debug, Clone)]
pub(super) struct Secret {
    binary: SipHasher13,
    structured: SipHasher13,
}

impl Secret {
    pub fn new(secret: &[u8; 16]) -> Self {
        let binary = SipHasher13::new_with_key(secret);
        let mut other = *secret;
        // Any fixed change will do: SipHash under a related key is as good as under an independent one.
        other[0] ^= 0x5a;
        Self { binary, structured: SipHasher13::new_with_key(&other) }
    }

    #[inline]
    pub fn key(&self, bytes: &[u8]) -> Key {
        Key::from_raw(self.binary.hash(bytes))
    }

    #[inline]
    pub fn hasher(&self) -> KeyHasher {
        KeyHasher(self.structured)
    }
}

/// Random bits from the operating system, by way of the keys of the standard library's hash maps.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
