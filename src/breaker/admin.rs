//! What somebody in charge does to a breaker: settle, reset, another mode, another configuration.

use super::cell::{Cell, View};
use super::closed::Lazy;
use super::config::BreakerConfig;
use super::control::{Mode, Phase};
use super::event::{Cause, Events};
use super::permit::{Outcome, Permit, RecordVerdict, RejectReason, Rejection};
use super::round::Round;
use crate::error::ConfigError;

impl Cell<'_> {
    /// As [`Breaker::settle`](super::Breaker::settle).
    pub fn settle(self, now: u64, events: &mut Events) {
        self.settled(now, events);
        self.tell_level(&mut Lazy::new(|| now), events);
    }

    /// As [`Breaker::report`](super::Breaker::report).
    pub fn report(self, outcome: Outcome, now: impl FnOnce() -> u64, events: &mut Events) -> RecordVerdict {
        let mut now = Lazy::new(now);
        let mut control = self.head.control();
        if !control.is_closed() {
            control = self.settled(now.get(), events).control;
        }
        let permit = Permit::closed(control.generation());
        self.record_closed(&permit, outcome, &mut now, events)
    }

    /// As [`Breaker::ask`](super::Breaker::ask).
    pub fn ask(self, now: impl FnOnce() -> u64, events: &mut Events) -> Result<(), Rejection> {
        let mut now = Lazy::new(now);
        loop {
            let control = self.head.control();
            // Nothing is due in these, so they need no clock.
            let settled = control.is_closed() || control.mode() == Mode::ForcedOpen;
            let view = if settled { self.view_of(control) } else { Some(self.settled(now.get(), events)) };
            let Some(view) = view else { continue };
            let reject = |reason, retry_after_ns| Err(Rejection::new(reason, retry_after_ns));
            match (view.control.mode(), view.control.phase()) {
                (Mode::ForcedOpen, _) => return reject(RejectReason::ForcedOpen, u64::MAX),
                (_, Phase::Closed) => {
                    if let Some(verdict) = self.acquire_closed(&view, &mut now, events) {
                        return verdict.map(|_unmade| ());
                    }
                }
                // An open time that is over waits for a probe, which may come at any time.
                (_, Phase::Open) => {
                    let wait_ns = view.control.instant().saturating_sub(now.get());
                    return reject(RejectReason::Open, wait_ns.max(1));
                }
                (_, Phase::HalfOpen) => return reject(RejectReason::HalfOpenFull, 1),
            }
        }
    }

    /// As [`Breaker::reset`](super::Breaker::reset).
    pub fn reset(self, now: u64, events: &mut Events) {
        loop {
            let view = self.settled(now, events);
            let next = view.control.close(&view.settings);
            let stays = view.control.mode() == Mode::ForcedOpen;
            if stays || self.transition(&view, next, Cause::Reset, now, events) {
                return;
            }
        }
    }

    /// As [`Breaker::set_mode`](super::Breaker::set_mode).
    pub fn set_mode(self, mode: Mode, now: u64, events: &mut Events) {
        loop {
            let view = self.settled(now, events);
            let next = view.control.with_mode(mode, &view.settings);
            if view.control.mode() == mode || self.transition(&view, next, Cause::ModeChanged, now, events) {
                return;
            }
        }
    }

    /// As [`Breaker::reconfigure`](super::Breaker::reconfigure). Nobody else may configure meanwhile.
    pub fn reconfigure(
        self,
        config: &BreakerConfig,
        now: u64,
        events: &mut Events,
    ) -> Result<(), ConfigError> {
        self.fits(config)?;
        loop {
            let view = self.settled(now, events);
            let (same_window, settings) = view.settings.succeeded_by(config);
            self.spare_block(view.control).write(&settings);
            let next = view.control.reconfigured(&settings, same_window);
            let new_round = next.phase() == Phase::HalfOpen && !settings.same_round(&view.settings);
            let done = if new_round {
                self.transition(&view, next.new_round(now), Cause::Reconfigured, now, events)
            } else {
                self.head.swap(view.control, next)
            };
            if done {
                self.trim_window();
                self.tell_level(&mut Lazy::new(|| now), events);
                return Ok(());
            }
        }
    }

    /// As [`Breaker::reinstall`](super::Breaker::reinstall). Nobody else may configure meanwhile.
    pub fn reinstall(self, config: &BreakerConfig, now: u64, events: &mut Events) -> Result<(), ConfigError> {
        self.fits(config)?;
        loop {
            let view = self.settled(now, events);
            let (_, settings) = view.settings.succeeded_by(config);
            self.spare_block(view.control).write(&settings);
            let next = view.control.reconfigured(&settings, false);
            let done = if view.control.mode() == Mode::ForcedOpen {
                self.head.swap(view.control, next)
            } else {
                self.transition(&view, next.close(&settings), Cause::Reinstalled, now, events)
            };
            if done {
                return Ok(());
            }
        }
    }

    /// The breaker after everything that is due at `now`, as far as there is room to tell of it and of one change
    /// more.
    fn settled(self, now: u64, events: &mut Events) -> View {
        loop {
            let view = self.view();
            let control = view.control;
            let skips = view.settings.skips_half_open() && control.mode() == Mode::Auto;
            match control.phase() {
                _ if events.len() >= 2 => return view,
                Phase::Open if skips && control.instant() <= now => {
                    let next = control.close(&view.settings);
                    self.transition(&view, next, Cause::OpenElapsed, now, events);
                }
                Phase::HalfOpen if matches!(self.advance(&view, now, events), Round::Moved) => {}
                _ => return view,
            }
        }
    }

    /// Whether the memory is large enough for a configuration.
    fn fits(self, config: &BreakerConfig) -> Result<(), ConfigError> {
        config.validate()?;
        let too_large = |argument, value: u64, allowed| Err(ConfigError { argument, value, allowed });
        if config.half_open_permits as usize > self.probes.len() {
            let allowed = "1 to the probe_capacity of its creation";
            return too_large("half_open_permits", config.half_open_permits.into(), allowed);
        }
        let entries = config.policy.entries();
        if entries as usize > self.window.len().saturating_sub(1) {
            return too_large("policy", entries.into(), "results up to the window_capacity of its creation");
        }
        Ok(())
    }
}
