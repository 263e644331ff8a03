//! The rules of the pool, one test each or more, its name beginning with the rule's number. Random histories
//! stand in `prop_pool.rs`, interleavings in `loom_pool.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use elixirscope::pool::*;

/// A pool with an edge that makes and destroys connections at once, or when it is told to.
struct Bench {
    pool: Pool,
    now: u64,
    at_once: bool,
    creates: Vec<(u32, u64)>,
    destroys: Vec<(u32, u64, DestroyReason)>,
    wakes: Vec<(u64, WakeOutcome)>,
    created: u32,
    alarm: Option<u64>,
}

impl Bench {
    fn new(size: u32, max_overflow: u32) -> Self {
        Self::with(PoolConfig { size, max_overflow, ..PoolConfig::default() })
    }

    fn with(config: PoolConfig) -> Self {
        Self {
            pool: Pool::new(&config).unwrap(),
            now: 0,
            at_once: true,
            creates: Vec::new(),
            destroys: Vec::new(),
            wakes: Vec::new(),
            created: 0,
            alarm: None,
        }
    }

    fn slow(mut self) -> Self {
        self.at_once = false;
        self
    }

    fn take(&mut self, mut actions: Actions) {
        loop {
            for action in actions.iter() {
                match action {
                    Action::Create { slot, epoch } => self.creates.push((slot, epoch)),
                    Action::Destroy { slot, epoch, reason } => self.destroys.push((slot, epoch, reason)),
                    other @ (Action::Check { .. } | Action::Leaked { .. }) => panic!("{other:?}"),
                    Action::Wake { waiter_token, outcome } => self.wakes.push((waiter_token, outcome)),
                }
            }
            self.alarm = actions.alarm_ns().or(self.alarm);
            if !actions.more() {
                break;
            }
            actions.clear();
            self.pool.maintain(|| self.now, &mut actions);
        }
        if self.at_once && !self.creates.is_empty() {
            self.create_next(Ok(()));
        } else if self.at_once && !self.destroys.is_empty() {
            self.destroy_next();
        }
    }

    fn create_next(&mut self, result: Result<(), u64>) {
        let (slot, epoch) = self.creates.remove(0);
        self.created += u32::from(result.is_ok());
        let mut actions = Actions::new();
        self.pool.created(slot, epoch, result, || self.now, &mut actions).unwrap();
        self.take(actions);
    }

    fn destroy_next(&mut self) {
        let (slot, epoch, _) = self.destroys.remove(0);
        let mut actions = Actions::new();
        self.pool.destroyed(slot, epoch, || self.now, &mut actions).unwrap();
        self.take(actions);
    }

    fn checkout(&mut self, owner: u64, wait: Wait, token: u64) -> Checkout {
        let mut actions = Actions::new();
        let answer = self.pool.checkout(Owner(owner), wait, token, || self.now, &mut actions);
        self.take(actions);
        answer
    }

    /// A lease, made for it if need be.
    fn lease(&mut self, owner: u64) -> Lease {
        match self.checkout(owner, Wait::ForCreation, u64::MAX) {
            Checkout::Granted(lease) => lease,
            Checkout::Queued(_) => match self.wakes.pop() {
                Some((u64::MAX, WakeOutcome::Granted(lease))) => lease,
                other => panic!("{other:?} instead of a grant"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn queue(&mut self, owner: u64, wait: Wait, token: u64) -> Ticket {
        match self.checkout(owner, wait, token) {
            Checkout::Queued(ticket) => ticket,
            other => panic!("{other:?} instead of a place in the queue"),
        }
    }

    fn checkin(&mut self, lease: Lease, condition: Condition) -> Result<(), StaleLease> {
        let mut actions = Actions::new();
        let result = self.pool.checkin(lease, condition, || self.now, &mut actions);
        self.take(actions);
        result
    }

    fn give_back(&mut self, lease: Lease) {
        self.checkin(lease, Condition::Good).unwrap();
    }

    fn cancel(&mut self, ticket: Ticket, reason: GiveUp) -> CancelOutcome {
        let mut actions = Actions::new();
        let outcome = self.pool.cancel(ticket, reason, || self.now, &mut actions);
        self.take(actions);
        outcome
    }

    fn owner_gone(&mut self, owner: u64) {
        let mut actions = Actions::new();
        self.pool.owner_gone(Owner(owner), || self.now, &mut actions);
        self.take(actions);
    }

    fn maintain(&mut self, now: u64) -> Option<u64> {
        self.now = now;
        let mut actions = Actions::new();
        let next = self.pool.maintain(|| now, &mut actions);
        self.take(actions);
        next
    }

    fn close(&mut self) {
        let mut actions = Actions::new();
        self.pool.close(|| self.now, &mut actions);
        self.take(actions);
    }

    fn seen(&self) -> Snapshot {
        let mut actions = Actions::new();
        let seen = self.pool.snapshot(|| self.now, &mut actions);
        assert!(actions.is_empty(), "everything was handed out before");
        seen
    }

    /// Tokens of the granted wakes so far, and forgets them.
    fn granted(&mut self) -> Vec<u64> {
        let granted = |(token, outcome)| matches!(outcome, WakeOutcome::Granted(_)).then_some(token);
        self.wakes.drain(..).filter_map(granted).collect()
    }

    fn granted_lease(&mut self, token: u64) -> Lease {
        let at = self.wakes.iter().position(|wake| wake.0 == token).expect("woken");
        match self.wakes.remove(at).1 {
            WakeOutcome::Granted(lease) => lease,
            other => panic!("{other:?}"),
        }
    }
}

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

#[test]
fn p02_the_idle_fast_path_reads_no_clock() {
    let mut bench = Bench::new(1, 0);
    let lease = bench.lease(1);
    let mut actions = Actions::new();
    bench.pool.checkin(lease, Condition::Good, || panic!("clock"), &mut actions).unwrap();
    let again = bench.pool.checkout(Owner(1), Wait::For(5), 0, || panic!("clock"), &mut actions);
    assert!(matches!(again, Checkout::Granted(_)));
    assert!(actions.is_empty());
}

#[test]
fn p03_double_foreign_and_made_up_leases_change_nothing() {
    let mut bench = Bench::new(2, 0);
    let old = bench.lease(1);
    bench.give_back(old);
    let current = bench.lease(2);
    assert_eq!(old.slot, current.slot);
    let foreign = Bench::new(2, 0).lease(1);
    let before = bench.seen();
    for lease in [
        old,
        foreign,
        Lease { pool: foreign.pool, ..current },
        Lease { slot: u32::MAX, ..current },
        Lease { slot: 1, ..current },
        Lease { epoch: current.epoch + 1, ..current },
    ] {
        for condition in [Condition::Good, Condition::Broken] {
            assert_eq!(bench.checkin(lease, condition), Err(StaleLease));
        }
    }
    assert_eq!(bench.seen(), before);
    bench.give_back(current);
}

#[test]
fn p04_when_all_have_left_nothing_is_out() {
    let mut bench = Bench::new(2, 2);
    let leases: Vec<Lease> = (0..4).map(|_| bench.lease(1)).collect();
    let ticket = bench.queue(2, Wait::Forever, 1);
    bench.queue(3, Wait::Forever, 2);
    assert_eq!(bench.cancel(ticket, GiveUp::Cancelled), CancelOutcome::Cancelled);
    bench.owner_gone(3);
    for lease in leases {
        bench.give_back(lease);
    }
    let seen = bench.seen();
    assert_eq!((seen.leased, seen.creating, seen.closing, seen.waiting), (0, 0, 0, 0));
    assert_eq!(seen.counts.created - seen.counts.destroys, u64::from(seen.idle));
}

#[test]
fn p05_a_time_out_that_comes_second_reports_the_grant() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    let ticket = bench.queue(2, Wait::For(10), 7);
    bench.give_back(held);
    let granted = bench.granted_lease(7);
    assert_eq!(bench.cancel(ticket, GiveUp::TimedOut), CancelOutcome::Granted(granted));
    bench.give_back(granted);
    assert_eq!(bench.cancel(ticket, GiveUp::TimedOut), CancelOutcome::Stale);
}

#[test]
fn p05_a_grant_that_comes_second_leaves_the_slot_idle() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    let ticket = bench.queue(2, Wait::For(10), 7);
    assert_eq!(bench.cancel(ticket, GiveUp::TimedOut), CancelOutcome::Cancelled);
    bench.give_back(held);
    assert_eq!((bench.seen().idle, bench.wakes.len()), (1, 0));
    assert_eq!(bench.seen().counts.timed_out, 1);
}

#[test]
fn p06_a_broken_return_serves_the_waiter() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.queue(2, Wait::Forever, 7);
    bench.checkin(held, Condition::Broken).unwrap();
    assert_eq!(bench.granted(), [7]);
    assert_eq!(bench.created, 2);
}

#[test]
fn p06_a_death_serves_the_waiter() {
    let mut bench = Bench::new(1, 0);
    bench.lease(1);
    bench.queue(2, Wait::Forever, 7);
    bench.owner_gone(1);
    assert_eq!(bench.granted(), [7]);
}

#[test]
fn p06_a_failed_creation_is_tried_again_for_the_waiter() {
    let mut bench = Bench::new(1, 0).slow();
    bench.queue(1, Wait::Forever, 7);
    bench.create_next(Err(3));
    let retry_at = bench.alarm.expect("the edge is told when to come again");
    assert!(retry_at >= 100_000_000);
    assert_eq!(bench.maintain(retry_at - 1), Some(retry_at));
    assert!(bench.creates.is_empty());
    assert_eq!(bench.maintain(retry_at), None);
    bench.create_next(Ok(()));
    assert_eq!(bench.granted(), [7]);
}

#[test]
fn p06_a_slot_that_closes_counts_until_it_is_destroyed() {
    let mut bench = Bench::new(1, 0).slow();
    bench.queue(1, Wait::Forever, 1);
    bench.create_next(Ok(()));
    let held = bench.granted_lease(1);
    bench.queue(2, Wait::Forever, 7);
    bench.checkin(held, Condition::Broken).unwrap();
    assert!(bench.creates.is_empty(), "the server would see two connections");
    bench.destroy_next();
    assert_eq!(bench.creates.len(), 1);
}

#[test]
fn p07_every_waiter_ends_at_its_deadline() {
    let mut bench = Bench::new(1, 0);
    bench.lease(1);
    for token in 0..50 {
        bench.queue(2, Wait::For(1 + token * 7 % 50), token);
    }
    bench.maintain(60);
    assert_eq!(bench.wakes.len(), 50);
    assert!(bench.wakes.iter().all(|wake| wake.1 == WakeOutcome::TimedOut));
    assert_eq!(bench.seen().waiting, 0);
}

#[test]
fn p08_not_before_the_deadline_and_at_once_at_it() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.queue(2, Wait::Until(100), 1);
    bench.queue(2, Wait::Until(50), 2);
    let ticket = bench.queue(2, Wait::Until(70), 3);
    assert_eq!(bench.maintain(49), Some(50));
    assert!(bench.wakes.is_empty());
    assert_eq!(bench.maintain(50), Some(70));
    assert_eq!(bench.wakes, [(2, WakeOutcome::TimedOut)]);
    bench.cancel(ticket, GiveUp::Cancelled);
    assert_eq!(bench.maintain(50), Some(100));
    bench.now = 100;
    bench.give_back(held);
    assert_eq!(bench.wakes[1..], [(1, WakeOutcome::TimedOut)], "a grant at the deadline comes too late");
    assert_eq!(bench.seen().idle, 1);
}

#[test]
fn p08_the_edges_of_time() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.now = 10;
    assert_eq!(bench.checkout(2, Wait::For(0), 1), Checkout::Rejected(Refusal::Exhausted));
    assert_eq!(bench.checkout(2, Wait::Until(10), 1), Checkout::Rejected(Refusal::TimedOut));
    bench.queue(2, Wait::For(u64::MAX), 2);
    bench.queue(2, Wait::Until(u64::MAX), 3);
    bench.queue(2, Wait::Forever, 4);
    assert_eq!(bench.maintain(u64::MAX - 1), None);
    assert!(bench.wakes.is_empty(), "no wrap-around, and for ever is for ever");
    bench.now = 20;
    bench.give_back(held);
    assert_eq!(bench.checkout(9, Wait::Until(20), 5), Checkout::Rejected(Refusal::TimedOut));
    assert_eq!(bench.granted(), [2]);
}

#[test]
fn p08_for_ever_outlasts_the_end_of_time() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.queue(2, Wait::Forever, 7);
    assert_eq!(bench.maintain(u64::MAX), None);
    bench.give_back(held);
    assert_eq!(bench.granted(), [7]);
}

#[test]
fn p08_a_past_deadline_takes_nothing_even_from_an_idle_pool() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.give_back(held);
    bench.now = 5;
    assert_eq!(bench.checkout(1, Wait::Until(5), 0), Checkout::Rejected(Refusal::TimedOut));
    assert_eq!(bench.seen().idle, 1);
    assert!(matches!(bench.checkout(1, Wait::Until(6), 0), Checkout::Granted(_)));
}

#[test]
fn p09_grants_follow_the_queue_under_either_order() {
    for order in [IdleOrder::Lifo, IdleOrder::Fifo] {
        let config = PoolConfig { size: 1, max_overflow: 0, order, ..PoolConfig::default() };
        let mut bench = Bench::with(config);
        let mut held = bench.lease(1);
        let tickets: Vec<Ticket> = (0..9).map(|token| bench.queue(2 + token, Wait::Forever, token)).collect();
        bench.cancel(tickets[3], GiveUp::Cancelled);
        bench.cancel(tickets[0], GiveUp::TimedOut);
        bench.cancel(tickets[8], GiveUp::TimedOut);
        let mut served = Vec::new();
        for _ in 0..6 {
            bench.give_back(held);
            assert_eq!(bench.checkout(99, Wait::Never, 99), Checkout::Rejected(Refusal::Exhausted));
            let (token, _) = bench.wakes[0];
            served.push(token);
            held = bench.granted_lease(token);
        }
        assert_eq!(served, [1, 2, 4, 5, 6, 7]);
    }
}

#[test]
fn p10_a_caller_that_never_waits_gets_an_idle_slot_or_nothing() {
    let mut bench = Bench::new(1, 0).slow();
    assert_eq!(bench.checkout(1, Wait::Never, 0), Checkout::Rejected(Refusal::Exhausted));
    assert_eq!(bench.checkout(1, Wait::Never, 0), Checkout::Rejected(Refusal::Exhausted));
    assert_eq!((bench.creates.len(), bench.seen().waiting), (1, 0), "one creation ahead is enough");
    bench.create_next(Ok(()));
    assert!(matches!(bench.checkout(1, Wait::Never, 0), Checkout::Granted(_)));
}

#[test]
fn p10_a_caller_that_waits_for_its_creation_never_waits_for_a_return() {
    let mut bench = Bench::new(1, 1).slow();
    bench.queue(1, Wait::ForCreation, 1);
    bench.queue(1, Wait::ForCreation, 2);
    assert_eq!(bench.checkout(1, Wait::ForCreation, 3), Checkout::Rejected(Refusal::Exhausted));
    bench.create_next(Err(8));
    assert_eq!(bench.wakes, [(1, WakeOutcome::CreateFailed(8))]);
    assert_eq!(bench.checkout(1, Wait::ForCreation, 4), Checkout::Rejected(Refusal::Exhausted), "back-off");
    bench.create_next(Ok(()));
    assert_eq!(bench.granted(), [2]);
    bench.queue(1, Wait::Forever, 5);
    bench.queue(1, Wait::Forever, 6);
    assert_eq!(bench.checkout(1, Wait::ForCreation, 7), Checkout::Rejected(Refusal::Exhausted), "a queue");
}

#[test]
fn p11_the_queue_is_bounded() {
    let mut bench =
        Bench::with(PoolConfig { size: 1, max_overflow: 0, max_waiters: 2, ..PoolConfig::default() });
    let held = bench.lease(1);
    bench.queue(2, Wait::Forever, 1);
    bench.queue(2, Wait::Forever, 2);
    assert_eq!(bench.checkout(2, Wait::Forever, 3), Checkout::Rejected(Refusal::QueueFull));
    assert_eq!((bench.seen().waiting, bench.seen().counts.queue_full), (2, 1));
    bench.give_back(held);
    bench.queue(2, Wait::Forever, 4);
    assert_eq!(bench.granted(), [1]);
}

#[test]
fn p11_no_waiters_means_never_wait() {
    let mut bench =
        Bench::with(PoolConfig { size: 1, max_overflow: 0, max_waiters: 0, ..PoolConfig::default() });
    assert_eq!(bench.checkout(2, Wait::Forever, 3), Checkout::Rejected(Refusal::QueueFull));
    assert_eq!(bench.checkout(2, Wait::Never, 3), Checkout::Rejected(Refusal::Exhausted));
}

#[test]
fn p12_a_burst_of_twice_the_size() {
    let ttl = 1_000;
    let config = PoolConfig { size: 10, max_overflow: 10, overflow_ttl_ns: ttl, ..PoolConfig::default() };
    let mut bench = Bench::with(config);
    let leases: Vec<Lease> = (0..20).map(|owner| bench.lease(1 + owner)).collect();
    assert_eq!((bench.created, bench.seen().overflow), (20, 10));
    bench.queue(50, Wait::Forever, 5);
    let extra = {
        bench.give_back(leases[0]);
        bench.granted_lease(5)
    };
    for lease in leases[1..].iter().copied().chain([extra]) {
        bench.give_back(lease);
    }
    assert_eq!((bench.seen().idle, bench.created), (20, 20));
    assert_eq!(bench.maintain(ttl - 1), Some(ttl));
    assert_eq!(bench.seen().idle, 20);
    assert_eq!(bench.maintain(ttl), None);
    assert_eq!((bench.seen().idle, bench.seen().overflow), (10, 0));
}

#[test]
fn p13_a_surplus_closes_by_idle_age_and_not_by_birth() {
    let config = PoolConfig { size: 1, max_overflow: 1, overflow_ttl_ns: 100, ..PoolConfig::default() };
    let mut bench = Bench::with(config).slow();
    bench.queue(1, Wait::Forever, 1);
    bench.queue(1, Wait::Forever, 2);
    bench.create_next(Ok(()));
    bench.create_next(Ok(()));
    let (first_born, second_born) = (bench.granted_lease(1), bench.granted_lease(2));
    bench.now = 10;
    bench.give_back(first_born);
    assert_eq!(bench.alarm, Some(110));
    bench.now = 60;
    bench.give_back(second_born);
    assert_eq!(bench.maintain(109), Some(110));
    assert!(bench.destroys.is_empty());
    bench.maintain(110);
    assert_eq!(bench.destroys.len(), 1);
    assert_eq!((bench.destroys[0].0, bench.destroys[0].2), (first_born.slot, DestroyReason::Overflow));
}

#[test]
fn p13_the_edge_is_told_once_when_to_call_maintain() {
    let config = PoolConfig { size: 1, max_overflow: 2, overflow_ttl_ns: 100, ..PoolConfig::default() };
    let mut bench = Bench::with(config);
    let leases = [bench.lease(1), bench.lease(1), bench.lease(1)];
    let alarm_of_return = |bench: &Bench, lease, now| {
        let mut actions = Actions::new();
        bench.pool.checkin(lease, Condition::Good, || now, &mut actions).unwrap();
        actions.alarm_ns()
    };
    assert_eq!(alarm_of_return(&bench, leases[0], 10), Some(110));
    assert_eq!(alarm_of_return(&bench, leases[1], 20), None, "110 is told already");
    assert_eq!(bench.maintain(110), Some(120), "the answer of maintain is the next alarm");
    assert_eq!(alarm_of_return(&bench, leases[2], 115), None);
    assert_eq!(bench.maintain(120), None);
    assert_eq!((bench.seen().idle, bench.seen().overflow), (1, 0));
}

#[test]
fn p13_without_a_ttl_the_surplus_closes_on_return() {
    let mut bench = Bench::new(1, 1);
    let (a, b) = (bench.lease(1), bench.lease(1));
    bench.give_back(a);
    assert_eq!((bench.seen().idle, bench.seen().leased, bench.seen().overflow), (0, 1, 0));
    bench.give_back(b);
    assert_eq!((bench.seen().idle, bench.seen().counts.destroys), (1, 1));
}

#[test]
fn p14_a_healthy_pool_reuses() {
    let config = PoolConfig { size: 4, max_overflow: 4, overflow_ttl_ns: 1_000, ..PoolConfig::default() };
    let mut bench = Bench::with(config);
    for round in 0..125 {
        bench.now += 100;
        let leases: Vec<Lease> = (0..if round % 2 == 0 { 4 } else { 8 }).map(|_| bench.lease(1)).collect();
        for lease in leases {
            bench.give_back(lease);
        }
        bench.maintain(bench.now);
    }
    let counts = bench.seen().counts;
    assert!(counts.granted > 700 && counts.created <= 8, "{counts:?}");
}

#[test]
fn p15_lifo_takes_the_latest_and_fifo_the_earliest_return() {
    for (order, expected) in [(IdleOrder::Lifo, [1, 0, 2]), (IdleOrder::Fifo, [2, 0, 1])] {
        let mut bench = Bench::with(PoolConfig { size: 3, max_overflow: 0, order, ..PoolConfig::default() });
        let leases = [bench.lease(1), bench.lease(1), bench.lease(1)];
        for returned in [2, 0, 1] {
            bench.give_back(leases[returned]);
        }
        let taken = [bench.lease(1), bench.lease(1), bench.lease(1)];
        assert_eq!(taken.map(|lease| lease.slot), expected.map(|at: usize| leases[at].slot), "{order:?}");
    }
}

#[test]
fn p16_attempts_are_spaced_and_one_probe_is_in_flight() {
    let mut bench = Bench::new(4, 0).slow();
    for token in 0..4 {
        bench.queue(1, Wait::Forever, token);
    }
    assert_eq!(bench.creates.len(), 4);
    for _ in 0..4 {
        bench.create_next(Err(5));
    }
    let base = PoolConfig::default().create_backoff_ns;
    for attempt in 0..6 {
        let failed_at = bench.now;
        let retry_at = bench.maintain(failed_at).expect("a waiter waits for the next attempt");
        assert!(retry_at - failed_at >= base << attempt, "attempt {attempt}");
        bench.maintain(retry_at);
        assert_eq!(bench.creates.len(), 1, "one probe");
        bench.create_next(Err(6));
    }
    let seen = bench.seen();
    assert_eq!((seen.last_error, seen.failing, seen.waiting), (Some(6), 7, 4));
    let retry_at = bench.maintain(bench.now).unwrap();
    bench.maintain(retry_at);
    bench.create_next(Ok(()));
    assert_eq!(bench.creates.len(), 3, "the first success ends the back-off");
    assert_eq!(bench.seen().failing, 0);
}

#[test]
fn p16_existing_connections_serve_while_creation_fails() {
    let mut bench = Bench::new(1, 1).slow();
    bench.queue(1, Wait::Forever, 1);
    bench.create_next(Ok(()));
    let held = bench.granted_lease(1);
    bench.queue(2, Wait::Forever, 2);
    bench.create_next(Err(9));
    assert!(bench.wakes.is_empty(), "the waiter is not failed under the policy retry");
    bench.give_back(held);
    assert_eq!(bench.granted(), [2]);
}

#[test]
fn p16_fail_fast_wakes_the_head_with_the_error() {
    let config = PoolConfig { create_failure: CreateFailure::FailFast, ..PoolConfig::default() };
    let mut bench = Bench::with(config).slow();
    let first = bench.queue(1, Wait::Forever, 1);
    bench.queue(1, Wait::Forever, 2);
    bench.create_next(Err(9));
    assert_eq!(bench.wakes, [(1, WakeOutcome::CreateFailed(9))]);
    assert_eq!(bench.cancel(first, GiveUp::TimedOut), CancelOutcome::CreateFailed(9));
    assert_eq!((bench.seen().waiting, bench.seen().counts.create_failed), (1, 1));
}

#[test]
fn p17_creation_goes_on_when_its_requester_leaves() {
    let mut bench = Bench::new(1, 0).slow();
    for token in 0..20 {
        let ticket = bench.queue(1, Wait::Forever, token);
        assert_eq!(bench.cancel(ticket, GiveUp::Cancelled), CancelOutcome::Cancelled);
    }
    assert_eq!(bench.creates.len(), 1, "cancellations make no creations");
    bench.create_next(Ok(()));
    assert_eq!(bench.seen().idle, 1);
}

#[test]
fn p19_death_ends_exactly_the_owner_s_leases_and_waits() {
    let mut bench = Bench::new(4, 0);
    let (mine, also_mine) = (bench.lease(1), bench.lease(1));
    let (other, another) = (bench.lease(2), bench.lease(17));
    let ticket = bench.queue(1, Wait::Forever, 1);
    bench.owner_gone(1);
    let seen = bench.seen();
    assert_eq!((seen.leased, seen.waiting, seen.counts.reclaimed, seen.counts.cancelled), (2, 0, 2, 1));
    for late in [mine, also_mine] {
        assert_eq!(bench.checkin(late, Condition::Good), Err(StaleLease));
    }
    assert_eq!(bench.cancel(ticket, GiveUp::TimedOut), CancelOutcome::Stale);
    bench.owner_gone(1);
    bench.owner_gone(0);
    assert_eq!(bench.seen(), seen, "told twice is told once, and nobody is nobody");
    bench.give_back(other);
    bench.give_back(another);
}

#[test]
fn p19_a_reclaimed_connection_is_destroyed_and_never_reused() {
    let mut bench = Bench::new(1, 0).slow();
    bench.queue(1, Wait::Forever, 1);
    bench.create_next(Ok(()));
    bench.owner_gone(1);
    assert_eq!(bench.destroys[0].2, DestroyReason::OwnerGone);
    assert_eq!(bench.checkout(2, Wait::Never, 0), Checkout::Rejected(Refusal::Exhausted));
}

#[test]
fn p19_a_death_with_more_than_one_buffer_of_work() {
    let mut bench = Bench::new(40, 0).slow();
    for token in 0..40 {
        bench.queue(1, Wait::Forever, token);
    }
    for _ in 0..40 {
        bench.create_next(Ok(()));
    }
    let mut actions = Actions::new();
    bench.pool.owner_gone(Owner(1), || 0, &mut actions);
    assert_eq!((actions.len(), actions.more()), (Actions::CAPACITY, true));
    bench.take(actions);
    assert_eq!(bench.destroys.len(), 40);
}

/// A buffer without room: what a call decides stays in the pool.
fn full() -> Actions {
    let pool = Pool::new(&PoolConfig { size: 8, max_overflow: 0, ..PoolConfig::default() }).unwrap();
    let mut actions = Actions::new();
    for token in 0..8 {
        pool.checkout(Owner::NONE, Wait::Forever, token, || 0, &mut actions);
    }
    assert_eq!(actions.len(), Actions::CAPACITY);
    actions
}

#[test]
fn p19_a_wake_that_was_not_told_dies_with_its_waiter() {
    let config = PoolConfig { size: 1, max_overflow: 0, max_waiters: 1, ..PoolConfig::default() };
    let mut bench = Bench::with(config);
    for round in 0..5 {
        let held = bench.lease(1);
        bench.queue(2, Wait::Forever, round);
        let mut none = full();
        bench.pool.checkin(held, Condition::Good, || 0, &mut none).unwrap();
        assert!(none.more());
        bench.pool.owner_gone(Owner(2), || 0, &mut none);
        bench.maintain(0);
        assert!(bench.wakes.is_empty(), "the dead get no messages");
        assert_eq!((bench.seen().leased, bench.seen().counts.reclaimed), (0, 1 + round));
    }
}

#[test]
fn p01_a_report_about_an_action_that_was_not_told_is_stale() {
    let mut bench = Bench::new(1, 0).slow();
    let mut none = full();
    bench.pool.checkout(Owner(1), Wait::Forever, 1, || 0, &mut none);
    for epoch in 0..4 {
        assert_eq!(bench.pool.created(0, epoch, Ok(()), || 0, &mut none), Err(StaleReport));
    }
    bench.maintain(0);
    bench.create_next(Ok(()));
    assert_eq!(bench.granted(), [1]);
}

#[test]
fn p24_creations_that_were_not_told_are_taken_back() {
    let mut bench = Bench::new(2, 0);
    let mut none = full();
    bench.pool.checkout(Owner(1), Wait::Forever, 1, || 0, &mut none);
    bench.pool.checkout(Owner(1), Wait::Forever, 2, || 0, &mut none);
    assert!(none.more());
    bench.pool.close(|| 0, &mut none);
    bench.maintain(0);
    assert_eq!(bench.wakes, [(1, WakeOutcome::Closed), (2, WakeOutcome::Closed)]);
    assert_eq!((bench.seen().creating, bench.seen().counts.creates), (0, 0));
}

#[test]
fn p20_a_broken_connection_is_destroyed_once() {
    let mut bench = Bench::new(2, 0).slow();
    bench.queue(1, Wait::Forever, 1);
    bench.create_next(Ok(()));
    let lease = bench.granted_lease(1);
    bench.checkin(lease, Condition::Broken).unwrap();
    assert_eq!(bench.checkin(lease, Condition::Broken), Err(StaleLease));
    assert_eq!(bench.destroys.len(), 1);
    assert_eq!(bench.destroys[0].2, DestroyReason::Broken);
    let (slot, epoch, _) = bench.destroys[0];
    bench.destroy_next();
    let again = bench.pool.destroyed(slot, epoch, || 0, &mut Actions::new());
    assert_eq!(again, Err(StaleReport));
}

#[test]
fn p20_a_connection_that_died_leaves_the_pool_idle_or_leased() {
    let mut bench = Bench::new(2, 0);
    let (idle, held) = (bench.lease(1), bench.lease(1));
    bench.give_back(idle);
    for slot in [idle.slot, held.slot, held.slot, 99] {
        assert!(bench.pool.lost(slot, || 0, &mut Actions::new()), "what is closing already stays as it is");
    }
    let seen = bench.seen();
    assert_eq!((seen.idle, seen.leased, seen.closing, seen.counts.broken), (0, 0, 2, 1));
    assert_eq!(bench.checkin(held, Condition::Good), Err(StaleLease));
}

#[test]
fn p06_a_connection_that_died_is_replaced_for_a_waiter() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.queue(2, Wait::Forever, 7);
    let mut actions = Actions::new();
    assert!(bench.pool.lost(held.slot, || 0, &mut actions));
    bench.take(actions);
    assert!(matches!(bench.wakes[..], [(7, WakeOutcome::Granted(_))]));
}

#[test]
fn p20_a_connection_that_died_before_its_waiter_was_told_is_told_first() {
    let mut bench = Bench::new(1, 0);
    let held = bench.lease(1);
    bench.queue(2, Wait::Forever, 7);
    let mut none = full();
    bench.pool.checkin(held, Condition::Good, || 0, &mut none).unwrap();
    assert!(!bench.pool.lost(held.slot, || 0, &mut none), "the waiter's wake is still to come");
    bench.maintain(0);
    let [(7, WakeOutcome::Granted(lease))] = bench.wakes[..] else { panic!("{:?}", bench.wakes) };
    assert!(bench.pool.lost(held.slot, || 0, &mut Actions::new()));
    assert_eq!(bench.checkin(lease, Condition::Good), Err(StaleLease));
}

#[test]
fn p13_a_caller_may_keep_the_pool_within_its_size() {
    let mut bench = Bench::new(1, 1);
    let held = bench.lease(1);
    let within = |bench: &mut Bench, wait, token| {
        let mut actions = Actions::new();
        let answer = bench.pool.checkout_within_size(Owner(2), wait, token, || 0, &mut actions);
        bench.take(actions);
        answer
    };
    assert_eq!(within(&mut bench, Wait::Never, 1), Checkout::Rejected(Refusal::Exhausted));
    assert_eq!(within(&mut bench, Wait::ForCreation, 2), Checkout::Rejected(Refusal::Exhausted));
    assert!(matches!(within(&mut bench, Wait::Forever, 3), Checkout::Queued(_)));
    assert_eq!((bench.created, bench.wakes.len()), (1, 0));
    // One that may grow the pool queues behind it: first come, first served, and each gets a connection.
    bench.queue(3, Wait::Forever, 4);
    assert_eq!(bench.created, 2);
    assert!(matches!(bench.wakes[..], [(3, WakeOutcome::Granted(_))]));
    bench.give_back(held);
    assert!(matches!(bench.wakes[..], [_, (4, WakeOutcome::Granted(_))]));
}

#[test]
fn p06_a_caller_within_the_size_does_not_cost_the_next_its_creation() {
    let mut bench = Bench::new(1, 1).slow();
    let within = bench.pool.checkout_within_size(Owner(1), Wait::Forever, 1, || 0, &mut Actions::new());
    assert!(matches!(within, Checkout::Queued(_)));
    bench.queue(2, Wait::Forever, 2);
    assert_eq!((bench.seen().creating, bench.seen().overflow), (2, 1));
}

#[test]
fn p24_close_wakes_destroys_and_refuses() {
    let mut bench = Bench::new(2, 0).slow();
    bench.queue(1, Wait::Forever, 1);
    bench.create_next(Ok(()));
    let held = bench.granted_lease(1);
    bench.queue(1, Wait::Forever, 2);
    let ticket = bench.queue(2, Wait::Forever, 3);
    bench.close();
    assert_eq!(bench.wakes, [(2, WakeOutcome::Closed), (3, WakeOutcome::Closed)]);
    assert_eq!(bench.cancel(ticket, GiveUp::Cancelled), CancelOutcome::Closed);
    assert_eq!(bench.checkout(1, Wait::Forever, 4), Checkout::Rejected(Refusal::Closed));
    bench.create_next(Ok(()));
    assert_eq!(bench.destroys.len(), 1, "a creation that comes late is destroyed");
    bench.give_back(held);
    assert_eq!(bench.destroys.len(), 2);
    let before = bench.seen();
    bench.close();
    assert_eq!(bench.seen(), before);
    bench.destroy_next();
    bench.destroy_next();
    let seen = bench.seen();
    assert_eq!((seen.idle, seen.leased, seen.creating, seen.closing, seen.is_closed), (0, 0, 0, 0, true));
}

#[test]
fn p24_close_with_more_than_one_buffer_of_waiters() {
    let mut bench = Bench::new(1, 0);
    bench.lease(1);
    for token in 0..100 {
        bench.queue(2, Wait::Forever, token);
    }
    bench.close();
    assert_eq!(bench.wakes.len(), 100);
    assert!(bench.wakes.iter().all(|wake| wake.1 == WakeOutcome::Closed));
}

/// Real threads: no slot has two holders, and in the end everything reconciles.
#[test]
fn p25_counters_reconcile_after_a_storm() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 2_000;
    let config = PoolConfig { size: 2, max_overflow: 1, overflow_ttl_ns: 50, ..PoolConfig::default() };
    let pool = Arc::new(Pool::new(&config).unwrap());
    let clock = Arc::new(AtomicU64::new(0));
    let holders: Arc<Vec<AtomicU64>> = Arc::new((0..3).map(|_| AtomicU64::new(0)).collect());
    let mailbox: Arc<parking_lot::Mutex<HashMap<u64, WakeOutcome>>> = Arc::default();
    let worker = |id: u64| {
        let (pool, clock, holders, mailbox) = (pool.clone(), clock.clone(), holders.clone(), mailbox.clone());
        move || {
            let now = || clock.fetch_add(1, Ordering::Relaxed);
            // Every report gets a buffer of its own, so that none overflows into a second `maintain`.
            let carry_out = |actions: Actions| {
                let mut todo = vec![actions];
                while let Some(actions) = todo.pop() {
                    for action in actions.iter() {
                        let mut next = Actions::new();
                        match action {
                            Action::Create { slot, epoch } => {
                                pool.created(slot, epoch, Ok(()), now, &mut next).unwrap();
                            }
                            Action::Destroy { slot, epoch, .. } => {
                                pool.destroyed(slot, epoch, now, &mut next).unwrap();
                            }
                            other @ (Action::Check { .. } | Action::Leaked { .. }) => panic!("{other:?}"),
                            Action::Wake { waiter_token, outcome } => {
                                assert!(mailbox.lock().insert(waiter_token, outcome).is_none(), "P05");
                            }
                        }
                        todo.push(next);
                    }
                    if actions.more() {
                        let mut next = Actions::new();
                        pool.maintain(now, &mut next);
                        todo.push(next);
                    }
                }
            };
            for round in 0..ROUNDS {
                let token = id * ROUNDS + round;
                // The dead do not call again, so every round has an owner of its own.
                let owner = Owner(1 + token);
                let mut actions = Actions::new();
                let answer = pool.checkout(owner, Wait::Forever, token, now, &mut actions);
                carry_out(actions);
                let lease = match answer {
                    Checkout::Granted(lease) => Some(lease),
                    other @ (Checkout::Rejected(_) | Checkout::GrantedUntested { .. }) => panic!("{other:?}"),
                    Checkout::Queued(ticket) => {
                        for _ in 0..round % 5 {
                            std::thread::yield_now();
                        }
                        let mut actions = Actions::new();
                        let outcome = pool.cancel(ticket, GiveUp::TimedOut, now, &mut actions);
                        carry_out(actions);
                        match outcome {
                            CancelOutcome::Cancelled => None,
                            CancelOutcome::Granted(lease) => Some(lease),
                            other => panic!("{other:?}"),
                        }
                    }
                };
                let Some(lease) = lease else { continue };
                let holder = &holders[lease.slot as usize];
                assert_eq!(holder.swap(1, Ordering::AcqRel), 0, "P02: two holders");
                std::hint::spin_loop();
                assert_eq!(holder.swap(0, Ordering::AcqRel), 1, "P02: two holders");
                let mut actions = Actions::new();
                if round % 16 == 0 {
                    pool.owner_gone(owner, now, &mut actions);
                } else {
                    let broken = if round % 7 == 0 { Condition::Broken } else { Condition::Good };
                    pool.checkin(lease, broken, now, &mut actions).unwrap();
                }
                carry_out(actions);
            }
        }
    };
    let threads: Vec<_> = (0..THREADS).map(|id| std::thread::spawn(worker(id))).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let seen = pool.snapshot(|| 0, &mut Actions::new());
    let n = seen.counts;
    assert_eq!(n.requests, THREADS * ROUNDS);
    assert_eq!(n.requests, n.granted + n.timed_out + n.cancelled + u64::from(seen.waiting), "{n:?}");
    assert_eq!((seen.leased, seen.waiting, seen.creating, seen.closing), (0, 0, 0, 0), "{seen:?}");
    assert_eq!(n.granted, n.returned + n.broken + n.reclaimed, "{n:?}");
    assert_eq!(n.created - n.destroys, u64::from(seen.idle), "{n:?}");
}
