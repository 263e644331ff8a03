//! The calls of whoever guards something: each on the library and on the model.

use super::answers::{refusal, told};
use super::memory::{Events, Held, Memory};
use super::{MOST_OPS, OUTCOMES, Run, UNWRITTEN, known};
use elixirscope::breaker::Phase;
use elixirscope::capi::breaker::calls::*;
use elixirscope::capi::breaker::escope_breaker;
use elixirscope::status::Status;
use std::ptr::null_mut;

impl Run<'_> {
    pub(super) fn acquire(&mut self) {
        let wants = self.script.byte();
        let (verdict, model_events) = self.model.acquire(self.now);
        let mut memory = Memory::BLANK;
        let mut retry_after_ns = UNWRITTEN;
        let retry = if wants & 1 == 0 { &raw mut retry_after_ns } else { null_mut() };
        let mut events = Events::new(wants & 2 == 0);
        // SAFETY: the handle is live, the places are this function's own or NULL.
        let status = unsafe {
            escope_breaker_acquire_at(self.breaker.0, memory.pointer(), retry, events.pointer(), self.now)
        };
        self.see("acquire", status, &model_events);
        let retry_expected = match verdict {
            Ok(number) => {
                assert_eq!((status, number), (Status::Ok as i32, self.permits.len()));
                assert_eq!(memory.state(), self.live);
                self.permits.push(Held { memory, used_up: false });
                0
            }
            Err(rejection) => {
                assert_eq!((status, memory), (refusal(rejection.reason), Memory::BLANK));
                rejection.retry_after_ns
            }
        };
        events.compare(&model_events);
        assert_eq!(retry_after_ns, if wants & 1 == 0 { retry_expected } else { UNWRITTEN });
    }

    pub(super) fn ask(&mut self) {
        let wants = self.script.byte();
        let (verdict, model_events) = self.model.ask(self.now);
        let mut retry_after_ns = UNWRITTEN;
        let retry = if wants & 1 == 0 { &raw mut retry_after_ns } else { null_mut() };
        let mut events = Events::new(wants & 2 == 0);
        // SAFETY: the handle is live, the places are this function's own or NULL.
        let status = unsafe { escope_breaker_ask_at(self.breaker.0, retry, events.pointer(), self.now) };
        self.see("ask", status, &model_events);
        let (expected, retry_expected) = match verdict {
            Ok(()) => (Status::Ok as i32, 0),
            Err(rejection) => (refusal(rejection.reason), rejection.retry_after_ns),
        };
        assert_eq!(status, expected);
        events.compare(&model_events);
        assert_eq!(retry_after_ns, if wants & 1 == 0 { retry_expected } else { UNWRITTEN });
    }

    /// One of the permits, counted back from the newest.
    pub(super) fn choose(&mut self) -> Option<usize> {
        let back = self.script.below(8);
        self.permits.len().checked_sub(back + 1)
    }

    /// The number of an outcome or mode: mostly a known one.
    pub(super) fn number(&mut self, known: usize) -> i32 {
        let choice = self.script.byte();
        if choice < 240 { i32::from(choice) % known as i32 } else { self.script.i32() }
    }

    pub(super) fn record(&mut self) {
        let Some(number) = self.choose() else { return };
        let outcome = self.number(OUTCOMES.len());
        let mut events = Events::new(self.script.byte() & 1 == 0);
        let before = self.permits[number].memory;
        let status = {
            let permit = self.permits[number].memory.pointer();
            // SAFETY: the handle is live, the places are this run's own or NULL.
            unsafe { escope_breaker_record_at(self.breaker.0, permit, outcome, events.pointer(), self.now) }
        };
        let Some(known) = known(&OUTCOMES, outcome) else {
            self.see("record", status, &[]);
            assert_eq!(status, Status::InvalidArgument as i32);
            assert_eq!(self.permits[number].memory, before, "a refused record changed the permit");
            return events.untouched();
        };
        if self.permits[number].used_up {
            self.see("record", status, &[]);
            assert_eq!(status, Status::AlreadyDone as i32);
            return events.untouched();
        }
        let (verdict, model_events) = self.model.record(number, known, self.now);
        self.permits[number].used_up = true;
        assert_eq!(self.permits[number].memory, before.with_state(self.done));
        self.see("record", status, &model_events);
        assert_eq!(status, told(verdict));
        // Also beside ALREADY_DONE: what the call caused comes with no other one.
        events.compare(&model_events);
    }

    pub(super) fn report(&mut self) {
        let outcome = self.number(OUTCOMES.len());
        let mut events = Events::new(self.script.byte() & 1 == 0);
        // SAFETY: the handle is live, the place is this function's own or NULL.
        let status = unsafe { escope_breaker_report_at(self.breaker.0, outcome, events.pointer(), self.now) };
        let Some(known) = known(&OUTCOMES, outcome) else {
            self.see("report", status, &[]);
            assert_eq!(status, Status::InvalidArgument as i32);
            return events.untouched();
        };
        let (verdict, model_events) = self.model.report(known, self.now);
        self.see("report", status, &model_events);
        assert_eq!(status, told(verdict));
        events.compare(&model_events);
    }

    /// A program that copied a probe records the copy as well: its slot notices, within the round. A closed breaker
    /// would not, so nothing is copied there.
    pub(super) fn record_again(&mut self) {
        let Some(number) = self.choose() else { return };
        let in_its_round = self.model.is_probe(number)
            && self.model.generation_of(number) == self.model.generation
            && !self.released;
        let Held { mut memory, used_up: true } = self.permits[number] else { return };
        if !in_its_round {
            return;
        }
        memory = memory.with_state(self.live);
        let mut events = Events::new(true);
        let outcome = self.script.below(OUTCOMES.len());
        let (verdict, model_events) = self.model.record(number, OUTCOMES[outcome], self.now);
        // SAFETY: the handle is live, the places are this function's own.
        let status = unsafe {
            let (permit, events) = (memory.pointer(), events.pointer());
            escope_breaker_record_at(self.breaker.0, permit, outcome as i32, events, self.now)
        };
        self.see("record", status, &model_events);
        assert_eq!(status, told(verdict));
        events.compare(&model_events);
    }

    /// Our breaker's number and a permit's state, with the rest made up: a probe that was never granted.
    pub(super) fn record_forged(&mut self) {
        let Some(sample) = self.choose() else { return };
        let (beyond, wild) = (self.created.probe_places() as u32, self.script.byte());
        let (slot, epoch) = if wild % 2 == 0 {
            // Below the number that says that it is none.
            (beyond.max(u32::MAX >> (1 + wild % 30)), u32::from(wild))
        } else {
            // A round that is under way is at rest before the forged result is looked at.
            self.settle();
            if self.model.phase != Phase::HalfOpen {
                return;
            }
            (u32::from(wild / 4) % beyond, if wild & 2 == 0 { 0 } else { MOST_OPS as u32 + 1 })
        };
        let memory = self.permits[sample].memory.forged(self.model.generation, slot, epoch, self.live);
        let (mut recorded, mut events) = (memory, Events::new(true));
        // SAFETY: the handle is live, the places are this function's own.
        let status = unsafe {
            let (permit, events) = (recorded.pointer(), events.pointer());
            escope_breaker_record_at(self.breaker.0, permit, i32::from(wild % 5), events, self.now)
        };
        self.see("record", status, &[]);
        assert_eq!(status, Status::PermitNotFound as i32);
        assert_eq!(recorded, memory.with_state(self.done));
        events.compare(&[]);
    }

    /// A permit of another breaker, and one of ours that is shown to that one: refused, and both stay usable.
    pub(super) fn record_foreign(&mut self) {
        let mut foreign = Memory::BLANK;
        // SAFETY: the handles are live, the memory is this function's own.
        unsafe {
            let acquired =
                escope_breaker_acquire_at(self.other.0, foreign.pointer(), null_mut(), null_mut(), self.now);
            assert_eq!(acquired, Status::Ok as i32);
            self.refused_record(self.breaker.0, foreign);
            assert_eq!(
                escope_breaker_record_at(self.other.0, foreign.pointer(), 0, null_mut(), self.now),
                Status::Ok as i32
            );
        }
        if let Some(number) = self.choose()
            && !self.permits[number].used_up
        {
            self.refused_record(self.other.0, self.permits[number].memory);
        }
    }

    /// Memory that no call filled. Only the state decides whether it is taken for a permit, so that is kept from
    /// being a live one: with the right number of the breaker that would be a forgery and count.
    pub(super) fn record_garbage(&mut self) {
        let mut garbage = Memory(std::array::from_fn(|_| self.script.u64()));
        match self.script.byte() {
            0..64 => garbage = garbage.with_state(self.done),
            _ if garbage.state() == self.live => garbage = garbage.with_state(!self.live),
            _ => {}
        }
        if garbage.state() != self.done {
            return self.refused_record(self.breaker.0, garbage);
        }
        let before = garbage;
        // SAFETY: the handle is live, the memory is this function's own.
        let status =
            unsafe { escope_breaker_record_at(self.breaker.0, garbage.pointer(), 0, null_mut(), self.now) };
        assert_eq!((status, garbage), (Status::AlreadyDone as i32, before));
    }

    pub(super) fn refused_record(&mut self, breaker: *mut escope_breaker, mut memory: Memory) {
        let before = memory;
        let mut events = Events::new(true);
        // SAFETY: the handle is live, the places are this function's own.
        let status =
            unsafe { escope_breaker_record_at(breaker, memory.pointer(), 0, events.pointer(), self.now) };
        self.see("record", status, &[]);
        assert_eq!((status, memory), (Status::InvalidArgument as i32, before));
        events.untouched();
    }
}
