"""The limiter's part of the C ABI."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_char_p, c_int32, c_size_t, c_uint64, c_void_p
from typing import Final

from ._handle import Handle, Prototype


class LimiterOptions(Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("max_keys", c_uint64),
        ("secret", c_char_p),
        ("secret_len", c_size_t),
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
    )


class LimiterStats(Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("allowed", c_uint64),
        ("limited", c_uint64),
        ("never", c_uint64),
        ("table_full", c_uint64),
        ("capacity", c_uint64),
        ("bytes", c_uint64),
    )


class LimiterHandle(Handle):
    pass


PROTOTYPES: Final[dict[str, Prototype]] = {
    "escope_limiter_options_init": (c_int32, (POINTER(LimiterOptions), c_size_t)),
    "escope_limiter_new": (c_int32, (POINTER(LimiterOptions), POINTER(LimiterHandle))),
    "escope_limiter_ref": (c_void_p, (LimiterHandle,)),
    "escope_limiter_free": (None, (LimiterHandle,)),
    "escope_limiter_check": (
        c_int32,
        (LimiterHandle, c_void_p, c_size_t, POINTER(Rule), c_uint64, POINTER(Decision)),
    ),
    "escope_limiter_check_at": (
        c_int32,
        (LimiterHandle, c_void_p, c_size_t, POINTER(Rule), c_uint64, POINTER(Decision), c_uint64),
    ),
    "escope_limiter_peek": (
        c_int32,
        (LimiterHandle, c_void_p, c_size_t, POINTER(Rule), POINTER(Decision)),
    ),
    "escope_limiter_peek_at": (
        c_int32,
        (LimiterHandle, c_void_p, c_size_t, POINTER(Rule), POINTER(Decision), c_uint64),
    ),
    "escope_limiter_reset": (c_int32, (LimiterHandle, c_void_p, c_size_t)),
    "escope_limiter_stats_init": (c_int32, (POINTER(LimiterStats), c_size_t)),
    "escope_limiter_snapshot": (c_int32, (LimiterHandle, POINTER(LimiterStats))),
}
