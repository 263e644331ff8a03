//! The rate limiter as a child would keep it: a level of tokens that rises with time, in exact integers.
//!
//! The product keeps one instant in ticks of a reduced rate, marks it with a generation and converts it when it is met
//! again. This model keeps the level itself, unreduced, in units of one token divided by the period, and the time at
//! which it was last brought up to date; when a limit changes it visits every bucket at once; and whether something was
//! written to a key since a reservation it knows by counting the writes. So the two share no formula.
//!
//! [`Model`] is one bucket, [`World`] a whole limiter: keys, named limits, receipts, groups and the policies of a full table.
#![allow(dead_code)] // each test file uses its own part

use elixirscope::limiter::{Adjusted, Decision, FullPolicy, Strategy, Verdict};
use std::collections::{BTreeMap, HashMap};

/// A rule, unreduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    pub tokens: u64,
    pub period_ns: u64,
    pub burst: u64,
}

impl Terms {
    fn full(self) -> i128 {
        i128::from(self.burst) * i128::from(self.period_ns)
    }

    fn price(self, cost: u64) -> i128 {
        i128::from(cost) * i128::from(self.period_ns)
    }

    fn rate(self) -> i128 {
        i128::from(self.tokens)
    }

    /// The least that levels under this rule differ by.
    fn grain(self) -> i128 {
        let (mut a, mut b) = (self.tokens, self.period_ns);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        i128::from(a)
    }
}

fn round_up(value: i128, by: i128) -> i128 {
    -(-value).div_euclid(by)
}

fn as_ns(value: i128) -> u64 {
    u64::try_from(value).unwrap()
}

/// A bucket. It starts full. The level is negative while tokens are promised that are not there yet.
#[derive(Debug, Clone)]
pub struct Model {
    terms: Terms,
    level: i128,
    at: u64,
    /// Number of the latest write that was not taken back, and how many there were in all.
    version: u64,
    writes: u64,
}

/// What is remembered of a debit.
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    pub cost: u64,
    pub grant_at: u64,
    before: u64,
    after: u64,
}

impl Model {
    pub fn new(terms: Terms) -> Self {
        Self { terms, level: terms.full(), at: 0, version: 0, writes: 0 }
    }

    /// Brings the level up to `now`.
    fn refill(&mut self, now: u64) {
        let gained = i128::from(now - self.at) * self.terms.rate();
        self.level = (self.level + gained).min(self.terms.full());
        self.at = now;
    }

    fn write(&mut self, level: i128) {
        self.level = level;
        self.writes += 1;
        self.version = self.writes;
    }

    pub fn check(&mut self, cost: u64, now: u64) -> Decision {
        self.reserve(cost, 0, now).0
    }

    /// The decision, and what is remembered of an admitted cost.
    pub fn reserve(&mut self, cost: u64, max_wait: u64, now: u64) -> (Decision, Option<Ticket>) {
        self.refill(now);
        let price = self.terms.price(cost);
        if cost == 0 {
            return (self.decision(Verdict::Allowed, 0), None);
        }
        if cost > self.terms.burst {
            return (self.decision(Verdict::Never, u64::MAX), None);
        }
        let wait = as_ns(round_up((price - self.level).max(0), self.terms.rate()));
        if wait > max_wait {
            return (self.decision(Verdict::Limited, wait), None);
        }
        let before = self.version;
        self.write(self.level - price);
        let ticket = Ticket { cost, grant_at: now + wait, before, after: self.version };
        (self.decision(Verdict::Allowed, 0), Some(ticket))
    }

    pub fn peek(&mut self, now: u64) -> Decision {
        let would = self.clone().check(1, now);
        self.refill(now);
        self.decision(would.verdict, would.retry_after_ns)
    }

    pub fn reset(&mut self) {
        self.write(self.terms.full());
    }

    pub fn refund(&mut self, amount: u64, now: u64) -> Adjusted {
        self.refill(now);
        if self.level < 0 {
            return Adjusted::Forfeited;
        }
        if amount > 0 && self.level < self.terms.full() {
            self.write((self.level + self.terms.price(amount)).min(self.terms.full()));
        }
        Adjusted::Applied
    }

    pub fn cancel(&mut self, ticket: Ticket, now: u64) -> Adjusted {
        self.refill(now);
        if now >= ticket.grant_at {
            return Adjusted::TooLate;
        }
        if self.version != ticket.after {
            return Adjusted::Forfeited;
        }
        self.level = (self.level + self.terms.price(ticket.cost)).min(self.terms.full());
        self.version = ticket.before;
        Adjusted::Applied
    }

    pub fn settle(&mut self, estimate: u64, actual: u64, now: u64) -> Adjusted {
        if actual <= estimate {
            return if actual == estimate { Adjusted::Applied } else { self.refund(estimate - actual, now) };
        }
        self.refill(now);
        let wanted = self.level - self.terms.price(actual - estimate);
        let least = -self.terms.full();
        if wanted >= least {
            self.write(wanted);
            return Adjusted::Applied;
        }
        if self.level > least {
            self.write(least);
        }
        Adjusted::Saturated
    }

    /// The bucket as a rule sees it that was brought by a call: what is missing takes as long as before.
    pub fn seen_by(&self, terms: Terms, now: u64) -> Self {
        let mut seen = self.clone();
        seen.refill(now);
        if seen.terms != terms {
            let missing = seen.terms.full() - seen.level;
            let grains = round_up(missing * terms.rate(), seen.terms.rate() * terms.grain());
            seen.level = terms.full() - grains * terms.grain();
            seen.terms = terms;
        }
        seen
    }

    /// Carries the balance over to another rule of the same limit.
    pub fn change(&mut self, terms: Terms, strategy: Strategy, now: u64) {
        self.refill(now);
        let (old, grain, full) = (self.terms, terms.grain(), terms.full());
        let carried =
            (self.level * i128::from(terms.period_ns)).div_euclid(i128::from(old.period_ns) * grain) * grain;
        let level = match strategy {
            _ if self.level == old.full() => full,
            Strategy::AsIs => carried,
            Strategy::Proportional if old.burst == 0 => 0,
            Strategy::Proportional => {
                let share = carried / grain * i128::from(terms.burst);
                share.div_euclid(i128::from(old.burst)) * grain
            }
            Strategy::Additive => carried.min(full) + terms.price(terms.burst.saturating_sub(old.burst)),
            Strategy::Reset => full,
        };
        self.terms = terms;
        self.level = level.min(full);
    }

    /// Tokens that may be used now.
    pub fn level_in_tokens(&mut self, now: u64) -> i128 {
        self.refill(now);
        self.level.div_euclid(i128::from(self.terms.period_ns))
    }

    /// When it is full again, if nobody comes.
    fn full_at(&self) -> u64 {
        let missing = round_up(self.terms.full() - self.level, self.terms.rate());
        u64::try_from(i128::from(self.at) + missing).unwrap_or(u64::MAX)
    }

    fn decision(&self, verdict: Verdict, retry_after_ns: u64) -> Decision {
        let missing = self.terms.full() - self.level;
        Decision {
            verdict,
            remaining: u64::try_from(self.level.max(0) / i128::from(self.terms.period_ns)).unwrap(),
            limit: self.terms.burst,
            retry_after_ns,
            reset_after_ns: as_ns(round_up(missing, self.terms.rate())),
        }
    }
}

/// A bucket for each key, and no bound on their number.
#[derive(Debug)]
pub struct KeyedModel {
    terms: Terms,
    buckets: HashMap<u64, Model>,
}

impl KeyedModel {
    pub fn new(terms: Terms) -> Self {
        Self { terms, buckets: HashMap::new() }
    }

    pub fn of(&mut self, key: u64) -> &mut Model {
        self.buckets.entry(key).or_insert_with(|| Model::new(self.terms))
    }
}

/// By what a call measures a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Rule(Terms),
    /// The limit with this index.
    Limit(usize),
}

/// A limit with a name.
#[derive(Debug, Clone)]
pub struct LimitModel {
    pub terms: Terms,
    pub max_wait_ns: u64,
    /// When a bucket has paid back, at the latest, what rules before this one have left.
    inherited_until: u64,
    /// Every rule that it had before.
    past: Vec<Past>,
}

/// The most that a rule may have left in a bucket.
#[derive(Debug, Clone)]
struct Past {
    /// When that rule itself would have paid it back.
    own_until: u64,
    /// The bucket, which every later change carries over as it does the others.
    worst: Model,
}

impl LimitModel {
    fn new(terms: Terms, max_wait_ns: u64) -> Self {
        Self { terms, max_wait_ns, inherited_until: 0, past: vec![] }
    }

    /// The limit with another rule. By settling, a bucket may be a burst below empty, and tokens may be promised.
    fn changed(&self, terms: Terms, strategy: Strategy, now: u64) -> Self {
        let old = self.terms;
        let own = now + as_ns(round_up(2 * old.full(), old.rate())) + self.max_wait_ns;
        let own_until = own.max(self.inherited_until);
        let level = old.full() - i128::from(own_until - now) * old.rate();
        let mut past = self.past.clone();
        past.push(Past { own_until, worst: Model { level, at: now, ..Model::new(old) } });
        past.iter_mut().for_each(|past| past.worst.change(terms, strategy, now));
        let inherited_until = past[past.len() - 1].worst.full_at();
        Self { terms, max_wait_ns: self.max_wait_ns, inherited_until, past }
    }
}

/// What a group says.
#[derive(Debug, PartialEq, Eq)]
pub struct GroupAnswer {
    pub verdict: Verdict,
    pub retry_after_ns: u64,
    pub blocked: Vec<usize>,
}

/// A whole limiter. Keys are used by one limit, or by rules that come with the call.
#[derive(Debug)]
pub struct World {
    /// Places of keys that owe something: any key may take any. None: without a bound.
    pub places: Option<usize>,
    pub policy: FullPolicy,
    pub evicted: u64,
    pub overflowed: u64,
    limits: Vec<LimitModel>,
    buckets: BTreeMap<&'static str, (By, Model)>,
    overflow: Option<Model>,
    tickets: Vec<Option<(&'static str, Ticket)>>,
}

impl World {
    pub fn new(places: Option<usize>, policy: FullPolicy) -> Self {
        Self {
            places,
            policy,
            evicted: 0,
            overflowed: 0,
            limits: vec![],
            buckets: BTreeMap::new(),
            overflow: None,
            tickets: vec![],
        }
    }

    pub fn add_limit(&mut self, terms: Terms, max_wait_ns: u64) {
        self.limits.push(LimitModel::new(terms, max_wait_ns));
    }

    fn terms(&self, by: By) -> Terms {
        match by {
            By::Rule(terms) => terms,
            By::Limit(index) => self.limits[index].terms,
        }
    }

    fn seen(&self, key: &'static str, by: By, now: u64) -> Model {
        let terms = self.terms(by);
        match self.buckets.get(key) {
            None => Model { at: now, ..Model::new(terms) },
            Some((_, bucket)) => bucket.seen_by(terms, now),
        }
    }

    fn missing_ns(&self, key: &'static str, now: u64) -> u64 {
        self.buckets.get(key).map_or(0, |(_, bucket)| bucket.clone().peek(now).reset_after_ns)
    }

    /// Whether the next eviction could be of one key or of another.
    pub fn eviction_is_open(&self, now: u64) -> bool {
        let mut missing: Vec<u64> = self.buckets.keys().map(|key| self.missing_ns(key, now)).collect();
        missing.retain(|missing| *missing > 0);
        missing.sort_unstable();
        let is_full = self.places.is_some_and(|places| missing.len() >= places);
        self.policy == FullPolicy::EvictMostFull && is_full && missing[0] == missing[1]
    }

    pub fn check(&mut self, key: &'static str, by: By, cost: u64, now: u64) -> Decision {
        self.debit(key, by, cost, 0, now).0
    }

    /// The decision, the wait, and the number of the receipt.
    pub fn reserve(
        &mut self,
        key: &'static str,
        by: By,
        cost: u64,
        max_wait: u64,
        now: u64,
    ) -> (Decision, u64, Option<usize>) {
        let longest = match by {
            By::Rule(_) => u64::MAX,
            By::Limit(index) => self.limits[index].max_wait_ns,
        };
        let (decision, ticket, has_place) = self.debit(key, by, cost, max_wait.min(longest), now);
        let wait = ticket.map_or(0, |ticket| ticket.grant_at - now);
        let ticket = ticket.filter(|_| has_place);
        let number = ticket.map(|_| self.tickets.len());
        self.tickets.extend(ticket.map(|ticket| Some((key, ticket))));
        (decision, wait, number)
    }

    fn debit(
        &mut self,
        key: &'static str,
        by: By,
        cost: u64,
        max_wait: u64,
        now: u64,
    ) -> (Decision, Option<Ticket>, bool) {
        let mut bucket = self.seen(key, by, now);
        let answer = bucket.reserve(cost, max_wait, now);
        if answer.1.is_none() {
            return (answer.0, None, true);
        }
        if self.missing_ns(key, now) == 0
            && let Some(places) = self.places
        {
            let names: Vec<_> = self.buckets.keys().copied().collect();
            let mut live: Vec<(u64, &'static str)> =
                names.into_iter().map(|name| (self.missing_ns(name, now), name)).collect();
            live.retain(|(missing, _)| *missing > 0);
            live.sort_unstable();
            if live.len() >= places {
                match self.policy {
                    FullPolicy::DenyNew => {
                        let full = Decision {
                            verdict: Verdict::TableFull,
                            remaining: 0,
                            limit: self.terms(by).burst,
                            retry_after_ns: live[0].0,
                            reset_after_ns: live[0].0,
                        };
                        return (full, None, true);
                    }
                    FullPolicy::EvictMostFull => {
                        self.evicted += 1;
                        self.buckets.remove(live[0].1);
                    }
                    FullPolicy::OverflowKey => {
                        let terms = self.terms(by);
                        let shared = match &self.overflow {
                            None => Model { at: now, ..Model::new(terms) },
                            Some(bucket) => bucket.seen_by(terms, now),
                        };
                        let mut shared = shared;
                        let (decision, ticket) = shared.reserve(cost, max_wait, now);
                        if ticket.is_some() {
                            self.overflow = Some(shared);
                            self.overflowed += 1;
                        }
                        return (decision, ticket, false);
                    }
                }
            }
        }
        self.buckets.insert(key, (by, bucket));
        (answer.0, answer.1, true)
    }

    pub fn peek(&self, key: &'static str, by: By, now: u64) -> Decision {
        self.seen(key, by, now).peek(now)
    }

    pub fn reset(&mut self, key: &'static str) {
        self.buckets.remove(key);
    }

    /// Receipts that were given out so far.
    pub fn receipts(&self) -> usize {
        self.tickets.len()
    }

    /// What a receipt costs, if it was not used.
    pub fn cost_of(&self, receipt: usize) -> Option<u64> {
        self.tickets[receipt].map(|(_, ticket)| ticket.cost)
    }

    /// Uses the receipt up; none if that was done before.
    fn use_up(
        &mut self,
        receipt: usize,
        with: impl FnOnce(&mut Model, Ticket) -> Adjusted,
    ) -> Option<Adjusted> {
        let (key, ticket) = self.tickets[receipt].take()?;
        Some(with(&mut self.buckets.get_mut(key).expect("receipts are of keys that live").1, ticket))
    }

    pub fn cancel(&mut self, receipt: usize, now: u64) -> Option<Adjusted> {
        self.use_up(receipt, |bucket, ticket| bucket.cancel(ticket, now))
    }

    pub fn refund(&mut self, receipt: usize, amount: u64, now: u64) -> Option<Adjusted> {
        self.use_up(receipt, |bucket, _| bucket.refund(amount, now))
    }

    pub fn settle(&mut self, receipt: usize, actual: u64, now: u64) -> Option<Adjusted> {
        self.use_up(receipt, |bucket, ticket| bucket.settle(ticket.cost, actual, now))
    }

    /// Each as if it came alone; then all or nothing.
    pub fn check_many(&mut self, charges: &[(&'static str, By, u64)], now: u64) -> GroupAnswer {
        let mut sums: Vec<(&'static str, By, u64)> = vec![];
        for (key, by, cost) in charges {
            match sums.iter_mut().find(|(name, ..)| name == key) {
                Some((_, _, sum)) => *sum = sum.saturating_add(*cost),
                None => sums.push((key, *by, *cost)),
            }
        }
        let alone: HashMap<_, _> =
            sums.iter().map(|(key, by, sum)| (*key, self.seen(key, *by, now).check(*sum, now))).collect();
        let blocked: Vec<usize> =
            (0..charges.len()).filter(|index| !alone[charges[*index].0].is_allowed()).collect();
        let mut answer = GroupAnswer { verdict: Verdict::Allowed, retry_after_ns: 0, blocked };
        for decision in alone.values().filter(|decision| !decision.is_allowed()) {
            if answer.verdict != Verdict::Never {
                answer.verdict = decision.verdict;
            }
            answer.retry_after_ns = answer.retry_after_ns.max(decision.retry_after_ns);
        }
        if answer.blocked.is_empty() {
            for (key, by, sum) in sums {
                assert!(self.check(key, by, sum, now).is_allowed(), "a group needs places for all");
            }
        }
        answer
    }

    /// Whether a debt that this change might leave reaches beyond the time that a table can count.
    pub fn change_outgrows(&self, index: usize, terms: Terms, strategy: Strategy, now: u64) -> bool {
        self.limits[index].changed(terms, strategy, now).inherited_until > 1 << 57
    }

    /// Changes the limit in every bucket at once; or tells after how many nanoseconds that is possible.
    pub fn change(&mut self, index: usize, terms: Terms, strategy: Strategy, now: u64) -> Result<(), u64> {
        let limit = &mut self.limits[index];
        // Four rules are remembered. What the oldest has left must be out of every bucket.
        if let Some(oldest) = limit.past.len().checked_sub(3).map(|at| &limit.past[at]) {
            let free = oldest.own_until.max(oldest.worst.full_at());
            if now < free {
                return Err(free - now);
            }
        }
        *limit = limit.changed(terms, strategy, now);
        for (by, bucket) in self.buckets.values_mut() {
            if *by == By::Limit(index) {
                bucket.change(terms, strategy, now);
            }
        }
        Ok(())
    }
}

/// Cost admitted at a time, in the order in which it was debited.
#[derive(Debug, Default)]
pub struct History(Vec<(u64, u64)>);

impl History {
    pub fn add(&mut self, now: u64, cost: u64) {
        self.0.push((now, cost));
    }

    /// Panics unless for all `s <= t` the cost admitted in `[s, t]` is at most `burst + floor(tokens * (t - s) /
    /// period)`. Returns whether the bound is reached somewhere.
    pub fn assert_bounded(&self, terms: Terms) -> bool {
        self.assert_bounded_with(terms, 0)
    }

    /// As [`History::assert_bounded`], with `extra` units of a token divided by the period on top.
    pub fn assert_bounded_with(&self, terms: Terms, extra: u64) -> bool {
        let mut by_time = self.0.clone();
        by_time.sort_unstable();
        let mut reached = false;
        for (first, &(s, _)) in by_time.iter().enumerate() {
            let mut sum = 0;
            for (index, &(t, cost)) in by_time.iter().enumerate().skip(first) {
                sum += u128::from(cost);
                let units = u128::from(terms.tokens) * u128::from(t - s) + u128::from(extra);
                let bound = u128::from(terms.burst) + units / u128::from(terms.period_ns);
                assert!(sum <= bound, "{sum} admitted in [{s}, {t}], the bound is {bound}: {terms:?}");
                let last_at_t = by_time.get(index + 1).is_none_or(|next| next.0 != t);
                reached |= last_at_t && sum == bound;
            }
        }
        reached
    }
}
