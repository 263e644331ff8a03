//! What somebody in charge does to a breaker: settle, reset, another mode, another configuration.

use super::super::boundary::{Verdict, check, guarded, input};
use super::super::options as growing;
use super::super::status::escope_status;
use super::escope_breaker;
use super::event::{EventsOut, escope_events, mode};
use super::options::escope_breaker_options;
use crate::breaker::{Breaker, BreakerConfig, Events};
use crate::error::ConfigError;
use crate::status::Status;
use crate::sync::monotonic_ns;

/// Does what is due: ends leases and half-open rounds that are over, and closes an open breaker with
/// `skip_half_open`. Every other call does so too; this is for a program that wants to hear of it without one.
///
/// Ownership: takes nothing.
///
/// @param breaker the breaker.
/// @param events  receives the events the call caused; may be NULL.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_settle(
    breaker: *mut escope_breaker,
    events: *mut escope_events,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { settle(breaker, events, monotonic_ns) })
}

/// escope_breaker_settle at a given time.
///
/// Ownership: takes nothing.
///
/// @param breaker the breaker.
/// @param events  receives the events the call caused; may be NULL.
/// @param now_ns  the time.
/// @return as escope_breaker_settle.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_settle_at(
    breaker: *mut escope_breaker,
    events: *mut escope_events,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { settle(breaker, events, || now_ns) })
}

/// Closes a breaker and forgets its results. Permits given out before become stale. The mode stays, and a breaker
/// that is forced open stays so, without an event.
///
/// Ownership: takes nothing.
///
/// @param breaker the breaker.
/// @param events  receives the events the call caused; may be NULL.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_reset(
    breaker: *mut escope_breaker,
    events: *mut escope_events,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { reset(breaker, events, monotonic_ns) })
}

/// escope_breaker_reset at a given time.
///
/// Ownership: takes nothing.
///
/// @param breaker the breaker.
/// @param events  receives the events the call caused; may be NULL.
/// @param now_ns  the time.
/// @return as escope_breaker_reset.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_reset_at(
    breaker: *mut escope_breaker,
    events: *mut escope_events,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { reset(breaker, events, || now_ns) })
}

/// Puts somebody, or the results again, in charge.
///
/// Another mode begins a generation: FORCED_OPEN open, the others closed and without results. The mode that the
/// breaker has already changes nothing.
///
/// Ownership: takes nothing.
///
/// @param breaker the breaker.
/// @param mode    ESCOPE_MODE_*.
/// @param events  receives the events the call caused; may be NULL.
/// @return OK; INVALID_ARGUMENT.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_set_mode(
    breaker: *mut escope_breaker,
    mode: i32,
    events: *mut escope_events,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { set_mode(breaker, mode, events, monotonic_ns) })
}

/// escope_breaker_set_mode at a given time.
///
/// Ownership: takes nothing.
///
/// @param breaker the breaker.
/// @param mode    ESCOPE_MODE_*.
/// @param events  receives the events the call caused; may be NULL.
/// @param now_ns  the time.
/// @return as escope_breaker_set_mode.
///
/// Thread safety: any thread, concurrently. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_set_mode_at(
    breaker: *mut escope_breaker,
    mode: i32,
    events: *mut escope_events,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe { set_mode(breaker, mode, events, || now_ns) })
}

/// Replaces the options and keeps the state.
///
/// What stays: phase, open time, mode, and the results so far unless they are of another kind of policy, or of time
/// buckets of another length. A half-open breaker whose permits, successes, lease or limit change begins a new round.
/// The capacities stay those of the creation: their fields here are checked and have no effect.
///
/// Ownership: `options` stays the caller's and is not needed after the call.
///
/// @param breaker the breaker.
/// @param options all options, not only those that change.
/// @param events  receives the events the call caused; may be NULL.
/// @return OK; INVALID_ARGUMENT naming the option, or one that asks for more than the capacities; nothing
///         was changed.
///
/// Thread safety: any thread, concurrently. May block, for as long as another call changes this
/// breaker's options; so not in a signal handler.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_reconfigure(
    breaker: *mut escope_breaker,
    options: *const escope_breaker_options,
    events: *mut escope_events,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe {
        configure(breaker, options, events, |core, config| core.reconfigure(config, monotonic_ns))
    })
}

/// escope_breaker_reconfigure at a given time.
///
/// Ownership: `options` stays the caller's and is not needed after the call.
///
/// @param breaker the breaker.
/// @param options all options, not only those that change.
/// @param events  receives the events the call caused; may be NULL.
/// @param now_ns  the time.
/// @return as escope_breaker_reconfigure.
///
/// Thread safety: any thread, concurrently. May block, for as long as another call changes this
/// breaker's options; so not in a signal handler.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_reconfigure_at(
    breaker: *mut escope_breaker,
    options: *const escope_breaker_options,
    events: *mut escope_events,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe {
        configure(breaker, options, events, |core, config| core.reconfigure(config, || now_ns))
    })
}

/// Replaces the options and begins anew: closed, without results, in the mode that the breaker has. One that is
/// forced open stays so. Permits given out before become stale.
///
/// Ownership: `options` stays the caller's and is not needed after the call.
///
/// @param breaker the breaker.
/// @param options all options, as for escope_breaker_reconfigure.
/// @param events  receives the events the call caused; may be NULL.
/// @return OK; INVALID_ARGUMENT as escope_breaker_reconfigure.
///
/// Thread safety: any thread, concurrently. May block, for as long as another call changes this
/// breaker's options; so not in a signal handler.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_reinstall(
    breaker: *mut escope_breaker,
    options: *const escope_breaker_options,
    events: *mut escope_events,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe {
        configure(breaker, options, events, |core, config| core.reinstall(config, monotonic_ns))
    })
}

/// escope_breaker_reinstall at a given time.
///
/// Ownership: `options` stays the caller's and is not needed after the call.
///
/// @param breaker the breaker.
/// @param options all options, as for escope_breaker_reconfigure.
/// @param events  receives the events the call caused; may be NULL.
/// @param now_ns  the time.
/// @return as escope_breaker_reinstall.
///
/// Thread safety: any thread, concurrently. May block, for as long as another call changes this
/// breaker's options; so not in a signal handler.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escope_breaker_reinstall_at(
    breaker: *mut escope_breaker,
    options: *const escope_breaker_options,
    events: *mut escope_events,
    now_ns: u64,
) -> escope_status {
    // SAFETY: the same contract.
    guarded(|| unsafe {
        configure(breaker, options, events, |core, config| core.reinstall(config, || now_ns))
    })
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn settle(
    breaker: *const escope_breaker,
    events: *mut escope_events,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (breaker, events) = unsafe { (input(breaker, "breaker")?, EventsOut::new(events)?) };
    events.set(&breaker.core.settle(now));
    Ok(Status::Ok)
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn reset(
    breaker: *const escope_breaker,
    events: *mut escope_events,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (breaker, events) = unsafe { (input(breaker, "breaker")?, EventsOut::new(events)?) };
    events.set(&breaker.core.reset(now));
    Ok(Status::Ok)
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn set_mode(
    breaker: *const escope_breaker,
    number: i32,
    events: *mut escope_events,
    now: impl FnOnce() -> u64,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (breaker, events) = unsafe { (input(breaker, "breaker")?, EventsOut::new(events)?) };
    events.set(&breaker.core.set_mode(mode(number)?, now));
    Ok(Status::Ok)
}

/// # Safety
/// Each pointer is NULL or valid for what the header says.
unsafe fn configure(
    breaker: *const escope_breaker,
    options: *const escope_breaker_options,
    events: *mut escope_events,
    replace: impl FnOnce(&Breaker, &BreakerConfig) -> Result<Events, ConfigError>,
) -> Verdict {
    // SAFETY: the caller's contract.
    let (breaker, events) = unsafe { (input(breaker, "breaker")?, EventsOut::new(events)?) };
    // Unlike at a creation, no options are more likely a slip than a wish for the defaults.
    check(options, "options")?;
    // SAFETY: the caller gives a struct as large as it states.
    let options = unsafe { growing::read(options, "options") }?;
    events.set(&replace(&breaker.core, &options.config()?)?);
    Ok(Status::Ok)
}
