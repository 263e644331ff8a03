//! What a pool may be told.

use elixirscope::pool::*;

#[test]
fn a_configuration_out_of_range_names_the_argument() {
    let refused = |config: PoolConfig| Pool::new(&config).unwrap_err().to_string();
    let base = PoolConfig::default();
    assert_eq!(
        refused(PoolConfig { size: 0, max_overflow: 0, ..base }),
        "`size` is 0, allowed is 1 or more when max_overflow is 0"
    );
    assert!(refused(PoolConfig { size: u32::MAX, ..base }).starts_with("`size` is 4294967295"));
    assert!(refused(PoolConfig { max_overflow: 65_536, ..base }).starts_with("`max_overflow` is 65536"));
    assert!(refused(PoolConfig { max_waiters: 1_000_001, ..base }).starts_with("`max_waiters` is 1000001"));
    assert!(refused(PoolConfig { create_backoff_ns: 0, ..base }).starts_with("`create_backoff_ns` is 0"));
    assert!(
        refused(PoolConfig { create_backoff_cap_ns: 1, ..base })
            .starts_with("`create_backoff_cap_ns` is 1, allowed")
    );
    assert!(Pool::new(&PoolConfig { size: 0, max_overflow: 1, max_waiters: 0, ..base }).is_ok());
}

/// Runs itself again in a process that may use less memory than the largest queue takes.
#[test]
fn a_queue_that_does_not_fit_in_memory_is_refused() {
    const NAME: &str = "a_queue_that_does_not_fit_in_memory_is_refused";
    if std::env::var_os("ESCOPE_TEST_LITTLE_MEMORY").is_some() {
        let config = PoolConfig { max_waiters: MAX_WAITERS, ..PoolConfig::default() };
        let refused = Pool::new(&config).expect_err("less memory than that").to_string();
        assert_eq!(refused, "`max_waiters` is 1000000, allowed is a number of waiters that fit in memory");
        return;
    }
    let limited = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 120000 && exec \"$0\" --exact \"$1\" --test-threads=1"])
        .args([std::env::current_exe().unwrap().as_os_str(), NAME.as_ref()])
        .env("ESCOPE_TEST_LITTLE_MEMORY", "1")
        .output()
        .unwrap();
    assert!(limited.status.success(), "{limited:?}");
}

/// Numbers that the pages of all languages name.
#[test]
fn defaults_and_ends_are_as_documented() {
    let PoolConfig { size, max_overflow, max_waiters, create_backoff_ns, create_backoff_cap_ns, .. } =
        PoolConfig::default();
    assert_eq!((size, max_overflow, max_waiters), (5, 10, 10_000));
    assert_eq!((create_backoff_ns, create_backoff_cap_ns), (100_000_000, 10_000_000_000));
    assert_eq!((MAX_SLOTS, MAX_WAITERS, NO_PRE_PING), (65_536, 1_000_000, u64::MAX));
}

#[test]
fn a_configuration_at_the_ends_of_the_range_is_taken() {
    let base = PoolConfig { size: 1, max_overflow: 0, max_waiters: 1, ..PoolConfig::default() };
    let argument = |config: PoolConfig| config.validate().map_err(|error| error.argument);
    for (size, max_overflow, expected) in [
        (MAX_SLOTS, 0, Ok(())),
        (0, MAX_SLOTS, Ok(())),
        (MAX_SLOTS, 1, Err("max_overflow")),
        (MAX_SLOTS + 1, 0, Err("size")),
        (1, MAX_SLOTS, Err("max_overflow")),
    ] {
        assert_eq!(
            argument(PoolConfig { size, max_overflow, ..base }),
            expected,
            "{size} and {max_overflow}"
        );
    }
    for (max_slots, expected) in [
        (0, Ok(())),
        (2, Err("max_slots")),
        (3, Ok(())),
        (4, Ok(())),
        (MAX_SLOTS, Ok(())),
        (MAX_SLOTS + 1, Err("max_slots")),
        (u32::MAX, Err("max_slots")),
    ] {
        let config = PoolConfig { size: 1, max_overflow: 2, max_slots, ..base };
        assert_eq!(argument(config), expected, "{max_slots}");
    }
    assert_eq!(argument(PoolConfig { max_waiters: MAX_WAITERS, ..base }), Ok(()));
    assert_eq!(argument(PoolConfig { max_waiters: MAX_WAITERS + 1, ..base }), Err("max_waiters"));
}
