//! The rate limiter in C.
//!
//! A rule comes with each call, as three integers. Validating one costs a division chain (a greatest common
//! divisor), so each thread remembers the last few rules it has validated; a program has few.

use std::cell::RefCell;
use std::ffi::c_void;

use super::boundary::{Failure, Out, bytes, fail, guarded, input, invalid, require_wide_words};
use super::handle;
use super::options::{self, Growing, Report};
use super::status::escope_status;
use crate::limiter::{self, Decision, KeyedRule, Limiter, LimiterConfig, Rule};
use crate::status::Status;
use crate::sync::monotonic_ns;

/// A table of token buckets, one a key. Opaque; shared by any number of threads.
pub struct escope_limiter {
    core: Limiter,
}

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
}

// SAFETY: repr(C), `struct_size` first, integers and a pointer only; four words leave no padding.
unsafe impl Growing for escope_limiter_options {
    const FIRST_SIZE: usize = 32;

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
        }
    }
}

/// What is allowed: `tokens` every `period_ns`, and at most `burst` at once. The rate is exact, never rounded to a
/// faster one. With burst equal to tokens, one period may see up to twice as many: the burst and the refill.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct escope_rule {
    /// Tokens that a period brings, 1 or more.
    pub tokens: u64,
    /// Length of a period, 1 or more.
    pub period_ns: u64,
    /// Tokens in a full bucket; 0 blocks everything.
    pub burst: u64,
}

/// What a check says.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct escope_decision {
    /// The largest cost that would be admitted now, after this check.
    pub remaining: u64,
    /// The rule's burst.
    pub limit: u64,
    /// Time until the same check is admitted if nobody else comes; 0 when admitted, UINT64_MAX for NEVER.
    pub retry_after_ns: u64,
    /// Time until all of the burst is available again.
    pub reset_after_ns: u64,
}

/// What a limiter has done so far, and how big it is.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct escope_limiter_stats {
    /// Size of this struct as the program was compiled; set it before the call.
    pub struct_size: usize,
    /// Checks admitted.
    pub allowed: u64,
    /// Checks refused for now.
    pub limited: u64,
    /// Checks whose cost is above the burst.
    pub never: u64,
    /// Checks of a new key that found no place.
    pub table_full: u64,
    /// Keys that the table is meant for, at least `max_keys`.
    pub capacity: u64,
    /// Bytes of memory in all.
    pub bytes: u64,
}

// SAFETY: repr(C), `struct_size` first, integers only; seven words leave no padding.
unsafe impl Growing for escope_limiter_stats {
    const FIRST_SIZE: usize = 56;

    fn set_struct_size(&mut self, size: usize) {
        self.struct_size = size;
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

/// Makes a limiter in which every key has its full burst. All memory it will ever need is allocated here.
///
/// Ownership: `*out` is one reference, the caller's; give it back with escope_limiter_free. `options` and the secret
/// stay the caller's and are not needed after the call.
///
/// @param options how it is made; NULL for the defaults.
/// @param out     receives the limiter.
/// @return OK; INVALID_ARGUMENT naming the option; OUT_OF_MEMORY; UNSUPPORTED on a machine without a lock-free 128-bit
///         atomic.
///
/// Thread safety: any thread, concurrently. Never blocks; allocates.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_new(
    options: *const escope_limiter_options,
    out: *mut *mut escope_limiter,
) -> escope_status {
    guarded(|| {
        // SAFETY: the caller gives NULL or a writable place.
        let out = unsafe { Out::required(out, "out") }?;
        // SAFETY: the caller gives NULL or a struct as large as it states.
        let options = unsafe { options::read(options, "options") }?;
        require_wide_words()?;
        // SAFETY: the caller's secret has `secret_len` bytes.
        let secret = unsafe { secret(&options) }?;
        let config = LimiterConfig { max_keys: options.max_keys, secret, ..LimiterConfig::default() };
        config.validate()?;
        // A valid configuration fails for want of memory only.
        let core =
            Limiter::new(&config).map_err(|error| fail(Status::OutOfMemory, format_args!("{error}")))?;
        out.set(handle::give(escope_limiter { core }));
        Ok(Status::Ok)
    })
}

/// Adds a reference.
///
/// Ownership: the result is a reference of its own, to be given back with escope_limiter_free.
///
/// @param limiter a limiter, or NULL.
/// @return `limiter`.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_ref(limiter: *mut escope_limiter) -> *mut escope_limiter {
    // SAFETY: the caller gives NULL or a live handle.
    unsafe { handle::share(limiter) }
}

/// Gives a reference back; the last one ends the limiter.
///
/// Ownership: takes the caller's reference; using it afterwards is undefined.
///
/// @param limiter a limiter; NULL does nothing.
///
/// Thread safety: any thread, but not concurrently with a call that relies on the same reference. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_free(limiter: *mut escope_limiter) {
    // SAFETY: the caller gives NULL or a reference that it owns.
    unsafe { handle::release(limiter) }
}

/// Takes `cost` tokens from a key's bucket, if they are there.
///
/// A key that was last checked under another rule keeps its debt as time. A refusal changes nothing.
///
/// Ownership: all memory stays the caller's and is not needed after the call.
///
/// @param limiter  the limiter.
/// @param key      bytes that name the key; may be NULL if `key_len` is 0.
/// @param key_len  their number.
/// @param rule     the rule.
/// @param cost     tokens to take; 0 takes none and is admitted where any cost could be.
/// @param decision receives the details, on OK and on a refusal; may be NULL.
/// @return OK: admitted; RATE_LIMITED; NEVER: `cost` is above the burst; TABLE_FULL: no place for a new key;
///         INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_check(
    limiter: *mut escope_limiter,
    key: *const c_void,
    key_len: usize,
    rule: *const escope_rule,
    cost: u64,
    decision: *mut escope_decision,
) -> escope_status {
    guarded(|| {
        // SAFETY: the same contract.
        let call = unsafe { Call::new(limiter, key, key_len, rule, decision) }?;
        Ok(call.check(cost, monotonic_ns))
    })
}

/// escope_limiter_check at a given time.
///
/// @param limiter  the limiter.
/// @param key      bytes that name the key; may be NULL if `key_len` is 0.
/// @param key_len  their number.
/// @param rule     the rule.
/// @param cost     tokens to take.
/// @param decision receives the details, on OK and on a refusal; may be NULL.
/// @param now_ns   the time; one that goes back is never more generous.
/// @return as escope_limiter_check.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_check_at(
    limiter: *mut escope_limiter,
    key: *const c_void,
    key_len: usize,
    rule: *const escope_rule,
    cost: u64,
    decision: *mut escope_decision,
    now_ns: u64,
) -> escope_status {
    guarded(|| {
        // SAFETY: the same contract.
        let call = unsafe { Call::new(limiter, key, key_len, rule, decision) }?;
        Ok(call.check(cost, || now_ns))
    })
}

/// Says what a check of cost 1 would say, and takes nothing.
///
/// Ownership: all memory stays the caller's and is not needed after the call.
///
/// @param limiter  the limiter.
/// @param key      bytes that name the key; may be NULL if `key_len` is 0.
/// @param key_len  their number.
/// @param rule     the rule.
/// @param decision receives the details, on OK and on a refusal; may be NULL.
/// @return as escope_limiter_check.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_peek(
    limiter: *const escope_limiter,
    key: *const c_void,
    key_len: usize,
    rule: *const escope_rule,
    decision: *mut escope_decision,
) -> escope_status {
    guarded(|| {
        // SAFETY: the same contract.
        let call = unsafe { Call::new(limiter, key, key_len, rule, decision) }?;
        Ok(call.peek(monotonic_ns))
    })
}

/// escope_limiter_peek at a given time.
///
/// @param limiter  the limiter.
/// @param key      bytes that name the key; may be NULL if `key_len` is 0.
/// @param key_len  their number.
/// @param rule     the rule.
/// @param decision receives the details, on OK and on a refusal; may be NULL.
/// @param now_ns   the time.
/// @return as escope_limiter_check.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_peek_at(
    limiter: *const escope_limiter,
    key: *const c_void,
    key_len: usize,
    rule: *const escope_rule,
    decision: *mut escope_decision,
    now_ns: u64,
) -> escope_status {
    guarded(|| {
        // SAFETY: the same contract.
        let call = unsafe { Call::new(limiter, key, key_len, rule, decision) }?;
        Ok(call.peek(|| now_ns))
    })
}

/// Gives a key its full burst back. A key that owes nothing stays as it is.
///
/// Ownership: `key` stays the caller's.
///
/// @param limiter the limiter.
/// @param key     bytes that name the key; may be NULL if `key_len` is 0.
/// @param key_len their number.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_reset(
    limiter: *mut escope_limiter,
    key: *const c_void,
    key_len: usize,
) -> escope_status {
    guarded(|| {
        // SAFETY: the caller gives a live handle and `key_len` readable bytes, or NULL.
        let (limiter, key) = unsafe { (input(limiter, "limiter")?, bytes(key.cast(), key_len, "key")?) };
        limiter.core.reset(limiter.core.key(key));
        Ok(Status::Ok)
    })
}

/// Sets a statistics struct to zero and to its size.
///
/// Ownership: `stats` stays the caller's.
///
/// @param stats the struct to set.
/// @param size  `sizeof *stats`.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_stats_init(
    stats: *mut escope_limiter_stats,
    size: usize,
) -> escope_status {
    // SAFETY: the caller gives NULL or `size` writable bytes.
    guarded(|| unsafe { options::init(stats, size, "stats") }.map(|()| Status::Ok))
}

/// Reads a limiter's counters and sizes. The counters are exact while no call is under way.
///
/// Ownership: `stats` stays the caller's.
///
/// @param limiter the limiter.
/// @param stats   receives the numbers; escope_limiter_stats_init sets it up.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_limiter_snapshot(
    limiter: *const escope_limiter,
    stats: *mut escope_limiter_stats,
) -> escope_status {
    guarded(|| {
        // SAFETY: the caller gives a live handle and a struct as large as it states, or NULL.
        let (limiter, report) = unsafe { (input(limiter, "limiter")?, Report::new(stats, "stats")?) };
        let now = limiter.core.stats();
        report.set(escope_limiter_stats {
            struct_size: 0,
            allowed: now.allowed,
            limited: now.limited,
            never: now.never,
            table_full: now.table_full,
            capacity: now.capacity,
            bytes: now.bytes,
        });
        Ok(Status::Ok)
    })
}

/// A checked call about one key under one rule.
struct Call<'a> {
    limiter: &'a Limiter,
    key: limiter::Key,
    rule: KeyedRule,
    decision: Option<Out<escope_decision>>,
}

impl<'a> Call<'a> {
    /// # Safety
    /// Each pointer is NULL or valid for what the header says, for `'a`.
    #[inline]
    unsafe fn new(
        limiter: *const escope_limiter,
        key: *const c_void,
        key_len: usize,
        rule: *const escope_rule,
        decision: *mut escope_decision,
    ) -> Result<Self, Failure> {
        // SAFETY: the caller's contract.
        let (limiter, key, rule, decision) = unsafe {
            (
                &input::<escope_limiter>(limiter, "limiter")?.core,
                bytes(key.cast(), key_len, "key")?,
                input(rule, "rule")?,
                Out::optional(decision, "decision")?,
            )
        };
        Ok(Self { limiter, key: limiter.key(key), rule: keyed(rule)?, decision })
    }

    #[inline]
    fn check(self, cost: u64, now: impl FnOnce() -> u64) -> Status {
        self.answer(self.limiter.check(self.key, &self.rule, cost, now))
    }

    fn peek(self, now: impl FnOnce() -> u64) -> Status {
        self.answer(self.limiter.peek(self.key, &self.rule, now))
    }

    #[inline]
    fn answer(&self, decision: Decision) -> Status {
        if let Some(out) = &self.decision {
            out.set(escope_decision {
                remaining: decision.remaining,
                limit: decision.limit,
                retry_after_ns: decision.retry_after_ns,
                reset_after_ns: decision.reset_after_ns,
            });
        }
        match decision.verdict {
            limiter::Verdict::Allowed => Status::Ok,
            limiter::Verdict::Limited => Status::RateLimited,
            limiter::Verdict::Never => Status::Never,
            limiter::Verdict::TableFull => Status::TableFull,
        }
    }
}

const REMEMBERED: usize = 4;

thread_local! {
    static RULES: RefCell<[Option<(escope_rule, KeyedRule)>; REMEMBERED]> =
        const { RefCell::new([None; REMEMBERED]) };
}

/// The rule in the form that the table applies, from the thread's memory or validated now.
#[inline]
fn keyed(rule: &escope_rule) -> Result<KeyedRule, Failure> {
    let mix =
        rule.tokens.wrapping_add(rule.period_ns.rotate_left(17)).wrapping_add(rule.burst.rotate_left(34));
    let place = (mix.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62) as usize;
    RULES.with_borrow_mut(|rules| match rules[place] {
        Some((known, keyed)) if known == *rule => Ok(keyed),
        _ => {
            let keyed = KeyedRule::new(Rule::new(rule.tokens, rule.period_ns, rule.burst)?)?;
            rules[place] = Some((*rule, keyed));
            Ok(keyed)
        }
    })
}

/// # Safety
/// `options.secret` is NULL or points to `options.secret_len` readable bytes.
unsafe fn secret(options: &escope_limiter_options) -> Result<Option<[u8; 16]>, Failure> {
    if options.secret.is_null() && options.secret_len == 0 {
        return Ok(None);
    }
    if options.secret_len != 16 {
        return Err(invalid("secret_len", options.secret_len, "16, or 0 where `secret` is NULL"));
    }
    // SAFETY: the caller's contract; `bytes` refuses NULL.
    let secret = unsafe { bytes(options.secret, 16, "secret") }?;
    Ok(Some(std::array::from_fn(|at| secret[at])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_programs_were_compiled_with() {
        assert_eq!(size_of::<escope_limiter_options>(), escope_limiter_options::FIRST_SIZE);
        assert_eq!(size_of::<escope_limiter_stats>(), escope_limiter_stats::FIRST_SIZE);
        assert_eq!((size_of::<escope_rule>(), size_of::<escope_decision>()), (24, 32));
    }

    #[test]
    fn remembered_rules_are_told_apart() {
        for period_ns in 1..=64 {
            for burst in [1, period_ns, 1 << 20] {
                let rule = escope_rule { tokens: 1, period_ns, burst };
                let expected = KeyedRule::new(Rule::new(1, period_ns, burst).unwrap()).unwrap();
                assert_eq!(keyed(&rule), Ok(expected));
                assert_eq!(keyed(&rule), Ok(expected));
            }
        }
    }
}
