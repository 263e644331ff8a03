//! Reservations, and receipts that are used once, whoever holds them.

use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use elixirscope::limiter::{Decision, RawReceipt, Receipt, Reservation};
use rustler::{Atom, Encoder, Env, NifResult, ResourceArc, Term};

use super::LimiterResource;
use super::answer::{Refused, adjusted_atom, decision_term, encode_adjusted, encode_refused};
use super::limit::LimitResource;
use super::measure::Measure;
use crate::atoms;
use crate::live::Live;

/// The proof of one debit.
pub struct ReceiptResource {
    limiter: ResourceArc<LimiterResource>,
    limit: Option<ResourceArc<LimitResource>>,
    receipt: RawReceipt,
    used: AtomicBool,
    _live: Live,
}

#[rustler::resource_impl(name = "escope_receipt")]
impl rustler::Resource for ReceiptResource {}

impl ReceiptResource {
    fn limit(&self) -> Option<&elixirscope::limiter::Limit> {
        self.limit.as_ref().map(|limit| limit.core())
    }

    /// The receipt, for the first who asks.
    fn take(&self) -> Option<Receipt> {
        // Relaxed: only the exchange itself decides, and the fields beside it never change.
        let is_first = !self.used.swap(true, Ordering::Relaxed);
        is_first.then(|| Receipt::from_raw(self.receipt)).flatten()
    }
}

/// Debits `cost` if it is granted in time.
pub fn reserve(
    limiter: &LimiterResource,
    key: Term,
    by: &Measure,
    cost: u64,
    max_wait_ns: u64,
) -> Result<Reservation, Refused> {
    let key = limiter.key(key, by)?;
    Ok(limiter.core.reserve(key, by.by(), cost, max_wait_ns, || limiter.clock.now_ns()))
}

/// `{decision, wait_ns, receipt | nil}` or `{error, ...}`.
#[rustler::nif]
fn limiter_reserve<'a>(
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
    Ok(match reserve(&limiter, key, &by, cost, max_wait_ns) {
        Ok(Reservation { decision, wait_ns, receipt, .. }) => {
            let receipt = receipt.map(|receipt| {
                ResourceArc::new(ReceiptResource {
                    limiter,
                    limit: by.limit().cloned(),
                    receipt: receipt.into_raw(),
                    used: AtomicBool::new(false),
                    _live: Live::receipt(),
                })
            });
            encode_reservation(env, &decision, wait_ns, receipt)
        }
        Err(refused) => encode_refused(env, refused),
    })
}

fn encode_reservation<'a>(
    env: Env<'a>,
    decision: &Decision,
    wait_ns: u64,
    receipt: Option<ResourceArc<ReceiptResource>>,
) -> Term<'a> {
    (decision_term(env, decision), wait_ns, receipt).encode(env)
}

/// The receipt of a term, if it is one of this limiter.
fn own<'a>(limiter: &LimiterResource, term: Term<'a>) -> Option<&'a ReceiptResource> {
    let receipt: &ReceiptResource = term.decode().ok()?;
    ptr::eq::<LimiterResource>(&*receipt.limiter, limiter).then_some(receipt)
}

/// Gives `amount` tokens back, or all: `applied`, `forfeited`, `already_done`, `bad_receipt`, or `{error, ...}`, which leaves the
/// receipt as it was.
#[rustler::nif]
fn receipt_refund<'a>(
    env: Env<'a>,
    limiter: &'a LimiterResource,
    receipt: Term<'a>,
    amount: Option<u64>,
) -> Term<'a> {
    let Some(own) = own(limiter, receipt) else { return atoms::bad_receipt().to_term(env) };
    let amount = amount.unwrap_or(own.receipt.cost);
    if amount > own.receipt.cost {
        let refusal = ("amount", amount, "0 to the cost of the receipt");
        return (atoms::error(), refusal).encode(env);
    }
    let Some(receipt) = own.take() else { return atoms::already_done().to_term(env) };
    let refunded = limiter.core.refund(receipt, amount, own.limit(), || limiter.clock.now_ns());
    encode_adjusted(env, refunded.map_err(Refused::from))
}

/// `applied`, `forfeited`, `too_late`, `already_done` or `bad_receipt`.
#[rustler::nif]
fn receipt_cancel<'a>(limiter: &'a LimiterResource, receipt: Term<'a>) -> Atom {
    let Some(own) = own(limiter, receipt) else { return atoms::bad_receipt() };
    let Some(receipt) = own.take() else { return atoms::already_done() };
    adjusted_atom(limiter.core.cancel(receipt, || limiter.clock.now_ns()))
}

/// `applied`, `saturated`, `forfeited`, `already_done` or `bad_receipt`.
#[rustler::nif]
fn receipt_settle<'a>(limiter: &'a LimiterResource, receipt: Term<'a>, actual: u64) -> Atom {
    let Some(own) = own(limiter, receipt) else { return atoms::bad_receipt() };
    let Some(receipt) = own.take() else { return atoms::already_done() };
    adjusted_atom(limiter.core.settle(receipt, actual, own.limit(), || limiter.clock.now_ns()))
}
