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
//! Time does not go back: to a clock that was read earlier the latest bucket is the one of now.

use super::cell::{Cell, View};
use super::config::MAX_WEIGHT;
use super::count_window::Sample;
use super::field::Field;
use super::rate::Tally;
use crate::sync::{AtomicWide, HALF, Ordering, Wide};

const OWNER: Field = Field::first(20, 8);
const WINDOW_ID: Field = OWNER.then(6, 4);
const EPOCH: Field = WINDOW_ID.then(36, 16);
const CALLS: Field = EPOCH.then(22, 10);
const WEIGHTS: Field = CALLS.then(22, 10);
const SLOW: Field = WEIGHTS.then(22, 10);

/// Epochs that one clock may be ahead of another. A bucket that seems to be further ahead is an old one: time went on
/// by half a circle.
const FAR: u64 = if HALF == 64 { 1 << 20 } else { 1 << 8 };

impl Cell<'_> {
    /// Adds a result to its bucket. The sums of the window after it; none if the breaker changed meanwhile.
    pub(super) fn count_in_bucket(self, view: &View, sample: Sample, now: u64) -> Option<Tally> {
        loop {
            let epoch = self.latest_epoch(view, now);
            let place = self.bucket(epoch);
            let word = place.load(Ordering::Acquire);
            if !self.is_current(view) {
                return None;
            }
            let is_this_window = word & KEY == key(view);
            let bucket = match ahead(word, epoch) {
                0 if is_this_window => word,
                // Somebody's clock went on meanwhile.
                1..=FAR if is_this_window && cfg!(not(escope_sabotage = "breaker_no_later_clock")) => {
                    continue;
                }
                _ => key(view) | EPOCH.put(epoch),
            };
            let counted = with(bucket, sample);
            // AcqRel: as in the count window, the sums that a verdict is reached by include what it saw.
            let is_done =
                |counted| place.compare_exchange(word, counted, Ordering::AcqRel, Ordering::Acquire).is_ok();
            if counted.is_none_or(is_done) {
                return Some(self.sum(view, epoch));
            }
        }
    }

    /// The sums of the window at `now`; none if something changed meanwhile.
    pub(super) fn bucket_tally(self, view: &View, now: u64) -> Option<Tally> {
        let tally = self.sum(view, self.latest_epoch(view, now));
        self.is_current(view).then_some(tally)
    }

    /// The epoch of `now`, or that of the latest bucket: to a clock that was read earlier it is as late as to the one
    /// that filled it.
    fn latest_epoch(self, view: &View, now: u64) -> u64 {
        let epoch = now / view.settings.period_ns();
        let words = self.buckets().iter().map(|bucket| bucket.load(Ordering::Acquire));
        let of_this_window = words.filter(|word| word & KEY == key(view));
        let ahead = of_this_window.map(|word| ahead(word, epoch)).filter(|ahead| *ahead <= FAR);
        epoch + ahead.max().unwrap_or(0)
    }

    fn sum(self, view: &View, epoch: u64) -> Tally {
        let counted = (0..=view.settings.size()).filter_map(|back| {
            let epoch = epoch.checked_sub(back)?;
            let word = self.bucket(epoch).load(Ordering::Acquire);
            (word & KEY == key(view) && ahead(word, epoch) == 0).then_some(word)
        });
        counted.fold(Tally::default(), |sum, word| Tally {
            calls: sum.calls + CALLS.get(word),
            failures: sum.failures + WEIGHTS.get(word),
            slow: sum.slow + SLOW.get(word),
        })
    }

    fn bucket(&self, epoch: u64) -> &AtomicWide {
        let buckets = self.buckets();
        &buckets[epoch as usize & (buckets.len() - 1)]
    }

    fn buckets(&self) -> &[AtomicWide] {
        &self.window[1..]
    }
}

const KEY: Wide = OWNER.put(u64::MAX) | WINDOW_ID.put(u64::MAX);

fn key(view: &View) -> Wide {
    OWNER.put(view.control.generation().into()) | WINDOW_ID.put(view.settings.window_id())
}

/// How far the bucket's epoch lies ahead of `epoch`, on the circle of epochs.
fn ahead(word: Wide, epoch: u64) -> u64 {
    EPOCH.get(word).wrapping_sub(epoch) & EPOCH.max()
}

/// The bucket with one more result; none if it is full, to results of any weight, so that its rate stays true.
fn with(bucket: Wide, sample: Sample) -> Option<Wide> {
    let calls = CALLS.get(bucket) + 1;
    let weights = WEIGHTS.get(bucket) + sample.weight;
    let slow = SLOW.get(bucket) + u64::from(sample.slow);
    let fits = calls <= CALLS.max() && WEIGHTS.get(bucket) + u64::from(MAX_WEIGHT) <= WEIGHTS.max();
    fits.then(|| SLOW.set(WEIGHTS.set(CALLS.set(bucket, calls), weights), slow))
}

#[cfg(all(test, not(escope_model)))]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_counts_until_the_heaviest_result_might_not_fit() {
        let heaviest = u64::from(MAX_WEIGHT);
        let light = Sample { weight: 1, slow: true };
        let counted = with(WEIGHTS.put(WEIGHTS.max() - heaviest), light).expect("15 more fit");
        assert_eq!(WEIGHTS.get(counted), WEIGHTS.max() - heaviest + 1);
        assert_eq!((CALLS.get(counted), SLOW.get(counted)), (1, 1));
        assert_eq!(with(counted, light), None);
        assert!(with(CALLS.put(CALLS.max() - 1), light).is_some());
        assert_eq!(with(CALLS.put(CALLS.max()), light), None);
    }
}
