//! What a call is measured by: a rule that came with it, or a limit with a name, whose rule may change.

use super::entry::Entry;
use super::rule::{KeyedRule, Rule};

/// A rule, and how an entry is read under it.
pub(super) trait Measure: Copy {
    fn rule(&self) -> &Rule;

    /// The entry's instant in ticks of the rule.
    fn tat(&self, entry: Entry, now: u64) -> u64;

    /// What an entry that is written is marked with.
    fn generation(&self) -> u8;
}

impl Measure for &KeyedRule {
    #[inline]
    fn rule(&self) -> &Rule {
        self.effective()
    }

    #[inline]
    fn tat(&self, entry: Entry, _now: u64) -> u64 {
        entry.tat(self.effective().ticks().n.get())
    }

    #[inline]
    fn generation(&self) -> u8 {
        0
    }
}
