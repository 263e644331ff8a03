"""Bare ctypes calls that do nothing: one a repeat, with arguments that were made before."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int32, c_size_t, c_uint64, c_void_p, create_string_buffer

_library = ctypes.PyDLL(os.environ["ESCOPE_FLOOR_LIBRARY"])


def _declared(name: str, *argtypes: type) -> Callable[..., int]:
    function = getattr(_library, name)
    function.restype, function.argtypes = c_int32, argtypes
    return function  # type: ignore[no-any-return]


_breaker = _declared("floor_breaker", c_void_p, c_void_p, c_void_p, c_void_p)
_limiter = _declared("floor_limiter", c_void_p, c_char_p, c_size_t, c_void_p, c_uint64, c_void_p)
_pool = _declared("floor_pool", c_void_p, c_uint64, c_void_p, c_void_p)
_memory = byref(create_string_buffer(128))


def breaker(repeats: int) -> int:
    return sum(_breaker(_memory, _memory, None, None) == 0 for _ in range(repeats))


def limiter(repeats: int) -> int:
    return sum(_limiter(_memory, b"user:17", 7, _memory, 1, _memory) == 0 for _ in range(repeats))


def pool(repeats: int) -> int:
    return sum(_pool(_memory, 5_000_000_000, _memory, _memory) == 0 for _ in range(repeats))
