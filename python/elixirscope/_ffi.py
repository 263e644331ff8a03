"""The native library as ctypes sees it: loaded, declared, and its failures as exceptions.

Thin on purpose: the names are those of ``elixirscope.h``. Structs, handles and prototypes stand in one file a
primitive; a test reads that header and compares every function, struct field and size with them.

Two ways to call. `PyDLL` keeps the interpreter lock: right for everything that does not wait, since giving
the lock up and taking it back costs more than the call. `CDLL` gives it up: for the one call that waits.

Two kinds of prototype. A function of `api` or `blocking` converts and checks its arguments by ``argtypes``.
One of `hot` skips that, which halves the cost of a call; it takes prepared ctypes objects only (``byref``,
handles, ``c_uint64`` ...), never a bare integer, which ctypes would pass as a 32-bit ``int``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import (
    POINTER,
    PYFUNCTYPE,
    c_char_p,
    c_int32,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
    create_string_buffer,
    pythonapi,
    sizeof,
)
from pathlib import Path
from typing import Any, Final

from . import _breaker_abi, _limiter_abi, _pool_abi
from ._handle import Prototype
from .errors import EXCEPTIONS, Error, Status

ABI_VERSION: Final = 1
LIBRARY: Final = Path(__file__).with_name("libelixirscope.so")

# A prototype of our own: those of `pythonapi` belong to whoever sets them.
_current: Final = PYFUNCTYPE(c_void_p)(("PyInterpreterState_Get", pythonapi))
_main: Final = PYFUNCTYPE(c_void_p)(("PyInterpreterState_Main", pythonapi))


def in_main_interpreter() -> bool:
    """Whether callbacks would run here: ctypes takes the lock of the main interpreter for them."""
    return bool(_current() == _main())


PROTOTYPES: Final[dict[str, Prototype]] = {
    "escope_status_str": (c_char_p, (c_int32,)),
    "escope_last_error": (c_int32, (c_void_p, c_size_t, POINTER(c_size_t))),
    "escope_version_number": (c_uint32, ()),
    "escope_version_string": (c_char_p, ()),
    "escope_abi_version": (c_uint32, ()),
    "escope_clock_now_ns": (c_uint64, ()),
    **_breaker_abi.PROTOTYPES,
    **_limiter_abi.PROTOTYPES,
    **_pool_abi.PROTOTYPES,
}

# Not in a library that users get.
OPTIONAL: Final = {"escope_breaker_inject_faults"}


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    for name, (result, arguments) in PROTOTYPES.items():
        if name in OPTIONAL and not hasattr(library, name):
            continue
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
        report(problem)


def report(problem: Exception) -> None:
    """Tells ``sys.unraisablehook`` of an exception that nobody can be given."""
    ignored = [_Ignored(problem)]
    # A frame that kept the exception would be kept by it.
    del problem
    ignored.clear()


class _Ignored:
    """Raises where nobody gets the exception: the hook takes only what the interpreter itself makes."""

    __slots__ = ("_problem",)

    def __init__(self, problem: Exception) -> None:
        self._problem = problem

    def __del__(self) -> None:
        problem = self._problem
        del self._problem
        try:
            raise problem
        finally:
            del problem


api: Final = _declare(ctypes.PyDLL(str(LIBRARY)))
_found = api.escope_abi_version()
if _found != ABI_VERSION:
    raise ImportError(f"the ABI version of {LIBRARY} is {_found}, needed is {ABI_VERSION}")
blocking: Final = _declare(ctypes.CDLL(str(LIBRARY)))

_breaker_abi.BreakerHandle.given_back_by(api.escope_breaker_free)
_limiter_abi.LimiterHandle.given_back_by(api.escope_limiter_free)
_limiter_abi.LimitHandle.given_back_by(api.escope_limit_free)
_pool_abi.WaiterHandle.given_back_by(api.escope_waiter_free)
_pool_abi.PoolHandle.given_back_by(api.escope_pool_free)

VERSION: Final[str] = api.escope_version_string().decode()
