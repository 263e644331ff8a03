//! A configuration as the cell holds it: in words that can be read while they are replaced.
//!
//! A cell has two blocks. The control word names the live one; a reconfiguration writes the other and then
//! turns the control word over, so a verdict that was reached by the old block fails its compare-and-swap. A second
//! reconfiguration turns it back: a call that both pass may still be judged by the settings that it met first.
//! Each block is a sequence lock: a reader that meets a block under change looks at the control word again. One writer at
//! a time is the handle's promise; one that died leaves a block which no control word names.

use super::config::{BreakerConfig, Policy, Weights, Window};
use super::permit::Outcome;
use crate::seqlock::Sequence;
use crate::sync::{AtomicU64, Ordering, UnwatchedU64};

const WORDS: usize = 14;
/// The word with the size, and that with kind and window id.
const SIZE_WORD: usize = 1;
const KIND_WORD: usize = 10;
/// The words that the models watch, enough to see a block that is read while it is written.
const WATCHED: usize = 2;

/// A block of the cell.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Block {
    sequence: Sequence,
    words: [AtomicU64; WATCHED],
    others: [UnwatchedU64; WORDS - WATCHED],
}

/// What a block says, as a value.
///
/// ```text
/// 0 open_for_ns
/// 1 { size: failure_threshold, tolerated, window size or buckets: 32 | min_calls: 32 }
/// 2 probe_lease_ns  3 half_open_limit_ns
/// 4 ramp_ns         5 slow_call_ns   6 period_ns, of a time window that of a bucket    7 seed
/// 8 max_open_ns
/// 9 { failure_rate_bp: 16 | slow_call_rate_bp: 16 | backoff_percent: 16 | jitter_bp: 16 }
/// 10 { permits: 8 | successes: 8 | max_ignored_probes: 16 | ramp_from_bp: 16 | kind: 4 | flags: 6 | window id: 6 }
/// 11 { level_bp: 3 * 16 }            12 { admit_bp: 4 * 16 }        13 { weights: 5 * 4 }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings([u64; WORDS]);

/// How a closed breaker counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Consecutive = 0,
    Period = 1,
    CountWindow = 2,
    TimeWindow = 3,
}

const SKIP_HALF_OPEN: u64 = 1 << 52;
const RELEASE_EXPIRED: u64 = 1 << 53;
const CLOSE_AT_LIMIT: u64 = 1 << 54;
/// Some call is not admitted by a closed breaker.
const SHEDS: u64 = 1 << 55;
/// A slow call may open the breaker.
const TRIPS_ON_SLOW: u64 = 1 << 56;
const WINDOW_ID_SHIFT: u32 = 58;

impl Block {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            sequence: Sequence::new(),
            words: std::array::from_fn(|index| AtomicU64::new(settings.0[index])),
            others: std::array::from_fn(|index| UnwatchedU64::new(settings.0[WATCHED + index])),
        }
    }

    /// The settings and their version, unless they are being written.
    #[inline]
    pub(super) fn read(&self) -> Option<(Settings, u64)> {
        self.sequence.read(|| Settings(std::array::from_fn(|index| self.word(index))))
    }

    /// Whether results are kept in a count window, and its id and size: two words of all, for the hot path.
    #[inline]
    pub(super) fn count_window(&self) -> Option<(u64, u64)> {
        let mut words = [0; WORDS];
        let load = || (self.word(SIZE_WORD), self.word(KIND_WORD));
        ((words[SIZE_WORD], words[KIND_WORD]), _) = self.sequence.read(load)?;
        let settings = Settings(words);
        (settings.kind() == Kind::CountWindow).then(|| (settings.window_id(), settings.size()))
    }

    /// Grows with each write.
    #[inline]
    pub(super) fn version(&self) -> u64 {
        self.sequence.version()
    }

    /// Replaces the settings. Nobody else may write meanwhile.
    pub(super) fn write(&self, settings: &Settings) {
        self.sequence.write(|| {
            for (word, value) in self.words.iter().zip(settings.0) {
                word.store(value, Ordering::Relaxed);
            }
            for (word, value) in self.others.iter().zip(&settings.0[WATCHED..]) {
                word.store(*value, Ordering::Relaxed);
            }
        });
    }

    #[inline]
    fn word(&self, index: usize) -> u64 {
        match index.checked_sub(WATCHED) {
            None => self.words[index].load(Ordering::Relaxed),
            Some(index) => self.others[index].load(Ordering::Relaxed),
        }
    }
}

impl Settings {
    /// The words of a configuration that was validated.
    pub(super) fn of(config: &BreakerConfig, window_id: u64) -> Self {
        let (kind, size, period_ns, rate) = match config.policy {
            Policy::ConsecutiveFailures { failure_threshold } => {
                (Kind::Consecutive, failure_threshold, 0, (0, 0, 0))
            }
            Policy::FailuresInPeriod { tolerated_failures, period_ns } => {
                (Kind::Period, tolerated_failures, period_ns, (0, 0, 0))
            }
            Policy::Rate { window, min_calls, failure_rate_bp, slow_call_rate_bp } => {
                let rate = (min_calls, failure_rate_bp, slow_call_rate_bp);
                match window {
                    Window::Count { size } => (Kind::CountWindow, size, 0, rate),
                    Window::Time { period_ns, buckets } => {
                        (Kind::TimeWindow, buckets, period_ns.div_ceil(buckets.into()), rate)
                    }
                }
            }
        };
        let (min_calls, failure_rate_bp, slow_call_rate_bp) = rate;
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        let is_rate = matches!(config.policy, Policy::Rate { .. });
        let flags = flag(config.skip_half_open, SKIP_HALF_OPEN)
            | flag(config.release_expired_probes, RELEASE_EXPIRED)
            | flag(config.close_at_half_open_limit, CLOSE_AT_LIMIT)
            | flag(config.admit_bp.iter().any(|share| *share < super::config::WHOLE_BP), SHEDS)
            | flag(is_rate && config.slow_call_ns > 0, TRIPS_ON_SLOW);
        let Weights { success, failure, slow, ignored, cancelled } = config.weights;
        let weights = [success, failure, ignored, slow, cancelled];
        Self([
            config.open_for_ns,
            packed(32, [size, min_calls]),
            config.probe_lease_ns,
            config.half_open_limit_ns,
            config.ramp_ns,
            config.slow_call_ns,
            period_ns,
            config.seed,
            if config.max_open_ns == 0 { super::config::MAX_DURATION_NS } else { config.max_open_ns },
            packed(16, [failure_rate_bp, slow_call_rate_bp, config.backoff_percent, config.jitter_bp]),
            packed(8, [config.half_open_permits, config.successes_to_close])
                | packed(16, [config.max_ignored_probes, config.ramp_from_bp]) << 16
                | (kind as u64) << 48
                | flags
                | window_id << WINDOW_ID_SHIFT,
            packed(16, config.level_bp),
            packed(16, config.admit_bp),
            packed(4, weights.map(u32::from)),
        ])
    }

    pub(super) fn open_for_ns(&self) -> u64 {
        self.0[0]
    }

    pub(super) fn max_open_ns(&self) -> u64 {
        self.0[8]
    }

    pub(super) fn probe_lease_ns(&self) -> u64 {
        self.0[2]
    }

    /// How long a round may last, if there is a limit.
    pub(super) fn half_open_limit_ns(&self) -> Option<u64> {
        Some(self.0[3]).filter(|limit| *limit > 0)
    }

    pub(super) fn ramp_ns(&self) -> u64 {
        self.0[4]
    }

    /// Calls that take longer are slow, if calls are measured.
    #[inline]
    pub(super) fn slow_call_ns(&self) -> Option<u64> {
        Some(self.0[5]).filter(|limit| *limit > 0)
    }

    #[inline]
    pub(super) fn period_ns(&self) -> u64 {
        self.0[6]
    }

    pub(super) fn seed(&self) -> u64 {
        self.0[7]
    }

    /// Failure threshold, tolerated failures, window size or number of buckets, by kind.
    #[inline]
    pub(super) fn size(&self) -> u64 {
        self.0[SIZE_WORD] & 0xFFFF_FFFF
    }

    #[inline]
    pub(super) fn min_calls(&self) -> u64 {
        self.0[1] >> 32
    }

    #[inline]
    pub(super) fn failure_rate_bp(&self) -> u64 {
        part(self.0[9], 16, 0)
    }

    #[inline]
    pub(super) fn slow_call_rate_bp(&self) -> u64 {
        part(self.0[9], 16, 1)
    }

    pub(super) fn backoff_percent(&self) -> u64 {
        part(self.0[9], 16, 2)
    }

    pub(super) fn jitter_bp(&self) -> u64 {
        part(self.0[9], 16, 3)
    }

    pub(super) fn permits(&self) -> usize {
        part(self.0[10], 8, 0) as usize
    }

    pub(super) fn successes_to_close(&self) -> u32 {
        part(self.0[10], 8, 1) as u32
    }

    /// Failed probes after which a round can no longer close.
    pub(super) fn failures_to_open(&self) -> u32 {
        self.permits() as u32 - self.successes_to_close() + 1
    }

    pub(super) fn max_ignored_probes(&self) -> Option<u64> {
        Some(part(self.0[10], 16, 1)).filter(|most| *most > 0)
    }

    pub(super) fn ramp_from_bp(&self) -> u64 {
        part(self.0[10], 16, 2)
    }

    #[inline]
    pub(super) fn kind(&self) -> Kind {
        match part(self.0[KIND_WORD], 4, 12) {
            0 => Kind::Consecutive,
            1 => Kind::Period,
            2 => Kind::CountWindow,
            _ => Kind::TimeWindow,
        }
    }

    pub(super) fn skips_half_open(&self) -> bool {
        self.0[10] & SKIP_HALF_OPEN != 0
    }

    pub(super) fn releases_expired(&self) -> bool {
        self.0[10] & RELEASE_EXPIRED != 0
    }

    pub(super) fn closes_at_limit(&self) -> bool {
        self.0[10] & CLOSE_AT_LIMIT != 0
    }

    /// Whether a closed breaker does not admit every call, at some level.
    pub(super) fn sheds(&self) -> bool {
        self.0[10] & SHEDS != 0
    }

    /// Whether the share of slow calls may open the breaker.
    #[inline]
    pub(super) fn trips_on_slow(&self) -> bool {
        self.0[10] & TRIPS_ON_SLOW != 0
    }

    /// Grows when the results so far mean nothing to a new configuration.
    #[inline]
    pub(super) fn window_id(&self) -> u64 {
        self.0[KIND_WORD] >> WINDOW_ID_SHIFT
    }

    /// Share of the budget from which on a breaker is light, medium, heavy.
    #[inline]
    pub(super) fn level_bp(&self, index: u32) -> u64 {
        part(self.0[11], 16, index)
    }

    /// Share that is admitted at the level with this index.
    pub(super) fn admit_bp(&self, level: u32) -> u64 {
        part(self.0[12], 16, level)
    }

    #[inline]
    pub(super) fn weight(&self, outcome: Outcome) -> u64 {
        part(self.0[13], 4, outcome as u32)
    }

    /// Whether results are kept in a window and judged by rates.
    #[inline]
    pub(super) fn has_rate_window(&self) -> bool {
        matches!(self.kind(), Kind::CountWindow | Kind::TimeWindow)
    }

    /// Whether an acquire or a success of a closed breaker has to look further than at the control word.
    pub(super) fn is_gated(&self) -> bool {
        self.sheds() || self.slow_call_ns().is_some() || self.weight(Outcome::Success) > 0
    }

    /// Whether a round that began under `self` means the same under `other`.
    pub(super) fn same_round(&self, other: &Self) -> bool {
        (self.permits(), self.successes_to_close(), self.probe_lease_ns(), self.half_open_limit_ns())
            == (
                other.permits(),
                other.successes_to_close(),
                other.probe_lease_ns(),
                other.half_open_limit_ns(),
            )
    }

    /// These settings of a configuration, following `self`: whether results that were counted so far still count, and
    /// the new words.
    pub(super) fn succeeded_by(&self, config: &BreakerConfig) -> (bool, Self) {
        let kept = Self::of(config, self.window_id());
        let same = self.kind() == kept.kind()
            && (self.kind() != Kind::TimeWindow || self.period_ns() == kept.period_ns());
        if same { (true, kept) } else { (false, Self::of(config, (self.window_id() + 1) % 64)) }
    }
}

fn packed<const N: usize>(bits: u32, parts: [u32; N]) -> u64 {
    let shifted = parts.into_iter().enumerate().map(|(index, part)| u64::from(part) << (index as u32 * bits));
    shifted.fold(0, |word, part| word | part)
}

#[inline]
const fn part(word: u64, bits: u32, index: u32) -> u64 {
    word >> (index * bits) & ((1 << bits) - 1)
}
