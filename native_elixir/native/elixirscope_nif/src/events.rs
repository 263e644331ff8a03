//! Changes of breakers on their way to the publisher.
//!
//! The NIF that caused a change sends it itself, before it returns: a caller that is killed right afterwards
//! has lost nothing. Messages of several callers may overtake each other, so each carries its sequence number
//! and the publisher restores the order.

use std::sync::{Mutex, PoisonError};

use elixirscope::breaker::{Cause, Event, Events, Level, Mode, Phase};
use rustler::{Atom, Env, LocalPid, NifMap};

use crate::atoms;

/// The process that gets a breaker's events. It changes when the publisher is restarted, and is read only when
/// there is something to send.
pub struct Publisher(Mutex<LocalPid>);

impl Publisher {
    pub fn new(pid: LocalPid) -> Self {
        Self(Mutex::new(pid))
    }

    pub fn set(&self, pid: LocalPid) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pid;
    }

    /// Sends `events` of the breaker with this id.
    #[inline]
    pub fn publish(&self, env: Env, id: u64, events: &Events) {
        if !events.is_empty() {
            self.send(env, id, events);
        }
    }

    #[cold]
    fn send(&self, env: Env, id: u64, events: &Events) {
        let pid = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events.iter() {
            // A dead publisher is being restarted; the gap in the sequence tells what was missed.
            let _ = env.send(&pid, (atoms::escope_breaker_event(), id, Change::from(event)));
        }
    }
}

#[derive(NifMap)]
struct Change {
    /// Which of a breaker's two sequences the number belongs to: `generation` or `level`.
    kind: Atom,
    sequence: u32,
    generation: u32,
    from: Atom,
    to: Atom,
    from_level: Atom,
    to_level: Atom,
    mode: Atom,
    cause: Atom,
    at_ns: u64,
}

impl From<Event> for Change {
    fn from(event: Event) -> Self {
        Self {
            kind: if event.cause.is_of_level() { atoms::level() } else { atoms::generation() },
            sequence: event.sequence,
            generation: event.generation,
            from: phase_atom(event.from),
            to: phase_atom(event.to),
            from_level: level_atom(event.from_level),
            to_level: level_atom(event.to_level),
            mode: mode_atom(event.mode),
            cause: cause_atom(event.cause),
            at_ns: event.at_ns,
        }
    }
}

pub fn phase_atom(phase: Phase) -> Atom {
    match phase {
        Phase::Closed => atoms::closed(),
        Phase::Open => atoms::open(),
        Phase::HalfOpen => atoms::half_open(),
    }
}

pub fn mode_atom(mode: Mode) -> Atom {
    match mode {
        Mode::Auto => atoms::auto(),
        Mode::ForcedOpen => atoms::forced_open(),
        Mode::ForcedClosed => atoms::forced_closed(),
        Mode::MetricsOnly => atoms::metrics_only(),
    }
}

pub fn level_atom(level: Level) -> Atom {
    match level {
        Level::None => atoms::none(),
        Level::Light => atoms::light(),
        Level::Medium => atoms::medium(),
        Level::Heavy => atoms::heavy(),
        Level::Exceeded => atoms::exceeded(),
    }
}

pub fn cause_atom(cause: Cause) -> Atom {
    match cause {
        Cause::FailureThreshold => atoms::failure_threshold(),
        Cause::OpenElapsed => atoms::open_elapsed(),
        Cause::ProbesSucceeded => atoms::probes_succeeded(),
        Cause::ProbesFailed => atoms::probes_failed(),
        Cause::ProbeExpired => atoms::probe_expired(),
        Cause::Reset => atoms::reset(),
        Cause::FailureRate => atoms::failure_rate(),
        Cause::SlowCallRate => atoms::slow_call_rate(),
        Cause::HalfOpenLimit => atoms::half_open_limit(),
        Cause::ProbesIgnored => atoms::probes_ignored(),
        Cause::ModeChanged => atoms::mode_changed(),
        Cause::Reconfigured => atoms::reconfigured(),
        Cause::Reinstalled => atoms::reinstalled(),
        Cause::LevelChanged => atoms::level_changed(),
        Cause::WouldOpen => atoms::would_open(),
    }
}
