//! Debits that leave a receipt, now or in the future.

use super::decision::{Decision, Verdict};
use super::entry::MAX_NOW_NS;
use super::group::By;
use super::key::Key;
use super::limit::Limit;
use super::measure::Measure;
use super::overflow::Seat;
use super::places::Line;
use super::receipt::Receipt;
use super::table::{Debit, Host, Table};

/// What a reservation says.
#[derive(Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Whether the cost was debited. A refusal tells when a check would be admitted, not when the reservation would be.
    pub decision: Decision,
    /// Nanoseconds until the grant: 0 if the cost may be used at once. Use it no earlier.
    pub wait_ns: u64,
    /// The means to give the cost back; none for a cost of zero, and none for a key that has no place and shares the
    /// overflow bucket.
    pub receipt: Option<Receipt>,
    pub(super) seat: Seat,
}

impl<S: AsRef<[Line]>> Table<S> {
    /// Debits `cost` if it is granted within `max_wait_ns`, at once with 0. A named limit may allow less of a wait.
    pub fn reserve(
        &self,
        key: Key,
        by: By<'_>,
        cost: u64,
        max_wait_ns: u64,
        now: u64,
        mut nonce: impl FnMut() -> u64,
    ) -> Reservation {
        self.reserve_by(key, by, cost, max_wait_ns, now, &mut nonce)
    }

    pub(super) fn reserve_by(
        &self,
        key: Key,
        by: By<'_>,
        cost: u64,
        max_wait_ns: u64,
        now: u64,
        host: &mut impl Host,
    ) -> Reservation {
        let longest = by.limit().map_or(u64::MAX, Limit::max_wait_ns);
        let reservation = self.take(key, by.resolve(), cost, max_wait_ns.min(longest), now, host);
        match reservation.seat {
            Seat::Own => reservation,
            // What the overflow bucket owes is nobody's alone.
            Seat::Overflow => Reservation { receipt: None, ..reservation },
        }
    }

    /// Debits `cost` if it is granted within `max_wait_ns`. The receipt of a key that has no place is of the overflow bucket.
    pub(super) fn take(
        &self,
        key: Key,
        measure: impl Measure,
        cost: u64,
        max_wait_ns: u64,
        now: u64,
        host: &mut impl Host,
    ) -> Reservation {
        let (mut measure, now) = (measure, now.min(MAX_NOW_NS));
        let debit = self.debit(key, &mut measure, cost, max_wait_ns, now, false, host);
        let rule = measure.rule();
        let ticks = rule.ticks();
        match debit {
            Debit::Done { debt, tat, seat } => Reservation {
                decision: Decision::allowed(rule, debt),
                seat,
                // A cost of zero waits for nobody.
                wait_ns: if cost == 0 { 0 } else { ticks.wait(debt.into(), 0) },
                receipt: (cost > 0).then(|| Receipt {
                    key: seat.key_of(key),
                    mark: measure.mark(),
                    n: ticks.n.get() as u8,
                    tat,
                    w: ticks.w.get(),
                    full: ticks.full as u64,
                    cost,
                }),
            },
            Debit::Refused(debt) => Reservation::refused(Decision::refused(rule, debt, cost)),
            Debit::Full(wait_ns) => Reservation::refused(Decision::table_full(rule, wait_ns)),
        }
    }
}

impl Reservation {
    fn refused(decision: Decision) -> Self {
        debug_assert!(decision.verdict != Verdict::Allowed);
        Self { decision, wait_ns: 0, receipt: None, seat: Seat::Own }
    }
}
