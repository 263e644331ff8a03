//! What a pool is told when it is made: the core's settings under their names in Elixir, which has checked the words.

use elixirscope::pool::{CreateFailure, HealthChecks, IdleOrder, OwnerDeath, PoolConfig};
use rustler::{Atom, NifMap};

use crate::atoms;

#[derive(NifMap)]
pub struct Options {
    size: u32,
    max_overflow: u32,
    order: Atom,
    max_waiters: u32,
    max_slots: u32,
    min_idle: u32,
    max_creating: u32,
    idle_timeout_ns: u64,
    max_lifetime_ns: u64,
    max_lifetime_jitter_ns: u64,
    keepalive_ns: u64,
    health: Atom,
    health_interval_ns: u64,
    check_limit_ns: u64,
    reset_on_return: bool,
    return_limit_ns: u64,
    pre_ping_after_ns: u64,
    pre_ping_limit_ns: u64,
    owner_death: Atom,
    leak_after_ns: u64,
    queue_target_ns: u64,
    queue_interval_ns: u64,
    measure: bool,
    create_failure: Atom,
    overflow_ttl_ns: u64,
    backoff_ns: u64,
    backoff_cap_ns: u64,
    jitter_seed: u64,
}

impl Options {
    pub fn config(&self) -> PoolConfig {
        PoolConfig {
            size: self.size,
            max_overflow: self.max_overflow,
            order: order(self.order),
            max_waiters: self.max_waiters,
            max_slots: self.max_slots,
            min_idle: self.min_idle,
            max_concurrent_creates: self.max_creating,
            idle_timeout_ns: self.idle_timeout_ns,
            max_lifetime_ns: self.max_lifetime_ns,
            max_lifetime_jitter_ns: self.max_lifetime_jitter_ns,
            keepalive_ns: self.keepalive_ns,
            health: health(self.health),
            health_interval_ns: self.health_interval_ns,
            check_limit_ns: self.check_limit_ns,
            reset_on_return: self.reset_on_return,
            return_limit_ns: self.return_limit_ns,
            pre_ping_after_ns: self.pre_ping_after_ns,
            pre_ping_limit_ns: self.pre_ping_limit_ns,
            owner_death: owner_death(self.owner_death),
            leak_after_ns: self.leak_after_ns,
            queue_target_ns: self.queue_target_ns,
            queue_interval_ns: self.queue_interval_ns,
            measure: self.measure,
            create_failure: create_failure(self.create_failure),
            overflow_ttl_ns: self.overflow_ttl_ns,
            create_backoff_ns: self.backoff_ns,
            create_backoff_cap_ns: self.backoff_cap_ns,
            jitter_seed: self.jitter_seed,
        }
    }
}

fn order(order: Atom) -> IdleOrder {
    if order == atoms::fifo() {
        IdleOrder::Fifo
    } else if order == atoms::round_robin() {
        IdleOrder::RoundRobin
    } else if order == atoms::least_used() {
        IdleOrder::LeastUsed
    } else {
        IdleOrder::Lifo
    }
}

fn health(health: Atom) -> HealthChecks {
    if health == atoms::passive() {
        HealthChecks::Passive
    } else if health == atoms::active() {
        HealthChecks::Active
    } else if health == atoms::mixed() {
        HealthChecks::Mixed
    } else {
        HealthChecks::Off
    }
}

fn owner_death(what: Atom) -> OwnerDeath {
    if what == atoms::check() { OwnerDeath::Check } else { OwnerDeath::Destroy }
}

fn create_failure(what: Atom) -> CreateFailure {
    if what == atoms::fail_fast() { CreateFailure::FailFast } else { CreateFailure::Retry }
}
