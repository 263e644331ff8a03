//! Random histories of the pool beside the naive model: same answers, same actions, and after every step
//! invariant W, conservation and counters that reconcile.

#[path = "support/pool_model.rs"]
mod pool_model;

use std::collections::{HashMap, HashSet};

use elixirscope::pool::*;
use pool_model::{Answer, Model, Slot, Told, Work};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Op {
    Checkout { owner: u64, wait: Wait, within_size: bool },
    Checkin { pick: usize, condition: Condition },
    StaleCheckin { pick: usize },
    Cancel { pick: usize, reason: GiveUp },
    OwnerGone { owner: u64 },
    Created { pick: usize, result: Result<(), u64> },
    Destroyed { pick: usize },
    Lost { slot: u32 },
    Advance { ns: u64 },
    Maintain,
    Checked { pick: usize, healthy: bool },
    Resize { size: u32, max_overflow: u32 },
    Evict,
    Drain { ns: u64 },
    Close { ns: Option<u64> },
}

fn op() -> impl Strategy<Value = Op> {
    let wait = prop_oneof![
        2 => Just(Wait::Never),
        3 => Just(Wait::ForCreation),
        5 => (0u64..6).prop_map(Wait::For),
        2 => (0u64..40).prop_map(Wait::Until),
        5 => Just(Wait::Forever),
    ];
    let condition = prop_oneof![5 => Just(Condition::Good), 1 => Just(Condition::Broken)];
    let reason = prop_oneof![Just(GiveUp::TimedOut), Just(GiveUp::Cancelled)];
    let result = prop_oneof![4 => Just(Ok(())), 1 => (1u64..9).prop_map(Err)];
    prop_oneof![
        30 => (0u64..5, wait, prop::bool::weighted(0.3))
            .prop_map(|(owner, wait, within_size)| Op::Checkout { owner, wait, within_size }),
        25 => (any::<usize>(), condition).prop_map(|(pick, condition)| Op::Checkin { pick, condition }),
        4 => any::<usize>().prop_map(|pick| Op::StaleCheckin { pick }),
        6 => (any::<usize>(), reason).prop_map(|(pick, reason)| Op::Cancel { pick, reason }),
        3 => (1u64..5).prop_map(|owner| Op::OwnerGone { owner }),
        25 => (any::<usize>(), result).prop_map(|(pick, result)| Op::Created { pick, result }),
        10 => any::<usize>().prop_map(|pick| Op::Destroyed { pick }),
        3 => (0u32..17).prop_map(|slot| Op::Lost { slot }),
        8 => (1u64..4).prop_map(|ns| Op::Advance { ns }),
        8 => Just(Op::Maintain),
        8 => (any::<usize>(), prop::bool::weighted(0.8))
            .prop_map(|(pick, healthy)| Op::Checked { pick, healthy }),
        2 => (0u32..9, 0u32..8).prop_map(|(size, max_overflow)| Op::Resize { size, max_overflow }),
        1 => Just(Op::Evict),
        1 => (0u64..9).prop_map(|ns| Op::Drain { ns }),
        1 => prop::option::of(0u64..9).prop_map(|ns| Op::Close { ns }),
    ]
}

fn config() -> impl Strategy<Value = PoolConfig> {
    let order = prop_oneof![
        Just(IdleOrder::Lifo),
        Just(IdleOrder::Fifo),
        Just(IdleOrder::RoundRobin),
        Just(IdleOrder::LeastUsed),
    ];
    let failure = prop_oneof![Just(CreateFailure::Retry), Just(CreateFailure::FailFast)];
    let waiters = prop_oneof![1 => 0u32..4, 3 => Just(20u32)];
    let creates = prop_oneof![1 => 1u32..4, 1 => Just(MAX_SLOTS)];
    // Small pools meet their limits more often.
    let sizes = prop_oneof![3 => (0u32..5, 0u32..5), 1 => (0u32..9, 0u32..9)];
    let basics = (sizes, order, waiters, 0u64..5, failure, 1u64..4, 0u32..5, creates);
    // Half of the pools have none of the further settings, so that the plain paths are walked as well.
    prop_oneof![Just(PoolConfig::default()), further()].prop_flat_map(move |further| {
        basics.clone().prop_filter("no slot", |((size, overflow), ..)| size + overflow > 0).prop_map(
            move |(
                (size, max_overflow),
                order,
                max_waiters,
                overflow_ttl_ns,
                create_failure,
                base,
                idle,
                creates,
            )| {
                PoolConfig {
                    size,
                    max_overflow,
                    order,
                    max_waiters,
                    overflow_ttl_ns,
                    create_failure,
                    create_backoff_ns: base,
                    create_backoff_cap_ns: 3,
                    jitter_seed: 0,
                    max_slots: 16,
                    min_idle: idle.min(size).min(further.min_idle),
                    max_concurrent_creates: creates,
                    ..further
                }
            },
        )
    })
}

fn off_or(times: std::ops::Range<u64>) -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), times]
}

fn further() -> impl Strategy<Value = PoolConfig> {
    let health = prop_oneof![
        Just(HealthChecks::Off),
        Just(HealthChecks::Passive),
        Just(HealthChecks::Active),
        Just(HealthChecks::Mixed),
    ];
    let death = prop_oneof![Just(OwnerDeath::Destroy), Just(OwnerDeath::Check)];
    let pre_ping = prop_oneof![Just(NO_PRE_PING), 0u64..5];
    let ages = (off_or(1..9), off_or(1..15), off_or(1..6), off_or(1..9));
    let limits = (off_or(1..5), off_or(1..5), off_or(1..5));
    let queue = (0u64..4, off_or(1..7));
    (ages, limits, queue, health, death, pre_ping, any::<bool>(), any::<bool>()).prop_map(
        |(ages, limits, queue, health, owner_death, pre_ping_after_ns, reset_on_return, measure)| {
            PoolConfig {
                min_idle: 5,
                idle_timeout_ns: ages.0,
                max_lifetime_ns: ages.1,
                keepalive_ns: ages.2,
                leak_after_ns: ages.3,
                check_limit_ns: limits.0,
                return_limit_ns: limits.1,
                pre_ping_limit_ns: limits.2,
                queue_target_ns: queue.0,
                queue_interval_ns: queue.1,
                health,
                health_interval_ns: 3,
                owner_death,
                pre_ping_after_ns,
                reset_on_return,
                measure,
                ..PoolConfig::default()
            }
        },
    )
}

/// The pool, the model, and what an edge would remember.
struct Run {
    config: PoolConfig,
    pool: Pool,
    model: Model,
    now: u64,
    next_token: u64,
    leases: Vec<Lease>,
    ended_leases: Vec<Lease>,
    ever_granted: HashSet<(u32, u64)>,
    tickets: Vec<(u64, Ticket)>,
    ends: HashMap<u64, Told>,
    creating: Vec<(u32, u64)>,
    closing: Vec<(u32, u64)>,
    checking: Vec<(u32, u64)>,
    alarm: u64,
    total: u32,
    disturbed: bool,
}

impl Run {
    fn new(config: PoolConfig) -> Self {
        Self {
            config,
            pool: Pool::new(&config).unwrap(),
            model: Model::new(config),
            now: 0,
            next_token: 0,
            leases: Vec::new(),
            ended_leases: Vec::new(),
            ever_granted: HashSet::new(),
            tickets: Vec::new(),
            ends: HashMap::new(),
            creating: Vec::new(),
            closing: Vec::new(),
            checking: Vec::new(),
            alarm: u64::MAX,
            total: 0,
            disturbed: false,
        }
    }

    fn granted(&mut self, lease: Lease) {
        assert!(self.ever_granted.insert((lease.slot, lease.epoch)), "P02: {lease:?} was granted before");
        assert!(
            self.leases.iter().all(|live| live.slot != lease.slot),
            "P02: slot {} has a holder already",
            lease.slot
        );
        self.leases.push(lease);
    }

    /// Takes over what the call left, until nothing is left, and compares it with the model's.
    fn carry_out(&mut self, mut actions: Actions) {
        let (mut told, mut work) = (Vec::new(), Vec::new());
        loop {
            for action in actions.iter() {
                match action {
                    Action::Create { slot, epoch } => {
                        self.creating.push((slot, epoch));
                        work.push(Work::Create(slot));
                    }
                    Action::Destroy { slot, epoch, .. } => {
                        self.checking.retain(|check| check.0 != slot);
                        let (ended, kept) =
                            self.leases.iter().copied().partition(|lease: &Lease| lease.slot == slot);
                        self.leases = kept;
                        self.ended_leases.extend::<Vec<_>>(ended);
                        self.closing.push((slot, epoch));
                        work.push(Work::Destroy(slot));
                    }
                    Action::Check { slot, epoch, .. } => {
                        self.checking.push((slot, epoch));
                        work.push(Work::Check(slot));
                    }
                    Action::Leaked { lease, .. } => work.push(Work::Leak(lease.slot)),
                    Action::Wake { waiter_token, outcome } => {
                        let outcome = match outcome {
                            WakeOutcome::Granted(lease) => {
                                self.granted(lease);
                                Told::Granted(lease.slot)
                            }
                            WakeOutcome::TimedOut => Told::TimedOut,
                            WakeOutcome::Closed => Told::Closed,
                            WakeOutcome::Shed => Told::Shed,
                            WakeOutcome::CreateFailed(code) => Told::CreateFailed(code),
                        };
                        assert!(self.ends.insert(waiter_token, outcome).is_none(), "P05: woken twice");
                        told.push((waiter_token, outcome));
                    }
                }
            }
            self.alarm = self.alarm.min(actions.alarm_ns().unwrap_or(u64::MAX));
            if !actions.more() {
                break;
            }
            actions.clear();
            let next = self.pool.maintain(|| self.now, &mut actions);
            self.alarm = next.unwrap_or(u64::MAX);
            self.model.maintain(self.now);
        }
        let grants = |told: &[(u64, Told)]| -> Vec<(u64, Told)> {
            told.iter().copied().filter(|(_, how)| matches!(how, Told::Granted(_))).collect()
        };
        let expected = std::mem::take(&mut self.model.told);
        assert_eq!(grants(&told), grants(&expected), "P09: grants in the order of the queue");
        let sorted = |mut told: Vec<(u64, Told)>| {
            told.sort_unstable();
            told
        };
        assert_eq!(sorted(told), sorted(expected));
        let by_slot = |mut work: Vec<Work>| {
            work.sort_unstable();
            work
        };
        assert_eq!(by_slot(work), by_slot(std::mem::take(&mut self.model.work)));
    }

    fn step(&mut self, op: Op) {
        let mut actions = Actions::new();
        let now = self.now;
        match op {
            Op::Checkout { owner, wait, within_size } => {
                self.next_token += 1;
                let token = self.next_token;
                let (got, expected) = if within_size {
                    (
                        self.pool.checkout_within_size(Owner(owner), wait, token, || now, &mut actions),
                        self.model.checkout_within_size(owner, wait, token, now),
                    )
                } else {
                    (
                        self.pool.checkout(Owner(owner), wait, token, || now, &mut actions),
                        self.model.checkout(owner, wait, token, now),
                    )
                };
                let seen = match got {
                    Checkout::Granted(lease) => {
                        assert!(!self.model.untested, "P18: to be tested before use");
                        self.granted(lease);
                        Answer::Granted(lease.slot)
                    }
                    Checkout::GrantedUntested { lease, deadline_ns } => {
                        assert!(self.model.untested, "P18: fit without a test");
                        let limit = self.config.pre_ping_limit_ns;
                        assert_eq!(deadline_ns, if limit == 0 { u64::MAX } else { now + limit });
                        self.granted(lease);
                        Answer::Granted(lease.slot)
                    }
                    Checkout::Queued(ticket) => {
                        self.tickets.push((token, ticket));
                        Answer::Queued
                    }
                    Checkout::Rejected(refusal) => Answer::Rejected(refusal),
                };
                assert_eq!(seen, expected);
            }
            Op::Checkin { pick, condition } if !self.leases.is_empty() => {
                let lease = self.leases.swap_remove(pick % self.leases.len());
                assert_eq!(self.pool.checkin(lease, condition, || now, &mut actions), Ok(()));
                self.model.checkin(lease.slot, condition, now);
                self.ended_leases.push(lease);
            }
            Op::StaleCheckin { pick } if !self.ended_leases.is_empty() => {
                let lease = self.ended_leases[pick % self.ended_leases.len()];
                let before = self.pool.snapshot(|| now, &mut actions);
                assert_eq!(self.pool.checkin(lease, Condition::Good, || now, &mut actions), Err(StaleLease));
                assert_eq!(before, self.pool.snapshot(|| now, &mut actions), "P03");
            }
            Op::Cancel { pick, reason } if !self.tickets.is_empty() => {
                let (token, ticket) = self.tickets[pick % self.tickets.len()];
                let outcome = self.pool.cancel(ticket, reason, || now, &mut actions);
                let was_waiting = self.model.cancel(token, reason);
                let held = self.model.slots.iter().position(
                    |slot| matches!(slot, Slot::Leased { token: Some(held), .. } if *held == token),
                );
                match (was_waiting, held, outcome) {
                    (true, None, CancelOutcome::Cancelled) => {}
                    (false, Some(slot), CancelOutcome::Granted(lease)) => {
                        assert_eq!(lease.slot as usize, slot);
                        assert!(self.leases.contains(&lease), "P05: the grant that the wake told of");
                    }
                    (false, None, CancelOutcome::Stale) => {}
                    (false, None, CancelOutcome::TimedOut) => assert_eq!(self.ends[&token], Told::TimedOut),
                    (false, None, CancelOutcome::Shed) => assert_eq!(self.ends[&token], Told::Shed),
                    (false, None, CancelOutcome::Closed) => assert_eq!(self.ends[&token], Told::Closed),
                    (false, None, CancelOutcome::CreateFailed(code)) => {
                        assert_eq!(self.ends[&token], Told::CreateFailed(code));
                    }
                    other => panic!("P05: cancel of {token}: {other:?}"),
                }
            }
            Op::OwnerGone { owner } => {
                let live = |lease: &Lease, model: &Model| !matches!(model.slots[lease.slot as usize], Slot::Leased { owner: holder, .. } if holder == owner);
                let (kept, ended): (Vec<_>, Vec<_>) =
                    self.leases.iter().copied().partition(|lease| live(lease, &self.model));
                self.leases = kept;
                self.ended_leases.extend(ended);
                self.pool.owner_gone(Owner(owner), || now, &mut actions);
                self.model.owner_gone(owner, now);
            }
            Op::Created { pick, result } if !self.creating.is_empty() => {
                let (slot, epoch) = self.creating.swap_remove(pick % self.creating.len());
                assert_eq!(self.pool.created(slot, epoch, result, || now, &mut actions), Ok(()));
                self.model.created(slot, result, now);
                let again = self.pool.created(slot, epoch, result, || now, &mut actions);
                assert_eq!(again, Err(StaleReport));
            }
            Op::Destroyed { pick } if !self.closing.is_empty() => {
                let (slot, epoch) = self.closing.swap_remove(pick % self.closing.len());
                assert_eq!(self.pool.destroyed(slot, epoch, || now, &mut actions), Ok(()));
                self.model.destroyed(slot, now);
            }
            Op::Lost { slot } if slot < self.config.slots() => {
                self.checking.retain(|check| check.0 != slot);
                let (ended, kept) = self.leases.iter().copied().partition(|lease| lease.slot == slot);
                self.leases = kept;
                self.ended_leases.extend::<Vec<_>>(ended);
                assert!(self.pool.lost(slot, || now, &mut actions), "every wake was told before");
                self.model.lost(slot, now);
            }
            Op::Advance { ns } => self.now += ns,
            Op::Maintain => {
                let next = self.pool.maintain(|| now, &mut actions);
                self.alarm = next.unwrap_or(u64::MAX);
                self.model.maintain(now);
            }
            Op::Checked { pick, healthy } if !self.checking.is_empty() => {
                let (slot, epoch) = self.checking.swap_remove(pick % self.checking.len());
                assert_eq!(self.pool.checked(slot, epoch, healthy, || now, &mut actions), Ok(()));
                self.model.checked(slot, healthy, now);
                assert_eq!(self.pool.checked(slot, epoch, healthy, || now, &mut actions), Err(StaleReport));
            }
            Op::Resize { size, max_overflow } => {
                self.disturbed = true;
                let result = self.pool.resize(size, max_overflow, || now, &mut actions);
                assert_eq!(result.is_ok(), size + max_overflow > 0);
                if result.is_ok() {
                    (self.config.size, self.config.max_overflow) = (size, max_overflow);
                    self.model.resize(size, max_overflow, now);
                }
            }
            Op::Evict => {
                self.disturbed = true;
                self.pool.evict(0, || now, &mut actions);
                self.model.evict(now);
            }
            Op::Drain { ns } => {
                self.pool.drain(now + ns, || now, &mut actions);
                self.model.shut(now + ns, true, now);
            }
            Op::Close { ns } => {
                let deadline = ns.map_or(u64::MAX, |ns| now + ns);
                self.pool.close_by(deadline, || now, &mut actions);
                self.model.shut(deadline, false, now);
            }
            _ => {}
        }
        self.carry_out(actions);
        self.check();
    }

    fn check(&mut self) {
        let mut actions = Actions::new();
        let seen = self.pool.snapshot(|| self.now, &mut actions);
        assert!(actions.is_empty());
        let model = &self.model;
        let states = (seen.idle, seen.leased, seen.creating, seen.checking, seen.closing);
        let expected = (model.idle(), model.leased(), model.creating(), model.checking(), model.closing());
        assert_eq!(states, expected, "P01");
        assert_eq!((seen.waiting, seen.overflow), (model.queue.len() as u32, model.overflow()));
        assert_eq!(seen.leased as usize, self.leases.len(), "P02");
        let total = seen.idle + seen.leased + seen.creating + seen.checking + seen.closing;
        assert!(total <= seen.capacity.max(self.total), "P01: {seen:?}");
        self.total = total;
        assert!(seen.waiting <= self.config.max_waiters, "P11");

        if seen.waiting > 0 {
            assert_eq!(seen.idle, 0, "P06: an idle slot and a waiter");
            let wanted = model.creations_due();
            let held_back = seen.failing > 0 && (seen.creating > 0 || seen.next_deadline_ns.is_some());
            let at_most = self.config.max_concurrent_creates;
            assert!(seen.creating >= wanted.min(at_most) || held_back, "P06: {seen:?}");
        }
        // An eviction or a smaller size takes a creation away; then the waiter waits for the next one.
        if !self.disturbed && !seen.is_closed && model.queue.iter().all(|waiter| waiter.for_creation) {
            assert!(
                seen.creating >= seen.waiting,
                "P10: a caller that waits for a creation has one: {seen:?}"
            );
        }
        let due = model.next_deadline();
        assert!(due.is_none_or(|due| seen.next_deadline_ns.is_some_and(|next| next <= due)), "P08");
        assert!(model.alarm().is_none_or(|due| self.alarm <= due), "the edge was told when to call again");

        let n = seen.counts;
        let answered = n.granted
            + n.timed_out
            + n.cancelled
            + n.exhausted
            + n.queue_full
            + n.closed
            + n.create_failed
            + n.shed
            + u64::from(seen.waiting);
        assert_eq!(n.requests, answered, "P25: {n:?}");
        assert_eq!(n.granted, n.returned + n.broken + n.reclaimed + u64::from(seen.leased), "P25: {n:?}");
        assert_eq!(n.creates, n.created + n.create_errors + u64::from(seen.creating), "P25: {n:?}");
        assert_eq!(n.created, n.destroys + u64::from(seen.idle + seen.leased + seen.checking), "P25: {n:?}");
    }

    /// Everybody leaves, everything is carried out.
    fn wind_down(&mut self) {
        for index in 0..self.tickets.len() {
            self.step(Op::Cancel { pick: index, reason: GiveUp::Cancelled });
        }
        while !(self.leases.is_empty()
            && self.creating.is_empty()
            && self.closing.is_empty()
            && self.checking.is_empty())
        {
            self.step(Op::Checked { pick: 0, healthy: true });
            self.step(Op::Checkin { pick: 0, condition: Condition::Good });
            self.step(Op::Created { pick: 0, result: Ok(()) });
            self.step(Op::Destroyed { pick: 0 });
        }
        let end = self.pool.snapshot(|| self.now, &mut Actions::new());
        assert_eq!((end.leased, end.creating, end.closing, end.waiting), (0, 0, 0, 0), "P04: {end:?}");
        assert_eq!(end.counts.created - end.counts.destroys, u64::from(end.idle), "P04: {end:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// P01 to P11, P13, P15 to P17, P19, P20, P24 and P25 over random histories.
    #[test]
    fn p01_every_history_agrees_with_the_model(
        config in config(),
        ops in proptest::collection::vec(op(), 1..160),
    ) {
        let mut run = Run::new(config);
        for op in ops {
            run.step(op);
        }
        run.wind_down();
    }
}
