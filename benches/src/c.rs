//! C beside Rust: what the ABI costs. The C loop is compiled into a library of its own, which is loaded here so that both
//! are measured in turn.

#![allow(unsafe_code)]

use crate::breaker::pairs;
use crate::side_by_side::{Row, Side};
use elixirscope::breaker::{Breaker, BreakerConfig};
use libloading::Library;
use serde_json::Value;

pub fn rows(threads: usize) -> Vec<Value> {
    let path = std::env::var_os("ESCOPE_ROWS_LIBRARY").expect("ci/bench.sh compiles benches/c/rows.c");
    // SAFETY: the library has no code that runs when it is loaded.
    let library = unsafe { Library::new(path) }.expect("the library can be loaded");
    // SAFETY: the types are those of benches/c/rows.c.
    let begin = unsafe { library.get::<extern "C" fn() -> i32>(b"escope_rows_begin\0") };
    assert_eq!(begin.expect("the library has this function")(), 0, "C makes a breaker");
    // SAFETY: as above.
    let calls = unsafe { library.get::<extern "C" fn(u64) -> u64>(b"escope_rows_breaker\0") };
    let calls = calls.expect("the library has this function");
    let breaker = Breaker::new(&BreakerConfig::default()).expect("the defaults are valid");

    let c = |repeats| calls(repeats);
    let rust = |repeats| pairs(&breaker, repeats);
    let (c, rust): (Side, Side) = (&c, &rust);
    let row = Row { id: "c-breaker", peer: "the same in Rust", bound: Some(3.0), threads };
    row.measure(c, rust).into_iter().collect()
}
