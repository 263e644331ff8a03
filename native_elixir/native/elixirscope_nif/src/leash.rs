//! Ties the processes that work for a caller to its life.
//!
//! A process that runs an operation for a caller has to end when the caller does, whatever the operation is busy
//! with, and must not take the caller along when it crashes; so it can neither watch nor be linked. The caller
//! has a leash instead, made once, which watches it and knows the worker that took hold of it last. When the caller
//! dies, the leash has that worker killed, if it still lives: a native callback may send, but not kill, so it tells
//! the process that does.

use std::sync::{Mutex, PoisonError};

use rustler::{Encoder, Env, LocalPid, Monitor, Resource, ResourceArc, Term};

use crate::atoms;
use crate::live::Live;

/// What a caller has or had under way last: one operation at a time, since it waits for each.
#[derive(Clone, Copy)]
enum Hold {
    Nobody,
    Worker(LocalPid),
    CallerDied,
}

pub struct LeashResource {
    hold: Mutex<Hold>,
    _live: Live,
}

impl LeashResource {
    /// What there was before; a dead caller's leash is held by nobody any more.
    fn replace(&self, next: Hold) -> Hold {
        let mut hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *hold;
        if !matches!(before, Hold::CallerDied) {
            *hold = next;
        }
        before
    }
}

#[rustler::resource_impl(name = "escope_leash")]
impl Resource for LeashResource {
    fn down<'a>(&'a self, env: Env<'a>, caller: LocalPid, _monitor: Monitor) {
        if let Hold::Worker(worker) = self.replace(Hold::CallerDied)
            && let Some(killer) = env.whereis_pid(atoms::elixir_scope_reaper())
        {
            let _ = env.send(&killer, (atoms::escope_kill(), worker, caller));
        }
    }
}

/// The leash of the calling process.
#[rustler::nif]
fn leash_new<'a>(env: Env<'a>) -> Term<'a> {
    let leash = ResourceArc::new(LeashResource { hold: Mutex::new(Hold::Nobody), _live: Live::leash() });
    if env.monitor(&leash, &env.pid()).is_none() {
        // The caller is being killed.
        leash.replace(Hold::CallerDied);
    }
    leash.encode(env)
}

/// Ties the calling process to the leash; false, if the caller whose it is has died already.
#[rustler::nif]
fn leash_hold<'a>(env: Env<'a>, leash: &'a LeashResource) -> bool {
    !matches!(leash.replace(Hold::Worker(env.pid())), Hold::CallerDied)
}
