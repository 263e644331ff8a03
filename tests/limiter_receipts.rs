//! Receipts, reservations and settlements (L15 to L19) against the integer model, and against the bound itself.
#![cfg(not(escope_model))]

#[path = "support/limiter_oracle.rs"]
mod oracle;
#[path = "support/limiter_setup.rs"]
mod setup;

use elixirscope::limiter::{
    Adjusted, By, Key, Limit, Limiter, RawReceipt, Receipt, Strategy as Carry, Verdict,
};
use oracle::{History, Model, Terms, Ticket};
use proptest::prelude::*;
use setup::{SECOND, advance, after, keyed, later, limiter, nonce, rule, table, terms};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

/// One thing that is done to a key. Receipts are chosen by a share of those that are left; 1.0 is the newest.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Check(u64),
    Reserve { cost: u64, wait: f64 },
    Cancel(f64),
    Refund { which: f64, share: f64 },
    Settle { which: f64, actual: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kinds {
    /// No refunds, no settlements.
    ReserveAndCancel,
    /// No settlements.
    Refunds,
    All,
}

fn deeds(kinds: Kinds) -> impl Strategy<Value = Vec<(f64, Deed)>> {
    let which = prop_oneof![1 => Just(1.0), 1 => 0.0..1.0];
    let others = if kinds == Kinds::ReserveAndCancel { 0 } else { 3 };
    let settlements = if kinds == Kinds::All { 3 } else { 0 };
    let deed = prop_oneof![
        3 => (0..5_u64).prop_map(Deed::Check),
        6 => (0..14_u64, 0.0..30.0).prop_map(|(cost, wait)| Deed::Reserve { cost, wait }),
        4 => which.clone().prop_map(Deed::Cancel),
        others => (which.clone(), 0.0..=1.0).prop_map(|(which, share)| Deed::Refund { which, share }),
        settlements => (which, 0..30_u64).prop_map(|(which, actual)| Deed::Settle { which, actual }),
    ];
    prop::collection::vec((advance(), deed), 1..80)
}

/// A use of the tokens of a receipt that was not given back.
struct Held {
    receipt: Receipt,
    ticket: Ticket,
}

/// What a run of deeds has admitted.
#[derive(Default)]
struct Outcome {
    /// Costs by the time at which they may be used, and amounts given back by the time of that.
    uses: Vec<(u64, u64)>,
    refunds: Vec<(u64, u64)>,
    grants: Vec<u64>,
    cancelled: bool,
}

/// Runs the deeds on a limiter and on the model; every answer and every balance must be equal.
fn run(terms: Terms, deeds: &[(f64, Deed)]) -> Outcome {
    let (limiter, rule) = (limiter(8), keyed(terms));
    let key = limiter.key(b"key");
    let mut model = Model::new(terms);
    let (mut held, mut outcome, mut now) = (Vec::<Held>::new(), Outcome::default(), 1000);
    let pick = |held: &mut Vec<Held>, which: f64| {
        let last = held.len().checked_sub(1)?;
        Some(held.remove((last as f64 * which) as usize))
    };
    for (advance, deed) in deeds {
        now = later(now, terms, *advance);
        match *deed {
            Deed::Check(cost) => {
                let decision = limiter.check(key, &rule, cost, || now);
                assert_eq!(decision, model.check(cost, now));
                if decision.is_allowed() {
                    outcome.uses.push((now, cost));
                }
            }
            Deed::Reserve { cost, wait } => {
                let most = after(terms, wait);
                let reserved = limiter.reserve(key, By::Rule(&rule), cost, most, || now);
                let (decision, ticket) = model.reserve(cost, most, now);
                assert_eq!(reserved.decision, decision);
                assert_eq!(reserved.receipt.is_some(), ticket.is_some());
                if let (Some(receipt), Some(ticket)) = (reserved.receipt, ticket) {
                    assert_eq!(now + reserved.wait_ns, ticket.grant_at);
                    assert!(reserved.wait_ns <= most);
                    outcome.grants.push(ticket.grant_at);
                    outcome.uses.push((ticket.grant_at, cost));
                    held.push(Held { receipt, ticket });
                } else {
                    assert_eq!(reserved.wait_ns, 0);
                }
            }
            Deed::Cancel(which) => {
                let Some(Held { receipt, ticket }) = pick(&mut held, which) else { continue };
                let adjusted = limiter.cancel(receipt, || now);
                assert_eq!(adjusted, model.cancel(ticket, now));
                if adjusted == Adjusted::Applied {
                    outcome.cancelled = true;
                    let used = (ticket.grant_at, ticket.cost);
                    let at = outcome.uses.iter().position(|candidate| *candidate == used).unwrap();
                    outcome.uses.remove(at);
                }
            }
            Deed::Refund { which, share } => {
                let Some(Held { receipt, ticket }) = pick(&mut held, which) else { continue };
                let amount = (ticket.cost as f64 * share) as u64;
                let adjusted = limiter.refund(receipt, amount, None, || now).unwrap();
                assert_eq!(adjusted, model.refund(amount, now));
                if adjusted == Adjusted::Applied {
                    outcome.refunds.push((now, amount));
                }
            }
            Deed::Settle { which, actual } => {
                let Some(Held { receipt, ticket }) = pick(&mut held, which) else { continue };
                let adjusted = limiter.settle(receipt, actual, None, || now);
                assert_eq!(adjusted, model.settle(ticket.cost, actual, now));
            }
        }
        assert_eq!(limiter.peek(key, &rule, || now), model.peek(now));
    }
    outcome
}

/// For all `s <= t`: the uses less the refunds with times in `[s, t]` are at most `burst + floor((tokens * (t - s) + n - 1) /
/// period)`, in ticks of the reduced rate: a grant is rounded up to a whole nanosecond.
fn assert_net_bound(terms: Terms, outcome: &Outcome) {
    let mut events: Vec<(u64, i128)> =
        outcome.uses.iter().map(|(at, cost)| (*at, i128::from(*cost))).collect();
    events.extend(outcome.refunds.iter().map(|(at, amount)| (*at, -i128::from(*amount))));
    events.sort_unstable();
    for (first, &(s, _)) in events.iter().enumerate() {
        if first > 0 && events[first - 1].0 == s {
            continue;
        }
        let mut net = 0;
        for (index, &(t, amount)) in events.iter().enumerate().skip(first) {
            net += amount;
            if events.get(index + 1).is_some_and(|next| next.0 == t) {
                continue;
            }
            let units = i128::from(terms.tokens) * i128::from(t - s) + i128::from(terms.tokens) - 1;
            let bound = i128::from(terms.burst) + units / i128::from(terms.period_ns);
            assert!(net <= bound, "{net} in [{s}, {t}], the bound is {bound}: {terms:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn l15_refunds_answer_like_the_model_and_keep_the_net_bound(terms in terms(), deeds in deeds(Kinds::Refunds)) {
        let outcome = run(terms, &deeds);
        assert_net_bound(terms, &outcome);
    }

    #[test]
    fn l15_a_refund_never_fills_above_the_burst(terms in terms(), cost in 1..12_u64, wait in advance()) {
        let (limiter, rule) = (limiter(8), keyed(terms));
        let key = limiter.key(b"key");
        let cost = cost.min(terms.burst);
        let receipt = limiter.reserve(key, By::Rule(&rule), cost, 0, || 5).receipt.unwrap();
        let now = 5 + after(terms, wait);
        let before = limiter.peek(key, &rule, || now);
        prop_assert_eq!(limiter.refund(receipt, cost, None, || now), Ok(Adjusted::Applied));
        let full = limiter.peek(key, &rule, || now);
        prop_assert_eq!((full.remaining, full.reset_after_ns), (terms.burst, 0));
        prop_assert!(before.remaining + cost >= terms.burst);
    }

    /// Some give back at once, some later; reservations in between make balances negative.
    #[test]
    fn l15_the_refund_of_a_check_is_that_of_its_receipt(
        terms in terms(),
        deeds in prop::collection::vec((advance(), 0..6_u64, 0..3_u8, any::<bool>()), 1..60),
        named in any::<bool>(),
    ) {
        let (one, two, rule) = (limiter(8), limiter(8), keyed(terms));
        let limit = Limit::new(&rule, SECOND).unwrap();
        let (by, limit) = if named { (By::Limit(&limit), Some(&limit)) } else { (By::Rule(&rule), None) };
        let (key, mut now, mut held) = (one.key(b"key"), 1000, vec![]);
        for (share, cost, back, ahead) in deeds {
            now = later(now, terms, share);
            let reserved = one.reserve(key, by, cost, 0, || now);
            let checked = match by {
                By::Rule(rule) => two.check(key, rule, cost, || now),
                By::Limit(limit) => two.check_limit(key, limit, cost, || now),
            };
            prop_assert_eq!(reserved.decision, checked);
            held.extend(reserved.receipt.map(|receipt| (receipt, cost)));
            if ahead {
                for limiter in [&one, &two] {
                    let _ = limiter.reserve(key, by, 2, u64::MAX, || now);
                }
            }
            for _ in 0..back {
                let Some((receipt, cost)) = held.pop() else { break };
                let refunded = one.refund(receipt, cost, limit, || now).unwrap();
                prop_assert_eq!(refunded, two.refund_check(key, by, cost, || now));
            }
            let state = |limiter: &Limiter| match by {
                By::Rule(rule) => limiter.peek(key, rule, || now),
                By::Limit(limit) => limiter.peek_limit(key, limit, || now),
            };
            prop_assert_eq!(state(&one), state(&two));
        }
        prop_assert_eq!(one.stats(), two.stats());
    }

    #[test]
    fn l17_settlements_answer_like_the_model(terms in terms(), deeds in deeds(Kinds::All)) {
        run(terms, &deeds);
    }

    /// A reservation is granted at the first instant at which the model has the tokens, in the order of the calls.
    #[test]
    fn l18_reservations_queue_and_keep_the_bound(terms in terms(), deeds in deeds(Kinds::ReserveAndCancel)) {
        let reservations: Vec<_> =
            deeds.into_iter().filter(|(_, deed)| !matches!(deed, Deed::Cancel(_))).collect();
        let outcome = run(terms, &reservations);
        prop_assert!(outcome.grants.is_sorted(), "{:?}", outcome.grants);
        let mut history = History::default();
        outcome.uses.iter().for_each(|(at, cost)| history.add(*at, *cost));
        history.assert_bounded_with(terms, terms.tokens - 1);
    }

    #[test]
    fn l18_a_wait_too_long_writes_nothing(terms in terms(), cost in 1..12_u64, now in 0..1_000_000_u64) {
        let (table, rule) = (table(8), keyed(terms));
        let (key, cost) = (Key::from_raw(3), cost.min(terms.burst));
        let reserve = |max_wait| table.reserve(key, By::Rule(&rule), cost, max_wait, now, nonce());
        prop_assert!(table.reserve(key, By::Rule(&rule), terms.burst, 0, now, nonce()).receipt.is_some());
        let wait = table.check(key, &rule, cost, now, nonce()).retry_after_ns;
        let before = format!("{table:?}");
        let refused = reserve(wait - 1);
        prop_assert_eq!(refused.decision.verdict, Verdict::Limited);
        prop_assert_eq!((refused.decision.retry_after_ns, refused.receipt), (wait, None));
        prop_assert_eq!(before, format!("{table:?}"));
        prop_assert_eq!(reserve(wait).wait_ns, wait);
    }

    #[test]
    fn l19_random_cancellations_never_break_the_bound(terms in terms(), deeds in deeds(Kinds::ReserveAndCancel)) {
        let outcome = run(terms, &deeds);
        let mut history = History::default();
        outcome.uses.iter().for_each(|(at, cost)| history.add(*at, *cost));
        history.assert_bounded_with(terms, terms.tokens - 1);
    }

    /// However many: the newest first.
    #[test]
    fn l19_cancelling_the_newest_restores_the_state(terms in terms(), costs in prop::collection::vec(1..12_u64, 1..9)) {
        let (table, rule, mut nonce) = (table(8), keyed(terms), nonce());
        let key = Key::from_raw(3);
        prop_assert!(table.check(key, &rule, terms.burst, 77, &mut nonce).is_allowed());
        let mut states = vec![];
        let mut receipts = vec![];
        for cost in costs {
            states.push(format!("{table:?}"));
            let cost = cost.min(terms.burst);
            receipts.extend(table.reserve(key, By::Rule(&rule), cost, u64::MAX, 77, &mut nonce).receipt);
        }
        prop_assert_eq!(receipts.len(), states.len());
        while let Some(receipt) = receipts.pop() {
            prop_assert_eq!(table.cancel(receipt, 77), Adjusted::Applied);
            prop_assert_eq!(states.pop().unwrap(), format!("{table:?}"));
        }
    }
}

#[test]
fn l08_a_reservation_above_the_burst_is_never_granted() {
    let (table, rule) = (table(8), rule(1, 10, 3));
    let before = format!("{table:?}");
    for cost in [4, 1 << 40, u64::MAX] {
        let reserved = table.reserve(Key::from_raw(1), By::Rule(&rule), cost, u64::MAX, 5, nonce());
        assert_eq!(reserved.decision.verdict, Verdict::Never);
        assert_eq!((reserved.decision.retry_after_ns, reserved.receipt), (u64::MAX, None));
    }
    assert_eq!(before, format!("{table:?}"));
}

#[test]
fn l15_a_refund_of_a_full_or_absent_key_writes_nothing() {
    let (table, rule, mut nonce) = (table(8), rule(1, 10, 3), nonce());
    let key = Key::from_raw(1);
    let mut reserve = || table.reserve(key, By::Rule(&rule), 2, 0, 5, &mut nonce).receipt.unwrap();
    let (full, absent) = (reserve(), {
        assert!(table.reset(key));
        reserve()
    });
    let before = format!("{table:?}");
    assert_eq!(table.refund(full, 2, None, 30), Ok(Adjusted::Applied));
    assert_eq!(before, format!("{table:?}"), "at 30 it has owed nothing for a while");
    assert!(table.reset(key));
    let before = format!("{table:?}");
    assert_eq!(table.refund(absent, 2, None, 5), Ok(Adjusted::Applied));
    assert_eq!(before, format!("{table:?}"));
}

#[test]
fn l15_a_refund_above_the_cost_is_refused() {
    let (limiter, rule) = (limiter(8), rule(1, 10, 3));
    let receipt = limiter.reserve(limiter.key(b"key"), By::Rule(&rule), 2, 0, || 5).receipt.unwrap();
    let error = limiter.refund(receipt, 3, None, || 5).unwrap_err();
    assert_eq!((error.argument, error.value), ("amount", 3));
    assert_eq!(limiter.peek(limiter.key(b"key"), &rule, || 5).remaining, 1);
}

/// In foreign memory a receipt is its raw fields and a state word: whoever moves that on may use it.
#[test]
fn l16_eight_threads_use_a_receipt_once() {
    const THREADS: usize = 8;
    let (limiter, rule) = (limiter(8), rule(1, 1000 * SECOND, 1000));
    let key = limiter.key(b"key");
    assert!(limiter.check(key, &rule, 900, || 5).is_allowed());
    for round in 0..2000 {
        let raw = limiter.reserve(key, By::Rule(&rule), 10, 0, || 5).receipt.unwrap().into_raw();
        let (state, applied) = (AtomicU32::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for number in 0..THREADS {
                let (limiter, state, applied) = (&limiter, &state, &applied);
                scope.spawn(move || {
                    if state.swap(1, Ordering::AcqRel) == 1 {
                        return;
                    }
                    let receipt = Receipt::from_raw(raw).unwrap();
                    let adjusted = match number % 2 {
                        0 => limiter.refund(receipt, 10, None, || 5).unwrap(),
                        _ => limiter.settle(receipt, 0, None, || 5),
                    };
                    applied.fetch_add(u64::from(adjusted == Adjusted::Applied), Ordering::Relaxed);
                });
            }
        });
        assert_eq!(applied.into_inner(), 1, "round {round}");
        assert_eq!(limiter.peek(key, &rule, || 5).remaining, 100, "round {round}");
    }
}

/// Even unguarded, a reservation is taken back once: then the key is no longer as it left it.
#[test]
fn l16_a_second_cancellation_changes_nothing() {
    let (limiter, rule) = (limiter(8), rule(1, 10, 2));
    let key = limiter.key(b"key");
    assert!(limiter.check(key, &rule, 2, || 5).is_allowed());
    let raw = limiter.reserve(key, By::Rule(&rule), 1, 100, || 5).receipt.unwrap().into_raw();
    let cancel = || (limiter.cancel(Receipt::from_raw(raw).unwrap(), || 5), limiter.stats().forfeited);
    assert_eq!([cancel(), cancel()], [(Adjusted::Applied, 0), (Adjusted::Forfeited, 1)]);
    assert_eq!(limiter.peek(key, &rule, || 5).reset_after_ns, 20);
}

/// Also that of a limit whose rule was changed, which the entry tells by its mark.
#[test]
fn l16_a_receipt_comes_back_from_its_fields() {
    let (limiter, rule) = (limiter(8), rule(1, 10, 2));
    let (limit, key) = (Limit::new(&rule, 100).unwrap(), limiter.key(b"key"));
    for changes in 0..4 {
        assert!(limiter.check_limit(key, &limit, 2, || 5).is_allowed());
        let reserved = limiter.reserve(key, By::Limit(&limit), 1, 100, || 5);
        let raw = reserved.receipt.unwrap().into_raw();
        let receipt = Receipt::from_raw(raw).unwrap();
        assert_eq!(limiter.cancel(receipt, || 5), Adjusted::Applied, "after {changes} changes");
        assert!(limiter.reset(key));
        if changes < 3 {
            limit.change(&rule, Carry::AsIs, 5).unwrap();
        }
    }
}

#[test]
fn l16_fields_that_are_no_receipt_are_none() {
    let (limiter, rule) = (limiter(8), rule(3, 10, 4));
    let receipt = limiter.reserve(limiter.key(b"key"), By::Rule(&rule), 2, 0, || 5).receipt.unwrap();
    assert_eq!(receipt.cost(), 2);
    let raw = receipt.into_raw();
    assert_eq!(Receipt::from_raw(raw).map(Receipt::into_raw), Some(raw));
    for wrong in [
        RawReceipt { key: raw.key & ((1 << 56) - 1), ..raw },
        RawReceipt { key: raw.key | 0x3F << 56, ..raw },
        RawReceipt { w: 0, ..raw },
        RawReceipt { cost: 0, ..raw },
        RawReceipt { cost: 5, ..raw },
        RawReceipt { cost: u64::MAX, ..raw },
        RawReceipt { full: 1, ..raw },
        RawReceipt { full: u64::MAX, ..raw },
        RawReceipt { tat: 19, ..raw },
        RawReceipt { tat: u64::MAX, ..raw },
    ] {
        assert_eq!(Receipt::from_raw(wrong), None, "{wrong:?}");
    }
}

#[test]
fn l17_a_debt_stops_at_one_bucket_below_empty() {
    let (limiter, rule) = (limiter(8), rule(1, 10, 3));
    let key = limiter.key(b"key");
    let reserve = |now| limiter.reserve(key, By::Rule(&rule), 1, 0, || now).receipt.unwrap();
    assert_eq!(limiter.settle(reserve(0), 6, None, || 0), Adjusted::Applied);
    assert_eq!(limiter.check(key, &rule, 1, || 0).retry_after_ns, 40);
    assert_eq!(limiter.settle(reserve(40), u64::MAX, None, || 40), Adjusted::Saturated);
    assert_eq!(limiter.check(key, &rule, 1, || 40).retry_after_ns, 40);
    // A receipt that nobody settles leaves its estimate charged.
    _ = reserve(80);
    assert_eq!(limiter.peek(key, &rule, || 80).remaining, 0);
}

/// The key's place is gone; the debt makes it a new entry.
#[test]
fn l17_a_settlement_of_an_absent_key_debits_it() {
    let (limiter, rule) = (limiter(8), rule(1, 10, 3));
    let key = limiter.key(b"key");
    let receipt = limiter.reserve(key, By::Rule(&rule), 1, 0, || 0).receipt.unwrap();
    assert!(limiter.reset(key));
    assert_eq!(limiter.settle(receipt, 3, None, || 100), Adjusted::Applied);
    assert_eq!(limiter.peek(key, &rule, || 100).remaining, 1);
}

#[test]
fn l17_at_the_end_of_time_nothing_wraps() {
    let (limiter, rule) = (limiter(8), rule(58, 1, 58 * 320 * 86_400 * SECOND));
    let (key, burst) = (limiter.key(b"key"), rule.effective().burst());
    let receipt = limiter.reserve(key, By::Rule(&rule), burst, 0, || u64::MAX).receipt.unwrap();
    assert_eq!(limiter.settle(receipt, u64::MAX, None, || u64::MAX), Adjusted::Saturated);
    assert_eq!(limiter.live_keys(|| u64::MAX), 1, "it is an entry still");
    let reserved = limiter.reserve(limiter.key(b"other"), By::Rule(&rule), burst, u64::MAX, || u64::MAX);
    assert!(reserved.decision.is_allowed());
    assert!(limiter.reserve(key, By::Rule(&rule), burst, u64::MAX, || u64::MAX).receipt.is_none());
}

#[test]
fn l19_after_its_time_a_cancellation_is_too_late() {
    let (table, rule, mut nonce) = (table(8), rule(1, 10, 2), nonce());
    let key = Key::from_raw(1);
    let mut reserve = |cost| table.reserve(key, By::Rule(&rule), cost, 100, 0, &mut nonce).receipt.unwrap();
    let (at_once, waiting, also) = (reserve(2), reserve(1), reserve(1));
    let before = format!("{table:?}");
    assert_eq!(table.cancel(at_once, 0), Adjusted::TooLate);
    assert_eq!(table.cancel(waiting, 10), Adjusted::TooLate);
    assert_eq!(before, format!("{table:?}"));
    assert_eq!(table.cancel(also, 19), Adjusted::Applied);
}

/// A first touch counts from the latest time at which a place was taken. Who was admitted at once by an older clock has used
/// its tokens all the same.
#[test]
fn l19_an_older_clock_does_not_make_a_grant_a_promise() {
    let (limiter, quick) = (limiter(1), rule(1, 10, 1));
    // Keys that owe nothing any more lose their places at 1000.
    for round in [0, 1000] {
        for number in 0..64_u64 {
            let key = limiter.key(&(round + number).to_le_bytes());
            limiter.check(key, &quick, 1, || round);
        }
    }
    (0..64_u64).for_each(|number| _ = limiter.reset(limiter.key(&(1000 + number).to_le_bytes())));
    let reserved = limiter.reserve(limiter.key(b"late"), By::Rule(&quick), 1, 100, || 900);
    assert_eq!((reserved.decision.verdict, reserved.wait_ns), (Verdict::Allowed, 0));
    assert_eq!(limiter.cancel(reserved.receipt.unwrap(), || 900), Adjusted::TooLate);
}

/// Reservations and cancellations of many threads on a few keys: grants keep the bound.
#[test]
fn l19_threads_keep_the_bound() {
    const TERMS: Terms = Terms { tokens: 1, period_ns: 1000, burst: 3 };
    let (limiter, rule) = (limiter(64), keyed(TERMS));
    for round in 0..50_u64 {
        let key = limiter.key(&round.to_le_bytes());
        let work = |seed: u64| {
            let mut grants = vec![];
            for turn in 0..40_u64 {
                let cost = 1 + turn % 2;
                let reserved = limiter.reserve(key, By::Rule(&rule), cost, 1 << 40, || 7);
                assert!(reserved.decision.is_allowed());
                let given_back = match reserved.receipt {
                    Some(receipt) if !(turn ^ seed).is_multiple_of(3) => {
                        limiter.cancel(receipt, || 7) == Adjusted::Applied
                    }
                    _ => false,
                };
                if !given_back {
                    grants.push((7 + reserved.wait_ns, cost));
                }
            }
            grants
        };
        let grants = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|seed| {
                    scope.spawn({
                        let work = &work;
                        move || work(seed)
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let mut history = History::default();
        grants.iter().for_each(|(at, cost)| history.add(*at, *cost));
        history.assert_bounded(TERMS);
    }
}
