//! Events, and the numbers of phases, modes, levels and causes.

use std::ffi::{CStr, c_char};

use super::super::boundary::{Failure, Out, invalid};
use crate::breaker::{Cause, Event, Events, Mode};

/// Calls pass, failures are counted.
pub const ESCOPE_PHASE_CLOSED: i32 = 0;
/// Calls are refused.
pub const ESCOPE_PHASE_OPEN: i32 = 1;
/// A few calls pass as probes.
pub const ESCOPE_PHASE_HALF_OPEN: i32 = 2;

/// Results decide.
pub const ESCOPE_MODE_AUTO: i32 = 0;
/// Every call is refused, whatever happens.
pub const ESCOPE_MODE_FORCED_OPEN: i32 = 1;
/// Every call is admitted and nothing is counted: switched off.
pub const ESCOPE_MODE_FORCED_CLOSED: i32 = 2;
/// Every call is admitted; results are counted, and events tell when the breaker would have opened.
pub const ESCOPE_MODE_METRICS_ONLY: i32 = 3;

/// A closed breaker has used little or nothing of its trip budget.
pub const ESCOPE_LEVEL_NONE: i32 = 0;
/// At least `level_light_bp` of it.
pub const ESCOPE_LEVEL_LIGHT: i32 = 1;
/// At least `level_medium_bp` of it.
pub const ESCOPE_LEVEL_MEDIUM: i32 = 2;
/// At least `level_heavy_bp` of it.
pub const ESCOPE_LEVEL_HEAVY: i32 = 3;
/// All of it: the breaker would be open, did its mode not forbid that.
pub const ESCOPE_LEVEL_EXCEEDED: i32 = 4;

/// The failures used up what the policy tolerates.
pub const ESCOPE_CAUSE_FAILURE_THRESHOLD: i32 = 1;
/// The open time elapsed; the first acquire after it lets probes in.
pub const ESCOPE_CAUSE_OPEN_ELAPSED: i32 = 2;
/// Enough probes succeeded.
pub const ESCOPE_CAUSE_PROBES_SUCCEEDED: i32 = 3;
/// Too many probes failed.
pub const ESCOPE_CAUSE_PROBES_FAILED: i32 = 4;
/// A probe was not recorded within its lease.
pub const ESCOPE_CAUSE_PROBE_EXPIRED: i32 = 5;
/// escope_breaker_reset was called.
pub const ESCOPE_CAUSE_RESET: i32 = 6;
/// Too large a share of the calls in the window failed.
pub const ESCOPE_CAUSE_FAILURE_RATE: i32 = 7;
/// Too large a share of the calls in the window was slow.
pub const ESCOPE_CAUSE_SLOW_CALL_RATE: i32 = 8;
/// `half_open_limit_ns` was over without a verdict.
pub const ESCOPE_CAUSE_HALF_OPEN_LIMIT: i32 = 9;
/// `max_ignored_probes` of a round were ignored.
pub const ESCOPE_CAUSE_PROBES_IGNORED: i32 = 10;
/// escope_breaker_set_mode was called.
pub const ESCOPE_CAUSE_MODE_CHANGED: i32 = 11;
/// escope_breaker_reconfigure started a new round of probes.
pub const ESCOPE_CAUSE_RECONFIGURED: i32 = 12;
/// escope_breaker_reinstall was called.
pub const ESCOPE_CAUSE_REINSTALLED: i32 = 13;
/// The used share of the trip budget passed a level, up or down. An event of levels.
pub const ESCOPE_CAUSE_LEVEL_CHANGED: i32 = 14;
/// The trip budget is used up, in METRICS_ONLY. An event of levels.
pub const ESCOPE_CAUSE_WOULD_OPEN: i32 = 15;

/// A change of a breaker.
///
/// There are two kinds, each with gapless sequence numbers of its own: those of levels (cause LEVEL_CHANGED or
/// WOULD_OPEN), which change nothing but the level, and all others, each of which begins a generation. A reset of a
/// closed breaker is an event from closed to closed.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct escope_event {
    /// Time of the call that caused it, or the end of the lease or round that was over.
    pub at_ns: u64,
    /// 1 for a breaker's first event of the kind, then one more each, without gaps. Wraps at 2^28, of levels at 2^32.
    pub sequence: u32,
    /// Generation that began, or in which the level changed.
    pub generation: u32,
    /// ESCOPE_PHASE_* before.
    pub from: i32,
    /// ESCOPE_PHASE_* after.
    pub to: i32,
    /// ESCOPE_CAUSE_*.
    pub cause: i32,
    /// ESCOPE_LEVEL_* before.
    pub from_level: u8,
    /// ESCOPE_LEVEL_* after.
    pub to_level: u8,
    /// ESCOPE_MODE_* after.
    pub mode: u8,
    /// 0.
    pub reserved: u8,
}

/// The events that one call caused, oldest first.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct escope_events {
    /// Number of valid items, 0 to 3; the others are left as they were.
    pub count: u32,
    /// 0.
    pub reserved: u32,
    /// The events.
    pub items: [escope_event; 3],
}

impl From<Event> for escope_event {
    fn from(event: Event) -> Self {
        Self {
            at_ns: event.at_ns,
            sequence: event.sequence,
            generation: event.generation,
            from: event.from as i32,
            to: event.to as i32,
            cause: event.cause as i32,
            from_level: event.from_level as u8,
            to_level: event.to_level as u8,
            mode: event.mode as u8,
            reserved: 0,
        }
    }
}

/// Where a caller wants its events, if it does.
pub(super) struct EventsOut(Option<Out<escope_events>>);

impl EventsOut {
    /// # Safety
    /// As for [`Out::optional`].
    pub(super) unsafe fn new(events: *mut escope_events) -> Result<Self, Failure> {
        // SAFETY: the caller's contract.
        unsafe { Out::optional(events, "events") }.map(Self)
    }

    #[inline]
    pub(super) fn set(&self, events: &Events) {
        let Some(out) = &self.0 else { return };
        let out = out.as_ptr();
        let mut count = 0;
        for event in events.iter() {
            // SAFETY: `out` is writable by the contract of `new`; the core returns at most three events, and
            // the index is checked. No reference to memory that C left uninitialised is made.
            unsafe { (&raw mut (*out).items).cast::<escope_event>().add(count).write(event.into()) };
            count += 1;
        }
        // SAFETY: as above.
        unsafe {
            (&raw mut (*out).count).write(count as u32);
            (&raw mut (*out).reserved).write(0);
        }
    }
}

/// The mode with this number.
pub(super) fn mode(number: i32) -> Result<Mode, Failure> {
    match number {
        ESCOPE_MODE_AUTO => Ok(Mode::Auto),
        ESCOPE_MODE_FORCED_OPEN => Ok(Mode::ForcedOpen),
        ESCOPE_MODE_FORCED_CLOSED => Ok(Mode::ForcedClosed),
        ESCOPE_MODE_METRICS_ONLY => Ok(Mode::MetricsOnly),
        other => {
            Err(invalid("mode", other, "0 (auto), 1 (forced open), 2 (forced closed) or 3 (metrics only)"))
        }
    }
}

/// A word of the core with the NUL that C wants.
macro_rules! c_word {
    ($word:expr) => {{
        const WORD: &str = $word;
        const BYTES: [u8; WORD.len() + 1] = terminated(WORD);
        const TEXT: &CStr = match CStr::from_bytes_with_nul(&BYTES) {
            Ok(text) => text,
            Err(_) => panic!("a word has no NUL"),
        };
        TEXT
    }};
}

const fn terminated<const N: usize>(word: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let mut at = 0;
    while at < word.len() {
        bytes[at] = word.as_bytes()[at];
        at += 1;
    }
    bytes
}

/// The cause with this number, and its word.
fn cause(number: i32) -> Option<(Cause, &'static CStr)> {
    macro_rules! causes {
        ($($constant:ident = $cause:ident),* $(,)?) => {
            match number {
                $($constant => Some((Cause::$cause, c_word!(Cause::$cause.word()))),)*
                _ => None,
            }
        };
    }
    causes! {
        ESCOPE_CAUSE_FAILURE_THRESHOLD = FailureThreshold,
        ESCOPE_CAUSE_OPEN_ELAPSED = OpenElapsed,
        ESCOPE_CAUSE_PROBES_SUCCEEDED = ProbesSucceeded,
        ESCOPE_CAUSE_PROBES_FAILED = ProbesFailed,
        ESCOPE_CAUSE_PROBE_EXPIRED = ProbeExpired,
        ESCOPE_CAUSE_RESET = Reset,
        ESCOPE_CAUSE_FAILURE_RATE = FailureRate,
        ESCOPE_CAUSE_SLOW_CALL_RATE = SlowCallRate,
        ESCOPE_CAUSE_HALF_OPEN_LIMIT = HalfOpenLimit,
        ESCOPE_CAUSE_PROBES_IGNORED = ProbesIgnored,
        ESCOPE_CAUSE_MODE_CHANGED = ModeChanged,
        ESCOPE_CAUSE_RECONFIGURED = Reconfigured,
        ESCOPE_CAUSE_REINSTALLED = Reinstalled,
        ESCOPE_CAUSE_LEVEL_CHANGED = LevelChanged,
        ESCOPE_CAUSE_WOULD_OPEN = WouldOpen,
    }
}

/// Gives the word for the cause of an event, such as "failure_rate", the same in every language.
///
/// Ownership: the text is static and belongs to the library; it is never NULL.
///
/// @param cause ESCOPE_CAUSE_*; 0 gives "none" and an unknown number "unknown".
/// @return the text, ending in NUL.
///
/// Thread safety: any thread, concurrently; async-signal-safe. Never blocks.
/// Since: 0.1.0
#[unsafe(no_mangle)]
pub extern "C" fn escope_breaker_cause_str(cause: i32) -> *const c_char {
    let unknown = if cause == 0 { c"none" } else { c"unknown" };
    self::cause(cause).map_or(unknown, |(_, word)| word).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::{Level, Phase};

    /// The header's constants are literals, because cbindgen copies them; the core's numbers are the truth.
    #[test]
    fn the_numbers_of_causes_are_the_cores() {
        let mut known = 0;
        for number in 0..=i32::from(u8::MAX) {
            let Some((cause, text)) = cause(number) else { continue };
            assert_eq!((cause as i32, cause.word()), (number, text.to_str().expect("words are UTF-8")));
            known += 1;
        }
        // Does not compile when the core has a cause that is not in the table above.
        let last = match Cause::WouldOpen {
            cause @ (Cause::FailureThreshold
            | Cause::OpenElapsed
            | Cause::ProbesSucceeded
            | Cause::ProbesFailed
            | Cause::ProbeExpired
            | Cause::Reset
            | Cause::FailureRate
            | Cause::SlowCallRate
            | Cause::HalfOpenLimit
            | Cause::ProbesIgnored
            | Cause::ModeChanged
            | Cause::Reconfigured
            | Cause::Reinstalled
            | Cause::LevelChanged
            | Cause::WouldOpen) => cause as i32,
        };
        assert_eq!(known, last);
    }

    #[test]
    fn the_numbers_of_phases_modes_and_levels_are_the_cores() {
        assert_eq!(
            [ESCOPE_PHASE_CLOSED, ESCOPE_PHASE_OPEN, ESCOPE_PHASE_HALF_OPEN],
            [Phase::Closed as i32, Phase::Open as i32, Phase::HalfOpen as i32]
        );
        for number in ESCOPE_MODE_AUTO..=ESCOPE_MODE_METRICS_ONLY {
            assert_eq!(mode(number).map(|mode| mode as i32), Ok(number));
        }
        assert!(mode(-1).is_err() && mode(ESCOPE_MODE_METRICS_ONLY + 1).is_err());
        let levels = [
            (ESCOPE_LEVEL_NONE, Level::None),
            (ESCOPE_LEVEL_LIGHT, Level::Light),
            (ESCOPE_LEVEL_MEDIUM, Level::Medium),
            (ESCOPE_LEVEL_HEAVY, Level::Heavy),
            (ESCOPE_LEVEL_EXCEEDED, Level::Exceeded),
        ];
        for (constant, level) in levels {
            assert_eq!(constant, level as i32);
        }
    }

    #[test]
    fn events_have_the_sizes_that_programs_were_compiled_with() {
        assert_eq!((size_of::<escope_event>(), size_of::<escope_events>()), (32, 104));
    }
}
