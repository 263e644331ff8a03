//! Breaker beside recloser, and what it weighs. Neither reads a clock while it is closed, and recloser's while it is open
//! cannot be chosen, so each row comes once.

use crate::side_by_side::{Row, Side};
use elixirscope::breaker::{Breaker, BreakerConfig, Head, Outcome, Policy, Window};
use elixirscope::clock::{Clock, Monotonic};
use recloser::{Error, Recloser};
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::Duration;

/// Results that a rate is taken of, on both sides.
const WINDOW: u32 = 100;
/// Longer than any run.
const OPEN_FOR: Duration = Duration::from_secs(24 * 3600);

pub fn rows(threads: usize) -> Vec<Value> {
    let default = Breaker::new(&BreakerConfig::default()).expect("the defaults are valid");
    let rate = Breaker::new(&rate()).expect("the window is in range");
    let closed = recloser();
    let ours = |repeats| pairs(&default, repeats);
    let our_rate = |repeats| pairs(&rate, repeats);
    let peer =
        |repeats| (0..repeats).filter(|_| closed.call(|| black_box(Ok::<(), ()>(()))).is_ok()).count() as u64;

    let (open, peer_open) = (opened(), opened_recloser());
    let our_rejections = |repeats| {
        (0..repeats).filter(|_| open.acquire(|| Monotonic.now_ns()).verdict.is_err()).count() as u64
    };
    let peer_rejections = |repeats| (0..repeats).filter(|_| is_rejected(&peer_open)).count() as u64;

    let at_one_or = |one, more| Some(if threads == 1 { one } else { more });
    let sides: [(&str, &str, Option<f64>, Side, Side); 4] = [
        ("rust-breaker", "recloser", at_one_or(1.0, 0.5), &ours, &peer),
        ("rust-a/a", "recloser beside itself", None, &peer, &peer),
        ("rust-breaker-rate", "recloser", at_one_or(2.0, 0.7), &our_rate, &peer),
        ("rust-breaker-open", "recloser", Some(1.0), &our_rejections, &peer_rejections),
    ];
    let row = |(id, peer, bound, ours, peers)| Row { id, peer, bound, threads }.measure(ours, peers);
    sides.into_iter().filter_map(row).collect()
}

/// Opens when half of the last results are failures, as the peer does.
fn rate() -> BreakerConfig {
    let policy = Policy::Rate {
        window: Window::Count { size: WINDOW },
        min_calls: WINDOW,
        failure_rate_bp: 5_000,
        slow_call_rate_bp: 10_000,
    };
    BreakerConfig { policy, open_for_ns: OPEN_FOR.as_nanos() as u64, ..BreakerConfig::default() }
}

fn recloser() -> Recloser {
    Recloser::custom()
        .error_rate(0.5)
        .closed_len(WINDOW as usize)
        .half_open_len(10)
        .open_wait(OPEN_FOR)
        .build()
}

fn opened() -> Breaker {
    let breaker = Breaker::new(&rate()).expect("the window is in range");
    let now = || Monotonic.now_ns();
    while let Ok(permit) = breaker.acquire(now).verdict {
        breaker.record(permit, Outcome::Failure, now);
    }
    breaker
}

fn opened_recloser() -> Recloser {
    let recloser = recloser();
    while !is_rejected(&recloser) {}
    recloser
}

/// Calls what fails, and tells whether that was refused.
fn is_rejected(recloser: &Recloser) -> bool {
    matches!(recloser.call(|| black_box(Err::<(), ()>(()))), Err(Error::Rejected))
}

/// Asks and records a success so many times; how many calls were admitted.
pub fn pairs(breaker: &Breaker, repeats: u64) -> u64 {
    let now = || Monotonic.now_ns();
    let mut admitted = 0;
    for _ in 0..repeats {
        if let Ok(permit) = breaker.acquire(now).verdict {
            black_box(());
            breaker.record(permit, Outcome::Success, now);
            admitted += 1;
        }
    }
    admitted
}

/// Bytes that decide, and with configuration and places for probes those of a breaker by default.
pub fn memory() -> Value {
    const CELL: usize = 64;
    const ALL: usize = 512;
    let breaker = Breaker::new(&BreakerConfig::default()).expect("the defaults are valid");
    let share = |bytes: usize, most: usize| bytes as f64 / most as f64;
    json!({
        "id": "breaker-memory", "threads": 1, "peer": format!("{ALL} bytes; {CELL} in the cell"),
        "ours_bytes": breaker.bytes(), "cell_bytes": Head::CELL_BYTES, "bound": 1.0,
        "ratio": share(Head::CELL_BYTES, CELL).max(share(breaker.bytes(), ALL)),
    })
}
