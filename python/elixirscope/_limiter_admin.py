"""What is done to a limiter as a whole: made, saved, loaded, counted, closed; and its limits with a name."""

from __future__ import annotations

import os
import time
import weakref
from ctypes import byref, c_uint64, sizeof
from typing import TYPE_CHECKING, Any

from . import _ffi
from . import _limiter_abi as abi
from ._limiter_limits import Limit, Owner
from ._limiter_native import failure, native_rule
from ._limiter_types import FullPolicy, LimiterSnapshot
from ._unique import Unique
from ._units import nanoseconds, unsigned
from .clock import Clock, checked
from .errors import Error, HandleClosed, invalid, wrong_type

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._limiter_wait import Turn


class AdministeredLimiter(Unique):
    """The part of `RateLimiter` that measures no key."""

    __slots__ = ("_clock", "_handle", "_max_waiting", "_owner", "_rules", "_waiting")

    _handle: abi.LimiterHandle | None

    def __init__(
        self,
        max_keys: int = 65_536,
        *,
        secret: bytes | None = None,
        full_policy: FullPolicy = FullPolicy.DENY_NEW,
        max_waiting: int = 1024,
        clock: Clock | None = None,
    ) -> None:
        options = _options(full_policy)
        options.max_keys = unsigned("max_keys", max_keys, 64)
        if secret is not None:
            if not isinstance(secret, bytes):
                raise wrong_type("secret", secret, "16 bytes")
            options.secret = secret
            options.secret_len = len(secret)
        self._begin(max_waiting, clock)
        handle = abi.LimiterHandle()
        _ffi.check(_ffi.api.escope_limiter_new(byref(options), byref(handle)))
        self._handle = handle

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        full_policy: FullPolicy = FullPolicy.DENY_NEW,
        max_waiting: int = 1024,
        clock: Clock | None = None,
    ) -> Self:
        """Makes a limiter of a file that `save` wrote, as if it had gone on since.

        What was paid back meanwhile is taken from the wall clock. Size and secret are the file's; limits with
        a name must be defined again. A file that is no limiter, or damaged, raises `InvalidArgument` and
        stays.
        """
        options = _options(full_policy)
        limiter = cls.__new__(cls)
        limiter._begin(max_waiting, clock)
        name, handle = _path(path), abi.LimiterHandle()
        if limiter._clock is None:
            status = _ffi.blocking.escope_limiter_load(name, byref(options), byref(handle))
        else:
            now = unsigned("clock", limiter._clock(), 64)
            status = _ffi.blocking.escope_limiter_load_at(
                name, byref(options), byref(handle), now, time.time_ns()
            )
        _ffi.check(status)
        limiter._handle = handle
        return limiter

    def __repr__(self) -> str:
        if self._handle is None:
            return f"<{type(self).__name__}, not to be used after close()>"
        now = self.snapshot()
        limited = now.limited + now.never + now.table_full
        return (
            f"<{type(self).__name__} of up to {now.capacity} keys, {now.allowed} allowed, {limited} limited>"
        )

    def define(
        self, name: str, limit: int, window: float, burst: int | None = None, *, max_wait: float = 60
    ) -> Limit:
        """Defines a limit with a name of 1 to 255 bytes, which must be new.

        ``max_wait`` is the longest wait, in seconds, of a reservation by this limit; the longer it is, the
        longer a fifth change may have to wait for the keys of the first rule.
        """
        wait = nanoseconds("max_wait", max_wait)
        rule, handle = native_rule(limit, window, burst), abi.LimitHandle()
        status = _ffi.api.escope_limiter_define(self._live(), _name(name), byref(rule), wait, byref(handle))
        if status:
            raise failure(status)
        return Limit(name, handle, self._clock, self._owner)

    def limit(self, name: str) -> Limit:
        """The limit that was defined under this name."""
        handle = abi.LimitHandle()
        _ffi.check(_ffi.api.escope_limiter_lookup(self._live(), _name(name), byref(handle)))
        return Limit(name, handle, self._clock, self._owner)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes what every key owes to a file, which is replaced as a whole. Other threads go on meanwhile.

        The file holds the secret of the keys, so only its owner may read it. Its folder must be one that the
        process may read and write. When this returns, the file will be there after a crash of the machine,
        too. After an exception it is as it was, unless the message says that it was replaced, where a disk
        failed at the very end.
        """
        name = _path(path)
        if self._clock is None:
            status = _ffi.blocking.escope_limiter_save(self._live(), name)
        else:
            now = unsigned("clock", self._clock(), 64)
            status = _ffi.blocking.escope_limiter_save_at(self._live(), name, now, time.time_ns())
        _ffi.check(status)

    def snapshot(self) -> LimiterSnapshot:
        """Counts and size; taking it changes nothing."""
        stats = abi.LimiterStats(struct_size=sizeof(abi.LimiterStats))
        _ffi.check(_ffi.api.escope_limiter_snapshot(self._live(), byref(stats)))
        counts = {name: getattr(stats, name) for name in LimiterSnapshot._fields}
        return LimiterSnapshot(**counts | {"waiting": len(self._waiting)})

    def live_keys(self) -> int:
        """How many keys owe tokens now. Reads the whole table."""
        keys = c_uint64()
        if self._clock is None:
            status = _ffi.api.escope_limiter_live_keys(self._live(), byref(keys))
        else:
            now = unsigned("clock", self._clock(), 64)
            status = _ffi.api.escope_limiter_live_keys_at(self._live(), byref(keys), now)
        _ffi.check(status)
        return keys.value

    def close(self) -> None:
        """Gives the native table back; a later use raises `HandleClosed`. Reservations stay good."""
        self._handle = None

    def _begin(self, max_waiting: int, clock: Clock | None) -> None:
        self._max_waiting = unsigned("max_waiting", max_waiting, 32)
        self._clock = checked(clock)
        self._waiting: set[weakref.ref[Turn]] = set()
        self._rules: dict[tuple[object, object, object], Any] = {}
        self._owner = Owner()
        self._handle = None

    def _live(self) -> abi.LimiterHandle:
        if self._handle is None:
            raise HandleClosed("this rate limiter was closed")
        return self._handle

    def _failure(self, status: int) -> Error:
        if self._handle is None:
            return HandleClosed("this rate limiter was closed")
        return failure(status)


def _options(full_policy: FullPolicy) -> abi.LimiterOptions:
    if not isinstance(full_policy, FullPolicy):
        raise wrong_type("full_policy", full_policy, "a member of FullPolicy")
    options = abi.LimiterOptions()
    _ffi.check(_ffi.api.escope_limiter_options_init(byref(options), sizeof(options)))
    options.full_policy = full_policy
    return options


def _name(name: object) -> bytes:
    allowed = "text of 1 to 255 bytes of UTF-8 without NUL"
    if not isinstance(name, str):
        raise wrong_type("name", name, allowed)
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise invalid("name", name, allowed) from None
    if b"\0" in encoded:
        raise invalid("name", name, allowed)
    return encoded


def _path(path: object) -> bytes:
    allowed = "the name of a file, without NUL"
    try:
        name = os.fsencode(path)  # type: ignore[arg-type]
    except TypeError:
        raise wrong_type("path", path, allowed) from None
    except UnicodeEncodeError:
        raise invalid("path", path, allowed) from None
    if b"\0" in name:
        raise invalid("path", path, allowed)
    return name
