"""What a native pool calls back: to make, reset, test and destroy connections, and to tell of leaks.

The native side knows a connection as an integer, its key in a table here. Callbacks run in the thread whose
call made them due, a creation also in another thread that waits; the native library holds no lock then.

No exception can pass through the native frames. One that a creation raises is kept, and becomes the cause of
the error that the check-out raises. One that a reset or a test raises says that the connection is unfit. One
that a destruction or a report raises has nobody who waits for it and goes to ``sys.unraisablehook``. An
exception that is no `Exception`, such as KeyboardInterrupt, is raised again in its thread as soon as the
native call has returned; if that was a finalizer's, at the thread's next use of the pool.

An interrupt can strike between any two instructions, so a connection must never be in a variable only. What
`create` returns is put into a list, and what `destroy` gets is taken from the table, by native iterators: no
instruction lies between. The table holds what no destruction has begun for.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable
from functools import partial
from threading import get_ident
from typing import Any, Final, Generic, TypeVar

from . import _ffi
from . import _pool_abi as abi
from ._pool_types import Leak
from ._units import seconds

T = TypeVar("T")

_MADE: Final = 0
_FAILED: Final = 1
_FIT: Final = 0
_UNFIT: Final = 1
_NO_ARGUMENTS: Final = ((),)


class _Errand(partial[None]):
    """Calls a function when it is made and once more when it goes, both from native code.

    A function can be struck before its first instruction, where it cannot catch anything; what was to be done
    is done by the second call then. No frame refers to an errand, so no traceback can put that call off.
    """

    # As an initializer it passes on what it was made with, after what it keeps.
    __init__ = __del__ = partial.__call__


class Callbacks(Generic[T]):
    """The connections of one pool by key, and the functions that ctypes hands to the native library."""

    def __init__(
        self,
        create: Callable[[], T],
        destroy: Callable[[T], object] | None,
        reset: Callable[[T], object] | None,
        check: Callable[[T], object] | None,
        on_leak: Callable[[Leak], object] | None,
    ) -> None:
        self._create = create
        self._destroy: Callable[[T], object] = destroy or id
        self._reset = reset
        self._check = check
        self._on_leak = on_leak
        self._keys = itertools.count(1)
        self.interrupts: dict[int, BaseException] = {}
        self.connections: dict[int, T] = {}
        self.last_failure: BaseException | None = None

    def native(self) -> dict[str, Any]:
        """The functions for the native library, to be kept for as long as it may call them."""
        functions = {
            "create": abi.CreateFn(self._make),
            "destroy": abi.DestroyFn(partial(_Errand, self._end)),
        }
        if self._reset is not None:
            functions["reset"] = abi.CheckFn(partial(self._test, self._reset))
        if self._check is not None:
            functions["check"] = abi.CheckFn(partial(self._test, self._check))
        if self._on_leak is not None:
            functions["leaked"] = abi.LeakedFn(partial(self._tell, self._on_leak))
        return functions

    def _make(self, _userdata: object, _deadline_ns: int, out: Any) -> int:
        made: list[T] = []
        key = 0
        try:
            made.extend(itertools.starmap(self._create, _NO_ARGUMENTS))
            if made[0] is None:
                made.clear()
                raise TypeError("`create` returned None, allowed is a connection")
            key = next(self._keys)
            self.connections[key] = made[0]
            out[0] = key
            self.last_failure = None
            return _MADE
        except BaseException as problem:
            out[0] = None
            self.last_failure = problem
            self._keep_interrupt(problem)
            self.connections.pop(key, None)
            self._run(map(self._destroy, made))
            return _FAILED

    def _test(self, test: Callable[[T], object], _userdata: object, key: int, _deadline_ns: int) -> int:
        try:
            return _UNFIT if test(self.connections[key]) is False else _FIT
        except BaseException as problem:
            self._keep_interrupt(problem)
            return _UNFIT

    def _tell(self, on_leak: Callable[[Leak], object], _userdata: object, leak: Any) -> None:
        try:
            of = leak[0]
            connection = self.connections.get(of.connection)
            # It may have come back meanwhile, and gone.
            if connection is not None:
                thread = next((t.name for t in threading.enumerate() if t.native_id == of.holder), None)
                _ffi.shielded(on_leak, Leak(connection, seconds(of.since_ns), thread, of.holder))
        except BaseException as problem:
            self._keep_interrupt(problem)

    def _end(
        self, _userdata: object, key: int, *_: object, finalizing: Callable[[], bool] = sys.is_finalizing
    ) -> None:
        try:
            # An interpreter that goes away runs nobody's code; the end of the process closes connections too.
            if key in self.connections and not finalizing():
                self._run(map(self._destroy, map(self.connections.pop, (key,))))
        except BaseException as problem:
            self._keep_interrupt(problem)

    def _run(self, destruction: Any) -> None:
        try:
            next(destruction, None)
        except Exception as problem:
            _ffi.report(problem)

    def _keep_interrupt(self, problem: BaseException) -> None:
        if not isinstance(problem, Exception):
            self.interrupts[get_ident()] = problem

    def raise_interrupt(self) -> None:
        """Raises what a callback in this thread could not."""
        if self.interrupts:
            interrupt = self.interrupts.pop(get_ident(), None)
            if interrupt is not None:
                try:
                    raise interrupt
                finally:
                    # The frame would refer to what refers to it.
                    del interrupt
