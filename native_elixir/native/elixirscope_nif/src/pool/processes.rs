//! What the edge knows about each process that has used the pool: that it is watched, which leases it took, and
//! how it is to be told the end of its wait.
//!
//! An entry is made at a process's first check-out, together with the one monitor that the pool ever sets on it,
//! and goes when the process dies. The table is cut into shards, each behind a short lock.
//!
//! # Lock order
//!
//! A shard's lock may be held while the core's is taken (check-out holds it from before the core decides until
//! the wait is noted here), never the other way round: a wake is sent after the core has let go. So a wake that
//! overtakes its own check-out waits at the shard's lock and then finds the wait noted.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::DerefMut;

use elixirscope::pool::{Lease, Ticket};
use elixirscope::sync::Mutex;
use rustler::{Encoder, Env, LocalPid};

use super::connection::Kept;

const SHARDS: usize = 16;

/// One process.
pub struct Process {
    pub pid: LocalPid,
    /// Its leases. One that ended without this process (the connection died, somebody else gave it back) stays
    /// until its slot is granted here again or looked at; the core tells it from a live one.
    pub leases: Vec<Lease>,
    /// The wait in progress; a process waits in one place at a time.
    pub wait: Option<Pending>,
}

/// A wait in progress.
pub struct Pending {
    pub ticket: Ticket,
    pub reference: Kept,
}

impl Process {
    pub fn new(pid: LocalPid) -> Self {
        Self { pid, leases: Vec::new(), wait: None }
    }

    /// Notes a lease that was just granted.
    pub fn granted(&mut self, lease: Lease) {
        self.leases.retain(|other| other.slot != lease.slot);
        self.leases.push(lease);
    }

    /// Whether the core could still hold something for this process.
    pub fn may_hold(&self) -> bool {
        self.wait.is_some() || !self.leases.is_empty()
    }
}

/// All processes that used one pool, by the word of their pid.
pub struct Processes([Mutex<Shard>; SHARDS]);

/// One part of the table.
pub type Shard = HashMap<u64, Process, BuildHasherDefault<WordHasher>>;

impl Processes {
    pub fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(Shard::default())))
    }

    /// The shard of a process, locked.
    pub fn shard(&self, word: u64) -> impl DerefMut<Target = Shard> + '_ {
        self.0[(spread(word) >> 60) as usize].lock()
    }
}

/// The word of a pid: the pid of a process of this node is an immediate term, so its word identifies it.
#[allow(unsafe_code)]
pub fn word(env: Env<'_>, pid: LocalPid) -> u64 {
    let term = pid.encode(env).as_c_arg();
    // SAFETY: `ErlNifTerm` is a transparent wrapper of the VM's term word, which on 64-bit machines is a `usize`
    // of 64 bits; `transmute` would not compile for another size.
    unsafe { std::mem::transmute::<rustler::sys::ErlNifTerm, u64>(term) }
}

/// Multiplicative hashing (Knuth, TAOCP 6.4): pids are consecutive numbers above constant tag bits.
fn spread(word: u64) -> u64 {
    word.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Hashes one word.
#[derive(Default)]
pub struct WordHasher(u64);

impl Hasher for WordHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, word: u64) {
        // The map takes its bucket from the low bits and its tag from the high ones: both must depend on all.
        self.0 = spread(word).rotate_left(32);
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("keys are words")
    }
}
