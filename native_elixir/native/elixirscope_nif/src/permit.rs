//! A permit that watches its owner.
//!
//! The process that acquired it is monitored; its death is a failure, recorded exactly once, for whoever comes
//! first clears the way: a record by the owner, by somebody it passed the permit to, or the `down` callback.
//! A permit that is dropped by a living owner records nothing; a probe's lease covers that.

use std::sync::atomic::{AtomicBool, Ordering};

use elixirscope::breaker::{Outcome, Permit, RawPermit, RecordVerdict};
use rustler::{Atom, Encoder, Env, LocalPid, Monitor, Resource, ResourceArc, Term};

use crate::breaker::{BreakerResource, OutcomeArg, verdict_atom};
use crate::live::Live;

/// The right to make one call.
pub struct PermitResource {
    breaker: ResourceArc<BreakerResource>,
    permit: RawPermit,
    done: AtomicBool,
    _live: Live,
}

#[rustler::resource_impl(name = "escope_probe")]
impl Resource for PermitResource {
    fn down<'a>(&'a self, env: Env<'a>, _owner: LocalPid, _monitor: Monitor) {
        // The breaker would refuse a probe's second record too, but count the attempt, which is nobody's here.
        if self.first() {
            self.breaker.record(env, Permit::from_raw(self.permit), Outcome::Failure);
        }
    }
}

impl PermitResource {
    /// Whether nobody has recorded this permit before.
    fn first(&self) -> bool {
        // Relaxed: only the exchange itself decides, and the fields beside it never change.
        !self.done.swap(true, Ordering::Relaxed)
    }

    fn finish(&self, env: Env, outcome: Outcome) -> RecordVerdict {
        let permit = Permit::from_raw(self.permit);
        // A probe is guarded by its slot in the breaker as well, whose answer is more exact.
        if !self.first() && !permit.is_probe() {
            return RecordVerdict::AlreadyDone;
        }
        self.breaker.record(env, permit, outcome)
    }
}

/// Hands `permit` to the calling process.
pub fn grant<'a>(env: Env<'a>, breaker: ResourceArc<BreakerResource>, permit: Permit) -> Term<'a> {
    let permit = permit.into_raw();
    let permit = PermitResource { breaker, permit, done: AtomicBool::new(false), _live: Live::permit() };
    let resource = ResourceArc::new(permit);
    if env.monitor(&resource, &env.pid()).is_none() {
        // The caller is being killed and will never record.
        resource.finish(env, Outcome::Failure);
    }
    resource.encode(env)
}

#[rustler::nif]
fn permit_record(env: Env, permit: ResourceArc<PermitResource>, outcome: OutcomeArg) -> Atom {
    verdict_atom(permit.finish(env, outcome.0))
}
