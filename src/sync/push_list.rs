//! The list by which the dead reach the holder of a lock.

use super::{AtomicPtr, Ordering};

/// A stack that any thread pushes onto without waiting and that a taker empties as a whole (Treiber 1986,
/// without `pop`, so without its ABA problem).
///
/// It is made for the hand-over "push, then try a lock; who holds the lock looks again after unlocking".
/// Pushing and looking ([`PushList::is_empty`]) both modify the head, with acquire and release: whichever
/// comes second sees the first. Either the looker finds the node, or its unlock happens before the push and
/// the pusher's `try_lock` cannot meet that holder any more.
#[derive(Debug)]
pub struct PushList<T: Copy + Send> {
    head: AtomicPtr<PushNode<T>>,
}

#[derive(Debug)]
struct PushNode<T> {
    value: T,
    next: *mut PushNode<T>,
}

/// What one [`PushList::take`] removed. Its memory is freed when it is dropped, which the taker does after
/// it has released its lock.
#[derive(Debug)]
pub struct PushBatch<T> {
    first: *mut PushNode<T>,
}

impl<T: Copy + Send> PushList<T> {
    /// An empty list.
    pub fn new() -> Self {
        Self { head: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Adds `value`; allocates one node.
    #[allow(unsafe_code)]
    pub fn push(&self, value: T) {
        let node = Box::into_raw(Box::new(PushNode { value, next: std::ptr::null_mut() }));
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: `node` came from `Box::into_raw` above and is not published yet.
            unsafe { (*node).next = head };
            // Release publishes the node to the acquire of `take`. AcqRel together pairs with `is_empty`.
            match self.head.compare_exchange_weak(head, node, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
    }

    /// Whether nothing is on the list. It writes the null that it finds, which places the answer in the one
    /// order of all pushes: see the type.
    #[inline]
    pub fn is_empty(&self) -> bool {
        if cfg!(escope_sabotage = "pool_plain_look") {
            return self.head.load(Ordering::Acquire).is_null();
        }
        let null = std::ptr::null_mut();
        // AcqRel: the release half pairs with the acquire of a later `push`, the acquire half with the
        // release of an earlier one.
        self.head.compare_exchange(null, null, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Removes everything, newest first.
    pub fn take(&self) -> PushBatch<T> {
        // Acquire pairs with the release of every `push` in the chain: each push continues the release
        // sequence of the one below it.
        PushBatch { first: self.head.swap(std::ptr::null_mut(), Ordering::AcqRel) }
    }
}

impl<T: Copy + Send> Default for PushList<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy + Send> Drop for PushList<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl<T: Copy> PushBatch<T> {
    /// Calls `visit` with each value.
    #[allow(unsafe_code)]
    pub fn for_each(&self, mut visit: impl FnMut(T)) {
        let mut node = self.first;
        while !node.is_null() {
            // SAFETY: the nodes of a taken chain belong to this batch alone until it is dropped.
            let PushNode { value, next } = unsafe { &*node };
            visit(*value);
            node = *next;
        }
    }
}

impl<T> Drop for PushBatch<T> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        while !self.first.is_null() {
            // SAFETY: each node came from `Box::into_raw`, and `take` made this batch its only owner.
            let node = unsafe { Box::from_raw(self.first) };
            self.first = node.next;
        }
    }
}
