//! A pool with an edge that makes, checks and destroys connections at once, or when it is told to.

use elixirscope::pool::*;

/// A pool with an edge that makes and destroys connections at once, or when it is told to.
pub struct Bench {
    pub pool: Pool,
    pub now: u64,
    pub at_once: bool,
    pub creates: Vec<(u32, u64)>,
    pub destroys: Vec<(u32, u64, DestroyReason)>,
    pub wakes: Vec<(u64, WakeOutcome)>,
    pub checks: Vec<(u32, u64, CheckKind, u64)>,
    pub leaks: Vec<(Lease, Owner, u64)>,
    pub created: u32,
    pub alarm: Option<u64>,
}

impl Bench {
    pub fn new(size: u32, max_overflow: u32) -> Self {
        Self::with(PoolConfig { size, max_overflow, ..PoolConfig::default() })
    }

    pub fn with(config: PoolConfig) -> Self {
        Self {
            pool: Pool::new(&config).unwrap(),
            now: 0,
            at_once: true,
            creates: Vec::new(),
            destroys: Vec::new(),
            wakes: Vec::new(),
            checks: Vec::new(),
            leaks: Vec::new(),
            created: 0,
            alarm: None,
        }
    }

    pub fn slow(mut self) -> Self {
        self.at_once = false;
        self
    }

    pub fn take(&mut self, mut actions: Actions) {
        loop {
            for action in actions.iter() {
                match action {
                    Action::Create { slot, epoch } => self.creates.push((slot, epoch)),
                    Action::Destroy { slot, epoch, reason } => self.destroys.push((slot, epoch, reason)),
                    Action::Check { slot, epoch, kind, deadline_ns } => {
                        self.checks.push((slot, epoch, kind, deadline_ns));
                    }
                    Action::Leaked { lease, owner, since_ns } => self.leaks.push((lease, owner, since_ns)),
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

    pub fn create_next(&mut self, result: Result<(), u64>) {
        let (slot, epoch) = self.creates.remove(0);
        self.created += u32::from(result.is_ok());
        let mut actions = Actions::new();
        self.pool.created(slot, epoch, result, || self.now, &mut actions).unwrap();
        self.take(actions);
    }

    pub fn destroy_next(&mut self) {
        let (slot, epoch, _) = self.destroys.remove(0);
        let mut actions = Actions::new();
        self.pool.destroyed(slot, epoch, || self.now, &mut actions).unwrap();
        self.take(actions);
    }

    pub fn check_next(&mut self, healthy: bool) {
        let (slot, epoch, ..) = self.checks.remove(0);
        let mut actions = Actions::new();
        self.pool.checked(slot, epoch, healthy, || self.now, &mut actions).unwrap();
        self.take(actions);
    }

    pub fn resize(&mut self, size: u32, max_overflow: u32) {
        let mut actions = Actions::new();
        self.pool.resize(size, max_overflow, || self.now, &mut actions).unwrap();
        self.take(actions);
    }

    pub fn evict(&mut self, spread_ns: u64) {
        let mut actions = Actions::new();
        self.pool.evict(spread_ns, || self.now, &mut actions);
        self.take(actions);
    }

    /// So many idle connections, returned in the order of their slots.
    pub fn filled(mut self, count: u32) -> Self {
        let leases: Vec<Lease> = (0..count).map(|_| self.lease(1)).collect();
        for lease in leases {
            self.give_back(lease);
        }
        self
    }

    pub fn checkout(&mut self, owner: u64, wait: Wait, token: u64) -> Checkout {
        let mut actions = Actions::new();
        let answer = self.pool.checkout(Owner(owner), wait, token, || self.now, &mut actions);
        self.take(actions);
        answer
    }

    pub fn checkout_unowned(&mut self) -> Option<Checkout> {
        let mut actions = Actions::new();
        let answer = self.pool.checkout_unowned(|| self.now, &mut actions);
        self.take(actions);
        answer
    }

    /// A lease, made for it if need be.
    pub fn lease(&mut self, owner: u64) -> Lease {
        match self.checkout(owner, Wait::ForCreation, u64::MAX) {
            Checkout::Granted(lease) => lease,
            Checkout::Queued(_) => match self.wakes.pop() {
                Some((u64::MAX, WakeOutcome::Granted(lease))) => lease,
                other => panic!("{other:?} instead of a grant"),
            },
            other => panic!("{other:?}"),
        }
    }

    pub fn queue(&mut self, owner: u64, wait: Wait, token: u64) -> Ticket {
        match self.checkout(owner, wait, token) {
            Checkout::Queued(ticket) => ticket,
            other => panic!("{other:?} instead of a place in the queue"),
        }
    }

    pub fn checkin(&mut self, lease: Lease, condition: Condition) -> Result<(), StaleLease> {
        let mut actions = Actions::new();
        let result = self.pool.checkin(lease, condition, || self.now, &mut actions);
        self.take(actions);
        result
    }

    pub fn give_back(&mut self, lease: Lease) {
        self.checkin(lease, Condition::Good).unwrap();
    }

    pub fn cancel(&mut self, ticket: Ticket, reason: GiveUp) -> CancelOutcome {
        let mut actions = Actions::new();
        let outcome = self.pool.cancel(ticket, reason, || self.now, &mut actions);
        self.take(actions);
        outcome
    }

    pub fn owner_gone(&mut self, owner: u64) {
        let mut actions = Actions::new();
        self.pool.owner_gone(Owner(owner), || self.now, &mut actions);
        self.take(actions);
    }

    pub fn maintain(&mut self, now: u64) -> Option<u64> {
        self.now = now;
        let mut actions = Actions::new();
        let next = self.pool.maintain(|| now, &mut actions);
        self.take(actions);
        next
    }

    pub fn close(&mut self) {
        let mut actions = Actions::new();
        self.pool.close(|| self.now, &mut actions);
        self.take(actions);
    }

    pub fn seen(&self) -> Snapshot {
        let mut actions = Actions::new();
        let seen = self.pool.snapshot(|| self.now, &mut actions);
        assert!(actions.is_empty(), "everything was handed out before");
        seen
    }

    /// Tokens of the granted wakes so far, and forgets them.
    pub fn granted(&mut self) -> Vec<u64> {
        let granted = |(token, outcome)| matches!(outcome, WakeOutcome::Granted(_)).then_some(token);
        self.wakes.drain(..).filter_map(granted).collect()
    }

    pub fn granted_lease(&mut self, token: u64) -> Lease {
        let at = self.wakes.iter().position(|wake| wake.0 == token).expect("woken");
        match self.wakes.remove(at).1 {
            WakeOutcome::Granted(lease) => lease,
            other => panic!("{other:?}"),
        }
    }
}

/// A buffer without room: what a call decides stays in the pool.
pub fn full() -> Actions {
    let pool = Pool::new(&PoolConfig { size: 8, max_overflow: 0, ..PoolConfig::default() }).unwrap();
    let mut actions = Actions::new();
    for token in 0..8 {
        pool.checkout(Owner::NONE, Wait::Forever, token, || 0, &mut actions);
    }
    assert_eq!(actions.len(), Actions::CAPACITY);
    actions
}
