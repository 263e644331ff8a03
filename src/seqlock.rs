//! Words that are read as a whole while one writer replaces them.
//!
//! A sequence lock (Lameter 2005; the orderings are those of Boehm, *Can seqlocks get along with programming
//! language memory models?*, 2012). A reader that meets a write under way is told so and never waits for it: what it looks at
//! is then out of date, and the newer words stand somewhere else. One writer at a time is the caller's
//! promise. No pointer inside: the same in a mapped file.

use crate::sync::{AtomicU64, Ordering, fence};

/// The version of some words, odd while they change. The words are their owner's, and each access to one is relaxed.
#[derive(Debug)]
#[repr(transparent)]
pub struct Sequence(AtomicU64);

/// `N` words and their version.
#[derive(Debug)]
#[repr(C)]
pub struct SeqLock<const N: usize> {
    sequence: Sequence,
    words: [AtomicU64; N],
}

impl Sequence {
    /// Of words that nobody has replaced yet.
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// What `load` makes of the words, and their version, unless they are being written.
    #[inline]
    pub fn read<T>(&self, load: impl FnOnce() -> T) -> Option<(T, u64)> {
        let sabotaged =
            cfg!(any(escope_sabotage = "limiter_seqlock", escope_sabotage = "breaker_no_version_check"));
        // Acquire pairs with the Release that ended the last write: its words are seen.
        let version = self.0.load(Ordering::Acquire);
        let words = load();
        // Pairs with the fence of `write`: who saw one of its words sees its odd version below.
        fence(Ordering::Acquire);
        let unchanged = version.is_multiple_of(2) && self.0.load(Ordering::Relaxed) == version;
        (unchanged || sabotaged).then_some((words, version))
    }

    /// Grows with each write.
    #[inline]
    pub fn version(&self) -> u64 {
        // Acquire pairs with both Releases of `write`.
        self.0.load(Ordering::Acquire)
    }

    /// Lets `store` replace the words. Nobody else may write meanwhile.
    pub fn write(&self, store: impl FnOnce()) {
        // A writer that died may have left it odd.
        let writing = self.0.load(Ordering::Relaxed) | 1;
        // Release pairs with the Acquire of `read`: who meets a write under way sees what its writer has seen and done
        // before, where the newer words stand among it.
        self.0.store(writing, Ordering::Release);
        // Pairs with the fence of `read`.
        fence(Ordering::Release);
        store();
        // Release pairs with the Acquire of `read`: who sees this version sees all words.
        self.0.store(writing + 1, Ordering::Release);
    }
}

impl Default for Sequence {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> SeqLock<N> {
    /// These words.
    pub fn new(words: [u64; N]) -> Self {
        Self { sequence: Sequence::new(), words: words.map(AtomicU64::new) }
    }

    /// The words, unless they are being written.
    #[inline]
    pub fn read(&self) -> Option<[u64; N]> {
        let load = || std::array::from_fn(|index| self.words[index].load(Ordering::Relaxed));
        self.sequence.read(load).map(|(words, _)| words)
    }

    /// Replaces the words. Nobody else may write meanwhile.
    pub fn write(&self, words: [u64; N]) {
        self.sequence.write(|| {
            for (word, value) in self.words.iter().zip(words) {
                word.store(value, Ordering::Relaxed);
            }
        });
    }
}
