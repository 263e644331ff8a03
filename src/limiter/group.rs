//! Several keys in one call, all or nothing: user, organisation and everybody.
//!
//! First every key is looked at. If one would refuse, nothing is written, and the answer names each that would. Then they are
//! debited one after the other. If one of them has been used up meanwhile, or finds no place, the debits before it are given
//! back. So no history admits more than each key alone would; while a group is under way, another call may
//! be refused a token that the group then gives back, which is counted.
//!
//! All groups debit in the order of their keys. So of two groups that meet, the one that gets the first key they share gets
//! the others before the other group, and they do not refuse each other.

use super::decision::{Decision, Verdict};
use super::entry::{Entry, MAX_NOW_NS};
use super::key::Key;
use super::limit::{Limit, Terms};
use super::measure::Measure;
use super::overflow::Seat;
use super::places::Line;
use super::receipt::{Adjusted, Receipt};
use super::rule::{KeyedRule, Rule};
use super::table::{Host, Table};
use crate::error::ConfigError;

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
    /// Whether debits had to be given back, because a member was used up, or found no place, in the middle of the call.
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
    fn tat(&self, entry: Entry) -> Option<u64> {
        match self {
            Self::Rule(rule) => rule.tat(entry),
            Self::Limit(terms) => terms.tat(entry),
        }
    }

    #[inline]
    fn mark(&self) -> u8 {
        match self {
            Self::Rule(_) => 0,
            Self::Limit(terms) => terms.mark(),
        }
    }

    fn refreshed(self) -> Self {
        match self {
            Self::Rule(_) => self,
            Self::Limit(terms) => Self::Limit(terms.refreshed()),
        }
    }
}

/// All charges of one key: the indexes, of which the first says by what the key is measured, and the sum of the costs.
struct Member<'a> {
    charge: Charge<'a>,
    indexes: &'a [u8],
}

impl<S: AsRef<[Line]>> Table<S> {
    /// Debits all of `charges`, at most [`MAX_GROUP`], or nothing. `decisions`, as many, receive what each key says by
    /// itself: those that are not allowed are to blame for a refusal.
    pub fn check_many(
        &self,
        charges: &[Charge<'_>],
        decisions: &mut [Decision],
        now: u64,
        nonce: impl FnMut() -> u64,
    ) -> Result<GroupDecision, ConfigError> {
        self.check_many_by(charges, decisions, now, nonce)
    }

    pub(super) fn check_many_by(
        &self,
        charges: &[Charge<'_>],
        decisions: &mut [Decision],
        now: u64,
        mut host: impl Host,
    ) -> Result<GroupDecision, ConfigError> {
        if charges.len() > MAX_GROUP || decisions.len() != charges.len() {
            let allowed = "0 to 32, with as many decisions";
            return Err(ConfigError { argument: "charges", value: charges.len() as u64, allowed });
        }
        let now = now.min(MAX_NOW_NS);
        let mut order: [u8; MAX_GROUP] = std::array::from_fn(|index| index as u8);
        let order = &mut order[..charges.len()];
        if !cfg!(escope_sabotage = "limiter_group_order") {
            order.sort_unstable_by_key(|index| (charges[usize::from(*index)].key.to_raw(), *index));
        }
        let key_at = |index: &u8| charges[usize::from(*index)].key;
        let members =
            || order.chunk_by(|a, b| key_at(a) == key_at(b)).map(|indexes| Member::of(charges, indexes));

        for member in members() {
            member.tell(decisions, self.look(&member, now));
        }
        if let Some(refused) = gravest(decisions) {
            return Ok(refused);
        }
        let mut taken: [Option<(Receipt, Seat)>; MAX_GROUP] = [const { None }; MAX_GROUP];
        for (number, member) in members().enumerate() {
            let Charge { key, by, cost } = member.charge;
            let reserved = self.take(key, by.resolve(), cost, 0, now, &mut host);
            member.tell(decisions, reserved.decision);
            if !reserved.decision.is_allowed() {
                if !cfg!(escope_sabotage = "limiter_rollback") {
                    self.roll_back(members().zip(&taken[..number]), now, &mut host);
                }
                return Ok(GroupDecision {
                    verdict: reserved.decision.verdict,
                    retry_after_ns: reserved.decision.retry_after_ns,
                    rolled_back: taken[..number].iter().any(Option::is_some),
                });
            }
            taken[number] = reserved.receipt.map(|receipt| (receipt, reserved.seat));
        }
        Ok(GroupDecision { verdict: Verdict::Allowed, retry_after_ns: 0, rolled_back: false })
    }

    /// Gives back what a group has debited.
    fn roll_back<'a>(
        &self,
        taken: impl Iterator<Item = (Member<'a>, &'a Option<(Receipt, Seat)>)>,
        now: u64,
        host: &mut impl Host,
    ) {
        for (member, taken) in taken {
            let Some((receipt, seat)) = taken else { continue };
            let limit = member.charge.by.limit();
            if self.give_back(receipt, *seat, receipt.cost, limit, now) == Adjusted::Forfeited {
                host.forfeited();
            }
        }
    }

    /// What a check would say, without a debit and without a look for a place.
    fn look(&self, member: &Member<'_>, now: u64) -> Decision {
        let (mut measure, cost) = (member.charge.by.resolve(), member.charge.cost);
        let debt = self.debt_by(member.charge.key, &mut measure, now);
        match measure.rule().ticks().after(debt, cost) {
            Some(after) => Decision::allowed(measure.rule(), after),
            None => Decision::refused(measure.rule(), debt, cost),
        }
    }
}

impl<'a> Member<'a> {
    fn of(charges: &[Charge<'a>], indexes: &'a [u8]) -> Self {
        let costs = indexes.iter().map(|index| charges[usize::from(*index)].cost);
        let cost = costs.fold(0, u64::saturating_add);
        Self { charge: Charge { cost, ..charges[usize::from(indexes[0])] }, indexes }
    }

    fn tell(&self, decisions: &mut [Decision], decision: Decision) {
        self.indexes.iter().for_each(|index| decisions[usize::from(*index)] = decision);
    }
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
