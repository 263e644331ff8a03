//! Several keys in one call, all or nothing: user, organisation and everybody.
//!
//! First every key is looked at. If one would refuse, nothing is written, and the answer names each that would. Then they are
//! debited one after the other. If one of them has been used up meanwhile, the debits before it are given
//! back. So no history admits more than each key alone would; while a group is under way, another call may
//! be refused a token that the group then gives back, which is counted.

use super::decision::{Decision, Verdict};
use super::entry::Entry;
use super::entry::MAX_NOW_NS;
use super::key::Key;
use super::limit::{Limit, Terms};
use super::measure::Measure;
use super::places::Line;
use super::receipt::{Adjusted, Receipt};
use super::rule::{KeyedRule, Rule};
use super::table::Table;

/// Most keys of a group.
pub const MAX_GROUP: usize = 32;

/// By what a key is measured.
#[derive(Debug, Clone, Copy)]
pub enum By<'a> {
    /// A rule that comes with the call.
    Rule(&'a KeyedRule),
    /// A limit with a name.
    Limit(&'a Limit),
}

/// One member of a group.
#[derive(Debug, Clone, Copy)]
pub struct Charge<'a> {
    /// Whom to debit. Equal keys are summed, and measured as the first of them.
    pub key: Key,
    /// By what.
    pub by: By<'a>,
    /// How much.
    pub cost: u64,
}

/// What a group says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupDecision {
    /// Whether all costs were debited; else the gravest refusal of a member: never, no place, limited.
    pub verdict: Verdict,
    /// The first instant at which the same group is admitted, without other traffic, is this far away.
    pub retry_after_ns: u64,
    /// Whether debits had to be given back, because a member was used up in the middle of the call.
    pub rolled_back: bool,
}

/// [`By`], with what a limit says at the time of the call.
#[derive(Clone, Copy)]
pub(super) enum Resolved<'a> {
    Rule(&'a KeyedRule),
    Limit(Terms<'a>),
}

impl<'a> By<'a> {
    #[inline]
    pub(super) fn resolve(self) -> Resolved<'a> {
        match self {
            Self::Rule(rule) => Resolved::Rule(rule),
            Self::Limit(limit) => Resolved::Limit(limit.terms()),
        }
    }

    /// The limit, if it is one.
    pub(super) fn limit(self) -> Option<&'a Limit> {
        match self {
            Self::Rule(_) => None,
            Self::Limit(limit) => Some(limit),
        }
    }
}

impl Measure for Resolved<'_> {
    #[inline]
    fn rule(&self) -> &Rule {
        match self {
            Self::Rule(rule) => rule.effective(),
            Self::Limit(terms) => terms.rule(),
        }
    }

    #[inline]
    fn tat(&self, entry: Entry, now: u64) -> u64 {
        match self {
            Self::Rule(rule) => rule.tat(entry, now),
            Self::Limit(terms) => terms.tat(entry, now),
        }
    }

    #[inline]
    fn generation(&self) -> u8 {
        match self {
            Self::Rule(_) => 0,
            Self::Limit(terms) => terms.generation(),
        }
    }
}

impl<S: AsRef<[Line]>> Table<S> {
    /// Debits all of `charges`, at most [`MAX_GROUP`], or nothing. `decisions`, as many, receive what each key says by
    /// itself: those that are not allowed are to blame for a refusal.
    pub(super) fn check_many(
        &self,
        charges: &[Charge<'_>],
        decisions: &mut [Decision],
        now: u64,
        mut nonce: impl FnMut() -> u64,
        mut on_rollback: impl FnMut(Adjusted),
    ) -> GroupDecision {
        let now = now.min(MAX_NOW_NS);
        for (index, charge) in charges.iter().enumerate() {
            decisions[index] = self.look(charge.by.resolve(), charge.key, summed(charges, index), now);
        }
        if let Some(refused) = gravest(decisions) {
            return refused;
        }
        let mut receipts: [Option<Receipt>; MAX_GROUP] = [const { None }; MAX_GROUP];
        for (index, charge) in charges.iter().enumerate() {
            if first_of(charges, index) != index {
                decisions[index] = decisions[first_of(charges, index)];
                continue;
            }
            let measure = charge.by.resolve();
            let reserved = self.reserve(charge.key, &measure, summed(charges, index), 0, now, &mut nonce);
            decisions[index] = reserved.decision;
            if !reserved.decision.is_allowed() {
                let taken = charges.iter().zip(receipts).take(index).rev();
                for (charge, receipt) in taken.filter_map(|(charge, receipt)| Some((charge, receipt?))) {
                    on_rollback(self.give_back(&receipt, receipt.cost, charge.by.limit(), now));
                }
                return GroupDecision {
                    verdict: reserved.decision.verdict,
                    retry_after_ns: reserved.decision.retry_after_ns,
                    rolled_back: true,
                };
            }
            receipts[index] = reserved.receipt;
        }
        GroupDecision { verdict: Verdict::Allowed, retry_after_ns: 0, rolled_back: false }
    }

    /// What a check would say, without a debit and without a look for a place.
    fn look(&self, measure: Resolved<'_>, key: Key, cost: u64, now: u64) -> Decision {
        let debt = self.debt_by(key, &measure, now);
        match measure.rule().ticks().after(debt, cost) {
            Some(after) => Decision::allowed(measure.rule(), after),
            None => Decision::refused(measure.rule(), debt, cost),
        }
    }
}

/// Index of the first member with the same key.
fn first_of(charges: &[Charge<'_>], index: usize) -> usize {
    charges.iter().position(|charge| charge.key == charges[index].key).unwrap_or(index)
}

/// What all members with the same key cost together.
fn summed(charges: &[Charge<'_>], index: usize) -> u64 {
    let same = charges.iter().filter(|charge| charge.key == charges[index].key);
    same.fold(0, |sum: u64, charge| sum.saturating_add(charge.cost))
}

/// The group's refusal, if a member refuses.
fn gravest(decisions: &[Decision]) -> Option<GroupDecision> {
    let rank = |verdict| match verdict {
        Verdict::Allowed => 0,
        Verdict::Limited => 1,
        Verdict::TableFull => 2,
        Verdict::Never => 3,
    };
    let refused = decisions.iter().filter(|decision| !decision.is_allowed());
    let worst = refused.clone().max_by_key(|decision| rank(decision.verdict))?;
    let retry_after_ns = refused.map(|decision| decision.retry_after_ns).max()?;
    Some(GroupDecision { verdict: worst.verdict, retry_after_ns, rolled_back: false })
}
