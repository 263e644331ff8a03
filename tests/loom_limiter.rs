//! Every interleaving of two or three first touches on the shipped table, as loom finds them.
//!
//! `ci/loom.sh` runs the models, and `ci/loom.sh sabotage` shows that each of them fails when the shipped code
//! lacks the precaution that the model is there for:
//!
// sabotage: limiter_rescan two_first_touches_of_one_key_admit_one_burst
// sabotage: limiter_fence two_first_touches_of_one_key_admit_one_burst
// sabotage: limiter_nonce a_taken_over_first_touch_is_not_committed
// sabotage: limiter_floor a_lost_key_is_not_refilled_twice
#![cfg(escope_loom)]

use elixirscope::limiter::{Decision, Key, KeyedRule, Line, Rule, Table, Verdict};
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

/// A check of cost one when a token comes every `interval` and the burst is one.
fn check(table: &Cell, key: u64, interval: u64, now: u64, thread: u64) -> Decision {
    let rule = KeyedRule::new(Rule::new(1, interval, 1).unwrap()).unwrap();
    let mut attempt = 0;
    table.check(Key::from_raw(key), &rule, 1, now, || {
        attempt += 1;
        thread << 8 | attempt
    })
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
