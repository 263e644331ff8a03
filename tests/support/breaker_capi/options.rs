//! Options that a program spells, and what they mean.

use super::{MOST_BYTES, MS, OPTION_BYTES, Room, Script};
use elixirscope::breaker::{BreakerConfig, Policy, Weights, Window};
use elixirscope::capi::breaker::options::escope_breaker_options;
use elixirscope::capi::options::Growing;

/// Options in a caller's memory, with the size it states.
pub(super) struct Options {
    pub(super) block: Room,
    pub(super) values: escope_breaker_options,
    /// The last byte that any size covers.
    pub(super) tail: u8,
}

impl Options {
    /// What they mean, unless they must be refused.
    pub(super) fn config(&self) -> Option<BreakerConfig> {
        let size = self.values.struct_size;
        let sized = (escope_breaker_options::FIRST_SIZE..=MOST_BYTES).contains(&size)
            && (self.tail == 0 || size < MOST_BYTES);
        meaning(&self.values).filter(|config| sized && config.validate().is_ok())
    }
}

pub(super) fn meaning(options: &escope_breaker_options) -> Option<BreakerConfig> {
    let window = match options.policy {
        2 => Window::Count { size: options.window_size },
        _ => Window::Time { period_ns: options.period_ns, buckets: options.buckets },
    };
    let policy = match options.policy {
        0 => Policy::ConsecutiveFailures { failure_threshold: options.failure_threshold },
        1 => Policy::FailuresInPeriod {
            tolerated_failures: options.tolerated_failures,
            period_ns: options.period_ns,
        },
        2 | 3 => Policy::Rate {
            window,
            min_calls: options.min_calls,
            failure_rate_bp: options.failure_rate_bp,
            slow_call_rate_bp: options.slow_call_rate_bp,
        },
        _ => return None,
    };
    let switch = |value: u32| (value < 2).then_some(value == 1);
    let weight = |value: u32| u8::try_from(value).ok();
    Some(BreakerConfig {
        policy,
        weights: Weights {
            success: weight(options.weight_success)?,
            failure: weight(options.weight_failure)?,
            slow: weight(options.weight_slow)?,
            ignored: weight(options.weight_ignored)?,
            cancelled: weight(options.weight_cancelled)?,
        },
        slow_call_ns: options.slow_call_ns,
        open_for_ns: options.open_for_ns,
        backoff_percent: options.backoff_percent,
        max_open_ns: options.max_open_ns,
        jitter_bp: options.jitter_bp,
        seed: options.seed,
        skip_half_open: switch(options.skip_half_open)?,
        half_open_permits: options.half_open_permits,
        successes_to_close: options.successes_to_close,
        probe_lease_ns: options.probe_lease_ns,
        release_expired_probes: switch(options.release_expired_probes)?,
        half_open_limit_ns: options.half_open_limit_ns,
        close_at_half_open_limit: switch(options.close_at_half_open_limit)?,
        max_ignored_probes: options.max_ignored_probes,
        ramp_ns: options.ramp_ns,
        ramp_from_bp: options.ramp_from_bp,
        level_bp: [options.level_light_bp, options.level_medium_bp, options.level_heavy_bp],
        admit_bp: match options.strategy {
            0 => [10_000; 4],
            1 => [options.admit_bp, options.admit_light_bp, options.admit_medium_bp, options.admit_heavy_bp],
            _ => return None,
        },
        probe_capacity: options.probe_capacity,
        window_capacity: options.window_capacity,
    })
}

/// The options that the script spells next.
pub(super) fn options(script: &mut Script, unit: u64) -> Options {
    let spelled: [u8; OPTION_BYTES] = script.bytes();
    let mut script = Script(&spelled);
    let (kind, mut size, mut tail) = (script.below(8), size_of::<escope_breaker_options>(), 0);
    let mut values = if kind == 0 { escope_breaker_options::default() } else { soon(&mut script, unit) };
    if kind == 7 {
        (size, tail) = (usize::from(u16::from_le_bytes(script.bytes())), script.byte());
    }
    if kind == 6 {
        any(&mut script, &mut values);
    }
    values.struct_size = size;
    let mut block = Room::stating(size, 0);
    // SAFETY: the block is larger than the struct and aligned for it.
    unsafe { block.pointer::<escope_breaker_options>().write(values) };
    block.0[MOST_BYTES - 1] = tail;
    Options { block, values, tail }
}

/// Small numbers, by which everything happens soon, for what two bytes of switches choose.
pub(super) fn soon(script: &mut Script, unit: u64) -> escope_breaker_options {
    let default = escope_breaker_options::default();
    let chosen = u16::from_le_bytes(script.bytes());
    let chosen = |bit: u32| chosen & 1 << bit != 0;
    let time = |script: &mut Script| u64::from(script.byte() % 64) * unit;
    let (buckets, half_open_permits, window_size) =
        (1 + script.small(6), 1 + script.small(4), 1 + script.small(8));
    let policy = script.small(4) as i32;
    let open_for_ns = time(script);
    let mut options = escope_breaker_options {
        policy,
        period_ns: match policy {
            3 => (u64::from(buckets) + u64::from(script.byte() % 64)) * MS,
            _ => unit + time(script),
        },
        failure_threshold: 1 + script.small(5),
        tolerated_failures: script.small(5),
        window_size,
        buckets,
        min_calls: 1 + script.small(window_size as u8),
        failure_rate_bp: script.one_of(&[1, 3_333, 5_000, 10_000]),
        slow_call_rate_bp: script.one_of(&[1, 5_000, 10_000]),
        open_for_ns,
        probe_lease_ns: unit + time(script),
        half_open_permits,
        successes_to_close: 1 + script.small(half_open_permits as u8),
        skip_half_open: u32::from(chosen(0) && chosen(1)),
        release_expired_probes: u32::from(chosen(2) && chosen(3)),
        close_at_half_open_limit: u32::from(chosen(4)),
        // A reconfiguration may ask for any other of these.
        window_capacity: if chosen(5) { 0 } else { 8 },
        probe_capacity: if chosen(6) { half_open_permits } else { 0 },
        ..default
    };
    if chosen(7) {
        options.slow_call_ns = time(script) / 4;
    }
    if chosen(8) {
        options.backoff_percent = script.one_of(&[120, 200, 10_000]);
        options.max_open_ns = open_for_ns * u64::from(script.byte() % 8);
        options.jitter_bp = script.one_of(&[0, 1, 2_500, 9_999]);
        options.seed = script.byte().into();
    }
    if chosen(9) {
        options.half_open_limit_ns = time(script);
    }
    if chosen(10) {
        options.max_ignored_probes = 1 + script.small(2);
    }
    if chosen(11) {
        (options.ramp_ns, options.ramp_from_bp) = (time(script), script.one_of(&[1, 1_000, 6_667, 10_000]));
    }
    if chosen(12) {
        options.strategy = 1;
    }
    if chosen(12) && chosen(13) {
        let shares = [0, 1, 3_333, 9_000, 10_000];
        let share = |script: &mut Script| script.one_of(&shares);
        (options.admit_bp, options.admit_light_bp) = (share(script), share(script));
        (options.admit_medium_bp, options.admit_heavy_bp) = (share(script), share(script));
    }
    if chosen(14) {
        [options.level_light_bp, options.level_medium_bp, options.level_heavy_bp] =
            script.one_of(&[[1, 5_000, 10_000], [2_500, 2_500, 5_000], [10_000; 3]]);
    }
    if chosen(15) {
        (options.weight_success, options.weight_failure) = (script.small(8) / 7, 1 + script.small(15));
        (options.weight_slow, options.weight_ignored) = (script.small(4), script.small(8) / 6);
        options.weight_cancelled = script.small(8) / 6;
    }
    options
}

/// Any numbers in some fields, also such as are out of range.
pub(super) fn any(script: &mut Script, options: &mut escope_breaker_options) {
    for _ in 0..script.below(4) {
        let (field, shift) = (script.below(64), script.below(64));
        let number = u64::from_le_bytes(script.bytes()) >> shift;
        let times = [
            &mut options.period_ns,
            &mut options.slow_call_ns,
            &mut options.open_for_ns,
            &mut options.max_open_ns,
            &mut options.seed,
            &mut options.probe_lease_ns,
            &mut options.half_open_limit_ns,
            &mut options.ramp_ns,
        ];
        let signed = [&mut options.policy, &mut options.strategy];
        let others = [
            &mut options.failure_threshold,
            &mut options.tolerated_failures,
            &mut options.window_size,
            &mut options.buckets,
            &mut options.min_calls,
            &mut options.failure_rate_bp,
            &mut options.slow_call_rate_bp,
            &mut options.weight_success,
            &mut options.weight_failure,
            &mut options.weight_slow,
            &mut options.weight_ignored,
            &mut options.weight_cancelled,
            &mut options.backoff_percent,
            &mut options.jitter_bp,
            &mut options.skip_half_open,
            &mut options.half_open_permits,
            &mut options.successes_to_close,
            &mut options.release_expired_probes,
            &mut options.close_at_half_open_limit,
            &mut options.max_ignored_probes,
            &mut options.ramp_from_bp,
            &mut options.level_light_bp,
            &mut options.level_medium_bp,
            &mut options.level_heavy_bp,
            &mut options.admit_bp,
            &mut options.admit_light_bp,
            &mut options.admit_medium_bp,
            &mut options.admit_heavy_bp,
            &mut options.probe_capacity,
            &mut options.window_capacity,
        ];
        let (first, second) = (times.len(), times.len() + signed.len());
        match field {
            _ if field < first => *times.into_iter().nth(field).expect("below the length") = number,
            _ if field < second => {
                *signed.into_iter().nth(field - first).expect("below the length") = number as i32;
            }
            _ => {
                let field = (field - second) % others.len();
                *others.into_iter().nth(field).expect("below the length") = number as u32;
            }
        }
    }
}
