//! The Rust rows of the number table: each primitive beside the crate that people use today, and C beside Rust; one JSON
//! object a line.
//!
//! Manual clocks on both sides, where the bounds apply; then default clocks, reported. Our counters are on. The
//! peers stand in their fastest documented set-up.
//!
//! Without arguments all rows are measured, else those named of what is measured side by side.

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
    rows.for_each(|row| println!("{row}"));
    if std::env::args().len() == 1 {
        let rows = [breaker::memory()].into_iter().chain(limiter::memory()).chain(pool_wait::rows());
        rows.for_each(|row| println!("{row}"));
    }
}
