//! Where atomics and locks come from: the standard library and portable-atomic in the product, loom under
//! `--cfg escope_loom`, shuttle under `--cfg escope_shuttle`. No other module names an origin, so the models run the
//! shipped code. The one system call of the core, reading the monotonic clock, stands here too.
//!
//! loom tries every order of a few steps, weak memory included; shuttle tries random orders of many threads, with each
//! access seen by all at once. Both set `escope_model` (`build.rs`).
//!
//! # The wide word
//!
//! Breaker and limiter keep a state that must change as a whole in one [`AtomicWide`]: two halves of 64
//! bits, always accessed 128 bits wide. Neither loom nor shuttle has a 128-bit atomic, so in a model the word has two
//! halves of 32 bits and every layout narrows its fields by [`HALF`]; the protocols are the same code.

#[cfg(not(escope_model))]
mod origin {
    pub use portable_atomic::AtomicU128 as AtomicWide;
    pub use std::sync::atomic::AtomicU64 as UnwatchedU64;
    pub use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence};

    /// Value of an [`AtomicWide`].
    pub type Wide = u128;
    /// One half of a [`Wide`].
    pub type Half = u64;
    /// Bits in one half of a [`Wide`].
    pub const HALF: u32 = 64;

    /// Mutual exclusion for the pool; no user code runs while it is held.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(parking_lot::Mutex<T>);

    impl<T> Mutex<T> {
        /// A mutex that holds `value`.
        pub const fn new(value: T) -> Self {
            Self(parking_lot::Mutex::new(value))
        }

        /// Waits for the lock.
        pub fn lock(&self) -> parking_lot::MutexGuard<'_, T> {
            self.0.lock()
        }

        /// Takes the lock if it is free.
        pub fn try_lock(&self) -> Option<parking_lot::MutexGuard<'_, T>> {
            self.0.try_lock()
        }
    }

    /// Whether the wide word is lock-free on this machine. portable-atomic's fallback locks would be
    /// invisible to another process, so the edges refuse to start where this is false.
    pub fn wide_is_lock_free() -> bool {
        AtomicWide::is_lock_free()
    }
}

#[cfg(escope_loom)]
mod origin {
    use super::Ordering;
    pub use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence};
    /// A word of which loom tries no orders: for the many words of a block that is read as a whole, beside some
    /// that loom does watch.
    pub use std::sync::atomic::AtomicU64 as UnwatchedU64;

    /// Value of an [`AtomicWide`].
    pub type Wide = u64;
    /// One half of a [`Wide`].
    pub type Half = u32;
    /// Bits in one half of a [`Wide`].
    pub const HALF: u32 = 32;

    /// loom's 64-bit atomic, with the orders that loom leaves out.
    ///
    /// To find the orders worth trying, loom keeps one last access of each location. A thread that loads and
    /// then replaces hides the earlier loads of other threads behind its own, so loom never tries that
    /// replacement between such a load and what its thread does next. `turn` is replaced before every access,
    /// relaxed, so that it orders no memory. That multiplies the orders: a model with three threads does
    /// without it, by [`search_like_loom`].
    #[derive(Debug)]
    pub struct AtomicWide {
        turn: AtomicBool,
        word: loom::sync::atomic::AtomicU64,
    }

    thread_local! {
        static TAKE_TURNS: std::cell::Cell<bool> = const { std::cell::Cell::new(true) };
    }

    /// Runs the models of this test with loom's own choice of orders.
    pub fn search_like_loom() {
        TAKE_TURNS.set(false);
    }

    impl AtomicWide {
        /// A word that holds `value`.
        pub fn new(value: Wide) -> Self {
            Self { turn: AtomicBool::new(false), word: loom::sync::atomic::AtomicU64::new(value) }
        }

        fn next(&self) -> &loom::sync::atomic::AtomicU64 {
            if TAKE_TURNS.get() {
                self.turn.swap(true, Ordering::Relaxed);
            }
            &self.word
        }

        /// Like the product's.
        pub fn load(&self, order: Ordering) -> Wide {
            self.next().load(order)
        }

        /// Like the product's.
        pub fn store(&self, value: Wide, order: Ordering) {
            self.next().store(value, order);
        }

        /// Like the product's.
        pub fn compare_exchange(
            &self,
            old: Wide,
            new: Wide,
            success: Ordering,
            failure: Ordering,
        ) -> Result<Wide, Wide> {
            self.next().compare_exchange(old, new, success, failure)
        }

        /// Like the product's.
        pub fn compare_exchange_weak(
            &self,
            old: Wide,
            new: Wide,
            success: Ordering,
            failure: Ordering,
        ) -> Result<Wide, Wide> {
            self.next().compare_exchange_weak(old, new, success, failure)
        }
    }

    /// loom's mutex behind the same interface.
    ///
    /// loom does not treat an unlock as an event that a failed `try_lock` depends on, so it would never show
    /// one. `held` stands for the lock word and makes it one.
    #[derive(Debug, Default)]
    pub struct Mutex<T> {
        held: AtomicBool,
        value: loom::sync::Mutex<T>,
    }

    /// Access to what a [`Mutex`] protects.
    #[derive(Debug)]
    pub struct MutexGuard<'a, T> {
        held: &'a AtomicBool,
        value: loom::sync::MutexGuard<'a, T>,
    }

    impl<T> Mutex<T> {
        /// A mutex that holds `value`.
        pub fn new(value: T) -> Self {
            Self { held: AtomicBool::new(false), value: loom::sync::Mutex::new(value) }
        }

        /// Waits for the lock.
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.guard(self.value.lock().expect("no model panics while it holds the lock"))
        }

        /// Takes the lock if it is free.
        pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            // Relaxed, like the look of a real `try_lock` that fails.
            if self.held.load(Ordering::Relaxed) {
                return None;
            }
            self.value.try_lock().ok().map(|value| self.guard(value))
        }

        fn guard<'a>(&'a self, value: loom::sync::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.held.store(true, Ordering::Relaxed);
            MutexGuard { held: &self.held, value }
        }
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            // Release, like a real unlock.
            self.held.store(false, Ordering::Release);
        }
    }

    impl<T> std::ops::Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.value
        }
    }

    impl<T> std::ops::DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.value
        }
    }

    /// Models always run.
    pub fn wide_is_lock_free() -> bool {
        true
    }
}

#[cfg(escope_shuttle)]
mod origin {
    use super::Ordering;
    pub use shuttle::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence,
    };
    /// As under loom: no schedule switches threads at such a word.
    pub use std::sync::atomic::AtomicU64 as UnwatchedU64;

    /// Value of an [`AtomicWide`].
    pub type Wide = u64;
    /// One half of a [`Wide`].
    pub type Half = u32;
    /// Bits in one half of a [`Wide`].
    pub const HALF: u32 = 32;

    /// shuttle's 64-bit atomic. A type of its own, like the product's, so that no layout takes one for the other.
    #[derive(Debug)]
    pub struct AtomicWide(shuttle::sync::atomic::AtomicU64);

    impl AtomicWide {
        /// A word that holds `value`.
        pub const fn new(value: Wide) -> Self {
            Self(shuttle::sync::atomic::AtomicU64::new(value))
        }

        /// Like the product's.
        pub fn load(&self, order: Ordering) -> Wide {
            self.0.load(order)
        }

        /// Like the product's.
        pub fn store(&self, value: Wide, order: Ordering) {
            self.0.store(value, order);
        }

        /// Like the product's.
        pub fn compare_exchange(
            &self,
            old: Wide,
            new: Wide,
            success: Ordering,
            failure: Ordering,
        ) -> Result<Wide, Wide> {
            self.0.compare_exchange(old, new, success, failure)
        }

        /// Like the product's.
        pub fn compare_exchange_weak(
            &self,
            old: Wide,
            new: Wide,
            success: Ordering,
            failure: Ordering,
        ) -> Result<Wide, Wide> {
            self.0.compare_exchange_weak(old, new, success, failure)
        }
    }

    /// shuttle's mutex behind the same interface.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        /// A mutex that holds `value`.
        pub const fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        /// Waits for the lock.
        pub fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
            self.0.lock().expect("no model panics while it holds the lock")
        }

        /// Takes the lock if it is free.
        pub fn try_lock(&self) -> Option<shuttle::sync::MutexGuard<'_, T>> {
            self.0.try_lock().ok()
        }
    }

    /// Models always run.
    pub fn wide_is_lock_free() -> bool {
        true
    }
}

pub use origin::*;
pub use std::sync::atomic::Ordering;

/// Joins two halves.
#[inline]
pub const fn wide(hi: Half, lo: Half) -> Wide {
    (hi as Wide) << HALF | lo as Wide
}

/// Upper half of a word.
#[inline]
pub const fn hi(word: Wide) -> Half {
    (word >> HALF) as Half
}

/// Lower half of a word.
#[inline]
pub const fn lo(word: Wide) -> Half {
    word as Half
}

/// A number that no earlier call in this process returned; never 0.
pub fn unique_id() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    // Relaxed: uniqueness needs the order of this one word only.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

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

/// Nanoseconds of `CLOCK_MONOTONIC`, through the vDSO.
#[inline]
#[allow(unsafe_code)]
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec for the duration of the call. CLOCK_MONOTONIC exists on
    // every Linux, so the call cannot fail and always fills it.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A number below 2^57 that names the calling thread among those that are alive, and is not 0.
#[inline(always)]
#[allow(unsafe_code)]
pub fn thread_pointer() -> u64 {
    #[cfg(all(target_arch = "x86_64", target_pointer_width = "64", target_os = "linux"))]
    {
        let pointer: u64;
        // SAFETY: on Linux, in the x86-64 ABI for thread-local storage (Drepper, *ELF Handling For Thread-Local Storage*) the word at
        // fs:0 is the thread pointer itself. It is only read.
        unsafe {
            std::arch::asm!("mov {}, fs:0", out(reg) pointer, options(pure, readonly, nostack, preserves_flags));
        }
        pointer
    }
    #[cfg(not(all(target_arch = "x86_64", target_pointer_width = "64", target_os = "linux")))]
    {
        thread_local!(static HERE: u8 = const { 0 });
        HERE.with(|here| std::ptr::from_ref(here).addr() as u64)
    }
}
