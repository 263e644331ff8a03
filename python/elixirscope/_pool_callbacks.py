"""What a native pool calls back: making and destroying connections.

The native side knows a connection as an integer, its key in a table here. Both callbacks run in the thread whose
call made them due, a creation also in another thread that waits; the native library holds no lock then.

No exception can pass through the native frames. One that a creation raises is kept, and becomes the cause of the
error that the check-out raises. One that a destruction raises has nobody who waits for it and goes to
``sys.unraisablehook``. An exception that is no `Exception`, such as KeyboardInterrupt, is raised again in
its thread as soon as the native call has returned.

A table has no reference to its pool: the pool's handle keeps it alive until the native pool is gone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from threading import get_ident
from typing import Any, Final, Generic, TypeVar

from . import _ffi

T = TypeVar("T")

_MADE: Final = 0
_FAILED: Final = 1


class Callbacks(Generic[T]):
    """The connections of one pool by key, and the two functions that ctypes hands to the native library."""

    def __init__(self, create: Callable[[], T], destroy: Callable[[T], object] | None) -> None:
        self._create = create
        self._destroy = destroy
        self._keys = itertools.count(1)
        self.interrupts: dict[int, BaseException] = {}
        self.connections: dict[int, T] = {}
        self.last_failure: BaseException | None = None

    def native(self) -> tuple[Any, Any]:
        """The functions for the native library. Who takes them keeps them, and they keep this object."""
        return _ffi.CreateFn(self._make), _ffi.DestroyFn(self._end)

    def _make(self, _userdata: object, _deadline_ns: int, out: Any) -> int:
        try:
            connection = self._create()
            if connection is None:
                raise TypeError("`create` returned None, allowed is a connection")
            key = next(self._keys)
            self.connections[key] = connection
            out[0] = key
            self.last_failure = None
        except BaseException as problem:
            self.last_failure = problem
            self._keep_interrupt(problem)
            return _FAILED
        return _MADE

    def _end(self, _userdata: object, key: int) -> None:
        try:
            connection = self.connections.pop(key)
            if self._destroy is not None:
                _ffi.shielded(self._destroy, connection)
        except BaseException as problem:
            self._keep_interrupt(problem)

    def _keep_interrupt(self, problem: BaseException) -> None:
        if not isinstance(problem, Exception):
            self.interrupts[get_ident()] = problem

    def raise_interrupt(self) -> None:
        """Raises what a callback in this thread could not."""
        if self.interrupts:
            interrupt = self.interrupts.pop(get_ident(), None)
            if interrupt is not None:
                raise interrupt
