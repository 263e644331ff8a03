//! A term that outlives the call that brought it: the connection in a slot, a waiter's reference, an error.
//!
//! A term lives in an environment of its own and is copied out for each reader. Connections are nearly always processes:
//! their pids fit a word and are kept as such, so that the hot path copies nothing and can see whether one still lives.

use rustler::env::SavedTerm;
use rustler::{Atom, Encoder, Env, LocalPid, OwnedEnv, Term};

/// The connection in a slot.
pub struct Connection {
    /// The slot's epoch while it was made.
    pub made_at: u64,
    pub term: Kept,
}

/// A kept term.
pub enum Kept {
    /// The pid of a process of this node.
    Process(LocalPid),
    /// `{atom, pid}` with such a pid.
    Tagged(Atom, LocalPid),
    /// Any other term, in its environment.
    Other(OwnedEnv, SavedTerm),
}

impl Kept {
    /// Copies `term` out of the environment of the current call.
    pub fn new(term: Term<'_>) -> Self {
        if let Ok(pid) = term.decode::<LocalPid>() {
            return Kept::Process(pid);
        }
        if let Ok((tag, pid)) = term.decode::<(Atom, LocalPid)>() {
            return Kept::Tagged(tag, pid);
        }
        let env = OwnedEnv::new();
        let saved = env.save(term);
        Kept::Other(env, saved)
    }

    /// The term, in the environment of the current call.
    pub fn get<'a>(&self, env: Env<'a>) -> Term<'a> {
        match self {
            Kept::Process(pid) => pid.encode(env),
            Kept::Tagged(tag, pid) => (*tag, *pid).encode(env),
            Kept::Other(own, saved) => own.run(|own| saved.load(own).in_env(env)),
        }
    }

    /// Whether it is, or is tagged, a process that has died.
    pub fn is_dead(&self, env: Env<'_>) -> bool {
        match self {
            Kept::Process(pid) | Kept::Tagged(_, pid) => !env.is_process_alive(*pid),
            Kept::Other(..) => false,
        }
    }

    /// Whether the kept term and `term` match exactly (`=:=`).
    pub fn is(&self, term: Term<'_>) -> bool {
        match self {
            Kept::Process(pid) => pid.encode(term.get_env()) == term,
            Kept::Tagged(tag, pid) => (*tag, *pid).encode(term.get_env()) == term,
            Kept::Other(own, saved) => own.run(|own| saved.load(own) == term),
        }
    }
}
