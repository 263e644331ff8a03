//! What becomes of a balance when the rule of a named limit changes. Pure.
//!
//! The strategies are those of bucket4j's `replaceConfiguration`. The balance, not the stored instant, is converted: what
//! is available at the instant of the change, in ticks of the new rule, rounded down, so that a change never makes a
//! token. A key that owed nothing then owes nothing afterwards, under every strategy: it cannot be told from a key
//! that was never seen.

use super::gcra::Ticks;

/// How the tokens that a key has left are carried over to another rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Strategy {
    /// As many tokens as before, at most the new burst.
    #[default]
    AsIs = 0,
    /// The same share of the burst.
    Proportional = 1,
    /// As many as before, and what the burst has grown by.
    Additive = 2,
    /// A full bucket.
    Reset = 3,
}

impl Strategy {
    /// The strategy with this number.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::AsIs),
            1 => Some(Self::Proportional),
            2 => Some(Self::Additive),
            3 => Some(Self::Reset),
            _ => None,
        }
    }
}

/// The instant of a key in ticks of `new`, which was `tat` in ticks of `old` when the rule changed at `changed_ns`.
pub(super) fn converted_tat(old: &Ticks, new: &Ticks, strategy: Strategy, tat: u64, changed_ns: u64) -> u64 {
    let debt = i128::from(old.debt(tat, changed_ns));
    let new_full = new.full as i128;
    let left = if debt == 0 {
        new_full
    } else {
        let scaled = floor_mul_div(old.full as i128 - debt, new.w.get(), old.w.get());
        let carried = match strategy {
            Strategy::AsIs => scaled,
            Strategy::Proportional if old.burst == 0 => 0,
            Strategy::Proportional => floor_mul_div(scaled, new.burst, old.burst),
            Strategy::Additive => {
                scaled.min(new_full)
                    + i128::from(new.burst.saturating_sub(old.burst)) * i128::from(new.w.get())
            }
            Strategy::Reset => new_full,
        };
        carried.min(new_full)
    };
    let owed = u64::try_from(new_full - left).unwrap_or(u64::MAX);
    new.instant::<u64>(changed_ns).saturating_add(owed)
}

/// `value * by / per`, rounded down. The ranges of a limit's rules keep every product that matters below 2^127; a debt
/// that would go beyond stays at the end of the range.
fn floor_mul_div(value: i128, by: u64, per: u64) -> i128 {
    value.saturating_mul(i128::from(by)).div_euclid(i128::from(per))
}
