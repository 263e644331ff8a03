//! Where threads sit while they wait for a connection, and where work for them is left.
//!
//! A wait ends by a *wake*, a note at the waiter's seat: it is written whether or not the thread sleeps already, so none
//! can be lost. The seat is taken before the core is asked, since the wake may come before the answer; its
//! token carries a sequence number, so that a late wake for an earlier sitter is told from one for this one.
//!
//! A *chore* is a creation that the core asked for. The thread that was asked may be one that returns a connection, which
//! must not pay for making the next, or one that would make several in turn; so every chore is left here, and whoever
//! waits takes one, since it waits for a connection anyway. A sleeper is nudged to do so. The *alarm* is the time at
//! which the core wants `maintain` called, which a waiter does as well: the library has no thread of its own.
//!
//! Invariant: while a chore lies here or an alarm is set, and somebody sleeps, one sleeper has been nudged since.
//! Whoever gets up, for whatever reason and however long, passes the nudge on: it may be busy with a creation or, between
//! two slices, be anywhere in its program.

mod seat;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

pub use self::seat::Seat;
use super::descriptor::Descriptor;
use crate::pool::WakeOutcome;

/// A creation to be carried out by whoever has time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chore {
    /// Slot number.
    pub slot: u32,
    /// Epoch to report with.
    pub epoch: u64,
}

/// Why a waiting thread got up.
#[derive(Debug)]
pub enum Turn {
    /// Its wait has ended.
    Ended(WakeOutcome),
    /// There is a creation to carry out.
    Do(Chore),
    /// The core wants `maintain` called.
    Alarm,
    /// Something changed in a pool that is drained, or a wait has ended; told to seats that listen.
    Stirred,
    /// Its own time is up.
    DeadlinePassed,
    /// The slice is over, the wait is not.
    SliceOver,
}

#[derive(Debug, Default)]
struct Place {
    sitting: u32,
    note: Option<WakeOutcome>,
    /// Its thread sleeps, or its event loop waits for the descriptor.
    asleep: bool,
    nudged: bool,
    listens: bool,
    stirred: bool,
    bell: Arc<Condvar>,
    descriptor: Option<Descriptor>,
}

impl Place {
    fn ring(&self) {
        match &self.descriptor {
            Some(descriptor) => descriptor.ring(),
            None => self.bell.notify_one(),
        }
    }
}

#[derive(Debug)]
struct State {
    places: Vec<Place>,
    free: Vec<u32>,
    chores: VecDeque<Chore>,
    alarm_ns: u64,
    closed: bool,
    /// Seats that listen.
    listeners: u32,
}

/// The desk of one pool.
#[derive(Debug)]
pub struct Desk(Mutex<State>);

impl Desk {
    /// A desk where nobody sits.
    pub fn new() -> Self {
        Self(Mutex::new(State {
            places: Vec::new(),
            free: Vec::new(),
            chores: VecDeque::new(),
            alarm_ns: u64::MAX,
            closed: false,
            listeners: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic halfway through a change runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat. Its condition variable is kept for the next sitter, so only new ones allocate.
    pub fn sit(&self) -> Seat<&Desk> {
        let mut state = self.lock();
        let place = state.free.pop().unwrap_or_else(|| {
            state.places.push(Place::default());
            (state.places.len() - 1) as u32
        });
        let seat = &mut state.places[place as usize];
        seat.sitting = seat.sitting.wrapping_add(1);
        (seat.note, seat.nudged, seat.listens, seat.stirred) = (None, false, false, false);
        Seat { desk: self, place, sitting: seat.sitting }
    }

    /// Takes a seat from which to watch a pool that is drained.
    pub fn sit_and_listen(&self) -> Seat<&Desk> {
        let seat = self.sit();
        let mut state = self.lock();
        state.places[seat.place as usize].listens = true;
        state.listeners += 1;
        seat
    }

    /// Tells those who listen that something changed.
    pub fn stir(&self) {
        self.lock().stir();
    }

    /// Leaves the outcome of a wait at the seat with this token, unless its sitter has left, and tells those who listen.
    pub fn wake(&self, token: u64, outcome: WakeOutcome) {
        let (place, sitting) = (token as u32, (token >> 32) as u32);
        let mut state = self.lock();
        state.stir();
        let bell = match state.places.get_mut(place as usize) {
            Some(seat) if seat.sitting == sitting => {
                seat.note = Some(outcome);
                if let Some(descriptor) = &seat.descriptor {
                    return descriptor.ring();
                }
                Arc::clone(&seat.bell)
            }
            _ => return,
        };
        drop(state);
        bell.notify_one();
    }

    /// Leaves a creation for a waiter. A closed desk gives it back: nobody will come for it.
    pub fn leave_chore(&self, chore: Chore) -> Result<(), Chore> {
        let mut state = self.lock();
        if state.closed {
            return Err(chore);
        }
        state.chores.push_back(chore);
        state.nudge();
        Ok(())
    }

    /// Takes a creation that nobody has begun.
    pub fn take_chore(&self) -> Option<Chore> {
        self.lock().chores.pop_front()
    }

    /// Asks for `maintain` at `at_ns`, unless it is asked for earlier already.
    pub fn set_alarm(&self, at_ns: u64) {
        let mut state = self.lock();
        if at_ns < state.alarm_ns {
            state.alarm_ns = at_ns;
            state.nudge();
        }
    }

    /// Takes no chores from now on and gives back those that nobody has begun.
    pub fn close(&self) -> VecDeque<Chore> {
        let mut state = self.lock();
        state.closed = true;
        std::mem::take(&mut state.chores)
    }
}

impl State {
    fn stir(&mut self) {
        if self.listeners == 0 {
            return;
        }
        for place in self.places.iter_mut().filter(|place| place.listens) {
            place.stirred = true;
            place.ring();
        }
    }

    fn nudge(&mut self) {
        if let Some(seat) = self.places.iter_mut().find(|seat| seat.asleep && !seat.nudged) {
            seat.nudged = true;
            seat.ring();
        }
    }

    fn pass_on(&mut self) {
        if !self.chores.is_empty() || self.alarm_ns != u64::MAX {
            self.nudge();
        }
    }
}

#[cfg(test)]
mod tests;
