//! The right to make one call, and what may be said about how it went.

/// Slot number of a permit that is no probe.
pub(super) const NO_SLOT: u32 = u32::MAX;
/// Start of a call that is not measured.
pub(super) const UNMEASURED: u64 = u64::MAX;

/// The right to make one guarded call, to be given back with [`Breaker::record`](super::Breaker::record).
///
/// A permit is moved when it is recorded, so safe code records it once. Dropping one without a record costs a
/// closed breaker nothing; what becomes of a probe that is dropped the configuration says when its lease ends.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is never recorded tells the breaker nothing"]
pub struct Permit {
    pub(super) generation: u32,
    pub(super) slot: u32,
    pub(super) epoch: u32,
    pub(super) started_ns: u64,
}

/// A permit's fields, for an edge that keeps it in foreign memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct RawPermit {
    /// When the call began, or `u64::MAX` if it is not measured.
    pub started_ns: u64,
    /// Generation of the breaker that granted it.
    pub generation: u32,
    /// Probe slot, or `u32::MAX` if it is no probe.
    pub slot: u32,
    /// Epoch of that slot.
    pub epoch: u32,
}

impl Permit {
    #[inline]
    pub(super) fn closed(generation: u32) -> Self {
        Self { generation, slot: NO_SLOT, epoch: 0, started_ns: UNMEASURED }
    }

    /// Whether this call decides if the breaker closes.
    #[inline]
    pub fn is_probe(&self) -> bool {
        self.slot != NO_SLOT
    }

    /// The fields, for an edge that stores them.
    #[inline]
    pub fn into_raw(self) -> RawPermit {
        let Self { generation, slot, epoch, started_ns } = self;
        RawPermit { started_ns, generation, slot, epoch }
    }

    /// The permit again. A probe is guarded by its slot against a second record; an edge that copies a permit of
    /// a closed breaker must guard it itself. Made-up fields are answered like an old permit, or as not found.
    #[inline]
    pub fn from_raw(raw: RawPermit) -> Self {
        let RawPermit { started_ns, generation, slot, epoch } = raw;
        Self { generation, slot, epoch, started_ns }
    }
}

impl RawPermit {
    /// A permit of a closed breaker whose call is not measured.
    #[inline]
    pub const fn unmeasured(generation: u32) -> Self {
        Self { started_ns: UNMEASURED, generation, slot: NO_SLOT, epoch: 0 }
    }

    /// A permit of a closed breaker whose call began at `started_ns`.
    #[inline]
    pub const fn measured(generation: u32, started_ns: u64) -> Self {
        Self { started_ns, generation, slot: NO_SLOT, epoch: 0 }
    }
}

/// How a guarded call went, as its caller saw it. What counts as a failure is the caller's to say, what follows
/// from it the breaker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// It worked.
    Success = 0,
    /// It failed.
    Failure = 1,
    /// It says nothing about the guarded service: not counted, and a probe's slot becomes free again.
    Ignored = 2,
    /// It worked, but took too long. A success that the breaker itself has measured as slow becomes this.
    Slow = 3,
    /// It was given up before it could tell anything: like ignored, and counted apart.
    Cancelled = 4,
}

/// What a record did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordVerdict {
    /// The result counts.
    Applied,
    /// The permit belongs to an earlier generation; nothing was changed. A probe's result may have been counted all the
    /// same, if its caller slept while the round ended and a later one handed its slot on.
    Stale,
    /// The probe's lease had run out; what follows from that was counted already.
    Expired,
    /// The probe was recorded before.
    AlreadyDone,
    /// No such probe was ever granted.
    NotFound,
}

/// Why a call was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// The breaker is open.
    Open,
    /// The breaker is half-open and all its probes are taken.
    HalfOpenFull,
    /// Somebody has forced the breaker open.
    ForcedOpen,
    /// The breaker is closed, but degraded or ramping up, and admits a share of the calls.
    Degraded,
    /// The call was chosen to fail: see [`Breaker::inject_faults`](super::Breaker::inject_faults).
    #[cfg(feature = "fault-injection")]
    FaultInjected,
}

/// [`Rejection::retry_after_ns`] of a degraded breaker. The very next call may be admitted, so no time says when: it
/// is the coarsest unit in which a language tells it, a millisecond, and so the same in all.
pub const DEGRADED_RETRY_NS: u64 = 1_000_000;

/// A rejection and when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub reason: RejectReason,
    /// Nanoseconds until a call may be admitted again: at least 1, and `u64::MAX` if only somebody in charge can
    /// change that.
    pub retry_after_ns: u64,
}

impl Rejection {
    pub(super) fn new(reason: RejectReason, retry_after_ns: u64) -> Self {
        Self { reason, retry_after_ns }
    }
}
