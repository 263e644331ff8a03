//! A seat at the desk: where its thread sleeps, and what it gets up for.

use std::io;
use std::ops::Deref;
use std::os::fd::RawFd;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::{Desk, Place, Turn};
use crate::capi::pool::descriptor::Descriptor;

/// A thread's seat, at a desk that it borrows or keeps alive; leaves when dropped.
#[derive(Debug)]
pub struct Seat<D: Deref<Target = Desk>> {
    pub(super) desk: D,
    pub(super) place: u32,
    pub(super) sitting: u32,
}

impl<D: Deref<Target = Desk>> Seat<D> {
    /// What names this sitting in a wake.
    pub fn token(&self) -> u64 {
        u64::from(self.sitting) << 32 | u64::from(self.place)
    }

    /// Sleeps until there is something to do, at most until the slice or the wait is over; `u64::MAX` is no end.
    /// Whatever came before the call counts, and what there is to do comes before the end of a slice: else slices that
    /// are too short to sleep in would never get anything done.
    pub fn next(&self, slice_end_ns: u64, deadline_ns: u64, now: impl Fn() -> u64) -> Turn {
        let place = self.place as usize;
        let mut state = self.desk.lock();
        (state.places[place].asleep, state.places[place].nudged) = (false, false);
        let turn = loop {
            if let Some(outcome) = state.places[place].note.take() {
                break Turn::Ended(outcome);
            }
            if std::mem::take(&mut state.places[place].stirred) {
                break Turn::Stirred;
            }
            let now_ns = now();
            if now_ns >= deadline_ns {
                break Turn::DeadlinePassed;
            }
            if let Some(chore) = state.chores.pop_front() {
                break Turn::Do(chore);
            }
            if now_ns >= state.alarm_ns {
                state.alarm_ns = u64::MAX;
                break Turn::Alarm;
            }
            if now_ns >= slice_end_ns {
                let alarm_ns = state.alarm_ns;
                if let Place { descriptor: Some(descriptor), asleep, .. } = &mut state.places[place] {
                    descriptor.ring_at(deadline_ns.min(alarm_ns));
                    *asleep = true;
                }
                break Turn::SliceOver;
            }
            let until_ns = slice_end_ns.min(deadline_ns).min(state.alarm_ns);
            let bell = Arc::clone(&state.places[place].bell);
            state.places[place].asleep = true;
            // std waits by CLOCK_MONOTONIC and sleeps on when a signal interrupts it.
            state = if until_ns == u64::MAX {
                bell.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                let time = Duration::from_nanos(until_ns - now_ns);
                bell.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
            };
            let seat = &mut state.places[place];
            seat.asleep = false;
            seat.nudged = false;
        };
        state.pass_on();
        turn
    }

    /// A descriptor that is readable when [`Seat::next`] has something to tell; it ends with the sitting.
    pub fn descriptor(&self) -> io::Result<RawFd> {
        let mut state = self.desk.lock();
        let place = &mut state.places[self.place as usize];
        if let Some(descriptor) = &place.descriptor {
            return Ok(descriptor.number());
        }
        let descriptor = place.descriptor.insert(Descriptor::new()?);
        Ok(descriptor.number())
    }
}

impl Seat<&Desk> {
    /// The same seat, with another hold on the same desk.
    pub fn held_by<D: Deref<Target = Desk>>(self, desk: D) -> Seat<D> {
        debug_assert!(std::ptr::eq(self.desk, &*desk));
        let (place, sitting) = (self.place, self.sitting);
        std::mem::forget(self);
        Seat { desk, place, sitting }
    }
}

impl<D: Deref<Target = Desk>> Drop for Seat<D> {
    fn drop(&mut self) {
        let mut state = self.desk.lock();
        let place = &mut state.places[self.place as usize];
        (place.descriptor, place.asleep) = (None, false);
        let listened = std::mem::take(&mut place.listens);
        state.listeners -= u32::from(listened);
        state.free.push(self.place);
        // A thread that ends its own wait wakes nobody.
        state.stir();
        state.pass_on();
    }
}
