"""The breaker's part of the C ABI."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_char_p, c_int32, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from typing import Final

from ._handle import Handle, Prototype


class BreakerOptions(Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("period_ns", c_uint64),
        ("slow_call_ns", c_uint64),
        ("open_for_ns", c_uint64),
        ("max_open_ns", c_uint64),
        ("seed", c_uint64),
        ("probe_lease_ns", c_uint64),
        ("half_open_limit_ns", c_uint64),
        ("ramp_ns", c_uint64),
        ("policy", c_int32),
        ("strategy", c_int32),
        ("failure_threshold", c_uint32),
        ("tolerated_failures", c_uint32),
        ("window_size", c_uint32),
        ("buckets", c_uint32),
        ("min_calls", c_uint32),
        ("failure_rate_bp", c_uint32),
        ("slow_call_rate_bp", c_uint32),
        ("weight_success", c_uint32),
        ("weight_failure", c_uint32),
        ("weight_slow", c_uint32),
        ("weight_ignored", c_uint32),
        ("weight_cancelled", c_uint32),
        ("backoff_percent", c_uint32),
        ("jitter_bp", c_uint32),
        ("skip_half_open", c_uint32),
        ("half_open_permits", c_uint32),
        ("successes_to_close", c_uint32),
        ("release_expired_probes", c_uint32),
        ("close_at_half_open_limit", c_uint32),
        ("max_ignored_probes", c_uint32),
        ("ramp_from_bp", c_uint32),
        ("level_light_bp", c_uint32),
        ("level_medium_bp", c_uint32),
        ("level_heavy_bp", c_uint32),
        ("admit_bp", c_uint32),
        ("admit_light_bp", c_uint32),
        ("admit_medium_bp", c_uint32),
        ("admit_heavy_bp", c_uint32),
        ("probe_capacity", c_uint32),
        ("window_capacity", c_uint32),
    )


class Permit(Structure):
    _fields_ = (
        ("private_breaker", c_uint64),
        ("private_started_ns", c_uint64),
        ("private_generation", c_uint32),
        ("private_slot", c_uint32),
        ("private_epoch", c_uint32),
        ("private_state", c_uint32),
    )


class Event(Structure):
    _fields_ = (
        ("at_ns", c_uint64),
        ("sequence", c_uint32),
        ("generation", c_uint32),
        ("from", c_int32),
        ("to", c_int32),
        ("cause", c_int32),
        ("from_level", c_uint8),
        ("to_level", c_uint8),
        ("mode", c_uint8),
        ("reserved", c_uint8),
    )


class Events(Structure):
    _fields_ = (
        ("count", c_uint32),
        ("reserved", c_uint32),
        ("items", Event * 3),
    )


class BreakerStats(Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("retry_after_ns", c_uint64),
        ("last_change_ns", c_uint64),
        ("window_calls", c_uint64),
        ("failures", c_uint64),
        ("slow_calls", c_uint64),
        ("admitted", c_uint64),
        ("succeeded", c_uint64),
        ("failed", c_uint64),
        ("ignored", c_uint64),
        ("cancelled", c_uint64),
        ("stale", c_uint64),
        ("expired", c_uint64),
        ("reported", c_uint64),
        ("rejected_open", c_uint64),
        ("rejected_half_open", c_uint64),
        ("rejected_forced_open", c_uint64),
        ("rejected_degraded", c_uint64),
        ("injected", c_uint64),
        ("phase", c_int32),
        ("mode", c_int32),
        ("level", c_int32),
        ("last_cause", c_int32),
        ("generation", c_uint32),
        ("opens", c_uint32),
        ("live_probes", c_uint32),
        ("failure_rate_bp", c_uint32),
        ("slow_call_rate_bp", c_uint32),
        ("reserved", c_uint32),
    )


class BreakerHandle(Handle):
    pass


PROTOTYPES: Final[dict[str, Prototype]] = {
    "escope_breaker_options_init": (c_int32, (POINTER(BreakerOptions), c_size_t)),
    "escope_breaker_cause_str": (c_char_p, (c_int32,)),
    "escope_breaker_new": (c_int32, (POINTER(BreakerOptions), POINTER(BreakerHandle))),
    "escope_breaker_ref": (c_void_p, (BreakerHandle,)),
    "escope_breaker_free": (None, (BreakerHandle,)),
    "escope_breaker_acquire": (c_int32, (BreakerHandle, POINTER(Permit), POINTER(c_uint64), POINTER(Events))),
    "escope_breaker_acquire_at": (
        c_int32,
        (BreakerHandle, POINTER(Permit), POINTER(c_uint64), POINTER(Events), c_uint64),
    ),
    "escope_breaker_record": (c_int32, (BreakerHandle, POINTER(Permit), c_int32, POINTER(Events))),
    "escope_breaker_record_at": (
        c_int32,
        (BreakerHandle, POINTER(Permit), c_int32, POINTER(Events), c_uint64),
    ),
    "escope_breaker_ask": (c_int32, (BreakerHandle, POINTER(c_uint64), POINTER(Events))),
    "escope_breaker_ask_at": (c_int32, (BreakerHandle, POINTER(c_uint64), POINTER(Events), c_uint64)),
    "escope_breaker_report": (c_int32, (BreakerHandle, c_int32, POINTER(Events))),
    "escope_breaker_report_at": (c_int32, (BreakerHandle, c_int32, POINTER(Events), c_uint64)),
    "escope_breaker_settle": (c_int32, (BreakerHandle, POINTER(Events))),
    "escope_breaker_settle_at": (c_int32, (BreakerHandle, POINTER(Events), c_uint64)),
    "escope_breaker_reset": (c_int32, (BreakerHandle, POINTER(Events))),
    "escope_breaker_reset_at": (c_int32, (BreakerHandle, POINTER(Events), c_uint64)),
    "escope_breaker_set_mode": (c_int32, (BreakerHandle, c_int32, POINTER(Events))),
    "escope_breaker_set_mode_at": (c_int32, (BreakerHandle, c_int32, POINTER(Events), c_uint64)),
    "escope_breaker_reconfigure": (c_int32, (BreakerHandle, POINTER(BreakerOptions), POINTER(Events))),
    "escope_breaker_reconfigure_at": (
        c_int32,
        (BreakerHandle, POINTER(BreakerOptions), POINTER(Events), c_uint64),
    ),
    "escope_breaker_reinstall": (c_int32, (BreakerHandle, POINTER(BreakerOptions), POINTER(Events))),
    "escope_breaker_reinstall_at": (
        c_int32,
        (BreakerHandle, POINTER(BreakerOptions), POINTER(Events), c_uint64),
    ),
    "escope_breaker_stats_init": (c_int32, (POINTER(BreakerStats), c_size_t)),
    "escope_breaker_snapshot": (c_int32, (BreakerHandle, POINTER(BreakerStats))),
    "escope_breaker_snapshot_at": (c_int32, (BreakerHandle, POINTER(BreakerStats), c_uint64)),
    "escope_breaker_inject_faults": (c_int32, (BreakerHandle, c_uint32, c_uint32, c_uint64, c_uint64)),
}
