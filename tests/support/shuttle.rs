//! How long and from which seed the shuttle models run.

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

/// Preemptions that a schedule of the second kind spends where they hurt.
const DEPTH: usize = 4;

/// Runs `model` under `ESCOPE_SHUTTLE_SCHEDULES` schedules from `SHUTTLE_RANDOM_SEED`, which shuttle reads.
///
/// Half of them choose the next thread anew at each access. The others let the thread of the highest random
/// priority run and change priorities at few random accesses (Burckhardt et al., "A Randomized Scheduler with
/// Probabilistic Guarantees of Finding Bugs", 2010): that stops one thread for long in the middle of a call.
pub fn schedules(model: impl Fn() + Send + Sync + Copy + 'static) {
    let schedules = std::env::var("ESCOPE_SHUTTLE_SCHEDULES").map_or(1_000, |count| count.parse().unwrap());
    run(RandomScheduler::new(schedules / 2), model);
    run(PctScheduler::new(DEPTH, schedules - schedules / 2), model);
}

fn run(scheduler: impl Scheduler + 'static, model: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    // shuttle warns that it takes every order for SeqCst. loom models the others.
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(model);
}
