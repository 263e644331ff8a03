//! Token-bucket rate limiter: the generic cell rate algorithm in exact integer arithmetic.
//!
//! * [`Rule`] says `tokens` per `period_ns` with a `burst`; [`Bucket`] applies it to one thing,
//!   [`Limiter`] to many keys in a table whose size is fixed when it is made.
//! * `gcra` is the arithmetic, in ticks, so that no rate is ever rounded. It knows no atomics.
//! * `entry` is the layout of a key's 128-bit word, `places` says where a key may live, `choice` where a new
//!   one goes; `table` is the protocol that changes the words, `touch` how a key gets its first, `overflow` the bucket
//!   of those that find no place, and `key` turns bytes into the 56 bits that name a key.
//! * A [`Reservation`] is a debit now or in the future. It leaves a [`Receipt`], by which the cost is refunded, settled or
//!   cancelled. A [`Charge`] is a member of a group that is debited all or nothing.
//! * A [`Limit`] is a rule that many keys share and that may change by a [`Strategy`] while they live.
//! * A snapshot of a [`Limiter`] outlives the process; [`crate::file`] keeps it.
//!
//! # What is promised
//!
//! For all `s <= t`, the cost admitted with times in `[s, t]` is at most
//! `burst + floor(tokens * (t - s) / period)`. With `burst == tokens` a window of one period can therefore see
//! up to twice `tokens`: the burst and the refill. Who means "never more than L in any period" chooses
//! `burst + tokens <= L`.
//!
//! A denial writes nothing, not even under another rule than the key was last checked with. So the debt is not cut
//! to the new rule's full bucket: without a write the cut would start anew at each check and break the retry time that
//! the last one told, and with one a denied call would forgive what the old rule is owed.
//!
//! An older `now` is compared with the stored instant only, so it makes a check
//! stricter and never more generous; nothing remembers the highest `now` of all keys.

// A half of a wide word is `u64` in the product and `u32` in a model: what is useless here is needed there.
#![allow(clippy::useless_conversion)]

mod bucket;
mod change;
mod choice;
mod decision;
mod entry;
mod gcra;
mod group;
mod header_fields;
mod key;
mod keyed;
mod limit;
mod measure;
mod overflow;
mod places;
mod receipt;
mod reserve;
mod rule;
mod snapshot;
mod table;
mod touch;

pub use bucket::Bucket;
pub use change::Strategy;
pub use decision::{Decision, Verdict};
pub use group::{By, Charge, GroupDecision, MAX_GROUP};
pub use header_fields::PolicyName;
pub use key::{Key, KeyHasher};
pub use keyed::{Limiter, LimiterConfig, LimiterStats};
pub use limit::{ChangeError, Limit};
pub use places::Line;
pub use receipt::{Adjusted, RawReceipt, Receipt};
pub use reserve::Reservation;
pub use rule::{KeyedRule, Rule};
pub use snapshot::RestoreError;
pub use table::{FullPolicy, Table};
