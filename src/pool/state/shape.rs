//! A change of the pool's size while it lives.

use super::State;
use crate::error::ConfigError;
use crate::pool::actions::{DestroyReason, WakeOutcome};
use crate::pool::config::PoolConfig;
use crate::pool::waiters::End;

impl State {
    pub(in crate::pool) fn resize(
        &mut self,
        size: u32,
        max_overflow: u32,
        now_ns: u64,
    ) -> Result<(), ConfigError> {
        let most = self.slots.count();
        let min_idle = self.min_idle.min(size);
        let config = PoolConfig { size, max_overflow, min_idle, max_slots: 0, ..self.config };
        config.validate()?;
        if config.capacity() > most {
            return Err(ConfigError {
                argument: "size",
                value: u64::from(config.capacity()),
                allowed: "max_slots at most, together with max_overflow",
            });
        }
        self.config = config;
        self.resized_ns = now_ns;
        self.slots.resize(size, config.capacity());
        while self.slots.above_capacity() {
            let Some((slot, _)) = self.slots.oldest_idle() else { break };
            self.close_slot(slot, DestroyReason::Resized);
        }
        self.close_surplus(now_ns);
        if !cfg!(escope_sabotage = "pool_keeps_hopeless") {
            self.end_hopeless();
        }
        if !cfg!(escope_sabotage = "pool_quiet_growth") {
            self.create_as_due(now_ns);
        }
        Ok(())
    }

    /// Ends waits for a creation that the pool has become too small for: what is being created is destroyed when it is
    /// ready, and they would wait for a return, which they were not to do.
    fn end_hopeless(&mut self) {
        while self.waiters.for_creation() > self.slots.creatable() {
            let Some(head) = self.waiters.head() else { return };
            self.end_wait(head, End::TimedOut, WakeOutcome::TimedOut);
        }
    }
}
