//! The rules of the pool, one test each or more, its name beginning with the rule's number. Random histories
//! stand in `prop_pool.rs`, interleavings in `loom_pool.rs`.
#![cfg(not(escope_model))]

mod ages;
mod bench;
mod checks;
mod config;
mod creation;
mod leases;
mod overflow;
mod resize;
mod shedding;
mod shutdown;
mod storm;
mod unowned;
mod waits;
