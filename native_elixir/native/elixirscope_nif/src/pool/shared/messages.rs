//! What the core decided, on its way to the processes that it concerns.
//!
//! The NIF or callback that caused a decision sends its messages itself, after every lock is released and before it
//! returns; a kill of the calling process takes effect only then. A call that would have to wake thousands does a
//! part of it and has the pool process, or whoever closes the pool, go on: a scheduler has other things to do.

use elixirscope::pool::{Action, Actions, CheckKind, DestroyReason, Owner, WakeOutcome};
use rustler::{Atom, Encoder, Env};

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
                    Action::Create { slot, epoch } => {
                        self.tell_server(env, (atoms::escope_pool(), atoms::create(), slot, epoch));
                    }
                    Action::Destroy { slot, epoch, reason } => {
                        let reason = why_destroyed(reason);
                        self.tell_server(env, (atoms::escope_pool(), atoms::destroy(), slot, epoch, reason));
                    }
                    // The time limit is the core's, and the pool process's for the process that checks.
                    Action::Check { slot, epoch, kind, .. } => {
                        let kind = what_for(kind);
                        self.tell_server(env, (atoms::escope_pool(), atoms::check(), slot, epoch, kind));
                    }
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
            self.tell_server(env, (atoms::escope_pool(), atoms::maintain()));
        }
    }

    fn tell_server(&self, env: Env<'_>, message: impl Encoder) {
        // A dead pool process: the pool is closed or about to be, and its connections died with it.
        let _ = env.send(&self.server, message);
    }

    /// With the holder, unless that has died: then its death ends the lease.
    fn tell_leak(&self, env: Env<'_>, slot: u32, owner: Owner, since_ns: u64) {
        let holder = self.processes.shard(owner.0).get(&owner.0).map(|process| process.pid);
        if let Some(holder) = holder {
            self.tell_server(env, (atoms::escope_pool(), atoms::leaked(), slot, holder, since_ns));
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
            WakeOutcome::Granted(lease) => match self.lent(env, lease) {
                Some(connection) => (connection, lease.slot, lease.epoch).encode(env),
                None => atoms::lost().encode(env),
            },
            WakeOutcome::TimedOut => atoms::pool_timeout().encode(env),
            WakeOutcome::Closed => atoms::pool_closed().encode(env),
            WakeOutcome::Shed => atoms::shed().encode(env),
            WakeOutcome::CreateFailed(_) => atoms::create_failed().encode(env),
        };
        let _ = env.send(&pid, (reference.get(env), outcome));
    }
}

fn what_for(kind: CheckKind) -> Atom {
    match kind {
        CheckKind::Return => atoms::returned(),
        CheckKind::Idle => atoms::idle(),
    }
}

fn why_destroyed(reason: DestroyReason) -> Atom {
    match reason {
        DestroyReason::Broken => atoms::broken(),
        DestroyReason::Lost => atoms::lost(),
        DestroyReason::Overflow => atoms::overflow(),
        DestroyReason::OwnerGone => atoms::owner_gone(),
        DestroyReason::PoolClosed => atoms::pool_closed(),
        DestroyReason::Idle => atoms::idle(),
        DestroyReason::Lifetime => atoms::lifetime(),
        DestroyReason::Evicted => atoms::evicted(),
        DestroyReason::CheckFailed => atoms::check_failed(),
        DestroyReason::Resized => atoms::resized(),
    }
}
