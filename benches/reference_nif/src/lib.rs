//! The reference NIF: it takes a resource and two integers, reads the clock and returns `{:ok, integer}`.

use elixirscope::clock::{Clock, Monotonic};
use rustler::{Resource, ResourceArc};

/// Something to hold.
struct Held(u64);

#[rustler::resource_impl(name = "escope_reference")]
impl Resource for Held {}

mod atoms {
    rustler::atoms! { ok }
}

#[rustler::nif]
fn new() -> ResourceArc<Held> {
    ResourceArc::new(Held(1))
}

#[rustler::nif]
fn call(held: ResourceArc<Held>, one: u64, two: u64) -> (rustler::Atom, u64) {
    (atoms::ok(), Monotonic.now_ns().wrapping_add(held.0 + one + two) >> 8)
}

rustler::init!("Elixir.ElixirScopeBench.Reference");
