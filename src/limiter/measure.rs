//! What a call is measured by: a rule that came with it, or a limit with a name, whose rule may change.

use super::entry::Entry;
use super::rule::{KeyedRule, Rule};

/// A rule, and how an entry is read under it.
pub(super) trait Measure: Copy {
    fn rule(&self) -> &Rule;

    /// The entry's instant in ticks of the rule. None if a later rule of the same limit wrote it: then the call takes the
    /// rule of now, or it would undo the change for this key.
    fn tat(&self, entry: Entry) -> Option<u64>;

    /// What an entry that is written is marked with.
    fn mark(&self) -> u8;

    /// The same, as of now.
    fn refreshed(self) -> Self;
}

impl Measure for &KeyedRule {
    #[inline]
    fn rule(&self) -> &Rule {
        self.effective()
    }

    #[inline]
    fn tat(&self, entry: Entry) -> Option<u64> {
        Some(entry.tat(self.effective().ticks().n.get()))
    }

    #[inline]
    fn mark(&self) -> u8 {
        0
    }

    fn refreshed(self) -> Self {
        self
    }
}
