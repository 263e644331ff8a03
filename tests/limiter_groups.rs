//! Groups, all or nothing, and batches (L11 to L14) against the integer model.
#![cfg(not(escope_model))]

#[path = "support/limiter_oracle.rs"]
mod oracle;
#[path = "support/limiter_setup.rs"]
mod setup;

use elixirscope::limiter::{
    By, Charge, Decision, FullPolicy, Key, KeyedRule, Limiter, LimiterConfig, MAX_GROUP, Verdict,
};
use oracle::{Terms, World};
use proptest::prelude::*;
use setup::{SECOND, config, keyed, later, limiter, nonce, rule, table, terms};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const NAMES: [&str; 4] = ["ann", "bob", "acme", "all"];

/// A call: how far the clock goes, and of each member the key and the cost.
type Call = (f64, Vec<(usize, u64)>);

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let advance = prop_oneof![2 => Just(0.0), 2 => 0.0..3.0];
    let members = prop::collection::vec((0..NAMES.len(), 0..4_u64), 0..7);
    prop::collection::vec((advance, members), 1..30)
}

fn blank(rule: &KeyedRule) -> Decision {
    limiter(1).peek(Key::from_raw(0), rule, || 0)
}

fn blocked(decisions: &[Decision]) -> Vec<usize> {
    (0..decisions.len()).filter(|index| !decisions[*index].is_allowed()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Each key has a rule of its own.
    #[test]
    fn l11_a_group_answers_like_the_model_and_a_refusal_writes_nothing(
        rules in prop::array::uniform4(terms()), calls in calls(),
    ) {
        let (table, keyed) = (table(64), rules.map(keyed));
        let (mut world, mut nonce, mut now) = (World::new(None, FullPolicy::DenyNew), nonce(), 1000);
        for (advance, members) in calls {
            now = later(now, rules[now as usize % 4], advance);
            let charges: Vec<Charge<'_>> = members
                .iter()
                .map(|(at, cost)| Charge { key: Key::from_raw(*at as u64), by: By::Rule(&keyed[*at]), cost: *cost })
                .collect();
            let asked: Vec<_> =
                members.iter().map(|(at, cost)| (NAMES[*at], oracle::By::Rule(rules[*at]), *cost)).collect();
            let mut decisions = vec![blank(&keyed[0]); charges.len()];
            let before = format!("{table:?}");
            let group = table.check_many(&charges, &mut decisions, now, &mut nonce).unwrap();
            let answer = world.check_many(&asked, now);
            prop_assert_eq!((group.verdict, group.retry_after_ns), (answer.verdict, answer.retry_after_ns));
            prop_assert_eq!(blocked(&decisions), answer.blocked);
            prop_assert!(!group.rolled_back);
            if group.verdict != Verdict::Allowed {
                prop_assert_eq!(before, format!("{table:?}"));
            }
        }
    }

    #[test]
    fn l12_the_order_of_a_group_does_not_matter(
        terms in terms(), members in prop::collection::vec((0..4_u64, 0..4_u64), 1..8).prop_shuffle(),
        owed in prop::array::uniform4(0..12_u64),
    ) {
        let by = keyed(terms);
        let run = |members: &[(u64, u64)]| {
            let (table, mut nonce) = (table(64), nonce());
            for (key, cost) in (0..).zip(owed) {
                table.check(Key::from_raw(key), &by, cost, 9, &mut nonce);
            }
            let charges: Vec<_> = members
                .iter()
                .map(|(key, cost)| Charge { key: Key::from_raw(*key), by: By::Rule(&by), cost: *cost })
                .collect();
            let mut decisions = vec![blank(&by); charges.len()];
            let group = table.check_many(&charges, &mut decisions, 9, &mut nonce).unwrap();
            let mut each: Vec<_> = members.iter().map(|(key, _)| *key).zip(decisions.iter().map(|d| d.verdict as u8)).collect();
            each.sort_unstable();
            (group, each, [0, 1, 2, 3].map(|key| table.peek(Key::from_raw(key), &by, 9)))
        };
        let mut sorted = members.clone();
        sorted.sort_unstable();
        prop_assert_eq!(run(&members), run(&sorted));
    }

    /// To blame are the keys that would refuse by themselves, each with its own wait. Without other traffic, the same call is
    /// admitted after the longest, and not before.
    #[test]
    fn l13_the_blame_and_the_retry_of_a_group_are_exact(
        rules in prop::array::uniform4(terms()), calls in calls(),
    ) {
        let (limiter, keyed) = (limiter(64), rules.map(keyed));
        let mut now = 1000;
        for (_, members) in calls {
            let charges: Vec<Charge<'_>> = members
                .iter()
                .map(|(at, cost)| {
                    let key = limiter.key(NAMES[*at].as_bytes());
                    Charge { key, by: By::Rule(&keyed[*at]), cost: *cost }
                })
                .collect();
            let mut decisions = vec![blank(&keyed[0]); charges.len()];
            let group = limiter.check_many(&charges, &mut decisions, || now).unwrap();
            if group.verdict != Verdict::Allowed {
                let mut longest = 0;
                for ((at, _), (charge, told)) in members.iter().zip(charges.iter().zip(&decisions)) {
                    let cost = members.iter().filter(|(other, _)| other == at).map(|(_, cost)| cost).sum();
                    let is_blocked = cost > limiter.peek(charge.key, &keyed[*at], || now).remaining;
                    prop_assert_eq!(is_blocked, !told.is_allowed(), "of {:?}", charge);
                    if is_blocked {
                        // A refusal writes nothing.
                        let alone = limiter.check(charge.key, &keyed[*at], cost, || now);
                        prop_assert_eq!(alone, *told);
                        longest = longest.max(alone.retry_after_ns);
                    }
                }
                prop_assert_eq!(group.retry_after_ns, longest);
            }
            let mut check = |now| limiter.check_many(&charges, &mut decisions, || now).unwrap();
            if group.verdict == Verdict::Limited {
                let wait = group.retry_after_ns;
                prop_assert!(wait >= 1);
                prop_assert_eq!(check(now + wait - 1).verdict, Verdict::Limited);
                now += wait;
                prop_assert_eq!(check(now).verdict, Verdict::Allowed);
            }
        }
    }

    #[test]
    fn l14_a_batch_equals_as_many_calls(
        rules in prop::array::uniform4(terms()), members in prop::collection::vec((0..4_usize, 0..20_u64), 0..40),
    ) {
        let (batched, single, keyed) = (limiter(64), limiter(64), rules.map(keyed));
        let charges: Vec<Charge<'_>> = members
            .iter()
            .map(|(at, cost)| {
                let key = batched.key(NAMES[*at].as_bytes());
                Charge { key, by: By::Rule(&keyed[*at]), cost: *cost }
            })
            .collect();
        let mut decisions = vec![blank(&keyed[0]); charges.len()];
        let reads = AtomicU64::new(0);
        let clock = || {
            reads.fetch_add(1, Ordering::Relaxed);
            77
        };
        batched.check_batch(&charges, &mut decisions, clock).unwrap();
        prop_assert_eq!(reads.into_inner(), 1);
        for ((at, cost), decision) in members.iter().zip(&decisions) {
            let key = single.key(NAMES[*at].as_bytes());
            prop_assert_eq!(*decision, single.check(key, &keyed[*at], *cost, || 77));
        }
        let counts = |limiter: &Limiter| (limiter.stats().allowed, limiter.stats().limited, limiter.stats().never);
        prop_assert_eq!(counts(&batched), counts(&single));
        prop_assert!(batched.check_batch(&charges, &mut [], || 0).is_err() || charges.is_empty());
    }
}

#[test]
fn l08_a_group_with_a_cost_above_a_burst_is_never_admitted() {
    let (table, by) = (table(8), rule(1, 10, 3));
    let charge = |key, cost| Charge { key: Key::from_raw(key), by: By::Rule(&by), cost };
    let before = format!("{table:?}");
    for charges in [[charge(1, 1), charge(2, 4), charge(3, 1)], [charge(1, 1), charge(2, 2), charge(2, 2)]] {
        let mut decisions = [blank(&by); 3];
        let group = table.check_many(&charges, &mut decisions, 5, nonce()).unwrap();
        assert_eq!((group.verdict, group.retry_after_ns), (Verdict::Never, u64::MAX));
        assert_eq!(decisions[1].verdict, Verdict::Never);
        assert_eq!(before, format!("{table:?}"));
    }
}

#[test]
fn l11_a_group_is_bounded() {
    let (limiter, by) = (limiter(64), rule(1, 10, 3));
    let charges: Vec<_> = (0..=MAX_GROUP as u64)
        .map(|key| Charge { key: Key::from_raw(key), by: By::Rule(&by), cost: 1 })
        .collect();
    let mut decisions = vec![blank(&by); MAX_GROUP + 1];
    let error = limiter.check_many(&charges, &mut decisions, || 5).unwrap_err();
    assert_eq!((error.argument, error.value), ("charges", 33));
    assert!(limiter.check_many(&charges[..2], &mut decisions[..3], || 5).is_err());
    let most = limiter.check_many(&charges[..MAX_GROUP], &mut decisions[..MAX_GROUP], || 5).unwrap();
    assert_eq!((most.verdict, limiter.live_keys(|| 5)), (Verdict::Allowed, 32));
    assert_eq!(limiter.stats().allowed, 1);
}

/// The keys of a table for one key, all of whose sixteen places are taken.
fn crowded(full_policy: FullPolicy) -> Limiter {
    let limiter = Limiter::new(&LimiterConfig { full_policy, ..config(1) }).unwrap();
    for key in 100..116 {
        assert!(limiter.check(Key::from_raw(key), &rule(1, 1000, 9), 8, || 5).is_allowed());
    }
    limiter
}

#[test]
fn l11_a_group_that_finds_no_place_gives_everything_back() {
    let (limiter, by) = (crowded(FullPolicy::DenyNew), rule(1, 1000, 9));
    let charge = |key| Charge { key: Key::from_raw(key), by: By::Rule(&by), cost: 1 };
    let mut decisions = [blank(&by); 3];
    let group = limiter.check_many(&[charge(500), charge(100), charge(101)], &mut decisions, || 5).unwrap();
    assert_eq!((group.verdict, group.rolled_back), (Verdict::TableFull, true));
    assert_eq!(blocked(&decisions), [0]);
    for key in [100, 101] {
        assert_eq!(limiter.peek(Key::from_raw(key), &by, || 5).remaining, 1);
    }
    let stats = limiter.stats();
    assert_eq!((stats.table_full, stats.rolled_back, stats.forfeited), (1, 1, 0));
}

#[test]
fn l11_a_group_that_has_debited_nothing_yet_gives_nothing_back() {
    let (limiter, by) = (crowded(FullPolicy::DenyNew), rule(1, 1000, 9));
    let charge = |key, cost| Charge { key: Key::from_raw(key), by: By::Rule(&by), cost };
    let mut decisions = [blank(&by); 2];
    let group = limiter.check_many(&[charge(100, 0), charge(500, 1)], &mut decisions, || 5).unwrap();
    assert_eq!((group.verdict, group.rolled_back), (Verdict::TableFull, false));
    assert_eq!(limiter.stats().rolled_back, 0);
}

/// The overflow bucket is a member like others: what it was debited comes back.
#[test]
fn l11_a_group_gives_the_overflow_bucket_its_tokens_back() {
    let (limiter, by) = (crowded(FullPolicy::OverflowKey), rule(1, 1000, 9));
    let charge = |key, cost| Charge { key: Key::from_raw(key), by: By::Rule(&by), cost };
    let mut decisions = [blank(&by); 3];
    // Both strangers share one bucket: each alone is admitted, together they are not.
    let group =
        limiter.check_many(&[charge(1, 5), charge(2, 5), charge(101, 1)], &mut decisions, || 5).unwrap();
    assert_eq!((group.verdict, group.rolled_back), (Verdict::Limited, true));
    assert!(limiter.check(Key::from_raw(3), &by, 9, || 5).is_allowed(), "the shared bucket is full again");
    assert_eq!(limiter.check(Key::from_raw(3), &by, 1, || 5).verdict, Verdict::Limited);
}

/// The shared bucket owes more than a full one of the first member's rule by then: what it took stays taken, and that is told.
#[test]
fn l11_a_group_counts_what_it_cannot_give_back() {
    let limiter = crowded(FullPolicy::OverflowKey);
    let (small, large) = (rule(1, 1000, 3), rule(1, 1000, 9));
    let charge = |key, by, cost| Charge { key: Key::from_raw(key), by: By::Rule(by), cost };
    let mut decisions = [blank(&small); 3];
    let group = [charge(1, &small, 2), charge(2, &large, 5), charge(3, &large, 5)];
    let group = limiter.check_many(&group, &mut decisions, || 5).unwrap();
    assert_eq!((group.verdict, group.rolled_back), (Verdict::Limited, true));
    assert_eq!(limiter.stats().forfeited, 1);
    assert_eq!(limiter.check(Key::from_raw(4), &large, 8, || 5).remaining, 7, "two are still owed");
}

/// Random overlapping groups of sixteen threads end, and each key is debited what was admitted, no more and no less.
#[test]
fn l12_sixteen_threads_debit_exactly_what_they_admit() {
    const KEYS: u64 = 12;
    const BURST: u64 = 4000;
    const TERMS: Terms = Terms { tokens: 1, period_ns: 1000 * SECOND, burst: BURST };
    let (limiter, by) = (limiter(64), keyed(TERMS));
    let debits: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for seed in 1..=16_u64 {
            let (limiter, by, debits) = (&limiter, &by, &debits);
            scope.spawn(move || {
                let mut random = seed;
                let mut draw = |bound: u64| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (random >> 33) % bound
                };
                for _ in 0..3000 {
                    let members: Vec<(u64, u64)> = (0..1 + draw(5)).map(|_| (draw(KEYS), draw(4))).collect();
                    let charges: Vec<_> = members
                        .iter()
                        .map(|(key, cost)| Charge { key: Key::from_raw(*key), by: By::Rule(by), cost: *cost })
                        .collect();
                    let mut decisions = vec![limiter.peek(charges[0].key, by, || 5); charges.len()];
                    if limiter.check_many(&charges, &mut decisions, || 5).unwrap().verdict == Verdict::Allowed
                    {
                        for (key, cost) in members {
                            debits[key as usize].fetch_add(cost, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    for (key, debits) in (0..).zip(debits) {
        let left = limiter.peek(Key::from_raw(key), &by, || 5).remaining;
        assert_eq!(debits.into_inner(), BURST - left, "key {key}");
    }
    let stats = limiter.stats();
    assert_eq!((stats.allowed + stats.limited, stats.forfeited), (16 * 3000, 0));
    assert!(stats.limited > 100, "the keys were used up");
}
