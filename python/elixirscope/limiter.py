"""Rate limiter: a bucket of tokens for each key, in one table of fixed size.

The arithmetic is the native library's. A key is text or bytes; text counts as its UTF-8 bytes, so the same
key meets the same bucket in every language.
"""

from __future__ import annotations

import struct
from ctypes import byref, c_char_p, c_size_t, c_uint64, create_string_buffer, sizeof
from typing import Any, Final, NamedTuple

from . import _ffi
from ._units import NS_PER_S, nanoseconds, seconds, unsigned
from .clock import Clock
from .errors import EXCEPTIONS, HandleClosed, RateLimited, Status, wrong_type


class Decision(NamedTuple):
    """Verdict on one call; true when it is allowed.

    ``remaining`` tokens are left of ``limit``; ``reset_after`` seconds make the bucket full again.
    ``retry_after`` is infinite when the cost is above the limit: no later try can succeed.
    """

    status: Status
    remaining: int
    limit: int
    retry_after: float
    reset_after: float

    @property
    def allowed(self) -> bool:
        """Whether the call may go on."""
        return self.status is Status.OK

    def __bool__(self) -> bool:
        return self.status is Status.OK


class LimiterSnapshot(NamedTuple):
    """What a limiter has counted so far, and the size of its table."""

    allowed: int
    limited: int
    never: int
    table_full: int
    capacity: int
    bytes: int
    live_keys: int


class _Answer:
    """The memory of one answer. It is used again, so nothing outside this module may keep it."""

    __slots__ = ("decision", "ref")

    def __init__(self) -> None:
        self.decision = _ffi.Decision()
        self.ref = byref(self.decision)


_check = _ffi.hot("escope_limiter_check")
_check_at = _ffi.hot("escope_limiter_check_at")
_unpack: Final = struct.Struct("=4Q").unpack_from
_new: Final = tuple.__new__
_ONE: Final = c_uint64(1)
# Rules are few; a caller that computes a new one for each call must not fill the memory with them.
_MOST_RULES: Final = 1024


class RateLimiter:
    """Admits ``limit`` calls in any ``window`` seconds for each key (the generic cell rate algorithm).

    >>> from elixirscope import ManualClock, RateLimiter
    >>> limiter = RateLimiter(clock=ManualClock())
    >>> [limiter.check("user:1", limit=2, window=60).allowed for call in range(3)]
    [True, True, False]
    >>> limiter.check("user:1", limit=2, window=60).retry_after
    30.0
    >>> limiter.check("user:2", limit=2, window=60).remaining
    1

    The rule comes with the call; a call with another rule on the same key keeps the key's debt. ``burst`` is
    the size of the bucket, ``limit`` unless given.

    Memory is fixed: ``max_keys`` keys that are not at their full bucket have place at the same time. A key
    whose bucket is full again costs nothing.

    ``secret``, 16 bytes, seeds the hash of the keys; without it each limiter draws its own.

    Any thread and any task may use one limiter at a time; nothing waits. After a fork parent and child have a
    limiter each.
    """

    __slots__ = ("__weakref__", "_clock", "_handle", "_idle", "_rules")

    def __init__(
        self, max_keys: int = 65_536, *, secret: bytes | None = None, clock: Clock | None = None
    ) -> None:
        self._handle: _ffi.LimiterHandle | None = None
        self._clock = clock
        self._idle: list[_Answer] = []
        self._rules: dict[tuple[object, object, object], Any] = {}
        options = _ffi.LimiterOptions(
            struct_size=sizeof(_ffi.LimiterOptions), max_keys=unsigned("max_keys", max_keys, 64)
        )
        if secret is not None:
            options.secret, options.secret_len = _secret(secret)
        handle = _ffi.LimiterHandle()
        _ffi.check(_ffi.api.escope_limiter_new(byref(options), byref(handle)))
        self._handle = handle

    def check(
        self, key: str | bytes, limit: int, window: float, cost: int = 1, burst: int | None = None
    ) -> Decision:
        """Takes ``cost`` tokens from the bucket of ``key`` if it holds them; a refusal takes nothing."""
        try:
            rule = self._rules[limit, window, burst]
        except (KeyError, TypeError):
            rule = self._rule(limit, window, burst)
        name = key.encode() if key.__class__ is str else _bytes(key)
        try:
            answer = self._idle.pop()
        except IndexError:
            answer = _Answer()
        tokens = _ONE if cost == 1 else c_uint64(unsigned("cost", cost, 64))
        if self._clock is None:
            status = _check(self._handle, c_char_p(name), c_size_t(len(name)), rule, tokens, answer.ref)
        else:
            now = c_uint64(unsigned("clock", self._clock(), 64))
            status = _check_at(self._handle, name, c_size_t(len(name)), rule, tokens, answer.ref, now)
        if status < 0:
            raise self._error(status)
        decision = _decision(status, answer.decision)
        self._idle.append(answer)
        return decision
