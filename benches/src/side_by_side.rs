//! Measures two ways of doing the same thing in turn, so that a machine whose speed drifts slows both.
//!
//! A round measures the one and the other, back to back; which goes first alternates. The ratio is the median of the
//! rounds' ratios, the spread the distance between their quartiles.

use serde_json::{Value, json};
use std::sync::Barrier;
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const SLICE: Duration = Duration::from_millis(40);

/// Does so many operations and tells how many of them were admitted.
pub type Side<'a> = &'a (dyn Fn(u64) -> u64 + Sync);

/// A comparison of ours with a peer.
pub struct Row<'a> {
    /// Name of the row in the number tables.
    pub id: &'a str,
    /// Whose work ours is compared with.
    pub peer: &'a str,
    /// Highest ratio that is allowed; none if the row is only reported.
    pub bound: Option<f64>,
    /// Threads that work at the same time, each pinned to a core of its own where there are enough.
    pub threads: usize,
}

impl Row<'_> {
    /// Measures in interleaved rounds. A row whose sides did not admit every operation is dropped.
    /// Nor is one measured that was not asked for.
    pub fn measure(&self, ours: Side, peer: Side) -> Option<Value> {
        if !is_wanted(self.id) {
            return None;
        }
        let (our_repeats, peer_repeats) = (self.repeats(ours), self.repeats(peer));
        let (mut our_times, mut peer_times, mut ratios) = (vec![], vec![], vec![]);
        for turn in 0..ROUNDS {
            let first_ours = (turn % 2 == 0).then(|| self.round(ours, our_repeats));
            let peer_ns = self.round(peer, peer_repeats)?;
            let ours_ns = first_ours.unwrap_or_else(|| self.round(ours, our_repeats))?;
            our_times.push(ours_ns);
            peer_times.push(peer_ns);
            ratios.push(ours_ns / peer_ns);
        }
        let [lower, ratio, upper] = quartiles(ratios);
        let [[_, ours_ns, _], [_, peer_ns, _]] = [quartiles(our_times), quartiles(peer_times)];
        Some(json!({
            "id": self.id, "threads": self.threads, "peer": self.peer, "bound": self.bound,
            "ours_ns": round(ours_ns), "peer_ns": round(peer_ns), "ratio": round(ratio),
            "spread": round(upper - lower),
        }))
    }

    /// How often to repeat a side so that one round takes long enough to be timed.
    fn repeats(&self, side: Side) -> u64 {
        let doubled = std::iter::successors(Some(1_000), |repeats| Some(repeats * 2));
        let long_enough = |repeats: &u64| self.run(side, *repeats).0 >= SLICE;
        doubled.into_iter().find(long_enough).expect("the numbers do not end")
    }

    /// Nanoseconds an operation; none if one was not admitted.
    fn round(&self, side: Side, repeats: u64) -> Option<f64> {
        let (time, admitted) = self.run(side, repeats);
        let operations = repeats * self.threads as u64;
        if admitted != operations {
            eprintln!("{}: {admitted} of {operations} operations admitted, the row is dropped", self.id);
            return None;
        }
        Some(time.as_nanos() as f64 / repeats as f64)
    }

    /// Time of the slowest thread for `repeats` operations in each, and how many were admitted in all.
    fn run(&self, side: Side, repeats: u64) -> (Duration, u64) {
        let start = Barrier::new(self.threads);
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let work = |worker: usize| {
            if let Some(core) = cores.get(worker) {
                core_affinity::set_for_current(*core);
            }
            start.wait();
            let began = Instant::now();
            let admitted = side(repeats);
            (began.elapsed(), admitted)
        };
        let work = &work;
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads).map(|worker| scope.spawn(move || work(worker))).collect();
            let results = workers.into_iter().map(|worker| worker.join().expect("no side panics"));
            results
                .fold((Duration::ZERO, 0), |(time, sum), (other, admitted)| (time.max(other), sum + admitted))
        })
    }
}

/// Whether the arguments of the program name the row, or no row at all.
pub fn is_wanted(id: &str) -> bool {
    let mut wanted = std::env::args().skip(1).peekable();
    wanted.peek().is_none() || wanted.any(|name| name == id)
}

/// The lower quartile, the median and the upper quartile, by nearest rank.
pub fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}

pub fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
