"""The limiter's part of the C ABI."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_char_p, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Final

from ._handle import Handle, Prototype


class LimiterOptions(Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("max_keys", c_uint64),
        ("secret", c_char_p),
        ("secret_len", c_size_t),
        ("full_policy", c_int32),
        ("max_waiting", c_uint32),
    )


class Rule(Structure):
    _fields_ = (
        ("tokens", c_uint64),
        ("period_ns", c_uint64),
        ("burst", c_uint64),
    )


class Decision(Structure):
    _fields_ = (
        ("remaining", c_uint64),
        ("limit", c_uint64),
        ("retry_after_ns", c_uint64),
        ("reset_after_ns", c_uint64),
        ("status", c_int32),
        ("reserved", c_uint32),
    )


class Receipt(Structure):
    _fields_ = (
        ("private_key", c_uint64),
        ("private_instant", c_uint64),
        ("private_token", c_uint64),
        ("private_full", c_uint64),
        ("private_cost", c_uint64),
        ("private_limiter", c_uint32),
        ("private_state", c_uint32),
    )


class LimiterStats(Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("allowed", c_uint64),
        ("limited", c_uint64),
        ("never", c_uint64),
        ("table_full", c_uint64),
        ("evicted", c_uint64),
        ("overflowed", c_uint64),
        ("forfeited", c_uint64),
        ("rolled_back", c_uint64),
        ("waiting", c_uint64),
        ("capacity", c_uint64),
        ("bytes", c_uint64),
    )


class LimiterHandle(Handle):
    pass


class LimitHandle(Handle):
    pass


class Charge(Structure):
    _fields_ = (
        ("key", c_void_p),
        ("key_len", c_size_t),
        ("rule", POINTER(Rule)),
        ("limit", c_void_p),
        ("cost", c_uint64),
    )


PROTOTYPES: Final[dict[str, Prototype]] = {
    "escope_limiter_options_init": (c_int32, (POINTER(LimiterOptions), c_size_t)),
    "escope_limiter_new": (c_int32, (POINTER(LimiterOptions), POINTER(LimiterHandle))),
    "escope_limiter_ref": (c_void_p, (LimiterHandle,)),
    "escope_limiter_free": (None, (LimiterHandle,)),
    "escope_limiter_define": (
        c_int32,
        (LimiterHandle, c_void_p, POINTER(Rule), c_uint64, POINTER(LimitHandle)),
    ),
    "escope_limiter_lookup": (c_int32, (LimiterHandle, c_void_p, POINTER(LimitHandle))),
    "escope_limit_ref": (c_void_p, (LimitHandle,)),
    "escope_limit_free": (None, (LimitHandle,)),
    "escope_limit_change": (c_int32, (LimitHandle, POINTER(Rule), c_int32, POINTER(c_uint64))),
    "escope_limit_change_at": (c_int32, (LimitHandle, POINTER(Rule), c_int32, POINTER(c_uint64), c_uint64)),
    "escope_limit_rule": (c_int32, (LimitHandle, POINTER(Rule))),
    "escope_limiter_check": (
        c_int32,
        (LimiterHandle, c_void_p, c_size_t, POINTER(Rule), c_uint64, POINTER(Decision)),
    ),
    "escope_limiter_check_at": (
        c_int32,
        (LimiterHandle, c_void_p, c_size_t, POINTER(Rule), c_uint64, POINTER(Decision), c_uint64),
    ),
    "escope_limiter_check_limit": (
        c_int32,
        (LimiterHandle, c_void_p, c_size_t, LimitHandle, c_uint64, POINTER(Decision)),
    ),
    "escope_limiter_check_limit_at": (
        c_int32,
        (LimiterHandle, c_void_p, c_size_t, LimitHandle, c_uint64, POINTER(Decision), c_uint64),
    ),
    "escope_limiter_peek": (c_int32, (LimiterHandle, c_void_p, c_size_t, POINTER(Rule), POINTER(Decision))),
    "escope_limiter_peek_at": (
        c_int32,
        (LimiterHandle, c_void_p, c_size_t, POINTER(Rule), POINTER(Decision), c_uint64),
    ),
    "escope_limiter_peek_limit": (
        c_int32,
        (LimiterHandle, c_void_p, c_size_t, LimitHandle, POINTER(Decision)),
    ),
    "escope_limiter_peek_limit_at": (
        c_int32,
        (LimiterHandle, c_void_p, c_size_t, LimitHandle, POINTER(Decision), c_uint64),
    ),
    "escope_limiter_reset": (c_int32, (LimiterHandle, c_void_p, c_size_t)),
    "escope_limiter_check_many": (
        c_int32,
        (LimiterHandle, POINTER(Charge), c_size_t, POINTER(Decision), POINTER(c_size_t), POINTER(c_uint64)),
    ),
    "escope_limiter_check_many_at": (
        c_int32,
        (
            LimiterHandle,
            POINTER(Charge),
            c_size_t,
            POINTER(Decision),
            POINTER(c_size_t),
            POINTER(c_uint64),
            c_uint64,
        ),
    ),
    "escope_limiter_check_batch": (
        c_int32,
        (LimiterHandle, POINTER(Charge), c_size_t, POINTER(Decision), POINTER(c_size_t)),
    ),
    "escope_limiter_check_batch_at": (
        c_int32,
        (LimiterHandle, POINTER(Charge), c_size_t, POINTER(Decision), POINTER(c_size_t), c_uint64),
    ),
    "escope_receipt_cost": (c_int32, (POINTER(Receipt), POINTER(c_uint64))),
    "escope_limiter_reserve": (
        c_int32,
        (LimiterHandle, POINTER(Charge), c_uint64, POINTER(Receipt), POINTER(c_uint64), POINTER(Decision)),
    ),
    "escope_limiter_reserve_at": (
        c_int32,
        (
            LimiterHandle,
            POINTER(Charge),
            c_uint64,
            POINTER(Receipt),
            POINTER(c_uint64),
            POINTER(Decision),
            c_uint64,
        ),
    ),
    "escope_limiter_cancel": (c_int32, (LimiterHandle, POINTER(Receipt))),
    "escope_limiter_cancel_at": (c_int32, (LimiterHandle, POINTER(Receipt), c_uint64)),
    "escope_limiter_refund": (c_int32, (LimiterHandle, POINTER(Receipt), c_uint64, LimitHandle)),
    "escope_limiter_refund_at": (c_int32, (LimiterHandle, POINTER(Receipt), c_uint64, LimitHandle, c_uint64)),
    "escope_limiter_settle": (
        c_int32,
        (LimiterHandle, POINTER(Receipt), c_uint64, LimitHandle, POINTER(c_int32)),
    ),
    "escope_limiter_settle_at": (
        c_int32,
        (LimiterHandle, POINTER(Receipt), c_uint64, LimitHandle, POINTER(c_int32), c_uint64),
    ),
    "escope_limiter_acquire": (
        c_int32,
        (LimiterHandle, POINTER(Charge), c_uint64, POINTER(Receipt), POINTER(Decision)),
    ),
    "escope_rule_render_policy": (c_int32, (POINTER(Rule), c_void_p, c_void_p, c_size_t, POINTER(c_size_t))),
    "escope_decision_render_limit": (
        c_int32,
        (POINTER(Decision), c_void_p, c_void_p, c_size_t, POINTER(c_size_t)),
    ),
    "escope_decision_render_retry_after": (
        c_int32,
        (POINTER(Decision), c_void_p, c_size_t, POINTER(c_size_t)),
    ),
    "escope_limiter_stats_init": (c_int32, (POINTER(LimiterStats), c_size_t)),
    "escope_limiter_snapshot": (c_int32, (LimiterHandle, POINTER(LimiterStats))),
    "escope_limiter_live_keys": (c_int32, (LimiterHandle, POINTER(c_uint64))),
    "escope_limiter_live_keys_at": (c_int32, (LimiterHandle, POINTER(c_uint64), c_uint64)),
    "escope_limiter_save": (c_int32, (LimiterHandle, c_void_p)),
    "escope_limiter_save_at": (c_int32, (LimiterHandle, c_void_p, c_uint64, c_uint64)),
    "escope_limiter_load": (c_int32, (c_void_p, POINTER(LimiterOptions), POINTER(LimiterHandle))),
    "escope_limiter_load_at": (
        c_int32,
        (c_void_p, POINTER(LimiterOptions), POINTER(LimiterHandle), c_uint64, c_uint64),
    ),
}
