//! Pool beside r2d2 where callers wait: eight threads on four connections, each held for 200 µs.
//!
//! Three rows each for a hold that sleeps and one that burns its core: time an operation, the 99th percentile of the waits,
//! and the longest. A hold that burns is reported only: on fewer cores than threads it measures the scheduler.

use crate::pool::Numbers;
use crate::side_by_side::{quartiles, round};
use elixirscope::clock::{Clock, Monotonic};
use elixirscope::pool::{
    Action, Actions, Checkout, Condition, Lease, Owner, Pool, PoolConfig, Wait, WakeOutcome,
};
use serde_json::{Value, json};
use std::sync::{Barrier, Mutex};
use std::thread::Thread;
use std::time::{Duration, Instant};

const THREADS: usize = 8;
const CONNECTIONS: u32 = 4;
const HOLD: Duration = Duration::from_micros(200);
const TURNS: usize = 150;
const ROUNDS: usize = 9;

type Hold = fn();

fn asleep() {
    std::thread::sleep(HOLD);
}

fn burning() {
    let began = Instant::now();
    while began.elapsed() < HOLD {
        std::hint::spin_loop();
    }
}

pub fn rows() -> Vec<Value> {
    // Throughput is 0.97 of the peer's or more, so time is 1.03 of the peer's at most.
    let sleep = compare("rust-pool-wait", asleep, [Some(1.03), Some(1.0), Some(1.0)]);
    sleep.into_iter().chain(compare("rust-pool-wait-burning", burning, [None; 3])).collect()
}

fn compare(id: &str, hold: Hold, bounds: [Option<f64>; 3]) -> Vec<Value> {
    let desk = Desk::new();
    let r2d2 = r2d2::Pool::builder()
        .max_size(CONNECTIONS)
        .test_on_check_out(false)
        .build(Numbers)
        .expect("numbers are always to be had");
    let ours = |worker: usize| {
        let lease = desk.checkout(worker);
        let waited = Instant::now();
        hold();
        desk.checkin(lease);
        waited
    };
    let peer = |_: usize| {
        let held = r2d2.get().expect("a wait of milliseconds");
        let waited = Instant::now();
        hold();
        drop(held);
        waited
    };
    let (mut our_rounds, mut peer_rounds) = (vec![], vec![]);
    for turn in 0..ROUNDS {
        let first = (turn % 2 == 0).then(|| measure(&ours));
        peer_rounds.push(measure(&peer));
        our_rounds.push(first.unwrap_or_else(|| measure(&ours)));
    }
    let names = ["", "-p99", "-longest"];
    let row = |(at, name): (usize, &str)| {
        let column = |rounds: &[[f64; 3]]| rounds.iter().map(|round| round[at]).collect::<Vec<f64>>();
        let (our_times, peer_times) = (column(&our_rounds), column(&peer_rounds));
        let ratios = our_times.iter().zip(&peer_times).map(|(ours, peer)| ours / peer).collect();
        let [lower, ratio, upper] = quartiles(ratios);
        json!({
            "id": format!("{id}{name}"), "threads": THREADS, "peer": "r2d2", "bound": bounds[at],
            "ours_ns": round(quartiles(our_times)[1]), "peer_ns": round(quartiles(peer_times)[1]),
            "ratio": round(ratio), "spread": round(upper - lower),
        })
    };
    names.into_iter().enumerate().map(row).collect()
}

/// Nanoseconds an operation, the 99th percentile of the waits and the longest wait of one round.
fn measure(turn: &(impl Fn(usize) -> Instant + Sync)) -> [f64; 3] {
    let start = Barrier::new(THREADS);
    let work = |worker: usize| {
        start.wait();
        let began = Instant::now();
        let waits: Vec<f64> = (0..TURNS)
            .map(|_| {
                let asked = Instant::now();
                turn(worker).duration_since(asked).as_nanos() as f64
            })
            .collect();
        (began.elapsed().as_nanos() as f64, waits)
    };
    let work = &work;
    let results: Vec<(f64, Vec<f64>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|worker| scope.spawn(move || work(worker))).collect();
        workers.into_iter().map(|worker| worker.join().expect("no side panics")).collect()
    });
    let time = results.iter().map(|result| result.0).fold(0.0, f64::max);
    let mut waits: Vec<f64> = results.into_iter().flat_map(|result| result.1).collect();
    waits.sort_by(f64::total_cmp);
    [time / waits.len() as f64, waits[waits.len() * 99 / 100], waits[waits.len() - 1]]
}

/// Who waits, and the lease that somebody told it of.
type Place = Option<(Thread, Option<Lease>)>;

/// The least that threads need to wait for the core: a place each, with what it is told.
struct Desk {
    pool: Pool,
    places: Vec<Mutex<Place>>,
}

impl Desk {
    fn new() -> Self {
        let config = PoolConfig { size: CONNECTIONS, max_overflow: 0, ..PoolConfig::default() };
        let pool = Pool::new(&config).expect("the configuration is in range");
        Self { pool, places: (0..THREADS).map(|_| Mutex::new(None)).collect() }
    }

    fn place(&self, worker: usize) -> std::sync::MutexGuard<'_, Place> {
        self.places[worker].lock().expect("no side panics")
    }

    fn checkout(&self, worker: usize) -> Lease {
        let mut actions = Actions::new();
        *self.place(worker) = Some((std::thread::current(), None));
        let now = || Monotonic.now_ns();
        let answer = self.pool.checkout(Owner::NONE, Wait::Forever, worker as u64, now, &mut actions);
        self.carry_out(actions);
        match answer {
            Checkout::Granted(lease) => return lease,
            Checkout::Queued(_) => {}
            other => panic!("{other:?} although the caller waits"),
        }
        loop {
            let told = self.place(worker).as_mut().and_then(|(_, lease)| lease.take());
            match told {
                Some(lease) => return lease,
                None => std::thread::park(),
            }
        }
    }

    fn checkin(&self, lease: Lease) {
        let mut actions = Actions::new();
        let returned = self.pool.checkin(lease, Condition::Good, || Monotonic.now_ns(), &mut actions);
        returned.expect("the lease is live");
        self.carry_out(actions);
    }

    fn carry_out(&self, actions: Actions) {
        for action in actions.iter() {
            match action {
                Action::Wake { waiter_token, outcome: WakeOutcome::Granted(lease) } => {
                    let mut place = self.place(waiter_token as usize);
                    let (thread, told) = place.as_mut().expect("it waits");
                    *told = Some(lease);
                    let thread = thread.clone();
                    drop(place);
                    thread.unpark();
                }
                Action::Create { slot, epoch } => {
                    let mut next = Actions::new();
                    let made = self.pool.created(slot, epoch, Ok(()), || Monotonic.now_ns(), &mut next);
                    made.expect("the creation is awaited");
                    self.carry_out(next);
                }
                other => panic!("{other:?} was not asked for"),
            }
        }
    }
}
