//! Words that are read as a whole while one writer replaces them.
//!
//! A sequence lock (Lameter 2005; the orderings are those of Boehm, *Can seqlocks get along with programming
//! language memory models?*, 2012). A reader that meets a write under way is told so and looks again; it never
//! waits for a writer that died, if what it looks at then names other words. One writer at a time is the caller's
//! promise. No pointer inside: the same in a mapped file.

use crate::sync::{AtomicU64, Ordering, fence};

/// `N` words and their version.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct SeqLock<const N: usize> {
    /// Odd while the words change.
    version: AtomicU64,
    words: [AtomicU64; N],
}

impl<const N: usize> SeqLock<N> {
    pub(crate) fn new(words: [u64; N]) -> Self {
        Self { version: AtomicU64::new(0), words: words.map(AtomicU64::new) }
    }

    /// The words and their version, unless they are being written.
    #[inline]
    pub(crate) fn read(&self) -> Option<([u64; N], u64)> {
        // Acquire pairs with the Release that ended the last write: its words are seen.
        let version = self.version.load(Ordering::Acquire);
        let words = std::array::from_fn(|index| self.words[index].load(Ordering::Relaxed));
        // Pairs with the fence of `write`: who saw one of its words sees its odd version below.
        fence(Ordering::Acquire);
        let unchanged = version % 2 == 0 && self.version.load(Ordering::Relaxed) == version;
        unchanged.then_some((words, version))
    }

    /// Grows with each write.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Replaces the words. Nobody else may write meanwhile.
    pub(crate) fn write(&self, words: [u64; N]) {
        // A writer that died may have left it odd.
        let writing = self.version.load(Ordering::Relaxed) | 1;
        self.version.store(writing, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(words) {
            word.store(value, Ordering::Relaxed);
        }
        self.version.store(writing + 1, Ordering::Release);
    }
}
