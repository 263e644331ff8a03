//! The Rust rows of the number table: each primitive beside the crate that people use today, and C beside Rust; one JSON
//! object a line.
//!
//! Manual clocks on both sides, where the bounds apply; then default clocks, reported. Our counters are on. The
//! peers stand in their fastest documented set-up.

mod breaker;
mod c;
mod limiter;
mod pool;
mod pool_wait;
mod side_by_side;

fn main() {
    let rows = [1, 2].into_iter().flat_map(|threads| {
        let rows = [breaker::rows(threads), c::rows(threads), limiter::rows(threads), pool::rows(threads)];
        rows.into_iter().flatten()
    });
    rows.chain([breaker::memory()])
        .chain(limiter::memory())
        .chain(pool_wait::rows())
        .for_each(|row| println!("{row}"));
}
