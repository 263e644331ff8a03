//! Circuit breaker: a call is admitted or rejected by what recent calls came to.
//!
//! The state machine is Nygard's (*Release It!*, 2007): closed until what its policy tolerates is used up, then open
//! for a time, then half-open, where single-use probes decide. Two things are stricter here than in most
//! libraries: a probe is a *lease*, so a caller that never reports cannot wedge the breaker, and every permit
//! carries the *generation* that granted it, so a late result of an earlier state decides nothing.
//!
//! * [`control`] is the packed word that decides, [`settings`] the configuration it names;
//! * [`cell`] is the memory and the two calls on the hot path; [`closed`] counts results, [`round`] is half-open,
//!   [`admin`] what somebody in charge may do;
//! * a policy that looks back has its own file: [`period`], [`count_window`] and [`time_window`], judged by [`rate`];
//! * [`level`] is gradual degradation, [`ramp`] the slow start after closing, [`backoff`] the open time;
//! * [`Breaker`] is the process-local handle: a cell on the heap, and counters beside it.
//!
//! Invariants: at most `half_open_permits` probes of a generation are live or decided; exactly one call returns
//! each [`Event`]; a success that changes nothing writes nothing; a closed breaker whose policy does not look at time
//! reads no clock but to open.

mod admin;
mod backoff;
mod cell;
mod closed;
mod config;
mod control;
mod count_window;
mod event;
#[cfg(feature = "fault-injection")]
mod faults;
mod field;
mod handle;
mod level;
mod period;
mod permit;
mod probe;
mod ramp;
mod rate;
mod round;
mod settings;
mod snapshot;
mod time_window;

pub use cell::{Cell, Head};
pub use config::{
    BreakerConfig, GRADUAL_ADMIT_BP, MAX_BUCKETS, MAX_DURATION_NS, MAX_IGNORED, MAX_WEIGHT, MAX_WINDOW,
    MIN_BUCKET_NS, Policy, WHOLE_BP, Weights, Window,
};
pub use control::{Mode, Phase};
pub use event::{Cause, Event, Events};
#[cfg(feature = "fault-injection")]
pub use faults::Faults;
pub use handle::{Acquired, Asked, Breaker, Recorded};
pub use level::Level;
pub use permit::{DEGRADED_RETRY_NS, Outcome, Permit, RawPermit, RecordVerdict, RejectReason, Rejection};
pub use snapshot::{Counts, Snapshot};
