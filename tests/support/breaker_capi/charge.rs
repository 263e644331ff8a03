//! The calls of whoever is in charge, the time, and arguments that must be refused.

use super::answers::{is_in_time, statistics};
use super::memory::{Events, Handle, Memory};
use super::options::options;
use super::{FAR_NS, MODES, MOST_BYTES, MOST_CONFIGURATIONS, Room, Run, UNTOUCHED, filled, known};
use elixirscope::breaker::BreakerConfig;
use elixirscope::capi::breaker::admin::*;
use elixirscope::capi::breaker::calls::*;
use elixirscope::capi::breaker::options::*;
use elixirscope::capi::breaker::stats::*;
use elixirscope::capi::breaker::{
    escope_breaker, escope_breaker_free, escope_breaker_new, escope_breaker_ref,
};
use elixirscope::status::Status;
use std::ptr::{null, null_mut};

impl Run<'_> {
    pub(super) fn settle(&mut self) {
        let mut events = Events::new(self.script.byte() & 1 == 0);
        let model_events = self.model.settled(self.now);
        // SAFETY: the handle is live, the place is this function's own or NULL.
        let status = unsafe { escope_breaker_settle_at(self.breaker.0, events.pointer(), self.now) };
        self.see("settle", status, &model_events);
        assert_eq!(status, Status::Ok as i32);
        events.compare(&model_events);
    }

    pub(super) fn reset(&mut self) {
        let mut events = Events::new(self.script.byte() & 1 == 0);
        let model_events = self.model.reset(self.now);
        // SAFETY: the handle is live, the place is this function's own or NULL.
        let status = unsafe { escope_breaker_reset_at(self.breaker.0, events.pointer(), self.now) };
        self.see("reset", status, &model_events);
        assert_eq!(status, Status::Ok as i32);
        events.compare(&model_events);
    }

    pub(super) fn set_mode(&mut self) {
        let mode = self.number(MODES.len());
        let mut events = Events::new(self.script.byte() & 1 == 0);
        // SAFETY: the handle is live, the place is this function's own or NULL.
        let status = unsafe { escope_breaker_set_mode_at(self.breaker.0, mode, events.pointer(), self.now) };
        let Some(known) = known(&MODES, mode) else {
            self.see("set_mode", status, &[]);
            assert_eq!(status, Status::InvalidArgument as i32);
            return events.untouched();
        };
        let model_events = self.model.set_mode(known, self.now);
        self.see("set_mode", status, &model_events);
        assert_eq!(status, Status::Ok as i32);
        events.compare(&model_events);
    }

    /// Other options, which keep the state or begin anew.
    pub(super) fn configure(&mut self, anew: bool) {
        let mut events = Events::new(self.script.byte() & 1 == 0);
        let mut options = options(&mut self.script, self.unit);
        let config = options.config().filter(|config| self.fits(config));
        let is_far = self.now > FAR_NS && config.is_some_and(|config| is_in_time(&config));
        if is_far || self.configurations == MOST_CONFIGURATIONS {
            return;
        }
        self.configurations += 1;
        let operation = if anew { "reinstall" } else { "reconfigure" };
        let call = if anew { escope_breaker_reinstall_at } else { escope_breaker_reconfigure_at };
        // SAFETY: the handle is live, the options and the events are this function's own or NULL.
        let status = unsafe { call(self.breaker.0, options.block.pointer(), events.pointer(), self.now) };
        let Some(config) = config else {
            self.see(operation, status, &[]);
            assert_eq!(status, Status::InvalidArgument as i32, "{:?}", options.values);
            return events.untouched();
        };
        self.released |= config.release_expired_probes;
        let model_events = match anew {
            false => self.model.reconfigure(config, self.now),
            true => self.model.reinstall(config, self.now),
        };
        self.see(operation, status, &model_events);
        assert_eq!(status, Status::Ok as i32, "{:?}", options.values);
        events.compare(&model_events);
    }

    /// Whether the memory of the creation suffices. A window's is as long as a power of two.
    pub(super) fn fits(&self, config: &BreakerConfig) -> bool {
        let needed = BreakerConfig { window_capacity: 0, ..*config }.window_places();
        config.half_open_permits as usize <= self.created.probe_places()
            && needed <= self.created.window_places()
    }

    pub(super) fn advance(&mut self) {
        let by = u64::from(self.script.byte() % 64) * self.unit;
        self.move_to(self.now.saturating_add(by));
    }

    /// Any later time, where the breaker can tell it from all others.
    pub(super) fn set_time(&mut self) {
        let time = match self.script.below(3) {
            0 => {
                let by = u64::from(self.script.byte()) << self.script.below(56);
                self.now.saturating_add(by)
            }
            1 => self.script.u64(),
            _ => u64::MAX - u64::from(self.script.byte()),
        };
        if time <= FAR_NS || !is_in_time(&self.model.config) {
            self.move_to(time);
        }
    }

    /// The model is told no time that falls, and takes the last of all for the end of rounds without a limit.
    pub(super) fn move_to(&mut self, time: u64) {
        self.now = self.now.max(time.min(u64::MAX - 1));
    }

    /// NULL and misaligned pointers where something must be, each alone.
    pub(super) fn refuse_pointers(&mut self) {
        let breaker = self.breaker.0;
        let mut permit = Memory::BLANK.with_state(self.live);
        let before = permit;
        let nothing: *mut escope_breaker = null_mut();
        let odd = breaker.wrapping_byte_add(1);
        let (mut events, mut options) = (Events::new(true), Room::stating(MOST_BYTES, 0));
        // SAFETY: every call has a pointer that the library refuses without reading it; the others are valid.
        let statuses = unsafe {
            let (p, e) = (permit.pointer(), events.pointer());
            let o: *mut escope_breaker_options = options.pointer();
            let (odd_p, odd_e, odd_o) =
                (p.wrapping_byte_add(1), e.wrapping_byte_add(1), o.wrapping_byte_add(1));
            [
                escope_breaker_acquire_at(nothing, p, null_mut(), e, self.now),
                escope_breaker_acquire_at(odd, p, null_mut(), e, self.now),
                escope_breaker_acquire_at(breaker, null_mut(), null_mut(), e, self.now),
                escope_breaker_acquire_at(breaker, odd_p, null_mut(), e, self.now),
                escope_breaker_acquire_at(breaker, p, std::ptr::without_provenance_mut(4), e, self.now),
                escope_breaker_acquire_at(breaker, p, null_mut(), odd_e, self.now),
                escope_breaker_record_at(nothing, p, 0, e, self.now),
                escope_breaker_record_at(breaker, null_mut(), 0, e, self.now),
                escope_breaker_record_at(breaker, odd_p, 0, e, self.now),
                escope_breaker_record_at(breaker, p, 0, odd_e, self.now),
                escope_breaker_ask_at(nothing, null_mut(), e, self.now),
                escope_breaker_ask_at(breaker, std::ptr::without_provenance_mut(4), e, self.now),
                escope_breaker_ask_at(breaker, null_mut(), odd_e, self.now),
                escope_breaker_report_at(nothing, 0, e, self.now),
                escope_breaker_report_at(breaker, 0, odd_e, self.now),
                escope_breaker_settle_at(nothing, e, self.now),
                escope_breaker_settle_at(breaker, odd_e, self.now),
                escope_breaker_reset_at(nothing, e, self.now),
                escope_breaker_reset_at(breaker, odd_e, self.now),
                escope_breaker_set_mode_at(nothing, 0, e, self.now),
                escope_breaker_set_mode_at(breaker, 0, odd_e, self.now),
                escope_breaker_reconfigure_at(nothing, o, e, self.now),
                escope_breaker_reconfigure_at(breaker, null(), e, self.now),
                escope_breaker_reconfigure_at(breaker, odd_o, e, self.now),
                escope_breaker_reconfigure_at(breaker, o, odd_e, self.now),
                escope_breaker_reinstall_at(nothing, o, e, self.now),
                escope_breaker_reinstall_at(breaker, null(), e, self.now),
                escope_breaker_reinstall_at(breaker, odd_o, e, self.now),
                escope_breaker_reinstall_at(breaker, o, odd_e, self.now),
                escope_breaker_snapshot_at(breaker, null_mut(), self.now),
                escope_breaker_new(null_mut(), null_mut()),
                escope_breaker_options_init(null_mut(), MOST_BYTES),
                escope_breaker_stats_init(null_mut(), MOST_BYTES),
            ]
        };
        assert_eq!(statuses, [Status::InvalidArgument as i32; 33]);
        assert_eq!(permit, before);
        events.untouched();
    }

    /// A second reference, given back: nothing changes.
    pub(super) fn share(&mut self) {
        // SAFETY: the handle is live, and each reference is given back once.
        unsafe {
            drop(Handle(escope_breaker_ref(self.breaker.0)));
            assert!(escope_breaker_ref(null_mut()).is_null());
            escope_breaker_free(null_mut());
        }
    }

    /// A caller's structs of a stated size: refused, or filled exactly so far.
    pub(super) fn structs(&mut self) {
        let size = usize::from(u16::from_le_bytes(self.script.bytes()));
        let (mut options, mut stats) = (Room::stating(size, UNTOUCHED), Room::stating(size, UNTOUCHED));
        // SAFETY: the handle is live, and each block has room for every size that the library takes.
        let statuses = unsafe {
            [
                escope_breaker_options_init(options.pointer(), size),
                escope_breaker_stats_init(stats.pointer(), size),
            ]
        };
        self.seen.extend([("options_init", statuses[0]), ("stats_init", statuses[1])]);
        filled::<escope_breaker_options>(&options.0, size, statuses[0]);
        filled::<escope_breaker_stats>(&stats.0, size, statuses[1]);
        let mut stats = Room::stating(size, UNTOUCHED);
        // SAFETY: as above.
        let status = unsafe { escope_breaker_snapshot_at(self.breaker.0, stats.pointer(), self.now) };
        self.seen.insert(("snapshot", status));
        filled::<escope_breaker_stats>(&stats.0, size, status);
    }

    pub(super) fn compare_statistics(&mut self) {
        let mut stats =
            escope_breaker_stats { struct_size: size_of::<escope_breaker_stats>(), ..Default::default() };
        // SAFETY: the handle is live, the place is this function's own.
        let status = unsafe { escope_breaker_snapshot_at(self.breaker.0, &mut stats, self.now) };
        assert_eq!(status, Status::Ok as i32);
        let expected = statistics(&self.model.snapshot(self.now));
        // SAFETY: the structs hold integers and no padding.
        let [got, wanted] = [stats, expected].map(|stats| unsafe {
            std::mem::transmute::<escope_breaker_stats, [u8; size_of::<escope_breaker_stats>()]>(stats)
        });
        assert!(got == wanted, "{stats:#?} but {expected:#?}");
    }
}
