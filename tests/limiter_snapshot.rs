//! Snapshots (the first half of L25) and the files that they are kept in.
#![cfg(not(escope_model))]

#[path = "support/limiter_oracle.rs"]
mod oracle;
#[path = "support/limiter_setup.rs"]
mod setup;

use elixirscope::file::{LoadError, load_limiter, save_limiter};
use elixirscope::limiter::{By, FullPolicy, Key, Limiter, LimiterConfig, RestoreError, Verdict};
use proptest::prelude::*;
use setup::{SECOND, advance, after, config, keyed, later, limiter, rule, terms};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const WALL: u64 = 1_800_000_000 * SECOND;

fn restore(bytes: &[u8], now: u64, wall: u64) -> Limiter {
    Limiter::restore(bytes, &LimiterConfig::default(), now, wall).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The monotonic clock begins anew at another instant; the verdicts are those of a limiter that went on.
    #[test]
    fn l25_a_restored_limiter_goes_on(
        terms in terms(), costs in prop::collection::vec((0..6_u64, 1..14_u64, advance()), 1..40),
        pause in 0.0..20.0, restart in 0..1_000_000_u64,
        rest in prop::collection::vec((0..8_u64, 1..14_u64, advance()), 1..40),
    ) {
        let (limiter, rule) = (limiter(64), keyed(terms));
        let mut now = 1000;
        for (number, cost, gap) in costs {
            now = later(now, terms, gap);
            let key = limiter.key(&number.to_le_bytes());
            // Balances below zero, too.
            limiter.reserve(key, By::Rule(&rule), cost, 3 * after(terms, 1.0), || now);
        }
        let bytes = limiter.snapshot(now, WALL);
        let pause = later(now, terms, pause) - now;
        let restored = restore(&bytes, restart, WALL + pause);
        now += pause;
        prop_assert_eq!(restored.live_keys(|| restart), limiter.live_keys(|| now));
        let (start, mut passed) = (now, 0);
        for (number, cost, gap) in rest {
            passed = later(start.max(restart) + passed, terms, gap) - start.max(restart);
            let key = limiter.key(&number.to_le_bytes());
            prop_assert_eq!(restored.key(&number.to_le_bytes()), key, "the secret is the snapshot's");
            let expected = limiter.check(key, &rule, cost, || start + passed);
            prop_assert_eq!(restored.check(key, &rule, cost, || restart + passed), expected);
        }
    }

    /// Every byte counts: with any other value at any place there is no limiter.
    #[test]
    fn l25_a_damaged_snapshot_is_refused(at in 0.0..1.0, flip in 1..=255_u8, cut in 0.0..1.0) {
        let limiter = limiter(64);
        (0..20).for_each(|key| _ = limiter.check(Key::from_raw(key), &rule(1, SECOND, 3), 2, || 5));
        let bytes = limiter.snapshot(5, WALL);
        let restored = |bytes: &[u8]| Limiter::restore(bytes, &LimiterConfig::default(), 5, WALL).map(|_| ());
        prop_assert_eq!(restored(&bytes), Ok(()));
        let mut damaged = bytes.clone();
        damaged[(bytes.len() as f64 * at) as usize] ^= flip;
        prop_assert!(restored(&damaged).is_err());
        let cut = &bytes[..(bytes.len() as f64 * cut) as usize];
        let error = restored(cut).unwrap_err();
        let is_short = matches!(error, RestoreError::Truncated { .. } | RestoreError::NotASnapshot);
        prop_assert!(is_short, "{error}");
        prop_assert!(restored(&[&bytes[..], b"more"].concat()).is_err());
    }
}

#[test]
fn l25_where_the_wall_clock_went_back_nothing_is_paid_back() {
    let (limiter, rule) = (limiter(8), rule(1, 1000, 5));
    let key = limiter.key(b"key");
    assert!(limiter.check(key, &rule, 5, || 7).is_allowed());
    let bytes = limiter.snapshot(507, WALL);
    for (wall, owed) in [(WALL - 1, 4500), (WALL, 4500), (WALL + 500, 4000), (u64::MAX, 0)] {
        assert_eq!(restore(&bytes, 3, wall).peek(key, &rule, || 3).reset_after_ns, owed);
    }
}

/// Nor is there an entry of it, which would take a place.
#[test]
fn l25_a_key_that_has_paid_back_meanwhile_is_not_restored() {
    let (limiter, rule) = (limiter(8), rule(1, 1000, 5));
    let key = limiter.key(b"key");
    assert!(limiter.check(key, &rule, 5, || 7).is_allowed());
    let bytes = limiter.snapshot(7, WALL);
    assert!(restore(&bytes, 3, WALL + 4999).reset(key));
    assert!(!restore(&bytes, 3, WALL + 5000).reset(key));
}

/// Every key that had a place has one again, also where no other would find one.
#[test]
fn l25_a_table_that_is_full_to_the_last_place_comes_back_whole() {
    let (limiter, rule) = (limiter(200), rule(1, SECOND, 1));
    let held: Vec<Key> = (0..20_000_u64)
        .map(|number| limiter.key(&number.to_le_bytes()))
        .filter(|key| limiter.check(*key, &rule, 1, || 5).is_allowed())
        .collect();
    assert!(held.len() > 320, "{} of 336 places", held.len());
    let restored = restore(&limiter.snapshot(5, WALL), 5, WALL);
    assert_eq!(restored.stats().capacity, limiter.stats().capacity);
    for key in held {
        assert_eq!(restored.check(key, &rule, 1, || 5).verdict, Verdict::Limited);
    }
}

/// Also where a place is free by now in a line that was full when the key came.
#[test]
fn l25_a_key_gets_back_into_its_section() {
    let (limiter, rule) = (limiter(30), rule(1, SECOND, 1));
    let keys: Vec<Key> = (0..60_u64).map(|number| limiter.key(&number.to_le_bytes())).collect();
    keys.iter().for_each(|key| _ = limiter.check(*key, &rule, 1, || 5));
    keys.iter().step_by(2).for_each(|key| _ = limiter.reset(*key));
    let entries = |limiter: &Limiter| {
        let bytes = limiter.snapshot(5, WALL);
        let entries = bytes[64..bytes.len() - 8].chunks(16).map(<[u8]>::to_vec);
        let mut entries: Vec<Vec<u8>> = entries.collect();
        entries.sort();
        entries
    };
    let before = entries(&limiter);
    let sections: BTreeSet<u8> = before.iter().map(|entry| entry[7] >> 6).collect();
    assert_eq!(sections.len(), 4);
    assert_eq!(entries(&restore(&limiter.snapshot(5, WALL), 5, WALL)), before);
}

#[test]
fn l25_the_overflow_bucket_is_kept() {
    let config = LimiterConfig { full_policy: FullPolicy::OverflowKey, ..config(1) };
    let (limiter, rule) = (Limiter::new(&config).unwrap(), rule(1, 1000, 10));
    (0..16).for_each(|number| assert!(limiter.check(Key::from_raw(number), &rule, 9, || 5).is_allowed()));
    assert!(limiter.check(Key::from_raw(77), &rule, 10, || 5).is_allowed());
    let restored = Limiter::restore(&limiter.snapshot(5, WALL), &config, 5, WALL).unwrap();
    assert_eq!(restored.check(Key::from_raw(78), &rule, 1, || 5).retry_after_ns, 1000);
}

#[test]
fn l25_a_snapshot_of_nothing_is_short() {
    let limiter = limiter(100_000);
    let bytes = limiter.snapshot(5, WALL);
    assert_eq!((bytes.len(), &bytes[..8]), (72, &b"ESCOPEL1"[..]));
    assert_eq!(restore(&limiter.snapshot(5, WALL), 5, WALL).live_keys(|| 5), 0);
    let other = Limiter::restore(b"ESCOPEB1 is another's", &LimiterConfig::default(), 5, WALL);
    assert_eq!(other.map(|_| ()), Err(RestoreError::NotASnapshot));
}

/// Snapshots are taken while threads check, reset and lose keys. Each restores, and a key in it owes no more than it ever could.
#[test]
fn l25_a_snapshot_while_keys_change_can_be_restored() {
    let (limiter, rule, done) = (limiter(50), rule(1, 1000, 3), AtomicBool::new(false));
    thread::scope(|scope| {
        for seed in 1..=2_u64 {
            let (limiter, rule, done) = (&limiter, &rule, &done);
            scope.spawn(move || {
                let mut random = seed;
                while !done.load(Ordering::Relaxed) {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let key = limiter.key(&(random >> 57).to_le_bytes());
                    limiter.check(key, rule, 1, || 5);
                    if random >> 55 & 3 == 0 {
                        limiter.reset(key);
                    }
                }
            });
        }
        for _ in 0..2000 {
            let restored = restore(&limiter.snapshot(5, WALL), 5, WALL);
            for number in 0..128_u64 {
                assert!(
                    restored.peek(restored.key(&number.to_le_bytes()), &rule, || 5).reset_after_ns <= 3000
                );
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// A folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{}", std::process::id()));
    _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn l25_a_file_is_replaced_as_a_whole() {
    let folder = folder("replaced");
    let path = folder.join("limits");
    let (limiter, rule) = (limiter(64), rule(1, 1000, 5));
    let key = limiter.key(b"key");
    for owed in 1..=3 {
        assert!(limiter.check(key, &rule, 1, || 5).is_allowed());
        save_limiter(&limiter, &path, 5, WALL).unwrap();
        let loaded = load_limiter(&path, &LimiterConfig::default(), 9, WALL).unwrap();
        assert_eq!(loaded.peek(key, &rule, || 9).reset_after_ns, owed * 1000);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["limits"]);
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn l25_a_damaged_file_is_refused_and_kept() {
    let folder = folder("damaged");
    let path = folder.join("limits");
    save_limiter(&limiter(64), &path, 5, WALL).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = load_limiter(&path, &LimiterConfig::default(), 5, WALL).unwrap_err();
    assert!(matches!(error, LoadError::Restore(RestoreError::Damaged)), "{error}");
    assert_eq!(error.to_string(), "a snapshot whose checksum does not match");
    assert_eq!(fs::read(&path).unwrap(), bytes);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn l25_a_save_that_fails_leaves_nothing_behind() {
    let folder = folder("failed");
    let taken = folder.join("a folder has this name");
    fs::create_dir_all(taken.join("with something in it")).unwrap();
    assert!(save_limiter(&limiter(64), &taken, 5, WALL).is_err());
    assert!(save_limiter(&limiter(64), &folder.join("no such folder/limits"), 5, WALL).is_err());
    assert!(save_limiter(&limiter(64), &folder.join(".."), 5, WALL).is_err());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    let missing = load_limiter(&folder.join("limits"), &LimiterConfig::default(), 5, WALL);
    assert!(matches!(missing, Err(LoadError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound));
    fs::remove_dir_all(folder).unwrap();
}
