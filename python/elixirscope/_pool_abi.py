"""The pool's part of the C ABI."""

from __future__ import annotations

from ctypes import CFUNCTYPE, POINTER, Structure, c_int, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Final

from ._handle import Handle, Prototype

# The Python side of the pool's callbacks. ctypes takes the interpreter lock for each call of them.
CreateFn = CFUNCTYPE(c_int32, c_void_p, c_uint64, POINTER(c_void_p))
DestroyFn = CFUNCTYPE(None, c_void_p, c_void_p)
CheckFn = CFUNCTYPE(c_int32, c_void_p, c_void_p, c_uint64)


class Leak(Structure):
    _fields_ = (
        ("connection", c_void_p),
        ("since_ns", c_uint64),
        ("holder", c_uint64),
    )


LeakedFn = CFUNCTYPE(None, c_void_p, POINTER(Leak))


class PoolOptions(Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("create", CreateFn),
        ("destroy", DestroyFn),
        ("reset", CheckFn),
        ("check", CheckFn),
        ("leaked", LeakedFn),
        ("userdata", c_void_p),
        ("overflow_ttl_ns", c_uint64),
        ("idle_timeout_ns", c_uint64),
        ("max_lifetime_ns", c_uint64),
        ("max_lifetime_jitter_ns", c_uint64),
        ("keepalive_ns", c_uint64),
        ("health_interval_ns", c_uint64),
        ("check_limit_ns", c_uint64),
        ("return_limit_ns", c_uint64),
        ("pre_ping_after_ns", c_uint64),
        ("pre_ping_limit_ns", c_uint64),
        ("leak_after_ns", c_uint64),
        ("queue_target_ns", c_uint64),
        ("queue_interval_ns", c_uint64),
        ("create_backoff_ns", c_uint64),
        ("create_backoff_cap_ns", c_uint64),
        ("size", c_uint32),
        ("max_overflow", c_uint32),
        ("max_slots", c_uint32),
        ("min_idle", c_uint32),
        ("max_concurrent_creates", c_uint32),
        ("max_waiters", c_uint32),
        ("order", c_int32),
        ("health", c_int32),
        ("create_failure", c_int32),
        ("measure", c_uint32),
    )


class Lease(Structure):
    _fields_ = (
        ("private_pool", c_uint64),
        ("private_epoch", c_uint64),
        ("private_slot", c_uint32),
        ("private_reserved", c_uint32),
    )


class PoolStats(Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("requests", c_uint64),
        ("granted", c_uint64),
        ("timed_out", c_uint64),
        ("cancelled", c_uint64),
        ("exhausted", c_uint64),
        ("queue_full", c_uint64),
        ("closed", c_uint64),
        ("create_failed", c_uint64),
        ("shed", c_uint64),
        ("returned", c_uint64),
        ("broken", c_uint64),
        ("created", c_uint64),
        ("create_errors", c_uint64),
        ("destroyed", c_uint64),
        ("checks_passed", c_uint64),
        ("checks_failed", c_uint64),
        ("pre_pings", c_uint64),
        ("leaks", c_uint64),
        ("queue_ns", c_uint64),
        ("longest_queue_ns", c_uint64),
        ("use_ns", c_uint64),
        ("next_deadline_ns", c_uint64),
        ("size", c_uint32),
        ("capacity", c_uint32),
        ("idle", c_uint32),
        ("leased", c_uint32),
        ("creating", c_uint32),
        ("checking", c_uint32),
        ("closing", c_uint32),
        ("waiting", c_uint32),
        ("overflow", c_uint32),
        ("failing", c_uint32),
        ("phase", c_int32),
        ("reserved", c_uint32),
    )


class WaiterHandle(Handle):
    """Keeps what the native pool may call back, from when a wait begins."""

    callbacks: object


class PoolHandle(Handle):
    pass


PROTOTYPES: Final[dict[str, Prototype]] = {
    "escope_pool_options_init": (c_int32, (POINTER(PoolOptions), c_size_t)),
    "escope_pool_new": (c_int32, (POINTER(PoolOptions), POINTER(PoolHandle))),
    "escope_pool_ref": (c_void_p, (PoolHandle,)),
    "escope_pool_free": (None, (PoolHandle,)),
    "escope_pool_checkout": (c_int32, (PoolHandle, c_uint64, POINTER(Lease), POINTER(c_void_p))),
    "escope_pool_checkout_at": (c_int32, (PoolHandle, POINTER(Lease), POINTER(c_void_p), c_uint64)),
    "escope_pool_checkout_begin": (
        c_int32,
        (PoolHandle, c_uint64, POINTER(Lease), POINTER(c_void_p), POINTER(WaiterHandle)),
    ),
    "escope_pool_checkout_begin_at": (
        c_int32,
        (PoolHandle, c_uint64, POINTER(Lease), POINTER(c_void_p), POINTER(WaiterHandle), c_uint64),
    ),
    "escope_waiter_wait": (c_int32, (WaiterHandle, c_uint64, POINTER(Lease), POINTER(c_void_p))),
    "escope_waiter_wait_at": (c_int32, (WaiterHandle, POINTER(Lease), POINTER(c_void_p), c_uint64)),
    "escope_waiter_descriptor": (c_int32, (WaiterHandle, POINTER(c_int))),
    "escope_waiter_free": (None, (WaiterHandle,)),
    "escope_pool_checkin": (c_int32, (PoolHandle, POINTER(Lease), c_int32)),
    "escope_pool_checkin_at": (c_int32, (PoolHandle, POINTER(Lease), c_int32, c_uint64)),
    "escope_pool_close": (c_int32, (PoolHandle,)),
    "escope_pool_close_at": (c_int32, (PoolHandle, c_uint64)),
    "escope_pool_drain": (c_int32, (PoolHandle, c_uint64)),
    "escope_pool_drain_at": (c_int32, (PoolHandle, c_uint64)),
    "escope_pool_resize": (c_int32, (PoolHandle, c_uint32, c_uint32)),
    "escope_pool_resize_at": (c_int32, (PoolHandle, c_uint32, c_uint32, c_uint64)),
    "escope_pool_evict": (c_int32, (PoolHandle, c_uint64)),
    "escope_pool_evict_at": (c_int32, (PoolHandle, c_uint64, c_uint64)),
    "escope_pool_maintain": (c_int32, (PoolHandle, POINTER(c_uint64))),
    "escope_pool_maintain_at": (c_int32, (PoolHandle, POINTER(c_uint64), c_uint64)),
    "escope_pool_stats_init": (c_int32, (POINTER(PoolStats), c_size_t)),
    "escope_pool_snapshot": (c_int32, (PoolHandle, POINTER(PoolStats))),
}
