//! Sequential reference model of the circuit breaker: the rules in the plainest words, no packing, no atomics.

use elixirscope::breaker::{
    BreakerConfig, Cause, Event, Outcome, Phase, RecordVerdict, RejectReason, Rejection,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free,
    Live { permit: usize, deadline: u64 },
    Done,
}

/// What the model knows of a permit it granted, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Closed { generation: u32 },
    Live { generation: u32, slot: usize },
    Expired { generation: u32 },
    Done { generation: u32 },
}

#[derive(Debug)]
pub struct Model {
    config: BreakerConfig,
    pub phase: Phase,
    pub generation: u32,
    pub consecutive_failures: u32,
    until: u64,
    slots: Vec<Slot>,
    successes: u32,
    failures: u32,
    permits: Vec<Known>,
    events: Vec<Event>,
}

impl Model {
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            phase: Phase::Closed,
            generation: 1,
            consecutive_failures: 0,
            until: 0,
            slots: vec![],
            successes: 0,
            failures: 0,
            permits: vec![],
            events: vec![],
        }
    }

    /// The number of the permit, or the rejection; and the events.
    pub fn acquire(&mut self, now: u64) -> (Result<usize, Rejection>, Vec<Event>) {
        self.settle(now);
        let permit = self.permits.len();
        let verdict = match self.phase {
            Phase::Closed => {
                self.permits.push(Known::Closed { generation: self.generation });
                Ok(permit)
            }
            Phase::Open if now < self.until => {
                Err(Rejection { reason: RejectReason::Open, retry_after_ns: self.until - now })
            }
            Phase::Open => {
                self.enter(Phase::HalfOpen, Cause::OpenElapsed, now);
                self.slots = vec![Slot::Free; self.config.half_open_permits as usize];
                Ok(self.claim(0, now))
            }
            Phase::HalfOpen => match self.slots.iter().position(|slot| *slot == Slot::Free) {
                Some(slot) => Ok(self.claim(slot, now)),
                None => {
                    let deadline = self.live().map(|(_, deadline)| deadline).min().unwrap();
                    Err(Rejection { reason: RejectReason::HalfOpenFull, retry_after_ns: deadline - now })
                }
            },
        };
        (verdict, std::mem::take(&mut self.events))
    }

    pub fn record(&mut self, permit: usize, outcome: Outcome, now: u64) -> (RecordVerdict, Vec<Event>) {
        if self.phase == Phase::HalfOpen && self.generation_of(permit) == self.generation {
            self.settle(now);
        }
        let verdict = self.record_settled(permit, outcome, now);
        (verdict, std::mem::take(&mut self.events))
    }

    pub fn reset(&mut self, now: u64) -> Vec<Event> {
        self.settle(now);
        self.close(Cause::Reset, now);
        std::mem::take(&mut self.events)
    }

    pub fn live_probes(&self, now: u64) -> u32 {
        match self.phase {
            Phase::HalfOpen => self.live().filter(|(_, deadline)| *deadline > now).count() as u32,
            Phase::Closed | Phase::Open => 0,
        }
    }

    pub fn generation_of(&self, permit: usize) -> u32 {
        match self.permits[permit] {
            Known::Closed { generation }
            | Known::Live { generation, .. }
            | Known::Expired { generation }
            | Known::Done { generation } => generation,
        }
    }

    pub fn is_probe(&self, permit: usize) -> bool {
        !matches!(self.permits[permit], Known::Closed { .. })
    }

    fn record_settled(&mut self, permit: usize, outcome: Outcome, now: u64) -> RecordVerdict {
        let known = self.permits[permit];
        if self.generation_of(permit) != self.generation {
            return RecordVerdict::Stale;
        }
        match known {
            Known::Closed { .. } => {
                match outcome {
                    Outcome::Ignored => {}
                    Outcome::Success => self.consecutive_failures = 0,
                    Outcome::Failure => self.consecutive_failures += 1,
                }
                if self.consecutive_failures == self.config.failure_threshold {
                    self.open(Cause::FailureThreshold, now);
                }
                RecordVerdict::Applied
            }
            Known::Live { slot, generation } => {
                self.permits[permit] = Known::Done { generation };
                self.slots[slot] = if outcome == Outcome::Ignored { Slot::Free } else { Slot::Done };
                match outcome {
                    Outcome::Ignored => {}
                    Outcome::Success => self.count(true, Cause::ProbesSucceeded, now),
                    Outcome::Failure => self.count(false, Cause::ProbesFailed, now),
                }
                RecordVerdict::Applied
            }
            Known::Expired { .. } => RecordVerdict::Expired,
            Known::Done { .. } => RecordVerdict::AlreadyDone,
        }
    }

    /// Expires the leases that are over, the one that ended first before the others.
    fn settle(&mut self, now: u64) {
        while self.phase == Phase::HalfOpen {
            let first = self.live().min_by_key(|(_, deadline)| *deadline);
            let Some((slot, deadline)) = first.filter(|(_, deadline)| *deadline <= now) else { return };
            let Slot::Live { permit, .. } = self.slots[slot] else { unreachable!() };
            self.slots[slot] = Slot::Done;
            self.permits[permit] = Known::Expired { generation: self.generation };
            self.count(false, Cause::ProbeExpired, deadline);
        }
    }

    fn count(&mut self, success: bool, cause: Cause, at: u64) {
        if success {
            self.successes += 1;
        } else {
            self.failures += 1;
        }
        if self.successes == self.config.successes_to_close {
            self.close(cause, at);
        } else if self.failures > self.config.half_open_permits - self.config.successes_to_close {
            self.open(cause, at);
        }
    }

    fn close(&mut self, cause: Cause, at: u64) {
        self.enter(Phase::Closed, cause, at);
        self.consecutive_failures = 0;
    }

    fn open(&mut self, cause: Cause, at: u64) {
        self.enter(Phase::Open, cause, at);
        self.consecutive_failures = 0;
        self.until = at.saturating_add(self.config.open_for_ns);
    }

    fn enter(&mut self, to: Phase, cause: Cause, at_ns: u64) {
        let (from, sequence) = (self.phase, self.generation);
        (self.phase, self.generation) = (to, self.generation + 1);
        (self.successes, self.failures) = (0, 0);
        self.events.push(Event { sequence, generation: self.generation, from, to, cause, at_ns });
    }

    fn claim(&mut self, slot: usize, now: u64) -> usize {
        let permit = self.permits.len();
        self.permits.push(Known::Live { generation: self.generation, slot });
        let deadline = now.saturating_add(self.config.probe_lease_ns);
        self.slots[slot] = Slot::Live { permit, deadline };
        permit
    }

    fn live(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.slots.iter().enumerate().filter_map(|(index, slot)| match slot {
            Slot::Live { deadline, .. } => Some((index, *deadline)),
            Slot::Free | Slot::Done => None,
        })
    }
}
