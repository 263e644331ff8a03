//! Limiter beside governor: one bucket, one key, 100,000 string keys; and what the table weighs.

use crate::side_by_side::{Row, Side};
use elixirscope::clock::{Clock, Manual, Monotonic};
use elixirscope::limiter::{Bucket, KeyedRule, Limiter, LimiterConfig, Rule, Verdict};
use governor::clock::{Clock as PeerClock, DefaultClock, FakeRelativeClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use serde_json::{Value, json};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A thousand million a second and four seconds' worth at once: no round uses it up.
const PER_SECOND: u32 = 1_000_000_000;
const BURST: u32 = 4 * PER_SECOND;

pub fn rows(threads: usize) -> Vec<Value> {
    let manual = Manual::new(1_000_000_000);
    let bound = Some(1.0);
    let mut rows = with_clocks(threads, "", bound, &manual, &FakeRelativeClock::default());
    rows.extend(with_clocks(threads, " (default clocks)", None, &Monotonic, &DefaultClock::default()));
    rows.extend(floors(threads));
    rows
}

fn with_clocks<P: PeerClock + Clone + Sync + Send>(
    threads: usize,
    suffix: &str,
    bound: Option<f64>,
    clock: &(impl Clock + Sync),
    peer_clock: &P,
) -> Vec<Value>
where
    P::Instant: Sync,
{
    let rule = Rule::new(PER_SECOND.into(), 1_000_000_000, BURST.into()).expect("the rule is in range");
    let keyed = KeyedRule::new(rule).expect("the rate is a whole number of tokens a nanosecond");
    let count = |count| NonZeroU32::new(count).expect("the count is not zero");
    let quota = Quota::per_second(count(PER_SECOND)).allow_burst(count(BURST));
    let keys: Vec<String> = (0..100_000).map(|key| format!("user:{key}")).collect();

    let bucket = Bucket::new(rule);
    let ours =
        |repeats| admitted(repeats, |_| bucket.check(1, || clock.now_ns()).verdict == Verdict::Allowed);
    let direct = RateLimiter::direct_with_clock(quota, peer_clock.clone());
    let peer = |repeats| admitted(repeats, |_| direct.check().is_ok());

    let limiter =
        Limiter::new(&LimiterConfig { max_keys: 150_000, secret: None, ..LimiterConfig::default() })
            .expect("the size is in range");
    let check = |key: &String| limiter.check(limiter.key(key.as_bytes()), &keyed, 1, || clock.now_ns());
    type Dashmap<P> =
        RateLimiter<String, DashMapStateStore<String>, P, NoOpMiddleware<<P as PeerClock>::Instant>>;
    let dashmap: Dashmap<P> = RateLimiter::new(quota, DashMapStateStore::default(), peer_clock.clone());
    let our_key1 = |repeats| admitted(repeats, |_| check(black_box(&keys[0])).verdict == Verdict::Allowed);
    let peer_key1 = |repeats| admitted(repeats, |_| dashmap.check_key(black_box(&keys[0])).is_ok());
    let our_keys = |repeats| admitted(repeats, |turn| check(&keys[spread(turn)]).verdict == Verdict::Allowed);
    let peer_keys = |repeats| admitted(repeats, |turn| dashmap.check_key(&keys[spread(turn)]).is_ok());

    let sides: [(&str, Side, Side); 3] = [
        ("rust-bucket", &ours, &peer),
        ("rust-key1", &our_key1, &peer_key1),
        ("rust-key100k", &our_keys, &peer_keys),
    ];
    let row = |(id, ours, peer): (&str, Side, Side)| {
        Row { id: &format!("{id}{suffix}"), peer: "governor", bound, threads }.measure(ours, peer)
    };
    sides.into_iter().filter_map(row).collect()
}

/// The least that any limiter does which keeps its state in one shared word: one compare-and-swap for a bucket; for
/// a key the hash of its string, then one compare-and-swap where that points to.
fn floors(threads: usize) -> Vec<Value> {
    let rule = Rule::new(PER_SECOND.into(), 1_000_000_000, BURST.into()).expect("the rule is in range");
    let keyed = KeyedRule::new(rule).expect("the rate is a whole number of tokens a nanosecond");
    let keys: Vec<String> = (0..100_000).map(|key| format!("user:{key}")).collect();
    let words: Vec<AtomicU64> = (0..1 << 19).map(AtomicU64::new).collect();
    let clock = Manual::new(1_000_000_000);
    let swap = |word: &AtomicU64| word.fetch_update(Relaxed, Relaxed, |seen| seen.checked_add(1)).is_ok();

    let bucket = Bucket::new(rule);
    let our_bucket =
        |repeats| admitted(repeats, |_| bucket.check(1, || clock.now_ns()).verdict == Verdict::Allowed);
    let bare_bucket = |repeats| admitted(repeats, |_| swap(&words[0]));

    let limiter =
        Limiter::new(&LimiterConfig { max_keys: 150_000, secret: None, ..LimiterConfig::default() })
            .expect("the size is in range");
    let key = |turn| limiter.key(keys[spread(turn)].as_bytes());
    let check = |turn| limiter.check(key(turn), &keyed, 1, || clock.now_ns()).verdict == Verdict::Allowed;
    let our_keys = |repeats| admitted(repeats, check);
    let bare_keys =
        |repeats| admitted(repeats, |turn| swap(&words[key(turn).to_raw() as usize % words.len()]));

    let row = |id, peer, ours: Side, bare: Side| Row { id, peer, bound: None, threads }.measure(ours, bare);
    let bucket_row = row("rust-bucket-floor", "one compare-and-swap", &our_bucket, &bare_bucket);
    let keys_row = row("rust-key100k-floor", "hash and one compare-and-swap", &our_keys, &bare_keys);
    [bucket_row, keys_row].into_iter().flatten().collect()
}

/// Bytes of a table for 36,000 live keys, and how many new keys it refuses while it fills up to that number.
pub fn memory() -> Value {
    const LIVE_KEYS: u64 = 36_000;
    let limiter =
        Limiter::new(&LimiterConfig { max_keys: LIVE_KEYS, secret: None, ..LimiterConfig::default() })
            .expect("the size is in range");
    let rule = Rule::new(1, 3_600_000_000_000, 1).and_then(KeyedRule::new).expect("the rule is in range");
    let check = |key: u64| limiter.check(limiter.key(&key.to_le_bytes()), &rule, 1, || 1).verdict;
    let refused = (0..LIVE_KEYS).filter(|key| check(*key) == Verdict::TableFull).count();
    let share = refused as f64 / LIVE_KEYS as f64;
    json!({
        "id": "limiter-memory", "threads": 1, "peer": "1,000,000 bytes; refused share 0.0001",
        "ours_bytes": limiter.stats().bytes, "refused_share": share, "bound": 1.0,
        "ratio": (limiter.stats().bytes as f64 / 1e6).max(share / 1e-4),
    })
}

fn admitted(repeats: u64, operation: impl Fn(u64) -> bool) -> u64 {
    (0..repeats).filter(|turn| operation(*turn)).count() as u64
}

/// Visits the keys in an order that no prefetcher follows; 61,803 has no factor in common with their number.
fn spread(turn: u64) -> usize {
    (turn.wrapping_mul(61_803) % 100_000) as usize
}
