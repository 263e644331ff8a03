//! A breaker is a cell: the same memory at two addresses, or in two processes, is one breaker, and a process that is
//! killed leaves it valid.
#![cfg(not(escope_loom))]
#![allow(unsafe_code)] // The core takes words where they lie; only a test, so far, puts them in shared memory.

use elixirscope::breaker::{
    Breaker, BreakerConfig, Cell, Event, Events, Head, Level, Mode, Outcome, Permit, Phase, Policy,
    RecordVerdict, Snapshot, Window,
};
use elixirscope::sync::AtomicWide;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::null_mut;
use std::time::{Duration, Instant};

/// Memory that is shared with every other mapping of the same file, in this process and in its children: a head,
/// places for probes, places for results.
struct Mapping {
    start: *mut u8,
    bytes: usize,
    probes: usize,
    window: usize,
}

impl Mapping {
    fn of(file: &File, config: &BreakerConfig) -> Self {
        let (probes, window) = (config.probe_places(), config.window_places());
        let bytes = size_of::<Head>() + (probes + window) * size_of::<AtomicWide>();
        file.set_len(bytes as u64).unwrap();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of this process.
        let start = unsafe { libc::mmap(null_mut(), bytes, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(start, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Self { start: start.cast(), bytes, probes, window }
    }

    /// Makes the memory a closed breaker. Nobody else may use it yet.
    fn begin(self, config: &BreakerConfig) -> Self {
        // SAFETY: the mapping is page-aligned and longer than a head, and nobody holds a reference into it.
        unsafe { self.start.cast::<Head>().write(Head::new(config)) };
        self
    }

    fn cell(&self) -> Cell<'_> {
        // SAFETY: `begin` has put a head at the start of this file; behind it lie `probes` and `window` words, zeroed or
        // written by this type's atomics, aligned as the head's size is. The mapping lives as long as `self`.
        unsafe {
            let words = self.start.add(size_of::<Head>()).cast::<AtomicWide>();
            let probes = std::slice::from_raw_parts(words, self.probes);
            let window = std::slice::from_raw_parts(words.add(self.probes), self.window);
            Cell::over(&*self.start.cast::<Head>(), probes, window)
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `of` made this mapping, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// A file without a name, which is gone when the last process closes it.
fn memory() -> File {
    // SAFETY: the name is a C string; the descriptor is new and owned by the `File` alone.
    let file = unsafe { File::from_raw_fd(libc::memfd_create(c"breaker".as_ptr(), libc::MFD_CLOEXEC)) };
    assert!(file.as_raw_fd() >= 0);
    file
}

fn configs() -> [BreakerConfig; 4] {
    let rate =
        |window| Policy::Rate { window, min_calls: 3, failure_rate_bp: 6_000, slow_call_rate_bp: 10_000 };
    [
        Policy::ConsecutiveFailures { failure_threshold: 3 },
        Policy::FailuresInPeriod { tolerated_failures: 2, period_ns: 50_000_000 },
        rate(Window::Count { size: 5 }),
        rate(Window::Time { period_ns: 40_000_000, buckets: 4 }),
    ]
    .map(|policy| BreakerConfig {
        policy,
        open_for_ns: 30_000_000,
        half_open_permits: 3,
        successes_to_close: 2,
        probe_lease_ns: 20_000_000,
        ramp_ns: 10_000_000,
        window_capacity: 8,
        ..BreakerConfig::default()
    })
}

/// Numbers that look random, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn outcome(&mut self) -> Outcome {
        let outcomes = [Outcome::Success, Outcome::Failure, Outcome::Failure, Outcome::Ignored];
        outcomes[self.below(4) as usize]
    }
}

fn list(events: &Events) -> Vec<Event> {
    events.iter().collect()
}

/// Runs the same calls on a breaker that is mapped twice, by turns, and on one of its own: the answers are equal.
#[test]
fn a_breaker_at_two_addresses_is_one_breaker() {
    for config in configs() {
        let file = memory();
        let mapped = [Mapping::of(&file, &config).begin(&config), Mapping::of(&file, &config)];
        assert_ne!(mapped[0].start, mapped[1].start);
        let own = Breaker::new(&config).unwrap();
        let (mut random, mut now, mut phases) = (Random(1), 0, [0; 3]);
        for _ in 0..20_000 {
            now += random.below(4_000_000);
            let here = mapped[random.below(2) as usize].cell();
            let mut events = Events::default();
            match random.below(40) {
                0 => {
                    here.reset(now, &mut events);
                    assert_eq!(list(&events), list(&own.reset(|| now)));
                }
                1 => {
                    let other = configs()[random.below(4) as usize];
                    here.reconfigure(&other, now, &mut events).unwrap();
                    assert_eq!(list(&events), list(&own.reconfigure(&other, || now).unwrap()));
                }
                _ => {
                    let (mine, theirs) = (own.acquire(|| now), here.acquire(|| now, &mut events));
                    assert_eq!(list(&mine.events), list(&events));
                    assert_eq!(mine.verdict, theirs);
                    if let (Ok(mine), Ok(theirs)) = (mine.verdict, theirs) {
                        let (outcome, mut events) = (random.outcome(), Events::default());
                        let there = mapped[random.below(2) as usize].cell();
                        let recorded = own.record(mine, outcome, || now);
                        assert_eq!(recorded.verdict, there.record(theirs, outcome, || now, &mut events));
                        assert_eq!(list(&recorded.events), list(&events));
                    }
                }
            }
            let expected = own.snapshot(|| now);
            phases[expected.phase as usize] += 1;
            for mapping in &mapped {
                let seen = mapping.cell().snapshot(now);
                assert_eq!(Snapshot { counts: expected.counts, ..seen }, expected);
            }
        }
        assert!(phases.iter().all(|count| *count > 500), "{phases:?}");
    }
}

/// What a child does until it is killed: everything, with a clock of its own that starts at `now`.
fn work(mapping: &Mapping, seed: u64, mut now: u64) -> ! {
    let (cell, all, mut random) = (mapping.cell(), configs(), Random(seed));
    let mut held: [Option<Permit>; 4] = [const { None }; 4];
    loop {
        now += random.below(3_000_000);
        let mut events = Events::default();
        let place = &mut held[random.below(4) as usize];
        match (random.below(64), place.take()) {
            (0, _) => cell.reset(now, &mut events),
            (1, _) => cell.set_mode(Mode::MetricsOnly, now, &mut events),
            (2 | 3, _) => cell.set_mode(Mode::Auto, now, &mut events),
            (4, _) => _ = cell.reconfigure(&all[random.below(4) as usize], now, &mut events),
            (5, _) => _ = cell.report(random.outcome(), || now, &mut events),
            (_, Some(permit)) => _ = cell.record(permit, random.outcome(), || now, &mut events),
            (_, None) => *place = cell.acquire(|| now, &mut events).ok(),
        }
    }
}

fn call(cell: Cell<'_>, outcome: Outcome, now: u64) -> RecordVerdict {
    let mut events = Events::default();
    let permit = cell.acquire(|| now, &mut events).expect("the breaker admits");
    cell.record(permit, outcome, || now, &mut events)
}

/// Whatever a dead process left: what can be seen holds together, and a whole cycle works.
fn check(cell: Cell<'_>, config: &BreakerConfig, now: u64) {
    let seen = cell.snapshot(now);
    assert!(seen.live_probes <= 3 && seen.opens <= 255, "{seen:?}");
    assert!(seen.failures <= seen.window_calls.max(3) && seen.slow_calls == 0, "{seen:?}");
    assert!(seen.phase == Phase::Closed || seen.level == Level::None, "{seen:?}");
    assert!(seen.phase != Phase::Closed || seen.retry_after_ns == 0, "{seen:?}");
    let mut events = Events::default();
    // R11: nothing that was left, live probes or half a transition, keeps it from admitting.
    cell.set_mode(Mode::Auto, now, &mut events);
    let later = now + config.probe_lease_ns;
    cell.settle(later, &mut events);
    let later = later + 2 * config.open_for_ns;
    let admitted = cell.acquire(|| later, &mut Events::default());
    assert!(admitted.is_ok() || cell.snapshot(later).phase == Phase::Closed, "{admitted:?}");
    // Then a cycle: closed, open, half-open, closed.
    let mut events = Events::default();
    cell.reconfigure(config, later, &mut events).unwrap();
    cell.reset(later, &mut events);
    assert!(cell.snapshot(later).last_cause.is_some());
    for _ in 0..3 {
        assert_eq!((cell.snapshot(later).phase, cell.snapshot(later).mode), (Phase::Closed, Mode::Auto));
        assert_eq!(call(cell, Outcome::Failure, later), RecordVerdict::Applied);
    }
    assert_eq!(cell.snapshot(later).phase, Phase::Open);
    assert!(cell.acquire(|| later + config.open_for_ns - 1, &mut Events::default()).is_err());
    let probing = later + config.open_for_ns;
    assert_eq!(call(cell, Outcome::Success, probing), RecordVerdict::Applied);
    assert_eq!(cell.snapshot(probing).phase, Phase::HalfOpen);
    assert_eq!(call(cell, Outcome::Success, probing), RecordVerdict::Applied);
    assert_eq!(cell.snapshot(probing).phase, Phase::Closed);
    assert_eq!(cell.snapshot(probing + config.ramp_ns).failures, 0);
}

/// A child works on the breaker until SIGKILL ends it, at another moment each time; this process finds it valid.
/// `ESCOPE_KILLS` sets how often.
#[test]
fn a_killed_process_leaves_a_valid_breaker() {
    let rounds = std::env::var("ESCOPE_KILLS").map_or(1_000, |kills| kills.parse::<u64>().unwrap());
    let all = configs();
    let files = all.map(|_| memory());
    let mappings: Vec<_> =
        files.iter().zip(&all).map(|(file, config)| Mapping::of(file, config).begin(config)).collect();
    let (mut random, mut now, mut phases) = (Random(99), 0, [0; 3]);
    for round in 0..rounds {
        let (mapping, config) = (&mappings[(round % 4) as usize], &all[(round % 4) as usize]);
        now += 1_000_000_000;
        // SAFETY: the child takes no lock and allocates nothing: it only works on atomics, and never returns.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: takes numbers only. Should this thread fail, the child ends with it.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            work(mapping, round, now);
        }
        // Until the child has begun, and then for a while: no verdict depends on how long.
        let before = mapping.cell().snapshot(now).generation;
        while mapping.cell().snapshot(now).generation.wrapping_sub(before) < 2 {
            std::thread::yield_now();
        }
        let end = Instant::now() + Duration::from_nanos(random.below(200_000));
        while Instant::now() < end {}
        // SAFETY: `pid` is a child of this process that nobody has waited for; a null status is allowed.
        unsafe {
            assert_eq!(libc::kill(pid, libc::SIGKILL), 0);
            assert_eq!(libc::waitpid(pid, null_mut(), 0), pid);
        }
        phases[mapping.cell().snapshot(now).phase as usize] += 1;
        // The child's clock may have run ahead: no time of this check lies before one of its.
        now += 1 << 44;
        check(mapping.cell(), config, now);
    }
    println!("{rounds} processes were killed in {phases:?} (closed, open, half-open)");
    assert!(phases.iter().all(|count| *count > 0), "{phases:?}");
}
