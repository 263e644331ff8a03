//! What the breaker's vectors do: the golden traces T1 to T8 of the rules, and random ones from a seed.

use crate::breaker_model::{Model, splitmix64};
use elixirscope::breaker::{BreakerConfig, GRADUAL_ADMIT_BP, Mode, Outcome, Phase, Policy, Weights, Window};

#[derive(Debug, Clone, Copy)]
pub enum Step {
    Acquire,
    Ask,
    Record(usize, Outcome),
    Report(Outcome),
    Settle,
    Reset,
    SetMode(Mode),
    Reconfigure(BreakerConfig),
    Reinstall(BreakerConfig),
}

pub struct Trace {
    pub name: String,
    pub config: BreakerConfig,
    /// Each with its time.
    pub steps: Vec<(u64, Step)>,
}

const MS: u64 = 1_000_000;
const SEED: u64 = 0x5EED_B4EA;

fn tolerating(tolerated_failures: u32) -> BreakerConfig {
    BreakerConfig {
        policy: Policy::FailuresInPeriod { tolerated_failures, period_ns: 100 * MS },
        open_for_ns: 50 * MS,
        backoff_percent: 200,
        max_open_ns: 400 * MS,
        half_open_permits: 2,
        successes_to_close: 2,
        probe_lease_ns: 30 * MS,
        ..BreakerConfig::default()
    }
}

pub fn golden() -> Vec<Trace> {
    use Outcome::{Failure, Ignored, Success};
    use Step::{Acquire, Reconfigure, Record, Reset, SetMode};
    let trace = |name: &str, config: BreakerConfig, steps: &[(u64, Step)]| Trace {
        name: name.to_string(),
        config,
        steps: steps.iter().map(|(ms, step)| (ms * MS, *step)).collect(),
    };
    let config = tolerating(2);
    let failures = |at: &[u64]| {
        let both = |(permit, ms): (usize, &u64)| [(*ms, Acquire), (*ms, Record(permit, Failure))];
        at.iter().enumerate().flat_map(both).collect::<Vec<_>>()
    };
    let opened = |steps: &[(u64, Step)]| [&failures(&[0, 10, 20])[..], steps].concat();
    let t1 = [
        (69, Acquire),
        (70, Acquire),
        (71, Acquire),
        (72, Acquire),
        (80, Record(3, Success)),
        (81, Record(4, Success)),
    ];
    let t2 = [
        (70, Acquire),
        (71, Acquire),
        (80, Record(3, Failure)),
        (90, Record(4, Success)),
        (179, Acquire),
        (180, Acquire),
    ];
    let mut t5 = vec![(0, Acquire), (0, Acquire)];
    for (permit, ms) in [(2, 1), (3, 2), (4, 3)] {
        t5.extend([(ms, Acquire), (ms, Record(permit, Failure))]);
    }
    t5.extend([(53, Acquire), (60, Record(0, Success)), (60, Record(1, Failure)), (61, Acquire)]);
    let mut t6 = vec![];
    (3..23).for_each(|permit| t6.extend([(70, Acquire), (70, Record(permit, Ignored))]));
    t6.extend([(71, Acquire), (72, Record(23, Success)), (73, Acquire), (74, Record(24, Success))]);
    let t7 = [
        (0, Acquire),
        (0, Acquire),
        (0, Record(0, Failure)),
        (10, SetMode(Mode::ForcedOpen)),
        (1000, Acquire),
        (1001, Reset),
        (1002, SetMode(Mode::Auto)),
        (1003, Record(1, Failure)),
        (1004, Acquire),
        (1005, Record(2, Success)),
    ];
    let one_probe = BreakerConfig { half_open_permits: 1, successes_to_close: 1, ..config };
    let t8 = [
        (70, Acquire),
        (71, Reconfigure(one_probe)),
        (72, Record(3, Success)),
        (73, Acquire),
        (74, Record(4, Success)),
    ];
    vec![
        trace("T1 closes after two probes", config, &opened(&t1)),
        trace("T2 a failed probe opens again, for longer", config, &opened(&t2)),
        trace(
            "T3 lost probes expire",
            config,
            &opened(&[(70, Acquire), (71, Acquire), (99, Acquire), (100, Acquire)]),
        ),
        trace(
            "T3 one acquire settles an expiry and the open time",
            config,
            &opened(&[(70, Acquire), (71, Acquire), (1000, Acquire)]),
        ),
        trace("T4 a failure as old as the period does not count", tolerating(1), &failures(&[0, 100])),
        trace("T4 a younger one does", tolerating(1), &failures(&[0, 99])),
        trace("T4 nothing tolerated", tolerating(0), &failures(&[0])),
        trace("T5 a result of a closed era decides nothing", config, &t5),
        trace("T6 ignored probes return their slots", config, &opened(&t6)),
        trace("T7 forced open beats all", tolerating(0), &t7),
        trace("T8 another number of permits starts another round", config, &opened(&t8)),
    ]
}

/// The same numbers on every machine.
struct Random {
    seed: u64,
    drawn: u64,
}

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.drawn += 1;
        splitmix64(self.seed, self.drawn) % bound
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }
}

/// Small numbers, so that few steps go far. `unit` scales all durations.
fn random_config(random: &mut Random, kind: u64, unit: u64) -> BreakerConfig {
    let half_open_permits = 1 + random.below(4) as u32;
    let open_for_ns = random.below(30) * unit;
    let mut config = BreakerConfig {
        open_for_ns,
        half_open_permits,
        successes_to_close: 1 + random.below(half_open_permits.into()) as u32,
        probe_lease_ns: (1 + random.below(30)) * unit,
        release_expired_probes: random.one_in(4),
        ..BreakerConfig::default()
    };
    if random.one_in(3) {
        config.slow_call_ns = (1 + random.below(10)) * unit;
    }
    config.policy = match kind {
        0 => Policy::ConsecutiveFailures { failure_threshold: 1 + random.below(5) as u32 },
        1 => Policy::FailuresInPeriod {
            tolerated_failures: random.below(5) as u32,
            period_ns: (1 + random.below(60)) * unit,
        },
        _ => {
            let size = 1 + random.below(8) as u32;
            let buckets = 1 + random.below(4) as u32;
            let window = match kind {
                2 => Window::Count { size },
                _ => Window::Time { period_ns: (u64::from(buckets) + random.below(60)) * unit, buckets },
            };
            Policy::Rate {
                window,
                min_calls: 1 + random.below(size.into()) as u32,
                failure_rate_bp: random.one_of(&[1, 3_333, 5_000, 7_500, 10_000]),
                slow_call_rate_bp: random.one_of(&[1, 5_000, 10_000]),
            }
        }
    };
    if random.one_in(3) {
        config.backoff_percent = random.one_of(&[120, 150, 200, 10_000]);
        config.max_open_ns = if random.one_in(2) { open_for_ns * 4 } else { 0 };
    }
    if random.one_in(4) {
        config.jitter_bp = random.one_of(&[1, 2_500, 9_999]);
        config.seed = random.below(1 << 59);
    }
    if random.one_in(4) {
        config.half_open_limit_ns = (1 + random.below(40)) * unit;
        config.close_at_half_open_limit = random.one_in(2);
    }
    if random.one_in(2) {
        config.max_ignored_probes = 1 + random.below(2) as u32;
    }
    if random.one_in(3) {
        config.ramp_ns = (1 + random.below(60)) * unit;
        config.ramp_from_bp = 1 + random.below(10_000) as u32;
    }
    if random.one_in(3) {
        config.admit_bp = random.one_of(&[GRADUAL_ADMIT_BP, [9_000, 5_000, 3_333, 1]]);
    }
    if random.one_in(4) {
        config.level_bp = random.one_of(&[[1, 5_000, 10_000], [2_500, 2_500, 5_000]]);
    }
    if random.one_in(4) {
        let mut weight = || random.below(3) as u8;
        let (success, slow, ignored, cancelled) = (weight() / 2, weight(), weight() / 2, weight() / 2);
        config.weights = Weights { success, failure: 1 + weight(), slow, ignored, cancelled };
    }
    config.skip_half_open = random.one_in(8);
    config
}

pub fn random(number: u64) -> Trace {
    let mut random = Random { seed: SEED ^ number << 32, drawn: 0 };
    let unit = if number % 4 == 3 || number.is_multiple_of(5) { MS } else { 1 };
    let mut config = random_config(&mut random, number % 4, unit);
    if number.is_multiple_of(5) {
        (config.window_capacity, config.probe_capacity) = (8, 4);
    }
    // The steps are chosen with a model beside them, so that each permit is recorded once, or a probe twice in its own round.
    let mut shadow = Model::new(config);
    let (mut held, mut done) = (vec![], vec![]);
    let (mut steps, mut now) = (vec![], 0);
    for _ in 0..10 + random.below(6) {
        let farthest = if shadow.phase == Phase::Open { 40 } else { 10 };
        now += random.below(farthest) * unit;
        let outcome = match random.below(16) {
            0..3 => Outcome::Success,
            3..6 if shadow.phase == Phase::HalfOpen => Outcome::Ignored,
            6..10 if shadow.phase == Phase::HalfOpen => Outcome::Success,
            3..12 => Outcome::Failure,
            12 => Outcome::Slow,
            13 => Outcome::Ignored,
            14 => Outcome::Cancelled,
            _ => Outcome::Success,
        };
        let step = match random.below(40) {
            0 => Step::Reset,
            1 => Step::Settle,
            30..33 => Step::Ask,
            2 => {
                let modes = [Mode::Auto, Mode::ForcedOpen, Mode::ForcedClosed, Mode::MetricsOnly];
                Step::SetMode(if shadow.mode == Mode::Auto { random.one_of(&modes) } else { Mode::Auto })
            }
            3..6 if number.is_multiple_of(5) => {
                let kind = if random.one_in(2) { number % 4 } else { random.below(4) };
                let other = random_config(&mut random, kind, unit);
                if random.one_in(3) { Step::Reinstall(other) } else { Step::Reconfigure(other) }
            }
            6..12 if shadow.phase == Phase::Closed => Step::Report(outcome),
            6 => Step::Report(outcome),
            12..16 if !done.is_empty() => Step::Record(random.one_of(&done), outcome),
            16..30 if !held.is_empty() => {
                let permit = held.swap_remove(random.below(held.len() as u64) as usize);
                Step::Record(permit, outcome)
            }
            _ => Step::Acquire,
        };
        if let (Step::Acquire, Ok(permit)) = (step, shadow.apply(now, step)) {
            held.push(permit);
        }
        if let Step::Record(permit, _) = step {
            done.push(permit);
        }
        // A slot that also gave probes back by the end of their leases takes a second record of an ignored one for those.
        let is_guarded = |permit: usize| shadow.is_probe(permit) && !shadow.config.release_expired_probes;
        done.retain(|permit| is_guarded(*permit) && shadow.generation_of(*permit) == shadow.generation);
        steps.push((now, step));
    }
    Trace { name: format!("random {number}"), config, steps }
}

impl Model {
    /// Does a step; the permit's number, where one was granted.
    fn apply(&mut self, now: u64, step: Step) -> Result<usize, ()> {
        match step {
            Step::Acquire => return self.acquire(now).0.map_err(|_| ()),
            Step::Ask => _ = self.ask(now),
            Step::Record(permit, outcome) => _ = self.record(permit, outcome, now),
            Step::Report(outcome) => _ = self.report(outcome, now),
            Step::Settle => _ = self.settled(now),
            Step::Reset => _ = self.reset(now),
            Step::SetMode(mode) => _ = self.set_mode(mode, now),
            Step::Reconfigure(config) => _ = self.reconfigure(config, now),
            Step::Reinstall(config) => _ = self.reinstall(config, now),
        }
        Err(())
    }
}
