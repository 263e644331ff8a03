//! The clock of an object: the machine's, or one that a test moves.

use elixirscope::clock::{Clock, Manual, Monotonic};
use rustler::{Decoder, Error, NifResult, ResourceArc, Term};

use crate::atoms;

/// A clock that stands still until Elixir moves it. Several objects of one namespace share it.
pub struct ManualClock(Manual);

#[rustler::resource_impl(name = "escope_clock")]
impl rustler::Resource for ManualClock {}

/// What an object reads the time from; fixed when it is created.
pub enum ObjectClock {
    Monotonic,
    Manual(ResourceArc<ManualClock>),
}

impl ObjectClock {
    #[inline]
    pub fn now_ns(&self) -> u64 {
        match self {
            Self::Monotonic => Monotonic.now_ns(),
            Self::Manual(clock) => clock.0.now_ns(),
        }
    }
}

impl<'a> Decoder<'a> for ObjectClock {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if term.is_atom() {
            return if atoms::monotonic() == term { Ok(Self::Monotonic) } else { Err(Error::BadArg) };
        }
        term.decode().map(Self::Manual)
    }
}

#[rustler::nif]
fn clock_new(now_ns: u64) -> ResourceArc<ManualClock> {
    ResourceArc::new(ManualClock(Manual::new(now_ns)))
}

#[rustler::nif]
fn clock_set(clock: ResourceArc<ManualClock>, now_ns: u64) -> rustler::Atom {
    clock.0.set(now_ns);
    atoms::ok()
}

#[rustler::nif]
fn clock_now(clock: ObjectClock) -> u64 {
    clock.now_ns()
}
