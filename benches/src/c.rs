//! C beside Rust: what the ABI costs. The C loop is compiled into a library of its own, which is loaded here so that both
//! are measured in turn.

#![allow(unsafe_code)]

use crate::breaker::pairs;
use crate::pool::Lent;
use crate::side_by_side::{Row, Side};
use elixirscope::breaker::{Breaker, BreakerConfig};
use elixirscope::clock::{Clock, Monotonic};
use elixirscope::limiter::{KeyedRule, Limiter, LimiterConfig, Rule};
use libloading::Library;
use serde_json::Value;
use std::hint::black_box;

pub fn rows(threads: usize) -> Vec<Value> {
    let path = std::env::var_os("ESCOPE_ROWS_LIBRARY").expect("ci/bench.sh compiles benches/c/rows.c");
    // SAFETY: the library has no code that runs when it is loaded.
    let library = unsafe { Library::new(path) }.expect("the library can be loaded");
    // SAFETY: the types are those of benches/c/rows.c.
    let begin = unsafe { library.get::<extern "C" fn() -> i32>(b"escope_rows_begin\0") };
    assert_eq!(begin.expect("the library has this function")(), 0, "C makes a breaker");
    // SAFETY: as above.
    let count = |name: &[u8]| unsafe { library.get::<extern "C" fn(u64) -> u64>(name) };
    let calls = count(b"escope_rows_breaker\0").expect("the library has this function");
    let checks = count(b"escope_rows_limiter\0").expect("the library has this function");
    let checkouts = count(b"escope_rows_pool\0").expect("the library has this function");
    let breaker = Breaker::new(&BreakerConfig::default()).expect("the defaults are valid");
    let limiter = Limiter::new(&LimiterConfig::default()).expect("the defaults are valid");
    let pool = Lent::new();

    let c = |repeats| calls(repeats);
    let rust = |repeats| pairs(&breaker, repeats);
    let c_checks = |repeats| checks(repeats);
    let rust_checks = |repeats| self::checks(&limiter, repeats);
    let c_checkouts = |repeats| checkouts(repeats);
    let rust_checkouts = |repeats| pool.pairs(repeats);
    let sides: [(&str, f64, Side, Side); 3] = [
        ("c-breaker", 3.0, &c, &rust),
        ("c-limiter", 1.5, &c_checks, &rust_checks),
        ("c-pool", 1.5, &c_checkouts, &rust_checkouts),
    ];
    let row = |(id, bound, c, rust): (&str, f64, Side, Side)| {
        Row { id, peer: "the same in Rust", bound: Some(bound), threads }.measure(c, rust)
    };
    sides.into_iter().filter_map(row).collect()
}

/// What `escope_rows_limiter` does.
fn checks(limiter: &Limiter, repeats: u64) -> u64 {
    let rule = Rule::new(1_000_000_000, 1_000_000_000, 4_000_000_000).and_then(KeyedRule::new);
    let rule = rule.expect("the rate is a whole number of tokens a nanosecond");
    let admitted = |_: &u64| {
        let key = limiter.key(black_box(b"user:0"));
        let decision = limiter.check(key, &rule, 1, || Monotonic.now_ns());
        decision.is_allowed() && decision.remaining > 0
    };
    (0..repeats).filter(admitted).count() as u64
}
