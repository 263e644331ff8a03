//! A breaker as seen at one moment.

use super::cell::{Cell, View};
use super::closed::Lazy;
use super::control::{Mode, Phase};
use super::event::Cause;
use super::level::Level;
use super::rate::Tally;
use super::settings::Kind;

/// A breaker as seen at one moment. Taking it changes nothing: an open time that has passed reads as open with
/// `retry_after_ns` 0.
///
/// While no call is under way, `admitted - (succeeded + failed + ignored + cancelled + stale + expired)` is the number
/// of permits that were not recorded: those of calls that still run, and those that were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Phase now.
    pub phase: Phase,
    /// Mode now.
    pub mode: Mode,
    /// How much of its trip budget a closed breaker has used.
    pub level: Level,
    /// Grows at each change of phase or mode, at each reset and reinstallation, and where a reconfiguration begins a new
    /// round of probes.
    pub generation: u32,
    /// How often it opened since it was last closed; stays at its maximum, 255.
    pub opens: u32,
    /// Probes whose lease is not over.
    pub live_probes: u32,
    /// Results in the window of a closed breaker, where it has one.
    pub window_calls: u64,
    /// Failures that count toward a trip, by their weights: in a row, within the period, or in the window.
    pub failures: u64,
    /// Slow results in the window.
    pub slow_calls: u64,
    /// Share of failures in the window, in basis points.
    pub failure_rate_bp: u32,
    /// Share of slow calls in the window, in basis points.
    pub slow_call_rate_bp: u32,
    /// Nanoseconds until an acquire may be admitted; 0 if it may be now, `u64::MAX` if the breaker is forced open.
    pub retry_after_ns: u64,
    /// Why this generation began; none for the first.
    pub last_cause: Option<Cause>,
    /// When.
    pub last_change_ns: u64,
    /// Verdicts so far, through this handle.
    pub counts: Counts,
}

/// Verdicts of a breaker so far, through one handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Calls admitted.
    pub admitted: u64,
    /// Results recorded as success, slow ones among them.
    pub succeeded: u64,
    /// Results recorded as failure.
    pub failed: u64,
    /// Results recorded as ignored.
    pub ignored: u64,
    /// Results recorded as cancelled.
    pub cancelled: u64,
    /// Results that came in a later generation.
    pub stale: u64,
    /// Results of probes whose lease had run out.
    pub expired: u64,
    /// Outcomes reported without a permit.
    pub reported: u64,
    /// Calls rejected because the breaker was open.
    pub rejected_open: u64,
    /// Calls rejected because all probes were taken.
    pub rejected_half_open: u64,
    /// Calls rejected because the breaker was forced open.
    pub rejected_forced_open: u64,
    /// Calls rejected because the breaker was degraded or ramping up.
    pub rejected_degraded: u64,
    /// Calls that were chosen to fail; always 0 where fault injection is not built in.
    pub injected: u64,
}

impl Cell<'_> {
    /// The breaker as it is at `now`, without changing what it decides. Its counts are zero: the handle has them.
    pub fn snapshot(self, now: u64) -> Snapshot {
        let mut lazy = Lazy::new(|| now);
        loop {
            let view = self.view();
            if let Some(snapshot) = self.snapshot_of(&view, now, &mut lazy) {
                return snapshot;
            }
        }
    }

    fn snapshot_of(self, view: &View, now: u64, lazy: &mut Lazy<impl FnOnce() -> u64>) -> Option<Snapshot> {
        let View { control, settings, .. } = view;
        let (live_probes, retry_after_ns) = match control.phase() {
            _ if control.mode() == Mode::ForcedOpen => (0, u64::MAX),
            Phase::Closed => (0, 0),
            Phase::Open => (0, control.instant().saturating_sub(now)),
            Phase::HalfOpen => self.live_probes(view, now),
        };
        let is_closed = control.is_closed();
        let tally = match settings.kind() {
            _ if !is_closed => Tally::default(),
            Kind::Consecutive => {
                Tally { failures: control.consecutive_failures().into(), ..Tally::default() }
            }
            Kind::Period => Tally { failures: self.failures_in_period(view, now)?, ..Tally::default() },
            Kind::CountWindow | Kind::TimeWindow => self.window_tally(view, lazy)?,
        };
        let level = if is_closed { self.level(view, lazy)? } else { Level::None };
        let change = self.last_change(*control);
        Some(Snapshot {
            phase: control.phase(),
            mode: control.mode(),
            level,
            generation: control.generation(),
            opens: control.opens().max(self.opens_before_ramp(view, now)),
            live_probes,
            window_calls: tally.calls,
            failures: tally.failures,
            slow_calls: tally.slow,
            failure_rate_bp: tally.failure_rate_bp(settings),
            slow_call_rate_bp: tally.slow_call_rate_bp(),
            retry_after_ns,
            last_cause: change.map(|(cause, _)| cause),
            last_change_ns: change.map_or(0, |(_, at_ns)| at_ns),
            counts: Counts::default(),
        })
    }
}
