//! Sequential reference model of the circuit breaker: the rules in the plainest words, no packing, no atomics.
//!
//! It keeps every result of a generation and looks at all of them each time. It is told times that never fall, and
//! a permit is recorded twice only within its own round of probes.

use elixirscope::breaker::{
    BreakerConfig, Cause, Counts, Event, Level, Mode, Outcome, Phase, Policy, RecordVerdict, RejectReason,
    Rejection, Snapshot, Window,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free,
    Live { permit: usize, deadline: u64 },
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Held,
    Expired,
    Done,
}

/// What the model knows of a permit it granted, by its number.
#[derive(Debug, Clone, Copy)]
struct Known {
    generation: u32,
    slot: Option<usize>,
    started: Option<u64>,
    fate: Fate,
}

/// A result that a closed breaker counted.
#[derive(Debug, Clone, Copy)]
struct Sample {
    weight: u64,
    slow: bool,
    at: u64,
}

/// What a window adds up to.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    calls: u64,
    failures: u64,
    slow: u64,
}

#[derive(Debug)]
pub struct Model {
    pub config: BreakerConfig,
    pub phase: Phase,
    pub mode: Mode,
    pub generation: u32,
    until: u64,
    entered: u64,
    opens: u32,
    /// Since when it ramps, and how often it had opened before.
    ramp: Option<(u64, u32)>,
    in_a_row: u64,
    samples: Vec<Sample>,
    slots: Vec<Slot>,
    successes: u32,
    failures: u32,
    ignored: u32,
    told: Level,
    tellings: u32,
    accumulator: u32,
    permits: Vec<Known>,
    last: Option<(Cause, u64)>,
    counts: Counts,
    events: Vec<Event>,
}

impl Model {
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            phase: Phase::Closed,
            mode: Mode::Auto,
            generation: 1,
            until: 0,
            entered: 0,
            opens: 0,
            ramp: None,
            in_a_row: 0,
            samples: vec![],
            slots: vec![],
            successes: 0,
            failures: 0,
            ignored: 0,
            told: Level::None,
            tellings: 0,
            accumulator: 0,
            permits: vec![],
            last: None,
            counts: Counts::default(),
            events: vec![],
        }
    }

    /// The number of the permit, or the rejection; and the events.
    pub fn acquire(&mut self, now: u64) -> (Result<usize, Rejection>, Vec<Event>) {
        self.settle(now);
        let reject = |reason, retry_after_ns| Err(Rejection { reason, retry_after_ns });
        let verdict = match self.phase {
            _ if self.mode == Mode::ForcedOpen => reject(RejectReason::ForcedOpen, u64::MAX),
            Phase::Closed => {
                if self.admits(now) {
                    Ok(self.grant(None, now))
                } else {
                    reject(RejectReason::Degraded, 1_000_000)
                }
            }
            Phase::Open if now < self.until => reject(RejectReason::Open, self.until - now),
            Phase::Open => {
                self.enter(Phase::HalfOpen, Cause::OpenElapsed, now);
                Ok(self.grant(Some(0), now))
            }
            Phase::HalfOpen => match self.slots.iter().position(|slot| *slot == Slot::Free) {
                Some(slot) => Ok(self.grant(Some(slot), now)),
                None => reject(RejectReason::HalfOpenFull, self.next_deadline() - now),
            },
        };
        self.count_asked(verdict.err());
        (verdict, std::mem::take(&mut self.events))
    }

    /// As an acquire whose permit is given back at once, and which is no probe.
    pub fn ask(&mut self, now: u64) -> (Result<(), Rejection>, Vec<Event>) {
        self.settle(now);
        let reject = |reason, retry_after_ns| Err(Rejection { reason, retry_after_ns });
        let verdict = match self.phase {
            _ if self.mode == Mode::ForcedOpen => reject(RejectReason::ForcedOpen, u64::MAX),
            Phase::Closed => {
                if self.admits(now) {
                    Ok(())
                } else {
                    reject(RejectReason::Degraded, 1_000_000)
                }
            }
            Phase::Open => reject(RejectReason::Open, self.until.saturating_sub(now).max(1)),
            Phase::HalfOpen => reject(RejectReason::HalfOpenFull, 1),
        };
        self.count_asked(verdict.err());
        self.counts.cancelled += u64::from(verdict.is_ok());
        (verdict, std::mem::take(&mut self.events))
    }

    pub fn record(&mut self, permit: usize, outcome: Outcome, now: u64) -> (RecordVerdict, Vec<Event>) {
        let verdict = self.recorded(permit, outcome, now);
        let counts = &mut self.counts;
        match (verdict, outcome) {
            (RecordVerdict::Applied, Outcome::Success | Outcome::Slow) => counts.succeeded += 1,
            (RecordVerdict::Applied, Outcome::Failure) => counts.failed += 1,
            (RecordVerdict::Applied, Outcome::Ignored) => counts.ignored += 1,
            (RecordVerdict::Applied, Outcome::Cancelled) => counts.cancelled += 1,
            (RecordVerdict::Stale, _) => counts.stale += 1,
            (RecordVerdict::Expired, _) => counts.expired += 1,
            (RecordVerdict::AlreadyDone | RecordVerdict::NotFound, _) => {}
        }
        (verdict, std::mem::take(&mut self.events))
    }

    /// The result of a call without a permit.
    pub fn report(&mut self, outcome: Outcome, now: u64) -> (RecordVerdict, Vec<Event>) {
        self.counts.reported += 1;
        self.settle(now);
        let verdict = if self.phase == Phase::Closed {
            self.count(outcome, None, now);
            RecordVerdict::Applied
        } else {
            RecordVerdict::Stale
        };
        (verdict, std::mem::take(&mut self.events))
    }

    pub fn settled(&mut self, now: u64) -> Vec<Event> {
        self.settle(now);
        self.tell(now);
        std::mem::take(&mut self.events)
    }

    pub fn reset(&mut self, now: u64) -> Vec<Event> {
        self.settle(now);
        if self.mode != Mode::ForcedOpen {
            self.enter(Phase::Closed, Cause::Reset, now);
        }
        std::mem::take(&mut self.events)
    }

    pub fn set_mode(&mut self, mode: Mode, now: u64) -> Vec<Event> {
        self.settle(now);
        if self.mode != mode {
            self.mode = mode;
            if mode == Mode::ForcedOpen {
                self.opens = 0;
                self.enter(Phase::Open, Cause::ModeChanged, now);
                self.until = u64::MAX;
            } else {
                self.enter(Phase::Closed, Cause::ModeChanged, now);
            }
        }
        std::mem::take(&mut self.events)
    }

    pub fn reconfigure(&mut self, config: BreakerConfig, now: u64) -> Vec<Event> {
        self.settle(now);
        let old = std::mem::replace(&mut self.config, config);
        let round = |config: &BreakerConfig| {
            let BreakerConfig { half_open_permits, successes_to_close, .. } = *config;
            (half_open_permits, successes_to_close, config.probe_lease_ns, config.half_open_limit_ns)
        };
        if self.phase == Phase::HalfOpen && round(&old) != round(&config) {
            self.enter(Phase::HalfOpen, Cause::Reconfigured, now);
        }
        if kind(&old.policy) != kind(&config.policy) {
            (self.samples, self.in_a_row) = (vec![], 0);
        }
        self.trim();
        self.tell(now);
        std::mem::take(&mut self.events)
    }

    pub fn reinstall(&mut self, config: BreakerConfig, now: u64) -> Vec<Event> {
        self.settle(now);
        self.config = config;
        if self.mode != Mode::ForcedOpen {
            self.enter(Phase::Closed, Cause::Reinstalled, now);
        }
        std::mem::take(&mut self.events)
    }

    pub fn snapshot(&self, now: u64) -> Snapshot {
        let sums = match self.config.policy {
            Policy::ConsecutiveFailures { .. } => Sums { failures: self.in_a_row, ..Sums::default() },
            Policy::FailuresInPeriod { .. } => Sums { failures: self.young(now), ..Sums::default() },
            Policy::Rate { .. } => self.sums(now),
        };
        let live = self.live().filter(|(_, deadline)| *deadline > now).count();
        let retry_after_ns = match self.phase {
            _ if self.mode == Mode::ForcedOpen => u64::MAX,
            Phase::Closed => 0,
            Phase::Open => self.until.saturating_sub(now),
            Phase::HalfOpen if self.slots.contains(&Slot::Free) => 0,
            Phase::HalfOpen => self.next_deadline().saturating_sub(now),
        };
        let full_failures = sums.calls * u64::from(self.config.weights.failure);
        let share_bp = |part: u64, whole| (part * 10_000).checked_div(whole).unwrap_or(0) as u32;
        Snapshot {
            phase: self.phase,
            mode: self.mode,
            level: self.level(now),
            generation: self.generation,
            opens: self.opens.max(self.opens_before_ramp(now)),
            live_probes: live as u32,
            window_calls: sums.calls,
            failures: sums.failures,
            slow_calls: sums.slow,
            failure_rate_bp: share_bp(sums.failures, full_failures),
            slow_call_rate_bp: share_bp(sums.slow, sums.calls),
            retry_after_ns,
            last_cause: self.last.map(|(cause, _)| cause),
            last_change_ns: self.last.map_or(0, |(_, at)| at),
            counts: self.counts,
        }
    }

    pub fn generation_of(&self, permit: usize) -> u32 {
        self.permits[permit].generation
    }

    pub fn is_probe(&self, permit: usize) -> bool {
        self.permits[permit].slot.is_some()
    }

    fn count_asked(&mut self, rejection: Option<Rejection>) {
        let counts = &mut self.counts;
        let count = match rejection.map(|rejection| rejection.reason) {
            None => &mut counts.admitted,
            Some(RejectReason::Open) => &mut counts.rejected_open,
            Some(RejectReason::HalfOpenFull) => &mut counts.rejected_half_open,
            Some(RejectReason::ForcedOpen) => &mut counts.rejected_forced_open,
            Some(_) => &mut counts.rejected_degraded,
        };
        *count += 1;
    }

    fn grant(&mut self, slot: Option<usize>, now: u64) -> usize {
        let permit = self.permits.len();
        let started = (self.config.slow_call_ns > 0).then_some(now);
        self.permits.push(Known { generation: self.generation, slot, started, fate: Fate::Held });
        if let Some(slot) = slot {
            let deadline = now.saturating_add(self.config.probe_lease_ns);
            self.slots[slot] = Slot::Live { permit, deadline };
        }
        permit
    }

    /// Whether a closed breaker admits this call: of any n under a share r, n * r rounded down or up.
    fn admits(&mut self, now: u64) -> bool {
        if self.mode != Mode::Auto {
            return true;
        }
        let mut share = 10_000;
        if let Some((since, _)) = self.ramp {
            let elapsed = now.saturating_sub(since);
            if elapsed >= self.config.ramp_ns {
                self.ramp = None;
            } else {
                let from = self.config.ramp_from_bp;
                let grown = u128::from(10_000 - from) * u128::from(elapsed) / u128::from(self.config.ramp_ns);
                share = from + grown as u32;
            }
        }
        if self.config.admit_bp != [10_000; 4] {
            self.tell(now);
            share = share.min(self.config.admit_bp[self.told as usize]);
        }
        if share == 10_000 {
            return true;
        }
        self.accumulator += share;
        let admitted = self.accumulator >= 10_000;
        self.accumulator %= 10_000;
        admitted
    }

    fn recorded(&mut self, permit: usize, outcome: Outcome, now: u64) -> RecordVerdict {
        if self.phase == Phase::HalfOpen && self.generation_of(permit) == self.generation {
            self.settle_round(now);
        }
        let Known { generation, slot, started, fate } = self.permits[permit];
        match (fate, slot) {
            (Fate::Done, _) => return RecordVerdict::AlreadyDone,
            _ if generation != self.generation => return RecordVerdict::Stale,
            (Fate::Expired, _) => return RecordVerdict::Expired,
            (Fate::Held, None) => self.count(outcome, started, now),
            (Fate::Held, Some(slot)) => {
                self.permits[permit].fate = Fate::Done;
                match self.worth(outcome, started, now) {
                    None => {
                        self.slots[slot] = Slot::Free;
                        self.ignored += 1;
                    }
                    Some(Sample { weight, slow, .. }) => {
                        self.slots[slot] = Slot::Done;
                        let failed = weight > 0 || slow && self.trips_on_slow();
                        let cause = if failed { Cause::ProbesFailed } else { Cause::ProbesSucceeded };
                        self.decide(!failed, cause, now);
                    }
                }
                self.settle_round(now);
            }
        }
        RecordVerdict::Applied
    }

    /// What a result counts; none if it says nothing.
    fn worth(&self, outcome: Outcome, started: Option<u64>, now: u64) -> Option<Sample> {
        let BreakerConfig { weights, slow_call_ns: limit, .. } = self.config;
        let tells = !matches!(outcome, Outcome::Ignored | Outcome::Cancelled);
        let too_long = started.is_some_and(|started| limit > 0 && now.saturating_sub(started) > limit);
        let slow = tells && (outcome == Outcome::Slow || too_long);
        let weight = match outcome {
            Outcome::Success | Outcome::Slow if slow => weights.slow,
            Outcome::Success | Outcome::Slow => weights.success,
            Outcome::Failure => weights.failure,
            Outcome::Ignored => weights.ignored,
            Outcome::Cancelled => weights.cancelled,
        };
        (tells || weight > 0).then_some(Sample { weight: weight.into(), slow, at: now })
    }

    /// Counts a result of a closed breaker.
    fn count(&mut self, outcome: Outcome, started: Option<u64>, now: u64) {
        let Some(sample) = self.worth(outcome, started, now) else { return };
        if self.mode == Mode::ForcedClosed {
            return;
        }
        let cause = match self.config.policy {
            Policy::ConsecutiveFailures { failure_threshold } => {
                self.in_a_row = if sample.weight == 0 { 0 } else { self.in_a_row + sample.weight };
                let trips = self.in_a_row >= failure_threshold.into();
                self.in_a_row = self.in_a_row.min(failure_threshold.into());
                trips.then_some(Cause::FailureThreshold)
            }
            Policy::FailuresInPeriod { tolerated_failures, .. } => {
                let budget = u64::from(tolerated_failures) + 1;
                (0..sample.weight.min(budget)).for_each(|_| self.samples.push(sample));
                (sample.weight > 0 && self.young(now) == budget).then_some(Cause::FailureThreshold)
            }
            Policy::Rate { window, .. } => {
                // What a reconfiguration left above the budget opens with the next result, whatever it is.
                let left = self.rate_verdict(now).filter(|_| matches!(window, Window::Count { .. }));
                self.samples.push(sample);
                self.trim();
                self.rate_verdict(now).or(left)
            }
        };
        match cause {
            Some(cause) if self.mode == Mode::Auto => {
                self.open(cause, now, self.opens_before_ramp(now) + 1);
            }
            _ => self.tell(now),
        }
    }

    /// Drops what has left a count window for good.
    fn trim(&mut self) {
        if let Policy::Rate { window: Window::Count { size }, .. } = self.config.policy {
            let left = self.samples.len().saturating_sub(size as usize);
            self.samples.drain(..left);
        }
    }

    /// Failures younger than the period, as far as they matter.
    fn young(&self, now: u64) -> u64 {
        let Policy::FailuresInPeriod { tolerated_failures, period_ns } = self.config.policy else { return 0 };
        let young = self.samples.iter().filter(|sample| now - sample.at < period_ns).count() as u64;
        young.min(u64::from(tolerated_failures) + 1)
    }

    /// The sums of the window.
    fn sums(&self, now: u64) -> Sums {
        let Policy::Rate { window, .. } = self.config.policy else { return Sums::default() };
        let is_in = |index: usize, sample: &Sample| match window {
            Window::Count { size } => index + size as usize >= self.samples.len(),
            Window::Time { period_ns, buckets } => {
                let length = period_ns.div_ceil(buckets.into());
                now / length - sample.at / length <= buckets.into()
            }
        };
        let counted = self.samples.iter().enumerate().filter(|(index, sample)| is_in(*index, sample));
        counted.fold(Sums::default(), |sums, (_, sample)| Sums {
            calls: sums.calls + 1,
            failures: sums.failures + sample.weight,
            slow: sums.slow + u64::from(sample.slow),
        })
    }

    fn trips_on_slow(&self) -> bool {
        matches!(self.config.policy, Policy::Rate { .. }) && self.config.slow_call_ns > 0
    }

    /// What was used of what budgets, each in units of its own.
    fn budgets(&self, now: u64) -> Vec<(Cause, u64, u64)> {
        match self.config.policy {
            Policy::ConsecutiveFailures { failure_threshold } => {
                vec![(Cause::FailureThreshold, self.in_a_row, failure_threshold.into())]
            }
            Policy::FailuresInPeriod { tolerated_failures, .. } => {
                vec![(Cause::FailureThreshold, self.young(now), u64::from(tolerated_failures) + 1)]
            }
            Policy::Rate { min_calls, failure_rate_bp, slow_call_rate_bp, .. } => {
                let Sums { calls, failures, slow } = self.sums(now);
                if calls < min_calls.into() {
                    return vec![];
                }
                let full = calls * u64::from(self.config.weights.failure);
                let failing = (Cause::FailureRate, failures * 10_000, full * u64::from(failure_rate_bp));
                let slow = (Cause::SlowCallRate, slow * 10_000, calls * u64::from(slow_call_rate_bp));
                if self.trips_on_slow() { vec![failing, slow] } else { vec![failing] }
            }
        }
    }

    fn rate_verdict(&self, now: u64) -> Option<Cause> {
        self.budgets(now).into_iter().find(|(_, used, budget)| used >= budget).map(|(cause, ..)| cause)
    }

    fn level(&self, now: u64) -> Level {
        if self.phase != Phase::Closed || self.mode == Mode::ForcedClosed {
            return Level::None;
        }
        let [light, medium, heavy] = self.config.level_bp.map(u64::from);
        let level = |(_, used, budget)| {
            let reaches = |share: u64| used > 0 && used * 10_000 >= budget * share;
            match () {
                _ if reaches(10_000) && self.mode == Mode::MetricsOnly => Level::Exceeded,
                _ if reaches(heavy) => Level::Heavy,
                _ if reaches(medium) => Level::Medium,
                _ if reaches(light) => Level::Light,
                _ => Level::None,
            }
        };
        self.budgets(now).into_iter().map(level).max().unwrap_or(Level::None)
    }

    fn tell(&mut self, now: u64) {
        let (from_level, to_level) = (self.told, self.level(now));
        if self.phase != Phase::Closed || from_level == to_level {
            return;
        }
        (self.told, self.tellings) = (to_level, self.tellings + 1);
        self.events.push(Event {
            sequence: self.tellings,
            generation: self.generation,
            from: self.phase,
            to: self.phase,
            from_level,
            to_level,
            mode: self.mode,
            cause: if to_level == Level::Exceeded { Cause::WouldOpen } else { Cause::LevelChanged },
            at_ns: now,
        });
    }

    /// Does what is due, whatever comes next.
    fn settle(&mut self, now: u64) {
        self.settle_round(now);
        let skips = self.config.skip_half_open && self.mode == Mode::Auto;
        if skips && self.phase == Phase::Open && self.until <= now {
            self.enter(Phase::Closed, Cause::OpenElapsed, now);
        }
    }

    /// Ends the leases and the round that are over, the one that ended first before the others.
    fn settle_round(&mut self, now: u64) {
        while self.phase == Phase::HalfOpen {
            let limit = self.round_limit();
            let first = self.live().min_by_key(|(_, deadline)| *deadline);
            match first {
                _ if self.config.max_ignored_probes > 0 && self.ignored >= self.config.max_ignored_probes => {
                    self.open(Cause::ProbesIgnored, now, self.opens);
                }
                Some((slot, deadline)) if deadline <= now && deadline <= limit => {
                    let Slot::Live { permit, .. } = self.slots[slot] else { unreachable!() };
                    self.permits[permit].fate = Fate::Expired;
                    if self.config.release_expired_probes {
                        self.slots[slot] = Slot::Free;
                    } else {
                        self.slots[slot] = Slot::Done;
                        self.decide(false, Cause::ProbeExpired, deadline);
                    }
                }
                _ if limit > now => return,
                _ if self.config.close_at_half_open_limit => self.close_round(Cause::HalfOpenLimit, limit),
                _ => self.open(Cause::HalfOpenLimit, limit, self.opens + 1),
            }
        }
    }

    fn decide(&mut self, success: bool, cause: Cause, at: u64) {
        if success {
            self.successes += 1;
        } else {
            self.failures += 1;
        }
        if self.successes == self.config.successes_to_close {
            self.close_round(cause, at);
        } else if self.failures > self.config.half_open_permits - self.config.successes_to_close {
            self.open(cause, at, self.opens + 1);
        }
    }

    fn close_round(&mut self, cause: Cause, at: u64) {
        let ramp = (at, self.opens);
        self.enter(Phase::Closed, cause, at);
        self.ramp = (self.config.ramp_ns > 0).then_some(ramp);
    }

    fn opens_before_ramp(&self, now: u64) -> u32 {
        let ramps = |since: u64| now.saturating_sub(since) < self.config.ramp_ns;
        self.ramp.filter(|(since, _)| ramps(*since)).map_or(0, |(_, opens)| opens)
    }

    fn open(&mut self, cause: Cause, at: u64, opens: u32) {
        self.opens = opens.min(255);
        self.enter(Phase::Open, cause, at);
        self.until = at.saturating_add(self.open_time());
    }

    fn open_time(&self) -> u64 {
        let BreakerConfig { open_for_ns, backoff_percent, max_open_ns, jitter_bp, seed, .. } = self.config;
        let cap = if max_open_ns == 0 { (1 << 62) - 1 } else { u128::from(max_open_ns) };
        let grown = |base: u128| (base * u128::from(backoff_percent)).div_ceil(100).min(cap);
        let base = (1..self.opens).fold(u128::from(open_for_ns), |base, _| grown(base));
        let spread = base * u128::from(jitter_bp) / 10_000;
        let draw = u128::from(splitmix64(seed, self.generation.into()));
        (base - spread + ((draw * (2 * spread + 1)) >> 64)) as u64
    }

    fn enter(&mut self, to: Phase, cause: Cause, at_ns: u64) {
        let (from, sequence) = (self.phase, self.generation);
        (self.phase, self.generation) = (to, self.generation + 1);
        (self.successes, self.failures, self.ignored) = (0, 0, 0);
        let from_level = self.told;
        (self.in_a_row, self.samples, self.ramp, self.told) = (0, vec![], None, Level::None);
        self.slots = vec![];
        match to {
            Phase::Closed => self.opens = 0,
            Phase::Open => {}
            Phase::HalfOpen => {
                self.slots = vec![Slot::Free; self.config.half_open_permits as usize];
                self.entered = at_ns;
            }
        }
        self.last = Some((cause, at_ns));
        self.events.push(Event {
            sequence,
            generation: self.generation,
            from,
            to,
            from_level,
            to_level: Level::None,
            mode: self.mode,
            cause,
            at_ns,
        });
    }

    fn round_limit(&self) -> u64 {
        match self.config.half_open_limit_ns {
            0 => u64::MAX,
            limit => self.entered.saturating_add(limit),
        }
    }

    fn next_deadline(&self) -> u64 {
        self.live().map(|(_, deadline)| deadline).chain([self.round_limit()]).min().expect("the limit is one")
    }

    fn live(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.slots.iter().enumerate().filter_map(|(index, slot)| match slot {
            Slot::Live { deadline, .. } => Some((index, *deadline)),
            Slot::Free | Slot::Done => None,
        })
    }
}

/// What results must have in common to be counted together.
fn kind(policy: &Policy) -> (u8, u64) {
    match *policy {
        Policy::ConsecutiveFailures { .. } => (0, 0),
        Policy::FailuresInPeriod { .. } => (1, 0),
        Policy::Rate { window: Window::Count { .. }, .. } => (2, 0),
        Policy::Rate { window: Window::Time { period_ns, buckets }, .. } => {
            (3, period_ns.div_ceil(buckets.into()))
        }
    }
}

/// The `index`th number of SplitMix64 (Steele, Lea and Flood, 2014) from `seed` on.
pub fn splitmix64(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
