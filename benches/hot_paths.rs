//! Criterion benches of the core's hot paths, to look at one change closely. `make bench` compares with peers.

use criterion::{Criterion, criterion_group, criterion_main};
use elixirscope::breaker::{Breaker, BreakerConfig, Outcome};
use elixirscope::clock::{Clock, Manual, Monotonic};
use elixirscope::limiter::{Bucket, KeyedRule, Limiter, LimiterConfig, Rule};
use elixirscope::pool::{Actions, Checkout, Condition, Owner, Pool, PoolConfig, Wait};
use std::hint::black_box;

fn clocks(criterion: &mut Criterion) {
    criterion.bench_function("clock/monotonic", |bench| bench.iter(|| Monotonic.now_ns()));
}

fn breaker(criterion: &mut Criterion) {
    let breaker = Breaker::new(&BreakerConfig::default()).unwrap();
    criterion.bench_function("breaker/closed", |bench| {
        bench.iter(|| {
            let permit = breaker.acquire(|| 0).verdict.unwrap();
            breaker.record(permit, Outcome::Success, || 0)
        });
    });
}

fn limiter(criterion: &mut Criterion) {
    let clock = Manual::new(1);
    let rule = Rule::new(1_000_000_000, 1_000_000_000, 4_000_000_000).unwrap();
    let bucket = Bucket::new(rule);
    criterion.bench_function("limiter/bucket", |bench| bench.iter(|| bucket.check(1, || clock.now_ns())));
    let (limiter, rule) = (Limiter::new(&LimiterConfig::default()).unwrap(), KeyedRule::new(rule).unwrap());
    criterion.bench_function("limiter/one key", |bench| {
        bench.iter(|| limiter.check(limiter.key(black_box(b"user:1")), &rule, 1, || clock.now_ns()));
    });
}

fn pool(criterion: &mut Criterion) {
    let pool = Pool::new(&PoolConfig::default()).unwrap();
    let mut actions = Actions::new();
    pool.checkout(Owner::NONE, Wait::Never, 0, || 0, &mut actions);
    let created: Vec<_> = actions.iter().collect();
    for action in created {
        if let elixirscope::pool::Action::Create { slot, epoch } = action {
            pool.created(slot, epoch, Ok(()), || 0, &mut actions).unwrap();
        }
    }
    criterion.bench_function("pool/idle pair", |bench| {
        bench.iter(|| {
            let checkout = pool.checkout(Owner::NONE, Wait::Never, 0, || 0, &mut actions);
            let Checkout::Granted(lease) = checkout else { panic!("a connection is idle") };
            pool.checkin(lease, Condition::Good, || 0, &mut actions)
        });
    });
}

criterion_group!(benches, clocks, breaker, limiter, pool);
criterion_main!(benches);
