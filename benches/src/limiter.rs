//! Limiter beside governor: one bucket, one key, 100,000 string keys; beside itself: a flood of keys, a group of three; and
//! what the table weighs.

use crate::side_by_side::{Row, Side};
use elixirscope::clock::{Clock, Manual, Monotonic};
use elixirscope::limiter::{Bucket, By, Charge, KeyedRule, Limiter, LimiterConfig, Rule, Verdict};
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
    let mut rows = with_clocks(threads, "", true, &manual, &FakeRelativeClock::default());
    rows.extend(with_clocks(threads, " (default clocks)", false, &Monotonic, &DefaultClock::default()));
    rows.extend(floors(threads));
    rows.extend(flood(threads));
    rows.extend(group(threads));
    rows
}

fn with_clocks<P: PeerClock + Clone + Sync + Send>(
    threads: usize,
    suffix: &str,
    bounded: bool,
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
    let our_keys = |repeats| admitted(repeats, |turn| check(&keys[next(turn)]).verdict == Verdict::Allowed);
    let peer_keys = |repeats| admitted(repeats, |turn| dashmap.check_key(&keys[next(turn)]).is_ok());
    let our_cold = |repeats| admitted(repeats, |turn| check(&keys[spread(turn)]).verdict == Verdict::Allowed);
    let peer_cold = |repeats| admitted(repeats, |turn| dashmap.check_key(&keys[spread(turn)]).is_ok());

    let sides: [(&str, Option<f64>, Side, Side); 4] = [
        ("rust-bucket", Some(1.0), &ours, &peer),
        ("rust-key1", Some(0.8), &our_key1, &peer_key1),
        ("rust-key100k", Some(0.8), &our_keys, &peer_keys),
        // The strings themselves come from memory, which costs both sides the same.
        ("rust-key100k-cold", None, &our_cold, &peer_cold),
    ];
    let row = |(id, bound, ours, peer): (&str, Option<f64>, Side, Side)| {
        let bound = bound.filter(|_| bounded);
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
    let key = |turn| limiter.key(keys[next(turn)].as_bytes());
    let check = |turn| limiter.check(key(turn), &keyed, 1, || clock.now_ns()).verdict == Verdict::Allowed;
    let our_keys = |repeats| admitted(repeats, check);
    let bare_keys =
        |repeats| admitted(repeats, |turn| swap(&words[key(turn).to_raw() as usize % words.len()]));

    let row = |id, peer, ours: Side, bare: Side| Row { id, peer, bound: None, threads }.measure(ours, bare);
    let bucket_row = row("rust-bucket-floor", "one compare-and-swap", &our_bucket, &bare_bucket);
    let keys_row = row("rust-key100k-floor", "hash and one compare-and-swap", &our_keys, &bare_keys);
    [bucket_row, keys_row].into_iter().flatten().collect()
}

fn limiter(max_keys: u64) -> Limiter {
    Limiter::new(&LimiterConfig { max_keys, ..LimiterConfig::default() }).expect("the size is in range")
}

/// Ten million keys, each of which comes once and owes for a millisecond, through a table for 50,000; beside as many checks of
/// 100,000 keys. By real clocks, which make the places of the flood free again.
fn flood(threads: usize) -> Option<Value> {
    const KEYS: u64 = 10_000_000;
    let rule = |tokens, burst| Rule::new(tokens, 1_000_000, burst).and_then(KeyedRule::new);
    let (once, often) = (rule(1, 1).expect("in range"), rule(1_000_000, BURST.into()).expect("in range"));
    let (flooded, steady, next) = (limiter(50_000), limiter(150_000), AtomicU64::new(0));
    let bytes = flooded.stats().bytes;
    let our_flood = |repeats| {
        let first = next.fetch_add(repeats, Relaxed);
        admitted(repeats, |turn| {
            let key = flooded.key(&(first + turn).to_le_bytes());
            flooded.check(key, &once, 1, || Monotonic.now_ns()).verdict == Verdict::Allowed
        })
    };
    let steady_keys = |repeats| {
        admitted(repeats, |turn| {
            let key = steady.key(&(spread(turn) as u64).to_le_bytes());
            steady.check(key, &often, 1, || Monotonic.now_ns()).verdict == Verdict::Allowed
        })
    };
    let mut row = Row { id: "rust-flood", peer: "100,000 keys", bound: Some(3.0), threads }
        .measure(&our_flood, &steady_keys)?;
    our_flood(KEYS.saturating_sub(next.load(Relaxed)));
    assert_eq!(flooded.stats().bytes, bytes, "a flood takes no memory");
    row["keys"] = json!(next.load(Relaxed));
    row["refused"] = json!(flooded.stats().table_full);
    Some(row)
}

/// A user of 100,000, an organisation and everybody in one call, beside one check of the user.
fn group(threads: usize) -> Option<Value> {
    let rule = Rule::new(PER_SECOND.into(), 1_000_000_000, BURST.into()).expect("the rule is in range");
    let keyed = KeyedRule::new(rule).expect("the rate is a whole number of tokens a nanosecond");
    let keys: Vec<String> = (0..100_000).map(|key| format!("user:{key}")).collect();
    let (clock, limiter) = (Manual::new(1_000_000_000), limiter(150_000));
    let charge = |name: &str| Charge { key: limiter.key(name.as_bytes()), by: By::Rule(&keyed), cost: 1 };
    let blank = limiter.peek(limiter.key(b""), &keyed, || 0);
    let of_three = |repeats| {
        admitted(repeats, |turn| {
            let charges = [&keys[spread(turn)], "organisation:7", "global"].map(charge);
            let group = limiter.check_many(&charges, &mut [blank; 3], || clock.now_ns());
            group.is_ok_and(|group| group.verdict == Verdict::Allowed)
        })
    };
    let of_one = |repeats| {
        admitted(repeats, |turn| {
            let key = limiter.key(keys[spread(turn)].as_bytes());
            limiter.check(key, &keyed, 1, || clock.now_ns()).verdict == Verdict::Allowed
        })
    };
    Row { id: "rust-group3", peer: "one key", bound: Some(4.0), threads }.measure(&of_three, &of_one)
}

/// Bytes of a table, and how many new keys it refuses: while it fills up to the keys it is made for, and then while as many
/// again replace them one by one.
pub fn memory() -> [Value; 2] {
    let sizes = [("limiter-memory", 36_000, 1_000_000), ("limiter-memory-1m", 1_000_000, 28_000_000)];
    sizes.map(|(id, keys, bytes)| memory_for(id, keys, bytes))
}

fn memory_for(id: &str, live_keys: u64, most_bytes: u64) -> Value {
    const SHARE: f64 = 1e-4;
    let limiter = limiter(live_keys);
    let rule = Rule::new(1, 3_600_000_000_000, 1).and_then(KeyedRule::new).expect("the rule is in range");
    let key = |number: u64| limiter.key(&number.to_le_bytes());
    let is_refused = |number: &u64| limiter.check(key(*number), &rule, 1, || 1).verdict == Verdict::TableFull;
    let mut refused = 0;
    let [half, most, full] = [(0, 50), (50, 75), (75, 100)].map(|(from, to)| {
        refused += (live_keys * from / 100..live_keys * to / 100).filter(is_refused).count();
        refused as f64 / (live_keys * to / 100) as f64
    });
    let replaced = (live_keys..2 * live_keys).filter(|number| {
        limiter.reset(key(number - live_keys));
        is_refused(number)
    });
    let churn = replaced.count() as f64 / live_keys as f64;
    let bytes = limiter.stats().bytes;
    let share = full.max(churn);
    json!({
        "id": id, "threads": 1, "peer": format!("{most_bytes} bytes; refused share {SHARE}"),
        "ours_bytes": bytes, "refused_share": share, "bound": 1.0,
        "refused_at_50": half, "refused_at_75": most, "refused_at_100": full, "refused_under_churn": churn,
        "ratio": (bytes as f64 / most_bytes as f64).max(share / SHARE),
    })
}

fn admitted(repeats: u64, operation: impl Fn(u64) -> bool) -> u64 {
    (0..repeats).filter(|turn| operation(*turn)).count() as u64
}

/// Visits the strings as they lie in memory: who limits a request has just read its key. The hash scatters them over both
/// tables.
fn next(turn: u64) -> usize {
    (turn % 100_000) as usize
}

/// Visits the keys in an order that no prefetcher follows; 61,803 has no factor in common with their number.
fn spread(turn: u64) -> usize {
    (turn.wrapping_mul(61_803) % 100_000) as usize
}
