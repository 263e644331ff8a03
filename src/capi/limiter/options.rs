//! How a limiter is made.

use super::super::boundary::{Failure, bytes, guarded, invalid};
use super::super::options::{self, Growing};
use super::super::status::escope_status;
use crate::limiter::{FullPolicy, LimiterConfig};
use crate::status::Status;

/// A new key that finds no place is refused with TABLE_FULL.
pub const ESCOPE_FULL_DENY_NEW: i32 = 0;
/// It takes the place of the key among those there that owes for the shortest time, whose debt is forgotten: that key may
/// be admitted so much more than its rule allows.
pub const ESCOPE_FULL_EVICT_MOST_FULL: i32 = 1;
/// It has a share of one bucket that all such keys have together.
pub const ESCOPE_FULL_OVERFLOW_KEY: i32 = 2;

/// How a limiter is made. Set it up with escope_limiter_options_init, then change what you need.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct escope_limiter_options {
    /// Size of this struct as the program was compiled.
    pub struct_size: usize,
    /// Keys that may owe tokens at the same time, 1 to 2^28; the table's memory is fixed. Default 65,536.
    pub max_keys: u64,
    /// Secret of the key hash, 16 bytes, read during the call; NULL draws one. Default NULL.
    pub secret: *const u8,
    /// 16, or 0 where `secret` is NULL.
    pub secret_len: usize,
    /// ESCOPE_FULL_*: what a new key gets when all its places are taken by keys that owe tokens. Default DENY_NEW.
    pub full_policy: i32,
    /// Threads that may wait in escope_limiter_acquire at the same time. Default 1,024.
    pub max_waiting: u32,
}

// SAFETY: repr(C), `struct_size` first, integers and a pointer only; 4 * 8 + 2 * 4 bytes leave no padding.
unsafe impl Growing for escope_limiter_options {
    const FIRST_SIZE: usize = 40;

    fn set_struct_size(&mut self, size: usize) {
        self.struct_size = size;
    }
}

impl Default for escope_limiter_options {
    fn default() -> Self {
        let config = LimiterConfig::default();
        Self {
            struct_size: size_of::<Self>(),
            max_keys: config.max_keys,
            secret: std::ptr::null(),
            secret_len: 0,
            full_policy: config.full_policy as i32,
            max_waiting: 1024,
        }
    }
}

impl escope_limiter_options {
    /// # Safety
    /// `secret` is NULL or points to `secret_len` readable bytes.
    pub(super) unsafe fn config(&self) -> Result<LimiterConfig, Failure> {
        // SAFETY: the caller's contract.
        let secret = unsafe { self.secret() }?;
        Ok(LimiterConfig { max_keys: self.max_keys, secret, full_policy: self.full_policy()? })
    }

    pub(super) fn full_policy(&self) -> Result<FullPolicy, Failure> {
        match self.full_policy {
            ESCOPE_FULL_DENY_NEW => Ok(FullPolicy::DenyNew),
            ESCOPE_FULL_EVICT_MOST_FULL => Ok(FullPolicy::EvictMostFull),
            ESCOPE_FULL_OVERFLOW_KEY => Ok(FullPolicy::OverflowKey),
            other => {
                Err(invalid("full_policy", other, "0 (deny new), 1 (evict most full) or 2 (overflow key)"))
            }
        }
    }

    /// # Safety
    /// `secret` is NULL or points to `secret_len` readable bytes.
    unsafe fn secret(&self) -> Result<Option<[u8; 16]>, Failure> {
        if self.secret.is_null() && self.secret_len == 0 {
            return Ok(None);
        }
        if self.secret_len != 16 {
            return Err(invalid("secret_len", self.secret_len, "16, or 0 where `secret` is NULL"));
        }
        // SAFETY: the caller's contract; `bytes` refuses NULL.
        let secret = unsafe { bytes(self.secret, 16, "secret") }?;
        Ok(Some(std::array::from_fn(|at| secret[at])))
    }
}

/// Fills limiter options with the defaults.
///
/// Ownership: `options` stays the caller's.
///
/// @param options the struct to fill.
/// @param size    `sizeof *options`.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_options_init(
    options: *mut escope_limiter_options,
    size: usize,
) -> escope_status {
    // SAFETY: the caller gives NULL or `size` writable bytes.
    guarded(|| unsafe { options::init(options, size, "options") }.map(|()| Status::Ok))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_the_size_that_programs_were_compiled_with() {
        assert_eq!(size_of::<escope_limiter_options>(), escope_limiter_options::FIRST_SIZE);
    }

    #[test]
    fn the_numbers_of_policies_are_the_cores() {
        for number in ESCOPE_FULL_DENY_NEW..=ESCOPE_FULL_OVERFLOW_KEY {
            let options = escope_limiter_options { full_policy: number, ..escope_limiter_options::default() };
            assert_eq!(options.full_policy().map(|policy| policy as i32), Ok(number));
        }
    }
}
