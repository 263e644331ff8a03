//! Every interleaving of two or three operations on one key of the shipped table, as loom finds them: first touches, and
//! what else changes an entry against a check.
//!
//! `ci/loom.sh` runs the models, and `ci/loom.sh sabotage` shows that each of them fails when the shipped code
//! lacks the precaution that the model is there for:
//!
// sabotage: limiter_rescan two_first_touches_of_one_key_admit_one_burst
// sabotage: limiter_fence two_first_touches_of_one_key_admit_one_burst
// sabotage: limiter_nonce a_taken_over_first_touch_is_not_committed
// sabotage: limiter_floor a_lost_key_is_not_refilled_twice
// sabotage: limiter_reuse a_reused_place_races_a_check_of_its_last_key
// sabotage: limiter_halves a_reused_place_races_a_check_of_its_last_key
// sabotage: limiter_refund_blind a_refund_keeps_the_debit_of_a_check
// sabotage: limiter_refund_balance a_refund_waits_behind_a_reservation
// sabotage: limiter_cancel_compare a_cancellation_keeps_a_later_reservation
// sabotage: limiter_rollback a_group_races_a_check_of_its_last_key
// sabotage: limiter_group_order two_groups_in_opposite_order_admit_one
// sabotage: limiter_settle_touch a_settlement_of_an_absent_key_races_its_first_touch
// sabotage: limiter_stale_terms a_check_under_way_takes_the_rule_of_a_change
// sabotage: limiter_seqlock words_are_read_as_a_whole
#![cfg(escope_loom)]

use elixirscope::limiter::{
    Adjusted, By, Charge, Decision, Key, KeyedRule, Limit, Line, Receipt, Reservation, Rule, Strategy, Table,
    Verdict,
};
use elixirscope::seqlock::SeqLock;
use elixirscope::sync::search_like_loom;
use loom::sync::Arc;
use loom::thread;

type Cell = Table<Box<[Line]>>;

/// A key whose debt is over at `OVER`, with the whole burst owed until then.
const OTHER: u64 = 1;
const KEY: u64 = 2;
const OVER: u64 = 10;

/// Two places for every key, the lower of which belongs to `OTHER` until `OVER`.
fn table() -> Arc<Cell> {
    let lines: Vec<Line> = (0..Cell::lines_for(1)).map(|_| Line::new()).collect();
    let table = Cell::over(lines.into_boxed_slice()).unwrap();
    assert_eq!(check(&table, OTHER, OVER, 0, 0).verdict, Verdict::Allowed);
    Arc::new(table)
}

fn rule(interval: u64, burst: u64) -> KeyedRule {
    KeyedRule::new(Rule::new(1, interval, burst).unwrap()).unwrap()
}

/// Numbers of a thread's first touches.
fn nonces(thread: u64) -> impl FnMut() -> u64 {
    let mut attempt = 0;
    move || {
        attempt += 1;
        thread << 8 | attempt
    }
}

/// A check of cost one when a token comes every `interval` and the burst is one.
fn check(table: &Cell, key: u64, interval: u64, now: u64, thread: u64) -> Decision {
    table.check(Key::from_raw(key), &rule(interval, 1), 1, now, nonces(thread))
}

fn admitted(decisions: &[Decision]) -> usize {
    decisions.iter().filter(|decision| decision.is_allowed()).count()
}

/// Checks `KEY` in one thread for each of `nows`; a token comes so rarely that one burst is all there is.
fn race(nows: &[u64]) {
    let table = table();
    let threads: Vec<_> = (1..)
        .zip(nows)
        .map(|(id, &now)| {
            let table = table.clone();
            thread::spawn(move || check(&table, KEY, 1000, now, id))
        })
        .collect();
    let decisions: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(admitted(&decisions), 1, "{decisions:?}");
    assert_eq!(check(&table, KEY, 1000, OVER, 9).verdict, Verdict::Limited);
}

/// One sees the lower place taken and goes to the upper, the other takes the lower.
#[test]
fn two_first_touches_of_one_key_admit_one_burst() {
    loom::model(|| race(&[OVER - 1, OVER]));
}

#[test]
fn three_first_touches_of_one_key_admit_one_burst() {
    search_like_loom();
    loom::model(|| race(&[OVER - 1, OVER, OVER]));
}

/// Two go to the upper place, one to the lower, which empties an upper one that the other makes anew. Three
/// preemptions are the fewest that show what goes wrong without a nonce.
#[test]
fn a_taken_over_first_touch_is_not_committed() {
    search_like_loom();
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| race(&[OVER - 1, OVER - 1, OVER]));
}

/// A key that owes nothing is checked while another key takes its place.
#[test]
fn a_reused_place_races_a_check_of_its_last_key() {
    loom::model(|| {
        let table = table();
        assert!(check(&table, KEY, 1000, 0, 1).is_allowed(), "the upper place");
        let other = {
            let table = table.clone();
            thread::spawn(move || check(&table, OTHER, OVER, OVER, 2))
        };
        let third = check(&table, 3, 1000, OVER, 3);
        let other = other.join().unwrap();
        // There is one place for both: whoever came first has it.
        let verdicts = (other.verdict, third.verdict);
        assert!(
            matches!(
                verdicts,
                (Verdict::Allowed, Verdict::TableFull) | (Verdict::TableFull, Verdict::Allowed)
            ),
            "{verdicts:?}"
        );
        let again = check(&table, OTHER, OVER, OVER, 4).verdict;
        assert_eq!(again, if other.is_allowed() { Verdict::Limited } else { Verdict::TableFull });
    });
}

/// `OTHER` loses its place at `OVER + 5`, while a check of it that read the clock at `OVER` is on its way. If that
/// comes late, it must not be refilled from `OVER` on: the five nanoseconds were spent before.
#[test]
fn a_lost_key_is_not_refilled_twice() {
    loom::model(|| {
        let table = table();
        assert!(check(&table, KEY, 1000, 0, 1).is_allowed(), "the upper place");
        let taker = {
            let table = table.clone();
            thread::spawn(move || {
                let taken = check(&table, 3, 1000, OVER + 5, 2).is_allowed();
                table.reset(Key::from_raw(KEY));
                taken
            })
        };
        let late = check(&table, OTHER, OVER, OVER, 3);
        if taker.join().unwrap() && late.is_allowed() {
            assert_eq!(check(&table, OTHER, OVER, OVER + 14, 4).verdict, Verdict::Limited);
            assert!(check(&table, OTHER, OVER, OVER + 15, 4).is_allowed());
        }
    });
}

/// A token comes so rarely that none does while a model runs.
const INTERVAL: u64 = 1000;

/// Two places that nobody has.
fn empty() -> Arc<Cell> {
    let lines: Vec<Line> = (0..Cell::lines_for(1)).map(|_| Line::new()).collect();
    Arc::new(Cell::over(lines.into_boxed_slice()).unwrap())
}

/// One token of `burst`, at the latest after ten intervals.
fn reserve(table: &Cell, key: u64, burst: u64, thread: u64) -> Reservation {
    let by = rule(INTERVAL, burst);
    table.reserve(Key::from_raw(key), By::Rule(&by), 1, 10 * INTERVAL, 0, nonces(thread))
}

fn receipt(reservation: Reservation) -> Receipt {
    reservation.receipt.expect("the cost was debited")
}

/// Tokens that `key` owes at time 0.
fn owed(table: &Cell, key: u64) -> u64 {
    table.peek(Key::from_raw(key), &rule(INTERVAL, 1), 0).reset_after_ns / INTERVAL
}

#[test]
fn a_refund_keeps_the_debit_of_a_check() {
    loom::model(|| {
        let table = empty();
        let taken = receipt(reserve(&table, KEY, 2, 1));
        let checker = {
            let table = table.clone();
            thread::spawn(move || {
                table.check(Key::from_raw(KEY), &rule(INTERVAL, 2), 1, 0, nonces(2)).is_allowed()
            })
        };
        assert_eq!(table.refund(taken, 1, None, 0), Ok(Adjusted::Applied));
        assert!(checker.join().unwrap());
        assert_eq!(owed(&table, KEY), 1);
    });
}

/// Somebody was promised the next token: what is given back now would be admitted twice.
#[test]
fn a_refund_waits_behind_a_reservation() {
    loom::model(|| {
        let table = empty();
        let taken = receipt(reserve(&table, KEY, 1, 1));
        let waiter = {
            let table = table.clone();
            thread::spawn(move || reserve(&table, KEY, 1, 2).wait_ns)
        };
        let refunded = table.refund(taken, 1, None, 0).unwrap();
        let expected = match waiter.join().unwrap() {
            0 => (Adjusted::Applied, 1),
            _ => (Adjusted::Forfeited, 2),
        };
        assert_eq!((refunded, owed(&table, KEY)), expected);
    });
}

#[test]
fn a_cancellation_keeps_a_later_reservation() {
    loom::model(|| {
        let table = empty();
        assert_eq!(reserve(&table, KEY, 1, 1).wait_ns, 0);
        let waiting = receipt(reserve(&table, KEY, 1, 1));
        let other = {
            let table = table.clone();
            thread::spawn(move || reserve(&table, KEY, 1, 2).wait_ns)
        };
        let cancelled = table.cancel(waiting, 0);
        let wait_ns = other.join().unwrap();
        let expected = match cancelled {
            Adjusted::Applied => (INTERVAL, 2),
            _ => (2 * INTERVAL, 3),
        };
        assert_eq!((wait_ns, owed(&table, KEY)), expected);
    });
}

/// One token of two keys, in this order.
fn group(table: &Cell, keys: [u64; 2], thread: u64) -> Verdict {
    let by = rule(INTERVAL, 2);
    let charges = keys.map(|key| Charge { key: Key::from_raw(key), by: By::Rule(&by), cost: 1 });
    let mut decisions = keys.map(|key| table.peek(Key::from_raw(key), &by, 0));
    table.check_many(&charges, &mut decisions, 0, nonces(thread)).unwrap().verdict
}

/// Two keys with one token left each.
fn two_keys() -> Arc<Cell> {
    let table = empty();
    [1, 2].iter().for_each(|key| assert!(reserve(&table, *key, 2, 1).decision.is_allowed()));
    table
}

#[test]
fn a_group_races_a_check_of_its_last_key() {
    loom::model(|| {
        let table = two_keys();
        let checker = {
            let table = table.clone();
            thread::spawn(move || {
                table.check(Key::from_raw(2), &rule(INTERVAL, 2), 1, 0, nonces(2)).is_allowed()
            })
        };
        let grouped = group(&table, [1, 2], 3) == Verdict::Allowed;
        assert_ne!(checker.join().unwrap(), grouped);
        assert_eq!((owed(&table, 1), owed(&table, 2)), (1 + u64::from(grouped), 2));
    });
}

#[test]
fn two_groups_in_opposite_order_admit_one() {
    loom::model(|| {
        let table = two_keys();
        let other = {
            let table = table.clone();
            thread::spawn(move || group(&table, [2, 1], 2))
        };
        let ours = group(&table, [1, 2], 3);
        let verdicts = [ours, other.join().unwrap()];
        assert_eq!(
            verdicts.iter().filter(|verdict| **verdict == Verdict::Allowed).count(),
            1,
            "{verdicts:?}"
        );
        assert_eq!((owed(&table, 1), owed(&table, 2)), (2, 2));
    });
}

/// The key's debt is over and its place is lost; more is found to have been used while it is touched anew.
#[test]
fn a_settlement_of_an_absent_key_races_its_first_touch() {
    loom::model(|| {
        let table = table();
        let used = receipt(reserve(&table, KEY, 2, 1));
        assert!(table.reset(Key::from_raw(KEY)));
        let checker = {
            let table = table.clone();
            thread::spawn(move || {
                table.check(Key::from_raw(KEY), &rule(INTERVAL, 3), 1, OVER, nonces(2)).is_allowed()
            })
        };
        assert_eq!(table.settle(used, 2, None, OVER - 1, nonces(3)), Adjusted::Applied);
        assert!(checker.join().unwrap());
        let rest = table.peek(Key::from_raw(KEY), &rule(INTERVAL, 3), OVER);
        assert_eq!(rest.remaining, 1, "{rest:?}");
    });
}

/// The change forgives all, but nothing that is debited after it.
#[test]
fn a_check_under_way_takes_the_rule_of_a_change() {
    loom::model(|| {
        let table = empty();
        let limit = Arc::new(Limit::new(&rule(INTERVAL, 3), 0).unwrap());
        let check = |table: &Cell, limit: &Limit, thread| {
            table.check_limit(Key::from_raw(KEY), limit, 1, 0, nonces(thread)).is_allowed()
        };
        assert!(check(&table, &limit, 1));
        let checker = {
            let (table, limit) = (table.clone(), limit.clone());
            thread::spawn(move || check(&table, &limit, 2))
        };
        limit.change(&rule(INTERVAL, 3), Strategy::Reset, 0).unwrap();
        assert!(check(&table, &limit, 3));
        assert!(checker.join().unwrap());
        // The last check reads the rule of now and writes nothing.
        let left = table.check_limit(Key::from_raw(KEY), &limit, 0, 0, nonces(4)).remaining;
        assert!(left == 1 || left == 2, "{left} left");
    });
}

/// What a limit's rules are kept in. A model of the limit itself would not show it: whoever changes one reads the words that
/// it replaces, and loom tries no order between a read of the other thread and that.
#[test]
fn words_are_read_as_a_whole() {
    loom::model(|| {
        let words = Arc::new(SeqLock::new([0, 0]));
        let writer = {
            let words = words.clone();
            thread::spawn(move || [1, 2].map(|value| words.write([value; 2])))
        };
        if let Some([first, second]) = words.read() {
            assert_eq!(first, second);
        }
        writer.join().unwrap();
        assert_eq!(words.read(), Some([2, 2]));
    });
}
