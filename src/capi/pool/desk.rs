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

use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::os::fd::RawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    /// Something changed in a pool that is drained; told to seats that listen.
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
}

/// The desk of one pool.
#[derive(Debug)]
pub struct Desk(Mutex<State>);

/// A thread's seat, at a desk that it borrows or keeps alive; leaves when dropped.
#[derive(Debug)]
pub struct Seat<D: Deref<Target = Desk>> {
    desk: D,
    place: u32,
    sitting: u32,
}

impl Desk {
    /// A desk where nobody sits.
    pub fn new() -> Self {
        Self(Mutex::new(State {
            places: Vec::new(),
            free: Vec::new(),
            chores: VecDeque::new(),
            alarm_ns: u64::MAX,
            closed: false,
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
        self.lock().places[seat.place as usize].listens = true;
        seat
    }

    /// Tells those who listen that something changed.
    pub fn stir(&self) {
        for place in self.lock().places.iter_mut().filter(|place| place.listens) {
            place.stirred = true;
            place.ring();
        }
    }

    /// Leaves the outcome of a wait at the seat with this token; nothing happens if its sitter has left.
    pub fn wake(&self, token: u64, outcome: WakeOutcome) {
        let (place, sitting) = (token as u32, (token >> 32) as u32);
        let mut state = self.lock();
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
}

impl<D: Deref<Target = Desk>> Seat<D> {
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
        (place.descriptor, place.asleep, place.listens) = (None, false, false);
        state.free.push(self.place);
        state.pass_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::monotonic_ns;

    const CHORE: Chore = Chore { slot: 3, epoch: 9 };

    #[test]
    fn a_wake_before_the_sleep_is_remembered() {
        let desk = Desk::new();
        let seat = desk.sit();
        desk.wake(seat.token(), WakeOutcome::TimedOut);
        assert!(matches!(seat.next(u64::MAX, u64::MAX, monotonic_ns), Turn::Ended(WakeOutcome::TimedOut)));
    }

    #[test]
    fn a_late_wake_is_not_for_the_next_sitter() {
        let desk = Desk::new();
        let token = desk.sit().token();
        let seat = desk.sit();
        assert_eq!(token as u32, seat.token() as u32, "the place is taken again");
        desk.wake(token, WakeOutcome::Closed);
        assert!(matches!(seat.next(u64::MAX, 0, monotonic_ns), Turn::DeadlinePassed));
    }

    #[test]
    fn a_chore_waits_for_somebody_and_a_closed_desk_takes_none() {
        let desk = Desk::new();
        assert_eq!(desk.leave_chore(CHORE), Ok(()));
        assert!(matches!(desk.sit().next(u64::MAX, u64::MAX, monotonic_ns), Turn::Do(CHORE)));
        assert_eq!(desk.take_chore(), None);
        assert_eq!(desk.leave_chore(CHORE), Ok(()));
        assert_eq!(desk.close(), [CHORE]);
        assert_eq!(desk.leave_chore(CHORE), Err(CHORE));
    }

    #[test]
    fn the_earliest_alarm_rings_once() {
        let desk = Desk::new();
        desk.set_alarm(5);
        desk.set_alarm(u64::MAX - 1);
        let seat = desk.sit();
        assert!(matches!(seat.next(u64::MAX, u64::MAX, monotonic_ns), Turn::Alarm));
        desk.wake(seat.token(), WakeOutcome::Closed);
        assert!(matches!(seat.next(u64::MAX, u64::MAX, monotonic_ns), Turn::Ended(_)));
    }

    #[test]
    fn what_there_is_to_do_comes_before_the_end_of_a_slice() {
        let desk = Desk::new();
        let seat = desk.sit();
        assert!(matches!(seat.next(0, u64::MAX, monotonic_ns), Turn::SliceOver));
        assert_eq!(desk.leave_chore(CHORE), Ok(()));
        desk.set_alarm(1);
        assert!(matches!(seat.next(0, u64::MAX, monotonic_ns), Turn::Do(CHORE)));
        assert!(matches!(seat.next(0, u64::MAX, monotonic_ns), Turn::Alarm));
        assert!(matches!(seat.next(0, u64::MAX, monotonic_ns), Turn::SliceOver));
    }

    /// The first sleeper wakes at the alarm for which it was nudged, or at the end of its slice before it. What it does
    /// then may take long, so the second must not sleep past the alarm.
    #[test]
    fn who_gets_up_without_leaving_passes_the_alarm_on() {
        const SOON_NS: u64 = 20_000_000;
        let desk = Desk::new();
        std::thread::scope(|scope| {
            let (first, second) = (desk.sit(), desk.sit());
            let slice_end_ns = monotonic_ns() + SOON_NS;
            let places = [&first, &second].map(|seat| seat.token() as u32 as usize);
            let is_asleep = |place: usize| desk.lock().places[place].asleep;
            let first = scope.spawn(move || (first.next(slice_end_ns, u64::MAX, monotonic_ns), first));
            // On a busy machine it may be up again before anybody looks.
            while !is_asleep(places[0]) && !first.is_finished() {
                std::thread::yield_now();
            }
            let second = scope.spawn(move || second.next(u64::MAX, u64::MAX, monotonic_ns));
            while !is_asleep(places[1]) {
                std::thread::yield_now();
            }
            desk.set_alarm(slice_end_ns + SOON_NS);
            let (turn, _first) = first.join().expect("the first sleeper's slice ends");
            assert!(matches!(turn, Turn::SliceOver));
            assert!(matches!(second.join().expect("the second sleeper got the alarm"), Turn::Alarm));
        });
    }

    fn sleepers(desk: &Desk, wanted: usize) {
        while desk.lock().places.iter().filter(|place| place.asleep).count() < wanted {
            std::thread::yield_now();
        }
    }

    /// Of two sleepers one is nudged for a chore; when that one leaves with a wake instead, the other gets it.
    #[test]
    fn who_leaves_passes_the_nudge_on() {
        let desk = Desk::new();
        std::thread::scope(|scope| {
            let first = desk.sit();
            let token = first.token();
            let second = desk.sit();
            let first = scope.spawn(move || {
                assert!(matches!(first.next(u64::MAX, u64::MAX, monotonic_ns), Turn::Ended(_)))
            });
            sleepers(&desk, 1);
            let second = scope.spawn(move || {
                assert!(matches!(second.next(u64::MAX, u64::MAX, monotonic_ns), Turn::Do(CHORE)))
            });
            sleepers(&desk, 2);
            {
                // Both at once, as two threads could: the first sleeper finds its wake and must not take the nudge
                // with it.
                let mut state = desk.lock();
                state.chores.push_back(CHORE);
                state.nudge();
                state.places[token as u32 as usize].note = Some(WakeOutcome::Closed);
            }
            first.join().expect("the first sleeper was woken");
            second.join().expect("the second sleeper got the chore");
        });
    }
}
