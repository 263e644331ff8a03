//! The results of the last period, in buckets of equal length.
//!
//! Bucket `b` of a ring, as many as a power of two, holds the results of the epochs `e` (`now / length`) with
//! `e = b` modulo the ring, the latest of them at a time. The epoch of now and those of the whole period before it count:
//! none that is younger than the period is missed, and up to one bucket's length older ones are in.
//!
//! ```text
//! bits   0..20    generation, cut        bits  26..62    epoch, cut
//! bits  20..26    window id              bits  62..84 calls, 84..106 sum of weights, 106..128 slow ones
//! ```
//!
//! A bucket of another generation, window or epoch is an empty one. With the shortest length, 1 ms, an epoch comes
//! again after two years.
//!
//! A result that is older than its bucket counts in the bucket as it is: time does not go back.

use super::cell::{Cell, View};
use super::config::MAX_WEIGHT;
use super::count_window::Sample;
use super::field::Field;
use super::rate::Tally;
use crate::sync::{AtomicWide, Ordering, Wide};

const OWNER: Field = Field::first(20, 8);
const WINDOW_ID: Field = OWNER.then(6, 4);
const EPOCH: Field = WINDOW_ID.then(36, 16);
const CALLS: Field = EPOCH.then(22, 10);
const WEIGHTS: Field = CALLS.then(22, 10);
const SLOW: Field = WEIGHTS.then(22, 10);

impl Cell<'_> {
    /// Adds a result to its bucket. The sums of the window after it; none if the breaker changed meanwhile.
    pub(super) fn count_in_bucket(self, view: &View, sample: Sample, now: u64) -> Option<Tally> {
        let epoch = now / view.settings.period_ns();
        let place = &self.window[1 + (epoch as usize & (self.buckets().len() - 1))];
        let fresh = key(view) | EPOCH.put(epoch);
        loop {
            let word = place.load(Ordering::Acquire);
            if !self.is_current(view) {
                return None;
            }
            let is_this_window = word & KEY == key(view);
            let bucket = if is_this_window && !is_earlier(word, epoch) { word } else { fresh };
            let Some(counted) = with(bucket, sample) else { break };
            // AcqRel: as in the count window, the sums that a verdict is reached by include what it saw.
            if place.compare_exchange(word, counted, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                break;
            }
        }
        Some(self.sum(view, epoch))
    }

    /// The sums of the window at `now`; none if something changed meanwhile.
    pub(super) fn bucket_tally(self, view: &View, now: u64) -> Option<Tally> {
        let tally = self.sum(view, now / view.settings.period_ns());
        self.is_current(view).then_some(tally)
    }

    fn sum(self, view: &View, epoch: u64) -> Tally {
        let buckets = self.buckets();
        let counted = (0..=view.settings.size()).filter_map(|back| {
            let epoch = epoch.checked_sub(back)?;
            let word = buckets[epoch as usize & (buckets.len() - 1)].load(Ordering::Acquire);
            let is_of_epoch = word & KEY == key(view) && EPOCH.get(word) == epoch & EPOCH.max();
            // The bucket of now may be ahead of a clock that was read earlier.
            let is_ahead = back == 0 && word & KEY == key(view) && !is_earlier(word, epoch);
            (is_of_epoch || is_ahead).then_some(word)
        });
        counted.fold(Tally::default(), |sum, word| Tally {
            calls: sum.calls + CALLS.get(word),
            failures: sum.failures + WEIGHTS.get(word),
            slow: sum.slow + SLOW.get(word),
        })
    }

    fn buckets(&self) -> &[AtomicWide] {
        &self.window[1..]
    }
}

const KEY: Wide = OWNER.put(u64::MAX) | WINDOW_ID.put(u64::MAX);

fn key(view: &View) -> Wide {
    OWNER.put(view.control.generation().into()) | WINDOW_ID.put(view.settings.window_id())
}

/// Whether the bucket's epoch lies before `epoch`, on the circle of epochs.
fn is_earlier(word: Wide, epoch: u64) -> bool {
    let ahead = epoch.wrapping_sub(EPOCH.get(word)) & EPOCH.max();
    ahead != 0 && ahead <= EPOCH.max() / 2
}

/// The bucket with one more result; none if it is full, to results of any weight, so that its rate stays true.
fn with(bucket: Wide, sample: Sample) -> Option<Wide> {
    let calls = CALLS.get(bucket) + 1;
    let weights = WEIGHTS.get(bucket) + sample.weight;
    let slow = SLOW.get(bucket) + u64::from(sample.slow);
    let fits = calls <= CALLS.max() && WEIGHTS.get(bucket) + u64::from(MAX_WEIGHT) <= WEIGHTS.max();
    fits.then(|| SLOW.set(WEIGHTS.set(CALLS.set(bucket, calls), weights), slow))
}
