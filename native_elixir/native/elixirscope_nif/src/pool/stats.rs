//! What a pool tells of itself: the core's snapshot under its names in Elixir.

use elixirscope::pool::{Phase, Snapshot};
use rustler::{Atom, NifMap};

use crate::atoms;

#[derive(NifMap)]
pub struct Stats {
    size: u32,
    capacity: u32,
    idle: u32,
    in_use: u32,
    creating: u32,
    checking: u32,
    closing: u32,
    waiting: u32,
    overflow: u32,
    closed: bool,
    phase: Atom,
    failing: u32,
    requests: u64,
    granted: u64,
    timed_out: u64,
    cancelled: u64,
    exhausted: u64,
    queue_full: u64,
    closed_requests: u64,
    create_failed: u64,
    shed: u64,
    returned: u64,
    broken: u64,
    reclaimed: u64,
    created: u64,
    create_errors: u64,
    destroyed: u64,
    checks_passed: u64,
    checks_failed: u64,
    pre_pings: u64,
    leaks: u64,
    queue_ns: u64,
    longest_queue_ns: u64,
    use_ns: u64,
}

impl Stats {
    pub fn of(snapshot: &Snapshot) -> Self {
        let counts = snapshot.counts;
        Self {
            size: snapshot.size,
            capacity: snapshot.capacity,
            idle: snapshot.idle,
            in_use: snapshot.leased,
            creating: snapshot.creating,
            checking: snapshot.checking,
            closing: snapshot.closing,
            waiting: snapshot.waiting,
            overflow: snapshot.overflow,
            closed: snapshot.is_closed,
            phase: phase(snapshot.phase),
            failing: snapshot.failing,
            requests: counts.requests,
            granted: counts.granted,
            timed_out: counts.timed_out,
            cancelled: counts.cancelled,
            exhausted: counts.exhausted,
            queue_full: counts.queue_full,
            closed_requests: counts.closed,
            create_failed: counts.create_failed,
            shed: counts.shed,
            returned: counts.returned,
            broken: counts.broken,
            reclaimed: counts.reclaimed,
            created: counts.created,
            create_errors: counts.create_errors,
            destroyed: counts.destroys,
            checks_passed: counts.checks_passed,
            checks_failed: counts.checks_failed,
            pre_pings: counts.pre_pings,
            leaks: counts.leaks,
            queue_ns: counts.queue_ns,
            longest_queue_ns: counts.longest_queue_ns,
            use_ns: counts.use_ns,
        }
    }
}

fn phase(phase: Phase) -> Atom {
    match phase {
        Phase::Running => atoms::running(),
        Phase::Draining => atoms::draining(),
        Phase::Closed => atoms::closed(),
    }
}
