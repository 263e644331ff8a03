//! Notices that the process is a child made by `fork`.
//!
//! A handler counts in the child how often its line of processes forked since; an object that was made under
//! another count belongs to an ancestor. Asking is one load, where `getpid` would be a system call.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::capi::boundary::{Failure, fail};
use crate::status::Status;

static FORKS: AtomicU32 = AtomicU32::new(0);

/// A process generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(u32);

extern "C" fn in_child() {
    // Relaxed: the child has one thread when the handler runs.
    FORKS.fetch_add(1, Ordering::Relaxed);
}

impl Generation {
    /// The generation of this process, from now on distinguishable from that of its children.
    pub fn watched() -> Result<Self, Failure> {
        static INSTALLED: OnceLock<i32> = OnceLock::new();
        // SAFETY: the handler is a function of this library that touches one atomic; glibc removes it when the
        // library is unloaded.
        let error = *INSTALLED.get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(in_child)) });
        match error {
            0 => Ok(Self::current()),
            error => Err(fail(Status::OutOfMemory, format_args!("pthread_atfork failed with {error}"))),
        }
    }

    /// Whether this process is the one that the generation was taken in.
    #[inline]
    pub fn is_current(self) -> bool {
        self == Self::current()
    }

    #[inline]
    fn current() -> Self {
        // Relaxed: written only in a process that has no other thread yet.
        Self(FORKS.load(Ordering::Relaxed))
    }
}
