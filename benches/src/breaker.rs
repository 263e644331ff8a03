//! Breaker beside recloser. Neither reads a clock while closed, so there is no second row for default clocks.

use crate::side_by_side::{Row, Side};
use elixirscope::breaker::{Breaker, BreakerConfig, Outcome};
use elixirscope::clock::{Clock, Monotonic};
use recloser::Recloser;
use serde_json::Value;
use std::hint::black_box;
use std::time::Duration;

pub fn rows(threads: usize) -> Vec<Value> {
    let breaker = Breaker::new(&BreakerConfig::default()).expect("the defaults are valid");
    let ours = |repeats| {
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
    };
    let recloser = Recloser::custom()
        .error_rate(0.5)
        .closed_len(100)
        .half_open_len(10)
        .open_wait(Duration::from_secs(30))
        .build();
    let peer = |repeats| {
        (0..repeats).filter(|_| recloser.call(|| black_box(Ok::<(), ()>(()))).is_ok()).count() as u64
    };
    let (ours, peer): (Side, Side) = (&ours, &peer);
    let bound = Some(if threads == 1 { 1.0 } else { 0.5 });
    let row = Row { id: "rust-breaker", peer: "recloser", bound, threads };
    let same = Row { id: "rust-a/a", peer: "recloser beside itself", bound: None, threads };
    row.measure(ours, peer).into_iter().chain(same.measure(peer, peer)).collect()
}
