//! What the core decided, on its way to the processes that it concerns.
//!
//! The NIF or callback that caused a decision sends its messages itself, after every lock is released and before it
//! returns; a kill of the calling process takes effect only then. A call that would have to wake thousands does a
//! part of it and has the pool process, or whoever closes the pool, go on: a scheduler has other things to do.

use elixirscope::pool::{Action, Actions, Lease, Owner, WakeOutcome};
use rustler::{Atom, Encoder, Env, Term};

use super::SharedPool;
use crate::atoms;

/// Full buffers that one call on a normal scheduler carries out, about a tenth of a millisecond.
const BATCHES: u32 = 16;

impl SharedPool {
    #[inline]
    pub(super) fn carry_out(&self, env: Env<'_>, actions: &mut Actions) {
        if !actions.is_empty() || actions.more() || actions.alarm_ns().is_some() {
            self.send_all(env, actions, BATCHES);
        }
    }

    /// However many there are: for a dirty scheduler.
    pub(super) fn carry_out_all(&self, env: Env<'_>, actions: &mut Actions) {
        self.send_all(env, actions, u32::MAX);
    }

    #[cold]
    fn send_all(&self, env: Env<'_>, actions: &mut Actions, batches: u32) {
        let mut alarm = false;
        for batch in 1.. {
            for action in actions.iter() {
                match action {
                    Action::Create { slot, epoch } => self.tell_server(env, atoms::create(), slot, epoch),
                    Action::Destroy { slot, epoch, .. } => {
                        self.tell_server(env, atoms::destroy(), slot, epoch)
                    }
                    Action::Check { slot, epoch, .. } => self.tell_server(env, atoms::check(), slot, epoch),
                    Action::Leaked { lease, owner, since_ns } => {
                        self.tell_leak(env, lease.slot, owner, since_ns);
                    }
                    Action::Wake { waiter_token, outcome } => self.wake(env, waiter_token, outcome),
                }
            }
            alarm |= actions.alarm_ns().is_some();
            let more = actions.more();
            actions.clear();
            if !more {
                break;
            }
            if batch == batches {
                alarm = true;
                break;
            }
            alarm |= self.core.maintain(|| self.now_ns(), actions).is_some();
        }
        if alarm {
            let _ = env.send(&self.server, (atoms::escope_pool(), atoms::maintain()));
        }
    }

    fn tell_server(&self, env: Env<'_>, what: Atom, slot: u32, epoch: u64) {
        // A dead pool process: the pool is closed or about to be, and its connections died with it.
        let _ = env.send(&self.server, (atoms::escope_pool(), what, slot, epoch));
    }

    /// With the holder, unless that has died: then its death ends the lease.
    fn tell_leak(&self, env: Env<'_>, slot: u32, owner: Owner, since_ns: u64) {
        let holder = self.processes.shard(owner.0).get(&owner.0).map(|process| process.pid);
        if let Some(holder) = holder {
            let leak = (atoms::escope_pool(), atoms::leaked(), slot, holder, since_ns);
            let _ = env.send(&self.server, leak);
        }
    }

    fn wake(&self, env: Env<'_>, word: u64, outcome: WakeOutcome) {
        let (pid, reference) = {
            let mut shard = self.processes.shard(word);
            // Without an entry the waiter has died; the core has been or will be told and takes the slot back.
            let Some(process) = shard.get_mut(&word) else { return };
            if let WakeOutcome::Granted(lease) = outcome {
                process.granted(lease);
            }
            let Some(wait) = process.wait.take() else { return };
            (process.pid, wait.reference)
        };
        let outcome = match outcome {
            WakeOutcome::Granted(lease) => self.granted(env, lease),
            WakeOutcome::TimedOut => atoms::pool_timeout().encode(env),
            WakeOutcome::Closed => atoms::pool_closed().encode(env),
            WakeOutcome::Shed => atoms::shed().encode(env),
            WakeOutcome::CreateFailed(_) => atoms::create_failed().encode(env),
        };
        let _ = env.send(&pid, (reference.get(env), outcome));
    }

    /// `{connection, slot, epoch}`.
    pub fn granted<'a>(&self, env: Env<'a>, lease: Lease) -> Term<'a> {
        // The slot is empty if its connection died in this instant: the lease is over, as its holder will see.
        let connection = self.connection(env, lease.slot).unwrap_or_else(|| atoms::nil().encode(env));
        (connection, lease.slot, lease.epoch).encode(env)
    }
}
