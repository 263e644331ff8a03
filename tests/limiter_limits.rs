//! Limits with a name and their changes (L20, L22) against the integer model, which visits every bucket at once.
#![cfg(not(escope_model))]

#[path = "support/limiter_oracle.rs"]
mod oracle;
#[path = "support/limiter_setup.rs"]
mod setup;

use elixirscope::limiter::{
    Adjusted, By, ChangeError, Charge, FullPolicy, Key, KeyedRule, Limit, Rule, Strategy as Carry, Verdict,
};
use oracle::{Terms, World};
use proptest::prelude::*;
use setup::{END, SECOND, advance, keyed, later, limiter, nonce, rule, table, terms};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const CARRIES: [Carry; 4] = [Carry::AsIs, Carry::Proportional, Carry::Additive, Carry::Reset];
const NAMES: [&str; 3] = ["a", "b", "c"];
const MAX_WAIT: u64 = 1 << 40;

#[derive(Debug, Clone, Copy)]
enum Deed {
    Check(usize, u64),
    Reserve(usize, u64),
    Refund(f64),
    Settle(f64, u64),
    Change(Terms, Carry),
}

fn deeds() -> impl Strategy<Value = Vec<(f64, Deed)>> {
    let deed = prop_oneof![
        6 => (0..3_usize, 0..8_u64).prop_map(|(at, cost)| Deed::Check(at, cost)),
        3 => (0..3_usize, 1..8_u64).prop_map(|(at, cost)| Deed::Reserve(at, cost)),
        1 => (0.0..1.0).prop_map(Deed::Refund),
        1 => (0.0..1.0, 0..20_u64).prop_map(|(which, actual)| Deed::Settle(which, actual)),
        2 => (terms(), prop::sample::select(&CARRIES[..])).prop_map(|(terms, carry)| Deed::Change(terms, carry)),
    ];
    prop::collection::vec((advance(), deed), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A key is carried over when it is used next; the model has carried it over at the change.
    #[test]
    fn l20_a_change_answers_like_the_model(
        first in terms(), deeds in deeds(), longest in prop::sample::select(&[0, 100, MAX_WAIT][..]),
    ) {
        let (limiter, limit) = (limiter(64), Limit::new(&keyed(first), longest).unwrap());
        let mut world = World::new(None, FullPolicy::DenyNew);
        world.add_limit(first, longest);
        let by = oracle::By::Limit(0);
        let (mut terms, mut now, mut held) = (first, 1000, vec![]);
        for (advance, deed) in deeds {
            now = later(now, terms, advance);
            match deed {
                Deed::Check(at, cost) => {
                    let key = limiter.key(NAMES[at].as_bytes());
                    let expected = world.check(NAMES[at], by, cost, now);
                    prop_assert_eq!(limiter.check_limit(key, &limit, cost, || now), expected);
                }
                Deed::Reserve(at, cost) => {
                    let key = limiter.key(NAMES[at].as_bytes());
                    let reserved = limiter.reserve(key, By::Limit(&limit), cost, u64::MAX, || now);
                    let (decision, wait, number) = world.reserve(NAMES[at], by, cost, u64::MAX, now);
                    prop_assert_eq!((reserved.decision, reserved.wait_ns), (decision, wait));
                    prop_assert_eq!(reserved.receipt.is_some(), number.is_some());
                    held.extend(reserved.receipt.zip(number));
                }
                Deed::Refund(which) if !held.is_empty() => {
                    let (receipt, number) = held.remove((held.len() as f64 * which) as usize);
                    let amount = receipt.cost();
                    let adjusted = limiter.refund(receipt, amount, Some(&limit), || now).unwrap();
                    prop_assert_eq!(Some(adjusted), world.refund(number, amount, now));
                }
                Deed::Settle(which, actual) if !held.is_empty() => {
                    let (receipt, number) = held.remove((held.len() as f64 * which) as usize);
                    let adjusted = limiter.settle(receipt, actual, Some(&limit), || now);
                    prop_assert_eq!(Some(adjusted), world.settle(number, actual, now));
                }
                Deed::Change(next, carry) if !world.change_outgrows(0, next, carry, now) => {
                    let changed = limit.change(&keyed(next), carry, now);
                    let expected = world.change(0, next, carry, now);
                    prop_assert_eq!(changed, expected.map_err(|retry_after_ns| ChangeError::TooSoon { retry_after_ns }));
                    if changed.is_ok() {
                        terms = next;
                    }
                    prop_assert_eq!(limit.rule(), *keyed(terms).effective());
                }
                Deed::Refund(_) | Deed::Settle(..) | Deed::Change(..) => {}
            }
            for name in NAMES {
                let peeked = limiter.peek_limit(limiter.key(name.as_bytes()), &limit, || now);
                prop_assert_eq!(peeked, world.peek(name, by, now));
                prop_assert!(peeked.remaining <= terms.burst);
            }
        }
    }

    /// Whether a key was used between two changes or not, its balance is the same: a use of nothing and a use that was
    /// given back leave no trace.
    #[test]
    fn l20_a_key_carried_over_late_equals_one_carried_over_at_once(
        rules in prop::array::uniform4(terms()), carries in prop::array::uniform3(prop::sample::select(&CARRIES[..])),
        cost in 1..12_u64, gaps in prop::array::uniform3(advance()),
    ) {
        let (limiter, limit) = (limiter(64), Limit::new(&keyed(rules[0]), MAX_WAIT).unwrap());
        let [late, at_once] = [b"late", b"once"].map(|name| limiter.key(name));
        let mut now = 50;
        for key in [late, at_once] {
            prop_assert!(limiter.check_limit(key, &limit, cost.min(rules[0].burst), || now).is_allowed());
        }
        for ((terms, carry), gap) in rules[1..].iter().zip(carries).zip(gaps) {
            now = later(now, *terms, gap);
            limit.change(&keyed(*terms), carry, now).unwrap();
            let reserved = limiter.reserve(at_once, By::Limit(&limit), 1, MAX_WAIT, || now);
            if let Some(receipt) = reserved.receipt {
                match reserved.wait_ns {
                    0 => prop_assert_eq!(limiter.refund(receipt, 1, Some(&limit), || now), Ok(Adjusted::Applied)),
                    _ => prop_assert_eq!(limiter.cancel(receipt, || now), Adjusted::Applied),
                }
            }
            let [a, b] = [late, at_once].map(|key| limiter.peek_limit(key, &limit, || now));
            prop_assert_eq!(a, b);
        }
    }
}

#[test]
fn l20_four_changes_need_time() {
    let limit = Limit::new(&rule(1, 1000, 2), 500).unwrap();
    let change = |now| limit.change(&rule(1, 1000, 2), Carry::AsIs, now);
    for now in [10, 20, 30] {
        assert_eq!(change(now), Ok(()));
    }
    // By the first rule, which ended at 10, a key may owe two buckets and a wait.
    let free = 10 + 2 * 2000 + 500;
    assert_eq!(change(free - 7), Err(ChangeError::TooSoon { retry_after_ns: 7 }));
    assert_eq!(change(free), Ok(()));
    // The second ended at 20.
    assert_eq!(change(free), Err(ChangeError::TooSoon { retry_after_ns: 10 }));
}

/// What a quick rule let somebody reserve takes a slow one long to pay back. The slow one's mark is not used anew before.
#[test]
fn l20_a_debt_that_a_change_carried_over_delays_a_later_change() {
    let (limiter, limit) = (limiter(8), Limit::new(&rule(1, 1, 10), 90).unwrap());
    let key = limiter.key(b"key");
    let reserve = || limiter.reserve(key, By::Limit(&limit), 10, 90, || 0).receipt;
    let receipts: Vec<_> = (0..10).filter_map(|_| reserve()).collect();
    assert_eq!(receipts.len(), 10);
    let change = |now| limit.change(&rule(1, SECOND, 10), Carry::AsIs, now);
    // A hundred tokens are owed, and a token takes a second now.
    change(0).unwrap();
    let owed = || limiter.peek_limit(key, &limit, || 0).reset_after_ns;
    assert_eq!(owed(), 100 * SECOND);
    let receipt = receipts.into_iter().next().unwrap();
    assert_eq!(limiter.settle(receipt, 11, Some(&limit), || 0), Adjusted::Saturated);
    assert_eq!(owed(), 100 * SECOND, "written down by the slow rule");
    for now in [1, 2] {
        assert_eq!(change(now), Ok(()));
    }
    // The quick rule would have forgotten all of it long ago: ten tokens below empty, and a wait of ninety.
    let too_soon = |seconds| Err(ChangeError::TooSoon { retry_after_ns: seconds * SECOND });
    assert_eq!(change(30 * SECOND), too_soon(80));
    assert_eq!(change(110 * SECOND), Ok(()));
    assert_eq!(change(110 * SECOND), Ok(()), "nothing is left of the slow rule, which inherited as much");
}

/// The key of a quick rule that ended does not become full because its mark is used anew.
#[test]
fn l20_a_key_owes_what_was_carried_over_until_its_mark_is_used_anew() {
    let (limiter, limit) = (limiter(8), Limit::new(&rule(1, 1, 10), 0).unwrap());
    let key = limiter.key(b"key");
    assert!(limiter.check_limit(key, &limit, 10, || 0).is_allowed());
    let change = |now| limit.change(&rule(1, SECOND, 10), Carry::AsIs, now);
    (0..3).for_each(|_| change(0).unwrap());
    let level = |now| limiter.peek_limit(key, &limit, || now).remaining;
    // Whether there is a fourth change or not, ten tokens take ten seconds.
    for second in 1..=20 {
        let now = second * SECOND;
        assert_eq!(change(now).is_ok(), second == 20, "at {second} s");
        assert_eq!(level(now), second.min(10));
    }
}

/// A rule whose mark is used anew has left nothing, in whatever ticks it counted.
#[test]
fn l20_a_mark_that_is_used_anew_carries_no_debt() {
    // 58 ticks a nanosecond, then one.
    let (limiter, limit) = (limiter(8), Limit::new(&rule(58, 59, 58), 0).unwrap());
    let key = limiter.key(b"key");
    assert!(limiter.check_limit(key, &limit, 58, || 1000).is_allowed());
    for _ in 0..3 {
        limit.change(&rule(1, 1, 5), Carry::AsIs, 1000).unwrap();
    }
    for now in [1200, 1300] {
        limit.change(&rule(1, 1, 5), Carry::AsIs, now).unwrap();
        assert_eq!(limiter.peek_limit(key, &limit, || now).remaining, 5, "at {now}");
    }
}

/// The time of a change that comes late is that of the change before it.
#[test]
fn l20_changes_follow_each_other() {
    let (limiter, limit) = (limiter(8), Limit::new(&rule(1, 10, 4), 0).unwrap());
    let key = limiter.key(b"key");
    assert!(limiter.check_limit(key, &limit, 4, || 100).is_allowed());
    limit.change(&rule(1, 20, 4), Carry::AsIs, 110).unwrap();
    limit.change(&rule(1, 1000, 4), Carry::AsIs, 50).unwrap();
    // At 110 one token was left; the others take as long as the last rule says.
    assert_eq!(limiter.peek_limit(key, &limit, || 110).remaining, 1);
    assert_eq!(limiter.peek_limit(key, &limit, || 110).reset_after_ns, 3000);
}

/// A receipt of before a change counts in tokens of the rule of now, also where the key was not used since.
#[test]
fn l20_receipts_in_flight_stay_valid() {
    for uses_between in [false, true] {
        let (limiter, limit) = (limiter(8), Limit::new(&rule(1, 10, 10), 1000).unwrap());
        let key = limiter.key(b"key");
        let reserve = || limiter.reserve(key, By::Limit(&limit), 3, 1000, || 0).receipt.unwrap();
        let (refunded, less, more) = (reserve(), reserve(), reserve());
        limit.change(&rule(1, 7, 20), Carry::AsIs, 0).unwrap();
        let mut left = 1;
        if uses_between {
            assert!(limiter.check_limit(key, &limit, 1, || 0).is_allowed());
            left = 0;
        }
        let remaining = || limiter.peek_limit(key, &limit, || 0).remaining;
        assert_eq!(limiter.refund(refunded, 2, Some(&limit), || 0), Ok(Adjusted::Applied));
        assert_eq!(remaining(), left + 2);
        assert_eq!(limiter.settle(less, 1, Some(&limit), || 0), Adjusted::Applied);
        assert_eq!(remaining(), left + 4);
        assert_eq!(limiter.settle(more, 5, Some(&limit), || 0), Adjusted::Applied);
        assert_eq!(remaining(), left + 2);
    }
}

/// A reservation keeps its time across a change, and can be cancelled until then if nobody came since.
#[test]
fn l20_a_reservation_is_cancelled_as_if_it_had_not_been_made() {
    let limit = || Limit::new(&rule(1, 10, 2), 1000).unwrap();
    let (cancelled, never_made, limits) = (limiter(8), limiter(8), [limit(), limit()]);
    let key = cancelled.key(b"key");
    assert!(cancelled.check_limit(key, &limits[0], 2, || 0).is_allowed());
    assert!(never_made.check_limit(key, &limits[1], 2, || 0).is_allowed());
    let receipt = cancelled.reserve(key, By::Limit(&limits[0]), 1, 1000, || 0).receipt.unwrap();
    limits.iter().for_each(|limit| limit.change(&rule(3, 50, 7), Carry::Proportional, 4).unwrap());
    assert_eq!(cancelled.cancel(receipt, || 9), Adjusted::Applied);
    let expected = never_made.peek_limit(key, &limits[1], || 9);
    assert_eq!(cancelled.peek_limit(key, &limits[0], || 9), expected);
}

/// A change that changes nothing, in the middle of first touches: each key admits its burst, no more and no less.
#[test]
fn l20_checks_race_changes_of_their_limit() {
    const KEYS: u64 = 3000;
    const BURST: u64 = 4;
    let by = rule(1, SECOND, BURST);
    for round in 0..4_u64 {
        let limiter = limiter(KEYS);
        let limit = Limit::new(&by, 0).unwrap();
        let admitted: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
        let barrier = Barrier::new(5);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    for (number, admitted) in (0_u64..).zip(&admitted) {
                        let key = limiter.key(&number.to_le_bytes());
                        for _ in 0..BURST {
                            let decision = limiter.check_limit(key, &limit, 1, || 5);
                            admitted.fetch_add(u64::from(decision.is_allowed()), Ordering::Relaxed);
                        }
                    }
                });
            }
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..3 {
                    (0..2000 * (1 + round)).for_each(|_| std::hint::spin_loop());
                    limit.change(&by, Carry::AsIs, 5).unwrap();
                }
            });
        });
        assert!(admitted.iter().all(|count| count.load(Ordering::Relaxed) == BURST), "round {round}");
    }
}

/// A slot of the past is taken anew while others read: a rule is always one that was given.
#[test]
fn l20_a_rule_is_read_as_a_whole() {
    let limit = Limit::new(&rule(1, 10, 1), 0).unwrap();
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            barrier.wait();
            loop {
                let rule = limit.rule();
                assert_eq!(rule.period_ns(), 10 * rule.burst());
                if rule.burst() == 20_000 {
                    return;
                }
            }
        });
        barrier.wait();
        for burst in 2..=20_000_u64 {
            limit.change(&rule(1, 10 * burst, burst), Carry::Reset, burst << 36).unwrap();
        }
    });
}

#[test]
fn l20_a_strategy_has_a_number() {
    for (number, carry) in (0..).zip(CARRIES) {
        assert_eq!((Carry::from_number(number), carry as u64), (Some(carry), number));
    }
    assert_eq!(Carry::from_number(4), None);
}

#[test]
fn l22_a_limit_out_of_range_names_the_argument() {
    let burst = |burst| rule(1, 1, burst);
    let most = u64::from(u32::MAX);
    assert!(Limit::new(&burst(most), END).is_ok());
    let error = Limit::new(&burst(most + 1), 0).unwrap_err();
    assert_eq!((error.argument, error.value), ("burst", most + 1));
    let error = Limit::new(&burst(1), END + 1).unwrap_err();
    assert_eq!((error.argument, error.value), ("max_wait_ns", END + 1));
    let limit = Limit::new(&burst(1), END).unwrap();
    assert_eq!(limit.max_wait_ns(), END);
    let refused = limit.change(&burst(most + 1), Carry::AsIs, 0).unwrap_err();
    assert!(matches!(refused, ChangeError::Invalid(error) if error.argument == "burst"));
    assert_eq!(limit.rule().burst(), 1, "nothing was changed");
}

/// Changes between the ends of the range: nothing panics, wraps, or leaves more than a burst.
#[test]
fn l22_changes_at_the_ends_of_the_range() {
    let ends: Vec<KeyedRule> = [
        (1, 1, 1),
        (58, 1, u64::from(u32::MAX)),
        (1, (1 << 62) - 1, 0),
        (1, 1 << 57, 1),
        (1, 30 * 86_400 * SECOND, 100),
        (57, 58, 1),
    ]
    .into_iter()
    .filter_map(|(tokens, period_ns, burst)| KeyedRule::new(Rule::new(tokens, period_ns, burst).ok()?).ok())
    .collect();
    assert!(ends.len() >= 5);
    for old in &ends {
        for new in &ends {
            for carry in CARRIES {
                for changed in [0, 1000, END, u64::MAX] {
                    let (table, mut nonce) = (table(8), nonce());
                    let limit = Limit::new(old, END).unwrap();
                    let key = Key::from_raw(1);
                    let burst = old.effective().burst();
                    let reserved = table.reserve(key, By::Limit(&limit), burst, u64::MAX, 0, &mut nonce);
                    _ = table.reserve(key, By::Limit(&limit), burst, u64::MAX, 0, &mut nonce);
                    limit.change(new, carry, changed).unwrap();
                    let peek = |now| {
                        let (mut decisions, none) = ([table.check_limit(key, &limit, 0, now, || 1)], []);
                        assert!(table.check_many(&none, &mut [], now, || 1).is_ok());
                        let charges = [Charge { key, by: By::Limit(&limit), cost: 0 }];
                        table.check_many(&charges, &mut decisions, now, || 1).unwrap();
                        decisions[0]
                    };
                    for now in [0, changed, u64::MAX] {
                        assert!(peek(now).remaining <= new.effective().burst());
                    }
                    if let Some(receipt) = reserved.receipt {
                        table.settle(receipt, u64::MAX, Some(&limit), changed, &mut nonce);
                        let verdict = table.check_limit(key, &limit, 1, changed, &mut nonce).verdict;
                        assert_ne!(verdict, Verdict::TableFull);
                        assert!(table.reset(key), "an entry stays an entry");
                    }
                }
            }
        }
    }
}
