//! A caller that waits for the grant of a reservation.
//!
//! Grants are in the order of the calls, for each reservation is granted after those before it. How many callers wait at a
//! time is bounded; one that finds the queue full is admitted only if it need not wait. The waiter is
//! monitored: when it dies before its grant, the reservation is taken back, if nothing was written to its key since, and
//! its place in the queue is free.

use std::sync::atomic::{AtomicBool, Ordering};

use elixirscope::limiter::{Decision, RawReceipt, Receipt, Verdict};
use rustler::{Encoder, Env, LocalPid, Monitor, NifResult, Resource, ResourceArc, Term};

use super::LimiterResource;
use super::answer::{decision_term, encode_refused};
use super::measure::Measure;
use super::receipt::reserve;
use crate::atoms;
use crate::live::Live;

pub struct WaiterResource {
    limiter: ResourceArc<LimiterResource>,
    /// None where the key has no entry of its own.
    receipt: Option<RawReceipt>,
    ended: AtomicBool,
    _live: Live,
}

#[rustler::resource_impl(name = "escope_waiter")]
impl Resource for WaiterResource {
    fn down<'a>(&'a self, _env: Env<'a>, _owner: LocalPid, _monitor: Monitor) {
        self.give_up();
    }
}

impl WaiterResource {
    /// Leaves the queue, once.
    fn end(&self) -> bool {
        // Relaxed, here and below: only the exchange decides, and the count orders nothing.
        let is_first = !self.ended.swap(true, Ordering::Relaxed);
        if is_first {
            self.limiter.leave();
        }
        is_first
    }

    fn give_up(&self) {
        if self.end()
            && let Some(receipt) = self.receipt.and_then(Receipt::from_raw)
        {
            self.limiter.core.cancel(receipt, || self.limiter.clock.now_ns());
        }
    }
}

impl Drop for WaiterResource {
    fn drop(&mut self) {
        self.end();
    }
}

impl LimiterResource {
    fn enter(&self) -> bool {
        let queued = self.waiting.fetch_add(1, Ordering::Relaxed) < self.max_waiting;
        if !queued {
            self.leave();
        }
        queued
    }

    fn leave(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `{decision, grant_at_ns, waiter | nil}`, `{error, {queue_full, retry_after_ns}}` or `{error, ...}`. With a waiter the caller
/// waits until the grant and then calls `waiter_done`.
#[rustler::nif]
fn limiter_wait<'a>(
    env: Env<'a>,
    limiter: ResourceArc<LimiterResource>,
    key: Term<'a>,
    by: Term<'a>,
    cost: u64,
    max_wait_ns: u64,
) -> NifResult<Term<'a>> {
    let by = match Measure::decode(by)? {
        Ok(by) => by,
        Err(error) => return Ok(encode_refused(env, error.into())),
    };
    let may_wait = max_wait_ns > 0 && limiter.enter();
    let reserved = reserve(&limiter, key, &by, cost, if may_wait { max_wait_ns } else { 0 });
    // The grant counts from here, which is not before the reservation.
    let now_ns = limiter.clock.now_ns();
    let waits = may_wait && matches!(&reserved, Ok(reservation) if reservation.wait_ns > 0);
    if may_wait && !waits {
        limiter.leave();
    }
    let reservation = match reserved {
        Ok(reservation) => reservation,
        Err(refused) => return Ok(encode_refused(env, refused)),
    };
    let Decision { verdict, retry_after_ns, .. } = reservation.decision;
    if max_wait_ns > 0 && !may_wait && verdict == Verdict::Limited {
        return Ok((atoms::error(), (atoms::queue_full(), retry_after_ns)).encode(env));
    }
    let waiter = waits.then(|| {
        let waiter = ResourceArc::new(WaiterResource {
            limiter: limiter.clone(),
            receipt: reservation.receipt.map(Receipt::into_raw),
            ended: AtomicBool::new(false),
            _live: Live::waiter(),
        });
        if env.monitor(&waiter, &env.pid()).is_none() {
            // The caller is being killed.
            waiter.give_up();
        }
        waiter
    });
    let grant_at_ns = now_ns.saturating_add(reservation.wait_ns);
    Ok((decision_term(env, &reservation.decision), grant_at_ns, waiter).encode(env))
}

/// The grant has come.
#[rustler::nif]
fn waiter_done(waiter: ResourceArc<WaiterResource>) -> rustler::Atom {
    waiter.end();
    atoms::ok()
}
