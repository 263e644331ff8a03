//! When to end a wait before its deadline: CoDel (Nichols, Jacobson 2012; RFC 8289) on the time that the head of the
//! queue has waited.
//!
//! While somebody at the head has waited no longer than the target, all is well. When the head has been above the target
//! for a whole interval, it is shed, and from then on one more each interval / √n, until a head is below the
//! target again. The head is looked at when a slot is to be granted and by `maintain`, which is told when to come, so a pool
//! to which nothing is returned sheds as well. Only heads above the target are shed.

#[derive(Debug)]
pub(super) struct Codel {
    target_ns: u64,
    interval_ns: u64,
    /// When the head is shed if it is above the target until then.
    shed_at_ns: Option<u64>,
    shed: u64,
}

impl Codel {
    /// An interval of 0 sheds nobody.
    pub(super) fn new(target_ns: u64, interval_ns: u64) -> Self {
        Self { target_ns, interval_ns, shed_at_ns: None, shed: 0 }
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.interval_ns > 0
    }

    /// Whether to shed the head, which waits since `since_ns`; `None` for an empty queue. Ask again after a yes.
    pub(super) fn sheds(&mut self, since_ns: Option<u64>, now_ns: u64) -> bool {
        let above_at = since_ns.map(|since_ns| since_ns.saturating_add(self.target_ns));
        let Some(above_at) = above_at.filter(|&above_at| self.is_on() && now_ns > above_at) else {
            self.shed_at_ns = None;
            self.shed = 0;
            return false;
        };
        // Nothing was granted since the head came to be above, or this would have been asked then.
        let shed_at_ns = *self.shed_at_ns.get_or_insert(above_at.saturating_add(self.interval_ns));
        if now_ns < shed_at_ns {
            return false;
        }
        self.shed += 1;
        self.shed_at_ns = Some(shed_at_ns.saturating_add(self.pause()));
        true
    }

    /// When the head, which waits since `since_ns`, has to be looked at.
    pub(super) fn due(&self, since_ns: u64) -> u64 {
        let above_at = since_ns.saturating_add(self.target_ns);
        // Not before the head itself is above the target.
        let shed_at_ns = self.shed_at_ns.unwrap_or(above_at.saturating_add(self.interval_ns));
        shed_at_ns.max(above_at.saturating_add(1))
    }

    /// interval / √n for the n-th in a row.
    fn pause(&self) -> u64 {
        let interval = u128::from(self.interval_ns);
        let pause = (interval * interval / u128::from(self.shed)).isqrt();
        u64::try_from(pause).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p25_nobody_is_shed_below_the_target() {
        let mut codel = Codel::new(10, 100);
        for now in 0..10_000 {
            assert!(!codel.sheds(Some(now - now.min(10)), now));
        }
    }

    #[test]
    fn p25_a_head_above_the_target_for_an_interval_is_shed_and_then_more_and_more_often() {
        let mut codel = Codel::new(10, 100);
        assert_eq!(codel.due(0), 110);
        let shed: Vec<u64> = (0..400).filter(|&now| codel.sheds(Some(0), now)).collect();
        assert_eq!(shed, [110, 210, 280, 337, 387], "100 / √n apart");
    }

    #[test]
    fn p25_one_head_below_the_target_ends_the_episode() {
        let mut codel = Codel::new(10, 100);
        assert!(codel.sheds(Some(0), 110));
        assert!(!codel.sheds(Some(105), 111));
        assert!(!codel.sheds(Some(105), 214));
        assert!(codel.sheds(Some(105), 215));
        assert!(!codel.sheds(None, 216));
        assert_eq!(codel.due(216), 326);
    }

    #[test]
    fn p25_without_an_interval_nobody_is_shed() {
        assert!(!Codel::new(0, 0).sheds(Some(0), u64::MAX));
    }
}
