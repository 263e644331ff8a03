//! The BEAM's door to elixirscope: a NIF library.
//!
//! Pure translation. A NIF decodes its arguments, reads the clock when the core asks for it, calls the core
//! and encodes the verdict; whatever could wait, retry or decide lives in the core or in Elixir. So a NIF is short and runs
//! on a normal scheduler, but for those that touch a file, or every key or slot of an object: they run on dirty ones.
//!
//! * `atoms`: every atom, made once at load.
//! * `clock`: the machine's clock, or one that a test moves.
//! * `breaker`, `permit`, `events`: circuit breakers, permits that watch their owner, changes as messages.
//! * `leash`: processes that end with the one that they work for.
//! * `limiter`, `key`: rate limits, and how any term becomes a key.
//! * `pool`: connection pools; processes that die give back what they held.
//! * `live`: how many objects exist.
//! * `hot`: how the NIFs of each call are entered.
//! * `refusal`: what is wrong with a configuration.
//!
//! Rustler catches a panic in a NIF, a `down` callback or a destructor and raises it in the calling process.

#[cfg(panic = "abort")]
compile_error!("a panic must unwind to the NIF boundary: with `panic = \"abort\"` it would stop the VM");

mod atoms;
mod breaker;
mod clock;
mod events;
mod hot;
mod key;
mod leash;
mod limiter;
mod live;
mod permit;
mod pool;
mod refusal;

use rustler::{Env, Term};

/// Version of the library, equal to the one of the mix project.
#[rustler::nif]
fn library_version() -> &'static str {
    elixirscope::VERSION
}

/// Number and word of every status of the core, from which Elixir's errors are checked.
#[rustler::nif]
fn statuses() -> Vec<(i32, &'static str)> {
    elixirscope::status::Status::ALL.iter().map(|status| (*status as i32, status.word())).collect()
}

fn load(_env: Env, _info: Term) -> bool {
    // The atomics' fallback locks would be correct here, but a machine without the wide word is one that
    // nobody tested: refused in every language alike.
    elixirscope::sync::wide_is_lock_free()
}

rustler::init!("Elixir.ElixirScope.Foundation.Infrastructure.Native", load = load);
