//! What an edge does for the model, as the library's does it: creations are left for whoever waits or maintains, the rest is done
//! at once, first come, first served.

use super::{NO_LUCK, Run};
use crate::pool_model::{Answer, Told, Work};
use elixirscope::pool::{Condition, Wait};
use elixirscope::status::Status;
use std::collections::VecDeque;

/// What the core is told of a creation that nobody is left to make.
pub const ABANDONED: u64 = 1 << 32;

impl Run {
    /// Asks the model. An error is a connection that was not fit to be lent, and was given back.
    pub(super) fn ask(&mut self, wait: Wait) -> Result<Answer, ()> {
        self.tokens += 1;
        let answer = self.model.checkout(1, wait, self.tokens, self.now_ns);
        let untested = self.model.untested;
        self.settle();
        if let (Answer::Granted(slot), true, (_, true)) = (&answer, untested, self.fails()) {
            self.model.checkin(*slot, Condition::Broken, self.now_ns);
            self.settle();
            return Err(());
        }
        Ok(answer)
    }

    /// What the model has said of a wait that has ended.
    pub(super) fn told(&mut self, token: u64) -> Option<Result<u32, Status>> {
        let at = self.model.told.iter().position(|(of, _)| *of == token)?;
        Some(match self.model.told.swap_remove(at).1 {
            Told::Granted(slot) => Ok(slot),
            Told::TimedOut => Err(Status::PoolTimeout),
            Told::Closed => Err(Status::PoolClosed),
            Told::Shed => Err(Status::Shed),
            Told::CreateFailed(_) => Err(Status::CreateFailed),
        })
    }

    /// Does in the model what it asks for, as the library's caller does it: all but creations.
    pub(super) fn settle(&mut self) {
        let (_, check_fails) = self.fails();
        let mut later = VecDeque::new();
        loop {
            for work in std::mem::take(&mut self.model.work) {
                match work {
                    Work::Create(slot) if !self.is_closed => self.chores.push_back(slot),
                    other => later.push_back(other),
                }
            }
            match later.pop_front() {
                None => return,
                Some(Work::Create(slot)) => self.model.created(slot, Err(ABANDONED), self.now_ns),
                Some(Work::Check(slot)) => self.model.checked(slot, !check_fails, self.now_ns),
                Some(Work::Destroy(slot)) => {
                    self.destroyed.extend(self.connections.remove(&slot));
                    self.model.destroyed(slot, self.now_ns);
                }
                Some(Work::Leak(slot)) => panic!("slot {slot} leaks although no limit is set"),
            }
        }
    }

    /// Makes a connection that somebody left to be made; false if there is none.
    pub(super) fn do_chore(&mut self) -> bool {
        let Some(slot) = self.chores.pop_front() else { return false };
        let (creation_fails, _) = self.fails();
        if creation_fails {
            self.model.created(slot, Err(NO_LUCK as u64), self.now_ns);
        } else {
            self.made += 1;
            self.connections.insert(slot, self.made);
            self.model.created(slot, Ok(()), self.now_ns);
        }
        self.settle();
        true
    }
}
