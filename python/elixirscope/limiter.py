"""Rate limiter: a bucket of tokens for each key, in one table of fixed size.

The arithmetic is the native library's. A key is text or bytes; text counts as its UTF-8 bytes, so the same
key is the same in every language.
"""

from __future__ import annotations

import struct
from ctypes import byref, c_size_t, c_uint64, sizeof
from typing import Any, Final, NamedTuple

from . import _ffi
from ._unique import Unique
from ._units import NS_PER_S, nanoseconds, seconds, unsigned
from .clock import Clock, checked
from .errors import EXCEPTIONS, HandleClosed, InvalidArgument, Refused, Status, invalid, wrong_type


class Decision(NamedTuple):
    """Verdict on one call; true when it is allowed.

    ``remaining`` tokens are left of ``limit``, and after ``reset_after`` seconds the bucket is full again. A
    refused call can pass after ``retry_after`` seconds; infinite means never, its cost is above the bucket.
    """

    allowed: bool
    status: Status
    remaining: int
    limit: int
    retry_after: float
    reset_after: float

    def __bool__(self) -> bool:
        return self.allowed


class LimiterSnapshot(NamedTuple):
    """What a limiter has counted so far, and its table: places for keys, and bytes in all."""

    allowed: int
    limited: int
    never: int
    table_full: int
    capacity: int
    bytes: int


class _Answer:
    """The memory of one answer. It is used again, so nothing outside this module may keep it."""

    __slots__ = ("decision", "ref")

    def __init__(self) -> None:
        self.decision = _ffi.Decision()
        self.ref = byref(self.decision)


_check = _ffi.hot("escope_limiter_check")
_check_at = _ffi.hot("escope_limiter_check_at")
_peek = _ffi.api.escope_limiter_peek
_peek_at = _ffi.api.escope_limiter_peek_at
_fields: Final = struct.Struct("=4Q").unpack_from
_ONE: Final = c_uint64(1)
_USUAL_LENGTHS: Final = 256
_LENGTHS: Final = tuple(c_size_t(length) for length in range(_USUAL_LENGTHS))
# Rules are few. A caller that computes a new one for each call must not fill the memory with them.
_MOST_RULES: Final = 1024


class RateLimiter(Unique):
    """For each key a bucket of ``limit`` tokens that refills evenly in ``window`` seconds.

    >>> from elixirscope import ManualClock, RateLimiter
    >>> limiter = RateLimiter(clock=ManualClock())
    >>> [limiter.check("user:1", limit=2, window=60).allowed for call in range(3)]
    [True, True, False]
    >>> limiter.check("user:1", limit=2, window=60).retry_after
    30.0
    >>> limiter.check("user:2", limit=2, window=60).remaining
    1

    The rule comes with the call; a call with another rule on the same key keeps the key's debt. ``burst`` is
    the size of the bucket, ``limit`` unless it is given.

    Memory is fixed: ``max_keys`` keys that owe tokens have a place at the same time; a key whose bucket is
    full again takes none. ``secret``, 16 bytes, seeds the hash of the keys; without it each limiter draws its
    own.

    Any thread and any task may use one limiter at a time, and nothing waits. After a fork parent and child
    have a limiter each.
    """

    __slots__ = ("__weakref__", "_clock", "_handle", "_idle", "_rules")

    def __init__(
        self, max_keys: int = 65_536, *, secret: bytes | None = None, clock: Clock | None = None
    ) -> None:
        options = _ffi.LimiterOptions(
            struct_size=sizeof(_ffi.LimiterOptions), max_keys=unsigned("max_keys", max_keys, 64)
        )
        if secret is not None:
            if not isinstance(secret, bytes):
                raise wrong_type("secret", secret, "16 bytes")
            options.secret = secret
            options.secret_len = len(secret)
        self._clock = checked(clock)
        self._idle: list[_Answer] = []
        self._rules: dict[tuple[object, object, object], Any] = {}
        handle = _ffi.LimiterHandle()
        _ffi.check(_ffi.api.escope_limiter_new(byref(options), byref(handle)))
        self._handle: _ffi.LimiterHandle | None = handle

    def check(
        self, key: str | bytes, limit: int, window: float, cost: int = 1, burst: int | None = None
    ) -> Decision:
        """Takes ``cost`` tokens from the bucket of ``key`` if it holds them; a refusal takes nothing."""
        try:
            rule = self._rules[limit, window, burst]
        except (KeyError, TypeError):
            rule = self._new_rule(limit, window, burst)
        # `str` is spelled out because it is the common case; a call of `_bytes` costs as much as the hash.
        try:
            name = key.encode() if key.__class__ is str else _bytes(key)  # type: ignore[union-attr]
        except UnicodeEncodeError:
            name = _bytes(key)
        size = len(name)
        length = _LENGTHS[size] if size < _USUAL_LENGTHS else c_size_t(size)
        tokens = _ONE if cost == 1 else c_uint64(unsigned("cost", cost, 64))
        idle = self._idle
        answer = idle.pop() if idle else _Answer()
        if self._clock is None:
            status = _check(self._handle, name, length, rule, tokens, answer.ref)
        else:
            now = c_uint64(unsigned("clock", self._clock(), 64))
            status = _check_at(self._handle, name, length, rule, tokens, answer.ref, now)
        if status < 0:
            raise self._failure(status)
        remaining, most, retry_after, reset_after = _fields(answer.decision)
        idle.append(answer)
        if status == 0:
            return _decide(Decision, (True, _OK, remaining, most, 0.0, reset_after / NS_PER_S))
        return Decision(False, Status(status), remaining, most, seconds(retry_after), seconds(reset_after))

    def require(
        self, key: str | bytes, limit: int, window: float, cost: int = 1, burst: int | None = None
    ) -> Decision:
        """Like `check`, and raises `RateLimited` when the call is refused.

        >>> from elixirscope import ManualClock, RateLimited, RateLimiter
        >>> limiter = RateLimiter(clock=ManualClock())
        >>> try:
        ...     for call in range(11):
        ...         decision = limiter.require("user:1", limit=10, window=60)
        ... except RateLimited as refusal:
        ...     print(call, refusal.retry_after)
        10 6.0
        """
        decision = self.check(key, limit, window, cost, burst)
        if decision.status is not _OK:
            kind = EXCEPTIONS[decision.status]
            assert issubclass(kind, Refused)
            message = f"{_ffi.text(decision.status)} Key {key!r}, retry after {decision.retry_after:g} s."
            raise kind(message, decision.retry_after)
        return decision

    def peek(self, key: str | bytes, limit: int, window: float, burst: int | None = None) -> Decision:
        """What a `check` of cost 1 would say now; takes nothing."""
        rule = self._new_rule(limit, window, burst)
        name = _bytes(key)
        answer = _Answer()
        if self._clock is None:
            status = _peek(self._live(), name, len(name), rule, answer.ref)
        else:
            now = unsigned("clock", self._clock(), 64)
            status = _peek_at(self._live(), name, len(name), rule, answer.ref, now)
        if status < 0:
            raise self._failure(status)
        remaining, most, retry_after, reset_after = _fields(answer.decision)
        return Decision(
            status == 0, Status(status), remaining, most, seconds(retry_after), seconds(reset_after)
        )

    def reset(self, key: str | bytes) -> None:
        """Fills the bucket of ``key``."""
        name = _bytes(key)
        _ffi.check(_ffi.api.escope_limiter_reset(self._live(), name, len(name)))

    def snapshot(self) -> LimiterSnapshot:
        """Counts and size; taking it changes nothing."""
        stats = _ffi.LimiterStats(struct_size=sizeof(_ffi.LimiterStats))
        _ffi.check(_ffi.api.escope_limiter_snapshot(self._live(), byref(stats)))
        return LimiterSnapshot(
            allowed=stats.allowed,
            limited=stats.limited,
            never=stats.never,
            table_full=stats.table_full,
            capacity=stats.capacity,
            bytes=stats.bytes,
        )

    def close(self) -> None:
        """Gives the native table back; a later use raises `HandleClosed`."""
        self._handle = None

    def _live(self) -> _ffi.LimiterHandle:
        if self._handle is None:
            raise HandleClosed("this rate limiter was closed")
        return self._handle

    def _failure(self, status: int) -> Exception:
        if self._handle is None:
            return HandleClosed("this rate limiter was closed")
        failure = _ffi.error(status)
        # The library names the parts of its own rule; here they came from `limit` and `window`.
        message = str(failure)
        for native, given in _GIVEN:
            if message.startswith(native):
                return InvalidArgument(given + message[len(native) :])
        return failure

    def _new_rule(self, limit: int, window: float, burst: int | None) -> Any:
        rule = byref(
            _ffi.Rule(
                tokens=unsigned("limit", limit, 64),
                period_ns=nanoseconds("window", window),
                burst=unsigned("limit", limit, 64) if burst is None else unsigned("burst", burst, 64),
            )
        )
        if len(self._rules) >= _MOST_RULES:
            self._rules.clear()
        self._rules[limit, window, burst] = rule
        return rule


_GIVEN: Final = (("`tokens` is", "`limit` is"), ("`period_ns` is", "`window` in nanoseconds is"))
_OK: Final = Status.OK
_decide: Final = tuple.__new__


def _bytes(key: object) -> bytes:
    allowed = "text that UTF-8 can hold, or bytes"
    if isinstance(key, bytes):
        return key
    if not isinstance(key, str):
        raise wrong_type("key", key, allowed)
    try:
        return key.encode()
    except UnicodeEncodeError:
        raise invalid("key", key, allowed) from None
