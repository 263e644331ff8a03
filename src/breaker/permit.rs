//! The right to make one call, and what may be said about how it went.

/// Slot number of a permit that is no probe.
pub(super) const NO_SLOT: u32 = u32::MAX;

/// The right to make one guarded call, to be given back with [`Breaker::record`](super::Breaker::record).
///
/// A permit is moved when it is recorded, so safe code records it once. Dropping one without a record costs a
/// closed breaker nothing; a probe that is dropped counts as failed when its lease ends.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is never recorded tells the breaker nothing"]
pub struct Permit {
    pub(super) generation: u32,
    pub(super) slot: u32,
    pub(super) epoch: u32,
}

/// A permit's fields, for an edge that keeps it in foreign memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct RawPermit {
    /// Generation of the breaker that granted it.
    pub generation: u32,
    /// Probe slot, or `u32::MAX` if it is no probe.
    pub slot: u32,
    /// Epoch of that slot.
    pub epoch: u32,
}

impl Permit {
    pub(super) fn closed(generation: u32) -> Self {
        Self { generation, slot: NO_SLOT, epoch: 0 }
    }

    /// Whether this call decides if the breaker closes.
    #[inline]
    pub fn is_probe(&self) -> bool {
        self.slot != NO_SLOT
    }

    /// The fields, for an edge that stores them.
    #[inline]
    pub fn into_raw(self) -> RawPermit {
        RawPermit { generation: self.generation, slot: self.slot, epoch: self.epoch }
    }

    /// The permit again. A probe is guarded by its slot against a second record; an edge that copies a permit of
    /// a closed breaker must guard it itself. Made-up fields are answered like an old permit.
    #[inline]
    pub fn from_raw(raw: RawPermit) -> Self {
        Self { generation: raw.generation, slot: raw.slot, epoch: raw.epoch }
    }
}

/// How a guarded call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// It worked.
    Success = 0,
    /// It failed.
    Failure = 1,
    /// It says nothing about the guarded service: not counted, and a probe's slot becomes free again.
    Ignored = 2,
}

/// What a record did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordVerdict {
    /// The result counts.
    Applied,
    /// The permit belongs to an earlier generation; nothing was changed.
    Stale,
    /// The probe's lease had run out and it counted as failed already.
    Expired,
    /// The probe was recorded before, or never granted.
    AlreadyDone,
}

/// Why a call was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// The breaker is open.
    Open,
    /// The breaker is half-open and all its probes are taken.
    HalfOpenFull,
}

/// A rejection and when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub reason: RejectReason,
    /// Nanoseconds until a call may be admitted again; at least 1.
    pub retry_after_ns: u64,
}
