"""Rate limiter: a bucket of tokens for each key, in one table of fixed size.

The arithmetic is the native library's. A key is text or bytes; text counts as its UTF-8 bytes, so the same
key is the same in every language.
"""

from __future__ import annotations

import asyncio
import functools
import struct
import time
from collections.abc import Callable
from ctypes import byref, c_size_t, c_uint64, sizeof
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar, cast

from . import _ffi
from . import _limiter_abi as abi
from ._decorated import is_coroutine_function
from ._limiter_groups import GroupLimiter
from ._limiter_limits import Charge, Limit, named, native_charges
from ._limiter_native import decision_of, key_bytes, native_rule, refusal
from ._limiter_receipts import Reservation
from ._limiter_types import Decision
from ._limiter_wait import Turn
from ._units import NS_PER_S, seconds, timeout_ns, unsigned
from .clock import Clock
from .errors import Status

P = ParamSpec("P")
R = TypeVar("R")


# The memory of one answer, and a reference to it for the library. A bytearray is read in half the time.
_Answer: TypeAlias = tuple[bytearray, Any]


def _new_answer() -> _Answer:
    memory = bytearray(sizeof(abi.Decision))
    return memory, byref(abi.Decision.from_buffer(memory))


_check = _ffi.hot("escope_limiter_check")
_check_at = _ffi.hot("escope_limiter_check_at")
_check_limit = _ffi.hot("escope_limiter_check_limit")
_check_limit_at = _ffi.hot("escope_limiter_check_limit_at")
_fields: Final = struct.Struct("=4Q").unpack_from
# Prepared arguments: of a `c_uint64` ctypes makes one in every call.
_ONE: Final = c_uint64.from_param(1)
_LENGTHS: Final = tuple(c_size_t.from_param(length) for length in range(256))
# Rules are few. A caller that computes a new one for each call must not fill the memory with them.
_MOST_RULES: Final = 1024
_OK: Final = Status.OK
_decide: Final = tuple.__new__


class RateLimiter(GroupLimiter):
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
    the size of the bucket, ``limit`` unless it is given. Where a rule goes, a `Limit` with a name goes too.

    Memory is fixed: ``max_keys`` keys that owe tokens have a place at the same time; a key whose bucket is
    full again takes none. ``full_policy`` says what a new key gets that finds no place. ``secret``, 16 bytes,
    seeds the hash of the keys; without it each limiter draws its own.

    Any thread and any task may use one limiter at a time. Nothing waits but `acquire` and `acquire_async`, up
    to ``max_waiting`` callers at a time. After a fork parent and child have a limiter each.
    """

    __slots__ = ("__weakref__", "_idle")

    def _begin(self, max_waiting: int, clock: Clock | None) -> None:
        super()._begin(max_waiting, clock)
        self._idle: list[_Answer] = []

    def check(
        self,
        key: str | bytes,
        limit: int | Limit,
        window: float | None = None,
        cost: int = 1,
        burst: int | None = None,
    ) -> Decision:
        """Takes ``cost`` tokens from the bucket of ``key`` if it holds them; a refusal takes nothing."""
        if window is None and isinstance(limit, Limit):
            call, call_at, rule = _check_limit, _check_limit_at, named(limit, window, burst, self._owner)
        else:
            call, call_at = _check, _check_at
            try:
                rule = self._rules[limit, window, burst]
            except (KeyError, TypeError):
                rule = self._new_rule(limit, window, burst)
        # `str` is spelled out because it is the common case; a call of `key_bytes` costs as much as the hash.
        try:
            name = key.encode() if key.__class__ is str else key_bytes(key)  # type: ignore[union-attr]
        except UnicodeEncodeError:
            name = key_bytes(key)
        try:
            length = _LENGTHS[len(name)]
        except IndexError:
            length = c_size_t(len(name))
        tokens = _ONE if cost == 1 else c_uint64(unsigned("cost", cost, 64))
        idle = self._idle
        answer = idle.pop() if idle else _new_answer()
        memory, ref = answer
        if self._clock is None:
            status = call(self._handle, name, length, rule, tokens, ref)
        else:
            now = c_uint64(unsigned("clock", self._clock(), 64))
            status = call_at(self._handle, name, length, rule, tokens, ref, now)
        if status < 0:
            raise self._failure(status)
        remaining, most, retry_after, reset_after = _fields(memory)
        idle.append(answer)
        if status == 0:
            return _decide(Decision, (True, _OK, remaining, most, 0.0, reset_after / NS_PER_S))
        return Decision(False, Status(status), remaining, most, seconds(retry_after), seconds(reset_after))

    def require(
        self,
        key: str | bytes,
        limit: int | Limit,
        window: float | None = None,
        cost: int = 1,
        burst: int | None = None,
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
            raise refusal(decision, f"Key {key!r}", decision.retry_after)
        return decision

    def peek(
        self, key: str | bytes, limit: int | Limit, window: float | None = None, burst: int | None = None
    ) -> Decision:
        """What a `check` of cost 1 would say now; takes nothing."""
        name, native = key_bytes(key), abi.Decision()
        if isinstance(limit, Limit):
            by: Any = named(limit, window, burst, self._owner)
            function, at = _PEEK_LIMIT, _PEEK_LIMIT_AT
        else:
            by = byref(native_rule(limit, window, burst))
            function, at = _PEEK, _PEEK_AT
        if self._clock is None:
            status = function(self._live(), name, len(name), by, byref(native))
        else:
            now = unsigned("clock", self._clock(), 64)
            status = at(self._live(), name, len(name), by, byref(native), now)
        if status < 0:
            raise self._failure(status)
        return decision_of(native)

    def reset(self, key: str | bytes) -> None:
        """Fills the bucket of ``key``, and forgets its reservations."""
        name = key_bytes(key)
        _ffi.check(_ffi.api.escope_limiter_reset(self._live(), name, len(name)))

    def reserve(
        self,
        key: str | bytes,
        limit: int | Limit,
        window: float | None = None,
        cost: int = 1,
        burst: int | None = None,
        *,
        max_wait: float | None = 0,
    ) -> Reservation:
        """Takes ``cost`` tokens for use after `Reservation.wait` seconds, first come, first served.

        A wait of more than ``max_wait`` seconds raises `RateLimited` and takes nothing; with 0, the default,
        it is a `require` that leaves a receipt. None takes any wait. The caller sleeps; `acquire` does both.
        A refusal's ``retry_after`` is the time until a `check` would pass.
        """
        return self._reserve(Charge(key, limit, window, cost, burst), timeout_ns("max_wait", max_wait))

    def acquire(
        self,
        key: str | bytes,
        limit: int | Limit,
        window: float | None = None,
        cost: int = 1,
        burst: int | None = None,
        *,
        timeout: float | None = None,
    ) -> Reservation:
        """Takes ``cost`` tokens and sleeps until they may be used, without the interpreter lock.

        First come, first served. A wait of more than ``timeout`` seconds raises `RateLimited` at once; None
        takes any wait. `QueueFull` says that ``max_waiting`` callers wait already. An exception that a signal
        handler raises, as Ctrl-C does, ends the wait and gives the tokens back, unless others queue behind.

        >>> from elixirscope import RateLimiter
        >>> limiter = RateLimiter()
        >>> [limiter.acquire("a", limit=1000, window=1, burst=1).wait > 0 for call in range(2)]
        [False, True]
        """
        with self._turn(Charge(key, limit, window, cost, burst), timeout) as turn:
            while left := turn.left():
                time.sleep(left)
        return turn.reservation

    async def acquire_async(
        self,
        key: str | bytes,
        limit: int | Limit,
        window: float | None = None,
        cost: int = 1,
        burst: int | None = None,
        *,
        timeout: float | None = None,
    ) -> Reservation:
        """Like `acquire`, and lets other tasks run; cancelling the task ends the wait."""
        with self._turn(Charge(key, limit, window, cost, burst), timeout) as turn:
            while left := turn.left():
                await asyncio.sleep(left)
        return turn.reservation

    def limited(
        self,
        key: str | bytes | Callable[..., str | bytes],
        limit: int | Limit,
        window: float | None = None,
        cost: int = 1,
        burst: int | None = None,
        *,
        timeout: float | None = 0,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Decorates a function or a coroutine function, each call of which takes ``cost`` tokens first.

        ``key`` is the key, or a function that gives it, called with the arguments of the call. With a
        ``timeout`` of 0, the default, a call without tokens raises `RateLimited`; else it waits as `acquire`.

        >>> from elixirscope import ManualClock, RateLimited, RateLimiter
        >>> limiter = RateLimiter(clock=ManualClock())
        >>> @limiter.limited(lambda name: f"user:{name}", limit=1, window=60)
        ... def greet(name):
        ...     return f"hello {name}"
        >>> greet("ann"), greet("bob")
        ('hello ann', 'hello bob')
        >>> try:
        ...     greet("ann")
        ... except RateLimited as refusal:
        ...     print(refusal.retry_after)
        60.0
        """

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            if is_coroutine_function(function):

                @functools.wraps(function)
                async def limited_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
                    name = key(*args, **kwargs) if callable(key) else key
                    await self.acquire_async(name, limit, window, cost, burst, timeout=timeout)
                    return await cast(Any, function(*args, **kwargs))

                return cast("Callable[P, R]", limited_coroutine)

            @functools.wraps(function)
            def limited_function(*args: P.args, **kwargs: P.kwargs) -> R:
                name = key(*args, **kwargs) if callable(key) else key
                self.acquire(name, limit, window, cost, burst, timeout=timeout)
                return function(*args, **kwargs)

            return limited_function

        return decorate

    def _turn(self, charge: Charge, timeout: float | None) -> Turn:
        longest = timeout_ns("timeout", timeout)
        reserve = functools.partial(self._reserve, charge)
        return Turn(reserve, longest, self._clock, self._waiting, self._max_waiting)

    def _reserve(self, charge: Charge, max_wait: int) -> Reservation:
        handle, native = self._live(), native_charges([charge], self._owner)
        receipt, wait, decision = abi.Receipt(), c_uint64(), abi.Decision()
        arguments = (handle, native, max_wait, byref(receipt), byref(wait), byref(decision))
        if self._clock is None:
            status = _ffi.api.escope_limiter_reserve(*arguments)
        else:
            now = unsigned("clock", self._clock(), 64)
            status = _ffi.api.escope_limiter_reserve_at(*arguments, now)
        if status < 0:
            raise self._failure(status)
        verdict = decision_of(decision)
        if not verdict:
            raise refusal(verdict, f"Key {charge.key!r}", verdict.retry_after)
        limit = charge.limit._handle if isinstance(charge.limit, Limit) else None
        return Reservation(handle, limit, self._clock, receipt, verdict, wait.value)

    def _new_rule(self, limit: object, window: object, burst: object) -> Any:
        if isinstance(limit, Limit):
            named(limit, window, burst, self._owner)
        rule = byref(native_rule(limit, window, burst))
        if len(self._rules) >= _MOST_RULES:
            self._rules.clear()
        self._rules[limit, window, burst] = rule
        return rule


_PEEK: Final = _ffi.api.escope_limiter_peek
_PEEK_AT: Final = _ffi.api.escope_limiter_peek_at
_PEEK_LIMIT: Final = _ffi.api.escope_limiter_peek_limit
_PEEK_LIMIT_AT: Final = _ffi.api.escope_limiter_peek_limit_at
