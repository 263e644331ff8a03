"""The C ABI as ctypes sees it: structs, handles and one prototype a function.

Thin on purpose: the names are those of ``elixirscope.h``, and a test reads that header and compares every
function, struct field and size with this file.

Two ways to call. `PyDLL` keeps the interpreter lock: right for everything that does not wait, since giving
the lock up and taking it back costs more than the call. `CDLL` gives it up: for the one call that waits.

Two kinds of prototype. A function of `api` or `blocking` converts and checks its arguments by ``argtypes``.
One of `hot` skips that, which halves the cost of a call; it takes prepared ctypes objects only (``byref``,
handles, ``c_uint64`` ...), never a bare integer, which ctypes would pass as a 32-bit ``int``.

A handle is a subclass of ``c_void_p`` that gives its reference back when Python drops the last reference to
it. A call holds one as its argument, so no other thread can free an object that is in use: closing means to
forget the handle. A forgotten handle is ``None``, arrives as NULL and is refused by the library itself.

Finalizers are native functions, never Python ones. A signal handler may raise between any two instructions of
Python, and what it raises in a finalizer is reported and dropped, with the rest of the finalizer. A native
function has no such instructions.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from ctypes import (
    CFUNCTYPE,
    POINTER,
    PYFUNCTYPE,
    Structure,
    c_char_p,
    c_int32,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
    create_string_buffer,
    py_object,
    pythonapi,
    sizeof,
)
from pathlib import Path
from typing import Any, Final, TypeAlias

from ._unique import Unique
from .errors import EXCEPTIONS, Error, Status

ABI_VERSION: Final = 1
LIBRARY: Final = Path(__file__).with_name("libelixirscope.so")


class BreakerOptions(Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("open_for_ns", c_uint64),
        ("probe_lease_ns", c_uint64),
        ("failure_threshold", c_uint32),
        ("half_open_permits", c_uint32),
        ("successes_to_close", c_uint32),
        ("reserved", c_uint32),
    )


class Permit(Structure):
    _fields_ = (
        ("private_breaker", c_uint64),
        ("private_generation", c_uint32),
        ("private_slot", c_uint32),
        ("private_epoch", c_uint32),
        ("private_reserved", c_uint32 * 2),
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
        ("reserved", c_uint32),
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
        ("admitted", c_uint64),
        ("succeeded", c_uint64),
        ("failed", c_uint64),
        ("ignored", c_uint64),
        ("rejected_open", c_uint64),
        ("rejected_half_open", c_uint64),
        ("stale", c_uint64),
        ("expired", c_uint64),
        ("phase", c_int32),
        ("generation", c_uint32),
        ("consecutive_failures", c_uint32),
        ("opens", c_uint32),
        ("live_probes", c_uint32),
        ("reserved", c_uint32),
    )


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


# The Python side of the pool's callbacks. ctypes takes the interpreter lock for each call of them.
CreateFn = CFUNCTYPE(c_int32, c_void_p, c_uint64, POINTER(c_void_p))
DestroyFn = CFUNCTYPE(None, c_void_p, c_void_p)


class PoolOptions(Structure):
    _fields_ = (
        ("struct_size", c_size_t),
        ("create", CreateFn),
        ("destroy", DestroyFn),
        ("userdata", c_void_p),
        ("overflow_ttl_ns", c_uint64),
        ("create_backoff_ns", c_uint64),
        ("create_backoff_cap_ns", c_uint64),
        ("size", c_uint32),
        ("max_overflow", c_uint32),
        ("max_waiters", c_uint32),
        ("order", c_int32),
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
        ("returned", c_uint64),
        ("broken", c_uint64),
        ("created", c_uint64),
        ("create_errors", c_uint64),
        ("destroyed", c_uint64),
        ("next_deadline_ns", c_uint64),
        ("size", c_uint32),
        ("capacity", c_uint32),
        ("idle", c_uint32),
        ("leased", c_uint32),
        ("creating", c_uint32),
        ("closing", c_uint32),
        ("waiting", c_uint32),
        ("overflow", c_uint32),
        ("failing", c_uint32),
        ("is_closed", c_uint32),
    )


# Prototypes of our own: those of `pythonapi` belong to whoever sets them.
_untrack: Final = PYFUNCTYPE(None, py_object)(("PyObject_GC_UnTrack", pythonapi))
# Binds a native function to an instance, as Python does with its own functions only.
_as_method: Final = PYFUNCTYPE(py_object, py_object)(("PyInstanceMethod_New", pythonapi))


_current: Final = PYFUNCTYPE(c_void_p)(("PyInterpreterState_Get", pythonapi))
_main: Final = PYFUNCTYPE(c_void_p)(("PyInterpreterState_Main", pythonapi))


def in_main_interpreter() -> bool:
    """Whether callbacks would run here: ctypes takes the lock of the main interpreter for them."""
    return bool(_current() == _main())


class _Handle(Unique, c_void_p):
    """A counted reference to a native object; its memory is there, and finalized, before a call writes to it.

    The garbage collector finalizes the objects of a cycle in any order, so one that comes later could use
    what a handle has freed. Hence it does not see handles: one goes when nothing refers to it any more. No
    handle that lasts refers to anything, so no cycle needs it to be seen.
    """

    def __init__(self) -> None:
        super().__init__()
        _untrack(self)


class BreakerHandle(_Handle):
    pass


class LimiterHandle(_Handle):
    pass


class WaiterHandle(_Handle):
    """Keeps what the native pool may call back, from when a wait begins."""

    callbacks: object


class PoolHandle(_Handle):
    pass


Prototype: TypeAlias = tuple[Any, tuple[Any, ...]]

PROTOTYPES: Final[dict[str, Prototype]] = {
    "escope_status_str": (c_char_p, (c_int32,)),
    "escope_last_error": (c_int32, (c_void_p, c_size_t, POINTER(c_size_t))),
    "escope_version_number": (c_uint32, ()),
    "escope_version_string": (c_char_p, ()),
    "escope_abi_version": (c_uint32, ()),
    "escope_clock_now_ns": (c_uint64, ()),
    "escope_breaker_options_init": (c_int32, (POINTER(BreakerOptions), c_size_t)),
    "escope_breaker_new": (c_int32, (POINTER(BreakerOptions), POINTER(BreakerHandle))),
    "escope_breaker_ref": (c_void_p, (BreakerHandle,)),
    "escope_breaker_free": (None, (BreakerHandle,)),
    "escope_breaker_acquire": (
        c_int32,
        (BreakerHandle, POINTER(Permit), POINTER(c_uint64), POINTER(Events)),
    ),
    "escope_breaker_acquire_at": (
        c_int32,
        (BreakerHandle, POINTER(Permit), POINTER(c_uint64), POINTER(Events), c_uint64),
    ),
    "escope_breaker_record": (c_int32, (BreakerHandle, POINTER(Permit), c_int32, POINTER(Events))),
    "escope_breaker_record_at": (
        c_int32,
        (BreakerHandle, POINTER(Permit), c_int32, POINTER(Events), c_uint64),
    ),
    "escope_breaker_reset": (c_int32, (BreakerHandle, POINTER(Events))),
    "escope_breaker_reset_at": (c_int32, (BreakerHandle, POINTER(Events), c_uint64)),
    "escope_breaker_stats_init": (c_int32, (POINTER(BreakerStats), c_size_t)),
    "escope_breaker_snapshot": (c_int32, (BreakerHandle, POINTER(BreakerStats))),
    "escope_breaker_snapshot_at": (c_int32, (BreakerHandle, POINTER(BreakerStats), c_uint64)),
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
    "escope_pool_options_init": (c_int32, (POINTER(PoolOptions), c_size_t)),
    "escope_pool_new": (c_int32, (POINTER(PoolOptions), POINTER(PoolHandle))),
    "escope_pool_ref": (c_void_p, (PoolHandle,)),
    "escope_pool_free": (None, (PoolHandle,)),
    "escope_pool_checkout": (c_int32, (PoolHandle, c_uint64, POINTER(Lease), POINTER(c_void_p))),
    "escope_pool_checkout_begin": (
        c_int32,
        (PoolHandle, c_uint64, POINTER(Lease), POINTER(c_void_p), POINTER(WaiterHandle)),
    ),
    "escope_waiter_wait": (c_int32, (WaiterHandle, c_uint64, POINTER(Lease), POINTER(c_void_p))),
    "escope_waiter_free": (None, (WaiterHandle,)),
    "escope_pool_checkin": (c_int32, (PoolHandle, POINTER(Lease), c_int32)),
    "escope_pool_close": (c_int32, (PoolHandle,)),
    "escope_pool_maintain": (c_int32, (PoolHandle, POINTER(c_uint64))),
    "escope_pool_stats_init": (c_int32, (POINTER(PoolStats), c_size_t)),
    "escope_pool_snapshot": (c_int32, (PoolHandle, POINTER(PoolStats))),
}


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    for name, (result, arguments) in PROTOTYPES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


def hot(name: str) -> Any:
    """The function without argument conversion; see the head of this file for what it may be given."""
    function = api[name]
    function.restype = PROTOTYPES[name][0]
    return function


def text(status: int) -> str:
    """The library's sentence for a status."""
    sentence: bytes = api.escope_status_str(status)
    return sentence.decode()


def error(status: int) -> Error:
    """The exception for a failure, with the message that the library left for this thread."""
    message = create_string_buffer(512)
    api.escope_last_error(message, sizeof(message), None)
    known = Status(status)
    return EXCEPTIONS[known](message.value.decode(errors="replace") or text(status))


def check(status: int) -> None:
    """Raises unless a call that cannot be refused succeeded."""
    if status:
        raise error(status)


def shielded(function: Callable[..., object], *arguments: object) -> None:
    """Calls user code whose exception nobody can be given; it goes to ``sys.unraisablehook``."""
    try:
        function(*arguments)
    except Exception as problem:
        report(problem, function)


def report(problem: Exception, function: object) -> None:
    """Tells ``sys.unraisablehook`` of an exception that nobody can be given."""
    sys.unraisablehook(_Unraisable(problem, function))  # type: ignore[arg-type]


class _Unraisable:
    """What ``sys.unraisablehook`` takes; its own class cannot be made in Python."""

    def __init__(self, problem: BaseException, function: object) -> None:
        self.exc_type = type(problem)
        self.exc_value = problem
        self.exc_traceback = problem.__traceback__
        self.err_msg = "Exception ignored in a callback of elixirscope"
        self.object = function


api: Final = _declare(ctypes.PyDLL(str(LIBRARY)))
_found = api.escope_abi_version()
if _found != ABI_VERSION:
    raise ImportError(f"the ABI version of {LIBRARY} is {_found}, needed is {ABI_VERSION}")
blocking: Final = _declare(ctypes.CDLL(str(LIBRARY)))

for _kind, _free in (
    (BreakerHandle, api.escope_breaker_free),
    (LimiterHandle, api.escope_limiter_free),
    (WaiterHandle, api.escope_waiter_free),
    (PoolHandle, api.escope_pool_free),
):
    setattr(_kind, "__del__", _as_method(_free))  # noqa: B010

VERSION: Final[str] = api.escope_version_string().decode()
