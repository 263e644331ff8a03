//! The breaker's cell: the memory that decides, and the two calls on its hot path.
//!
//! Every verdict is decided by the control word. What belongs to it in other words is either written before the
//! control word that refers to it, or can be completed by anybody, so a thread or process that stops between two
//! steps holds nobody up and loses nothing: [`round`](super::round) for half-open,
//! [`closed`](super::closed) for the rest.
//!
//! Orderings: every compare-and-swap is AcqRel and every load Acquire. A load of the control word pairs with the
//! swap that wrote it; a load of a slot, a window's word or the ramp pairs with the swap that wrote it, whose writer
//! had loaded a control word of that generation. So who sees a word of a newer generation also sees a newer control
//! word when it looks again.

use super::closed::Lazy;
use super::config::BreakerConfig;
use super::control::{Control, GENERATION, Mode, Phase, is_newer};
use super::event::{Cause, Event, Events};
use super::field::Field;
use super::permit::{NO_SLOT, Outcome, Permit, RecordVerdict, RejectReason, Rejection};
use super::probe::FIRST_EPOCH;
use super::round::Round;
use super::settings::{Block, Settings};
use crate::sync::{AtomicWide, Ordering, Wide};

/// The part of a breaker that has the same size for all: no pointer, no lock, the same in a mapped file.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Head {
    control: AtomicWide,
    pub(super) degradation: AtomicWide,
    pub(super) ramp: AtomicWide,
    last: AtomicWide,
    pub(super) blocks: [Block; 2],
}

/// A breaker's memory, wherever it lies: a head, places for probes, and for results. It does not count its
/// verdicts; [`Breaker`](super::Breaker) does.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'a> {
    pub(super) head: &'a Head,
    pub(super) probes: &'a [AtomicWide],
    pub(super) window: &'a [AtomicWide],
}

/// The control word and the settings that it names.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) control: Control,
    pub(super) settings: Settings,
    version: u64,
}

/// The last change of generation, as far as it was noted: high half the instant, low half generation and cause.
const LAST_GENERATION: Field = Field::first(28, 8);
const LAST_CAUSE: Field = LAST_GENERATION.then(5, 5);
const LAST_AT: Field = Field::high(64, 32);
const _: () = assert!(LAST_GENERATION.max() == GENERATION.max());

impl Head {
    /// Bytes that decide: what a closed breaker reads and writes.
    pub const CELL_BYTES: usize = std::mem::offset_of!(Head, blocks);

    /// A closed breaker of this configuration, which was validated.
    pub fn new(config: &BreakerConfig) -> Self {
        let settings = Settings::of(config, 0);
        let zero = || AtomicWide::new(0);
        Self {
            control: AtomicWide::new(Control::new(&settings).word()),
            degradation: zero(),
            ramp: zero(),
            last: zero(),
            blocks: [Block::new(&settings), Block::new(&settings)],
        }
    }

    #[inline]
    pub(super) fn control(&self) -> Control {
        // Acquire pairs with the Release of the swap that wrote the word.
        Control::from_word(self.control.load(Ordering::Acquire))
    }

    #[inline]
    pub(super) fn swap(&self, from: Control, to: Control) -> bool {
        let relaxed = cfg!(escope_sabotage = "breaker_unpublished");
        // Release publishes what was written for the new word: a ramp, a block, a probe marked as counted.
        let order = if relaxed { Ordering::Acquire } else { Ordering::AcqRel };
        self.control.compare_exchange(from.word(), to.word(), order, Ordering::Acquire).is_ok()
    }
}

impl<'a> Cell<'a> {
    /// The breaker in this memory: `probes` and `window` zeroed at its creation, and as long as
    /// [`BreakerConfig::probe_places`] and [`BreakerConfig::window_places`] of the configuration then said.
    pub fn over(head: &'a Head, probes: &'a [AtomicWide], window: &'a [AtomicWide]) -> Self {
        Self { head, probes, window }
    }

    /// As [`Breaker::acquire`](super::Breaker::acquire).
    pub fn acquire(self, now: impl FnOnce() -> u64, events: &mut Events) -> Result<Permit, Rejection> {
        let mut now = Lazy::new(now);
        loop {
            if events.is_full() {
                // Only callers whose clocks are far behind this one's can keep a round moving for so long. The
                // next call goes on from here.
                return Err(Rejection::new(RejectReason::HalfOpenFull, 1));
            }
            // Most rejections need no more than this word.
            let control = self.head.control();
            match (control.mode(), control.phase()) {
                (Mode::ForcedOpen, _) => return Err(Rejection::new(RejectReason::ForcedOpen, u64::MAX)),
                (_, Phase::Open) if now.get() < control.instant() => {
                    return Err(Rejection::new(RejectReason::Open, control.instant() - now.get()));
                }
                _ => {}
            }
            let Some(view) = self.view_of(control) else { continue };
            match control.phase() {
                Phase::Closed => {
                    if let Some(verdict) = self.acquire_closed(&view, &mut now, events) {
                        return verdict;
                    }
                }
                Phase::Open if view.settings.skips_half_open() => {
                    let next = control.close(&view.settings);
                    self.transition(&view, next, Cause::OpenElapsed, now.get(), events);
                }
                Phase::Open => {
                    let next = control.half_open(now.get());
                    if self.transition(&view, next, Cause::OpenElapsed, now.get(), events) {
                        let generation = next.generation();
                        let started_ns = view.started_ns(&mut now);
                        return Ok(Permit { generation, slot: 0, epoch: FIRST_EPOCH, started_ns });
                    }
                }
                Phase::HalfOpen => match self.advance(&view, now.get(), events) {
                    Round::Moved => {}
                    Round::Settled { free: Some(place), .. } => {
                        if let Some(permit) = self.claim(&view, place, &mut now) {
                            return Ok(permit);
                        }
                    }
                    Round::Settled { free: None, next_deadline } => {
                        let retry_after_ns = next_deadline.saturating_sub(now.get());
                        return Err(Rejection::new(RejectReason::HalfOpenFull, retry_after_ns));
                    }
                },
            }
        }
    }

    /// As [`Breaker::record`](super::Breaker::record).
    pub fn record(
        self,
        permit: Permit,
        outcome: Outcome,
        now: impl FnOnce() -> u64,
        events: &mut Events,
    ) -> RecordVerdict {
        let mut now = Lazy::new(now);
        if permit.slot == NO_SLOT {
            self.record_closed(&permit, outcome, &mut now, events)
        } else {
            self.record_probe(&permit, outcome, &mut now, events)
        }
    }

    /// The control word and its settings, as of one moment.
    #[inline]
    pub(super) fn view(self) -> View {
        loop {
            if let Some(view) = self.view_of(self.head.control()) {
                return view;
            }
        }
    }

    /// The control word with the settings that it names, unless they are being replaced.
    #[inline]
    pub(super) fn view_of(self, control: Control) -> Option<View> {
        let (settings, version) = self.head.blocks[control.block()].read()?;
        Some(View { control, settings, version })
    }

    /// Whether neither the control word nor its settings have changed since.
    #[inline]
    pub(super) fn is_current(self, view: &View) -> bool {
        self.head.control() == view.control
            && self.head.blocks[view.control.block()].version() == view.version
    }

    /// Replaces the control word by one of the next generation, and tells.
    pub(super) fn transition(
        self,
        view: &View,
        to: Control,
        cause: Cause,
        at_ns: u64,
        events: &mut Events,
    ) -> bool {
        let done = self.head.swap(view.control, to);
        if done {
            let before = (view.control, self.told_level(view.control));
            events.push(Event::of_generation(before, to, cause, at_ns));
            self.note(to.generation(), cause, at_ns);
        }
        done
    }

    /// Opens from closed or half-open for the `opens`th time.
    pub(super) fn open(self, view: &View, opens: u32, cause: Cause, at_ns: u64, events: &mut Events) -> bool {
        let generation = view.control.open(0, opens).generation();
        let open_for_ns = super::backoff::open_for_ns(&view.settings, opens, generation);
        let next = view.control.open(at_ns.saturating_add(open_for_ns), opens);
        self.transition(view, next, cause, at_ns, events)
    }

    /// Cause and time of the change that began the generation of `control`. None for the first, and where the
    /// process that changed it died before it could note that.
    pub(super) fn last_change(self, control: Control) -> Option<(Cause, u64)> {
        let word = self.head.last.load(Ordering::Acquire);
        let is_current = LAST_GENERATION.get(word) == u64::from(control.generation());
        let cause = Cause::from_number(LAST_CAUSE.get(word)).filter(|_| is_current)?;
        Some((cause, LAST_AT.get(word)))
    }

    /// The configuration block that is not live, for the one writer.
    pub(super) fn spare_block(self, control: Control) -> &'a Block {
        &self.head.blocks[control.block() ^ 1]
    }

    fn note(self, generation: u32, cause: Cause, at_ns: u64) {
        let mine: Wide =
            LAST_GENERATION.put(generation.into()) | LAST_CAUSE.put(cause as u64) | LAST_AT.put(at_ns);
        let mut found = self.head.last.load(Ordering::Acquire);
        // A later change may have been noted meanwhile; that one stays.
        while LAST_CAUSE.get(found) == 0 || is_newer(generation, LAST_GENERATION.get(found) as u32) {
            let noted = self.head.last.compare_exchange(found, mine, Ordering::AcqRel, Ordering::Acquire);
            match noted {
                Ok(_) => return,
                Err(newer) => found = newer,
            }
        }
    }
}

impl View {
    /// When a call that begins now began, if calls are measured.
    pub(super) fn started_ns(&self, now: &mut Lazy<impl FnOnce() -> u64>) -> u64 {
        let measured = self.settings.slow_call_ns().is_some();
        if measured { now.get() } else { super::permit::UNMEASURED }
    }
}

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_current_until_control_word_or_settings_change() {
        let config = BreakerConfig::default();
        let head = Head::new(&config);
        let probes: [AtomicWide; 8] = std::array::from_fn(|_| AtomicWide::new(0));
        let cell = Cell::over(&head, &probes, &[]);
        let view = cell.view();
        assert!(cell.is_current(&view));
        let reconfigure = || cell.reconfigure(&config, 0, &mut Events::default()).expect("it fits");
        reconfigure();
        assert!(!cell.is_current(&view));
        // The first block is live again, written anew under the same control word.
        reconfigure();
        assert_eq!(head.control(), view.control);
        assert!(!cell.is_current(&view));
        let view = cell.view();
        cell.reset(0, &mut Events::default());
        assert!(!cell.is_current(&view));
    }

    #[test]
    fn a_change_that_is_noted_late_leaves_the_note_of_a_later_one() {
        let head = Head::new(&BreakerConfig::default());
        let cell = Cell::over(&head, &[], &[]);
        let control = |generation| Control::from_word(GENERATION.put(generation));
        // The first note, however far the generations have come.
        let late = GENERATION.max() - 1;
        cell.note(late as u32, Cause::Reset, 1);
        assert_eq!(cell.last_change(control(late)), Some((Cause::Reset, 1)));
        cell.note(2, Cause::ModeChanged, 3);
        cell.note(1, Cause::OpenElapsed, 2);
        assert_eq!(cell.last_change(control(2)), Some((Cause::ModeChanged, 3)));
        assert_eq!(cell.last_change(control(1)), None);
    }
}
