//! What time does to connections that nobody holds, and to leases that last too long.

use super::State;
use crate::pool::actions::DestroyReason;
use crate::pool::slots::SlotState;

impl State {
    /// Whether connections may be too old to be lent.
    #[inline]
    pub(super) fn ages(&self) -> bool {
        self.config.idle_timeout_ns > 0 || self.slots.next_expiry().is_some()
    }

    /// Closes what is at the end of its life, and what is idle for too long.
    pub(super) fn close_aged(&mut self, now_ns: u64) {
        while let Some((slot, at_ns)) = self.slots.next_expiry() {
            if now_ns < at_ns {
                break;
            }
            match self.slots.get(slot).map(|slot| (slot.state, slot.evicted)) {
                Some((SlotState::Idle, true)) => self.close_slot(slot, DestroyReason::Evicted),
                Some((SlotState::Idle, false)) => self.close_slot(slot, DestroyReason::Lifetime),
                _ => self.slots.forget_expiry(slot),
            }
        }
        while let Some((slot, due_ns)) = self.idle_due() {
            if now_ns < due_ns {
                return;
            }
            self.close_slot(slot, DestroyReason::Idle);
        }
    }

    pub(super) fn idle_due(&self) -> Option<(u32, u64)> {
        if self.config.idle_timeout_ns == 0 || self.slots.idle() <= self.config.min_idle {
            return None;
        }
        let (slot, since_ns) = self.slots.oldest_idle()?;
        Some((slot, since_ns.saturating_add(self.config.idle_timeout_ns)))
    }

    /// Closes what is above the pool's size and idle for long enough, the longest idle first.
    pub(super) fn close_surplus(&mut self, now_ns: u64) {
        while let Some((slot, due_ns)) = self.surplus_due() {
            if now_ns < due_ns {
                return;
            }
            self.close_slot(slot, DestroyReason::Overflow);
        }
    }

    pub(super) fn surplus_due(&self) -> Option<(u32, u64)> {
        if self.slots.surplus() == 0 {
            return None;
        }
        let (slot, since_ns) = self.slots.oldest_idle()?;
        let since_ns = since_ns.max(self.resized_ns);
        Some((slot, since_ns.saturating_add(self.config.overflow_ttl_ns)))
    }

    /// When the life of a connection made now ends.
    pub(super) fn end_of_life(&mut self, now_ns: u64) -> u64 {
        if self.config.max_lifetime_ns == 0 {
            return u64::MAX;
        }
        let jitter_ns = self.lives.up_to(self.config.max_lifetime_jitter_ns);
        now_ns.saturating_add(self.config.max_lifetime_ns - jitter_ns)
    }

    /// Replaces every connection there is, each after a random part of `spread_ns`, or sooner if that was said before.
    pub(in crate::pool) fn evict(&mut self, spread_ns: u64, now_ns: u64) {
        for slot in 0..self.slots.count() {
            let Some(&entry) = self.slots.get(slot) else { return };
            let made = !matches!(entry.state, SlotState::Empty | SlotState::Closing(_));
            if made {
                let at_ns = now_ns.saturating_add(self.lives.up_to(spread_ns)).min(entry.expires_ns);
                self.slots.mark_evicted(slot);
                // One that is being made has no life yet; its creation ends it.
                if entry.state != SlotState::Creating {
                    self.slots.set_expiry(slot, at_ns);
                }
            }
        }
        self.close_aged(now_ns);
        self.create_as_due(now_ns);
    }

    /// Has the leases told that last too long.
    pub(super) fn find_leaks(&mut self, now_ns: u64) {
        while let Some((slot, due_ns)) = self.leak_due() {
            if now_ns < due_ns {
                return;
            }
            self.counts.leaks += 1;
            self.slots.leaks(slot);
        }
    }

    pub(super) fn leak_due(&self) -> Option<(u32, u64)> {
        let (slot, since_ns) = self.slots.longest_held()?;
        Some((slot, since_ns.saturating_add(self.config.leak_after_ns)))
    }
}
