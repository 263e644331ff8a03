//! A descriptor by which an event loop learns that it is time to look at a wait.
//!
//! It is a timer of the kernel (timerfd): what ends a wait sets it to the past, and what ends by time, the wait itself and
//! the core's alarm, is its setting. So one descriptor says all, and nothing has to be read from it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Readable from the instant that it was set to.
#[derive(Debug)]
pub struct Descriptor(OwnedFd);

impl Descriptor {
    /// One that is readable at once.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointer is given.
        let number =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else's.
        let descriptor = Self(unsafe { OwnedFd::from_raw_fd(number) });
        descriptor.ring();
        Ok(descriptor)
    }

    /// What to wait for.
    pub fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Readable from now on.
    pub fn ring(&self) {
        self.ring_at(1);
    }

    /// Not readable until then, by the monotonic clock; `u64::MAX` for never.
    pub fn ring_at(&self, at_ns: u64) {
        // A setting of zero is none.
        let at_ns = if at_ns == u64::MAX { 0 } else { at_ns.max(1) };
        let it_value = libc::timespec {
            tv_sec: (at_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (at_ns % 1_000_000_000) as libc::c_long,
        };
        let it_interval = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = libc::itimerspec { it_interval, it_value };
        // SAFETY: the descriptor is a timer's, and `setting` outlives the call. With a valid time it cannot fail.
        unsafe {
            libc::timerfd_settime(self.number(), libc::TFD_TIMER_ABSTIME, &setting, std::ptr::null_mut())
        };
    }
}
