//! Changes of breakers on their way to the publisher.
//!
//! The NIF that caused a change sends it itself, before it returns: a caller that is killed right afterwards
//! has lost nothing. Messages of several callers may overtake each other, so each carries its sequence number
//! and the publisher restores the order.

use std::sync::{Mutex, PoisonError};

use elixirscope::breaker::{Cause, Event, Events, Phase};
use rustler::{Atom, Env, LocalPid};

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
            let _ = env.send(&pid, message(id, event));
        }
    }
}

type Change = (u32, Atom, Atom, Atom, u64);

fn message(id: u64, event: Event) -> (Atom, u64, u32, Change) {
    let Event { sequence, generation, from, to, cause, at_ns } = event;
    let change = (generation, phase_atom(from), phase_atom(to), cause_atom(cause), at_ns);
    (atoms::escope_breaker_event(), id, sequence, change)
}

pub fn phase_atom(phase: Phase) -> Atom {
    match phase {
        Phase::Closed => atoms::closed(),
        Phase::Open => atoms::open(),
        Phase::HalfOpen => atoms::half_open(),
    }
}

fn cause_atom(cause: Cause) -> Atom {
    match cause {
        Cause::FailureThreshold => atoms::failure_threshold(),
        Cause::OpenElapsed => atoms::open_elapsed(),
        Cause::ProbesSucceeded => atoms::probes_succeeded(),
        Cause::ProbesFailed => atoms::probes_failed(),
        Cause::ProbeExpired => atoms::probe_expired(),
        Cause::Reset => atoms::reset(),
    }
}
