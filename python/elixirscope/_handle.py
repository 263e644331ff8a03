"""What a native object is in Python: a counted reference that gives itself back.

A handle is a subclass of ``c_void_p`` that gives its reference back when Python drops the last reference to
it. A call holds one as its argument, so no other thread can free an object that is in use: closing means to
forget the handle. A forgotten handle is ``None``, arrives as NULL and is refused by the library itself.

Finalizers are native functions, never Python ones. A signal handler may raise between any two instructions of
Python, and what it raises in a finalizer is reported and dropped, with the rest of the finalizer. A native
function has no such instructions.
"""

from __future__ import annotations

from ctypes import PYFUNCTYPE, c_void_p, py_object, pythonapi
from typing import Any, Final, TypeAlias

from ._unique import Unique

# Result and arguments of a function of the library.
Prototype: TypeAlias = tuple[Any, tuple[Any, ...]]

# Prototypes of our own: those of `pythonapi` belong to whoever sets them.
_untrack: Final = PYFUNCTYPE(None, py_object)(("PyObject_GC_UnTrack", pythonapi))
# Binds a native function to an instance, as Python does with its own functions only.
_as_method: Final = PYFUNCTYPE(py_object, py_object)(("PyInstanceMethod_New", pythonapi))


class Handle(Unique, c_void_p):
    """A counted reference to a native object; its memory is there, and finalized, before a call writes to it.

    The garbage collector finalizes the objects of a cycle in any order, so one that comes later could use
    what a handle has freed. Hence it does not see handles: one goes when nothing refers to it any more. No
    handle that lasts refers to anything, so no cycle needs it to be seen.
    """

    def __init__(self) -> None:
        super().__init__()
        _untrack(self)

    @classmethod
    def given_back_by(cls, free: Any) -> None:
        """Makes a native function the finalizer of this kind of handle."""
        cls.__del__ = _as_method(free)  # type: ignore[attr-defined]
