//! Pool beside r2d2 and deadpool: an idle connection out and back in. The connection is a number in all.
//!
//! deadpool lends through a future. With an idle connection it is ready at its first poll, so one poll with a waker that does
//! nothing is its whole check-out, and no executor is measured with it.

use crate::side_by_side::{Row, Side};
use elixirscope::clock::{Clock, Monotonic};
use elixirscope::pool::{
    Action, Actions, Checkout, Condition, Lease, Owner, Pool, PoolConfig, Wait, WakeOutcome,
};
use r2d2::ManageConnection;
use serde_json::Value;
use std::convert::Infallible;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const SIZE: u32 = 10;

/// Makes numbers and finds all of them healthy.
#[derive(Debug)]
pub struct Numbers;

impl ManageConnection for Numbers {
    type Connection = u64;
    type Error = Infallible;

    fn connect(&self) -> Result<u64, Infallible> {
        Ok(1)
    }

    fn is_valid(&self, _: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut u64) -> bool {
        false
    }
}

impl deadpool::managed::Manager for Numbers {
    type Type = u64;
    type Error = Infallible;

    async fn create(&self) -> Result<u64, Infallible> {
        Ok(1)
    }

    async fn recycle(
        &self,
        _: &mut u64,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Infallible> {
        Ok(())
    }
}

pub fn rows(threads: usize) -> Vec<Value> {
    let pool = Lent::new();
    let ours = |repeats| pool.pairs(repeats);
    let r2d2 = r2d2::Pool::builder()
        .max_size(SIZE)
        .test_on_check_out(false)
        .connection_timeout(Duration::from_secs(1))
        .build(Numbers)
        .expect("numbers are always to be had");
    let peer =
        |repeats| (0..repeats).filter(|_| r2d2.get().map(|number| black_box(*number)).is_ok()).count() as u64;
    let deadpool = deadpool::managed::Pool::<Numbers>::builder(Numbers)
        .max_size(SIZE as usize)
        .build()
        .expect("without time-outs it needs no runtime");
    let second = |repeats| (0..repeats).filter(|_| lent_at_once(&deadpool)).count() as u64;
    let (ours, peer, second): (Side, Side, Side) = (&ours, &peer, &second);
    [
        Row { id: "rust-pool", peer: "r2d2", bound: Some(0.33), threads }.measure(ours, peer),
        Row { id: "rust-pool-deadpool", peer: "deadpool", bound: Some(0.33), threads }.measure(ours, second),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// One check-out of deadpool's that needs no wait, and its check-in.
fn lent_at_once(pool: &deadpool::managed::Pool<Numbers>) -> bool {
    let ready = pin!(pool.get()).poll(&mut Context::from_waker(Waker::noop()));
    matches!(ready, Poll::Ready(Ok(number)) if black_box(*number) == 1)
}

/// A pool of numbers as an edge would keep it: the pool lends slots, the numbers stand at the slots' indices.
#[derive(Debug)]
pub struct Lent {
    pool: Pool,
    connections: Vec<u64>,
}

impl Lent {
    pub fn new() -> Self {
        let config = PoolConfig { size: SIZE, max_overflow: 0, ..PoolConfig::default() };
        let pool = Pool::new(&config).expect("the configuration is in range");
        let connections = filled(&pool);
        Self { pool, connections }
    }

    /// Checks a connection out and back in so many times; how often that went well.
    pub fn pairs(&self, repeats: u64) -> u64 {
        let now = || Monotonic.now_ns();
        let mut actions = Actions::new();
        let mut granted = 0;
        for _ in 0..repeats {
            if let Checkout::Granted(lease) =
                self.pool.checkout(Owner::NONE, Wait::For(1_000_000_000), 0, now, &mut actions)
            {
                black_box(self.connections[lease.slot as usize]);
                granted += u64::from(self.pool.checkin(lease, Condition::Good, now, &mut actions).is_ok());
            }
        }
        granted
    }
}

/// Lets the pool make its connections; they stand at the index of their slot.
fn filled(pool: &Pool) -> Vec<u64> {
    let now = || 0;
    let mut leases: Vec<Lease> = vec![];
    let mut actions = Actions::new();
    for _ in 0..SIZE {
        pool.checkout(Owner::NONE, Wait::Forever, 0, now, &mut actions);
        let due: Vec<Action> = actions.iter().collect();
        actions.clear();
        for action in due {
            if let Action::Create { slot, epoch } = action {
                pool.created(slot, epoch, Ok(()), now, &mut actions).expect("the creation is awaited");
            }
        }
        leases.extend(actions.iter().filter_map(|action| match action {
            Action::Wake { outcome: WakeOutcome::Granted(lease), .. } => Some(lease),
            _ => None,
        }));
        actions.clear();
    }
    for lease in leases {
        pool.checkin(lease, Condition::Good, now, &mut actions).expect("the lease is live");
    }
    vec![1; SIZE as usize]
}
