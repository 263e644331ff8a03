//! What a check says.

use super::super::boundary::{Failure, Out, invalid};
use super::super::status::escope_status;
use crate::limiter::{Decision, Verdict};
use crate::status::Status;

/// What a check says.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct escope_decision {
    /// The largest cost that would be admitted now, after this check.
    pub remaining: u64,
    /// The rule's burst.
    pub limit: u64,
    /// Time until the same check is admitted if nobody else comes; 0 when admitted, UINT64_MAX for NEVER.
    pub retry_after_ns: u64,
    /// Time until all of the burst is available again.
    pub reset_after_ns: u64,
    /// The verdict: OK, RATE_LIMITED, NEVER or TABLE_FULL.
    pub status: escope_status,
    /// 0.
    pub reserved: u32,
}

impl From<Decision> for escope_decision {
    #[inline]
    fn from(decision: Decision) -> Self {
        Self {
            remaining: decision.remaining,
            limit: decision.limit,
            retry_after_ns: decision.retry_after_ns,
            reset_after_ns: decision.reset_after_ns,
            status: status(decision.verdict) as escope_status,
            reserved: 0,
        }
    }
}

impl escope_decision {
    /// The decision that this one was made from.
    pub(super) fn decision(&self) -> Result<Decision, Failure> {
        const VERDICTS: [Verdict; 4] =
            [Verdict::Allowed, Verdict::Limited, Verdict::Never, Verdict::TableFull];
        let of_number = |verdict: &Verdict| status(*verdict) as escope_status == self.status;
        let Some(verdict) = VERDICTS.into_iter().find(of_number) else {
            let allowed = "0 (OK), 3 (RATE_LIMITED), 4 (NEVER) or 5 (TABLE_FULL)";
            return Err(invalid("decision.status", self.status, allowed));
        };
        Ok(Decision {
            verdict,
            remaining: self.remaining,
            limit: self.limit,
            retry_after_ns: self.retry_after_ns,
            reset_after_ns: self.reset_after_ns,
        })
    }
}

#[inline]
pub(super) const fn status(verdict: Verdict) -> Status {
    match verdict {
        Verdict::Allowed => Status::Ok,
        Verdict::Limited => Status::RateLimited,
        Verdict::Never => Status::Never,
        Verdict::TableFull => Status::TableFull,
    }
}

/// Writes the details where they are wanted, and returns the verdict.
#[inline]
pub(super) fn answer(decision: Decision, out: Option<&Out<escope_decision>>) -> Status {
    if let Some(out) = out {
        out.set(decision.into());
    }
    status(decision.verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_has_the_size_that_programs_were_compiled_with() {
        assert_eq!(size_of::<escope_decision>(), 40);
    }
}
