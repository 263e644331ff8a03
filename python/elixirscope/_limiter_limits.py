"""Limits with a name, and charges: whom to debit, by what, how much."""

from __future__ import annotations

import struct
from ctypes import addressof, byref, c_char_p, c_uint64, c_void_p, cast
from typing import Any, NamedTuple

from . import _ffi
from . import _limiter_abi as abi
from ._limiter_native import failure, key_bytes, native_rule
from ._limiter_types import Rule, Strategy
from ._unique import Unique
from ._units import NS_PER_S, seconds, unsigned
from .clock import Clock
from .errors import ChangeTooSoon, Status, invalid, wrong_type


class Owner:
    """Which limiter a limit belongs to: one object in both, for a limit does not refer to its limiter."""

    __slots__ = ()


class Limit(Unique):
    """A rule with a name, which many keys share and which may change while they live.

    `RateLimiter.define` makes one; it goes where a call takes ``limit``, without a ``window``. A key that is
    measured by a limit must not be measured by a rule or by another limit as well: put the limit's name into
    the key, such as ``"user:ann"``. Any thread may use one at a time.

    >>> from elixirscope import ManualClock, RateLimiter, Strategy
    >>> limiter = RateLimiter(clock=ManualClock())
    >>> user = limiter.define("user", limit=10, window=60)
    >>> limiter.check("user:ann", user, cost=4).remaining
    6
    >>> user.change(limit=20, window=60, strategy=Strategy.PROPORTIONAL)
    >>> limiter.peek("user:ann", user).remaining
    12
    """

    __slots__ = ("__weakref__", "_clock", "_handle", "_owner", "name")

    def __init__(self, name: str, handle: abi.LimitHandle, clock: Clock | None, owner: Owner) -> None:
        self.name = name
        self._handle = handle
        self._clock = clock
        self._owner = owner

    def __repr__(self) -> str:
        limit, window, burst = self.rule
        return f"<{type(self).__name__} {self.name!r}: {limit} in {window:g} s, burst {burst}>"

    @property
    def rule(self) -> Rule:
        """The rule as it is applied: the one given, or the nearest slower one, by less than 0.1 %."""
        rule = abi.Rule()
        _ffi.check(_ffi.api.escope_limit_rule(self._handle, byref(rule)))
        return Rule(rule.tokens, rule.period_ns / NS_PER_S, rule.burst)

    def change(
        self, limit: int, window: float, burst: int | None = None, *, strategy: Strategy = Strategy.AS_IS
    ) -> None:
        """Replaces the rule. A key that owes tokens is carried over when it is used next, by ``strategy``.

        Raises `ChangeTooSoon`, with ``retry_after``, while keys may still owe from the rule of four
        changes ago.
        """
        if not isinstance(strategy, Strategy):
            raise wrong_type("strategy", strategy, "a member of Strategy")
        rule, retry_after = native_rule(limit, window, burst), c_uint64()
        arguments = (self._handle, byref(rule), strategy, byref(retry_after))
        if self._clock is None:
            status = _ffi.api.escope_limit_change(*arguments)
        else:
            status = _ffi.api.escope_limit_change_at(*arguments, unsigned("clock", self._clock(), 64))
        if status < 0:
            raise failure(status)
        if status:
            later = seconds(retry_after.value)
            raise ChangeTooSoon(f"{_ffi.text(Status(status))} Retry after {later:g} s.", later)


class Charge(NamedTuple):
    """``cost`` tokens from the bucket of ``key``, by a `Limit` or by a rule of its own."""

    key: str | bytes
    limit: int | Limit
    window: float | None = None
    cost: int = 1
    burst: int | None = None


def native_charges(charges: list[Charge], owner: Owner) -> Any:
    """An array of the library's structs, packed as a whole: field by field it would take twice as long.

    It keeps the keys and the rules that it points to; limits are kept by the charges.
    """
    names = [_name(charge) for charge in charges]
    keys = c_char_p(b"".join(names))
    at: int = cast(keys, c_void_p).value or 0
    rules: dict[tuple[object, ...], tuple[int, abi.Rule]] = {}
    fields: list[int] = []
    for name, (_, limit, window, cost, burst) in zip(names, charges, strict=True):
        rule_at = limit_at = 0
        if isinstance(limit, Limit):
            limit_at = named(limit, window, burst, owner).value or 0
        else:
            # The types as well, for 1, True and 1.0 are equal.
            terms = limit, limit.__class__, window, burst, burst.__class__
            try:
                rule_at, _rule = rules[terms]
            except (KeyError, TypeError):
                rule = native_rule(limit, window, burst)
                rule_at = addressof(rule)
                rules[terms] = rule_at, rule
        size = len(name)
        fields += at, size, rule_at, limit_at, 1 if cost == 1 else unsigned("cost", cost, 64)
        at += size
    packed = (abi.Charge * len(charges)).from_buffer_copy(struct.pack(f"={len(fields)}Q", *fields))
    packed.kept = keys, rules  # type: ignore[attr-defined]
    return packed


def _name(charge: object) -> bytes:
    if not isinstance(charge, Charge):
        raise wrong_type("charge", charge, "a Charge")
    return key_bytes(charge[0])


def named(limit: Limit, window: object, burst: object, owner: Owner) -> abi.LimitHandle:
    """The handle of a limit, which has its own window and burst, and is one of its limiter's."""
    if window is not None:
        raise invalid("window", window, "None beside a Limit, which has its own")
    if burst is not None:
        raise invalid("burst", burst, "None beside a Limit, which has its own")
    if limit._owner is not owner:
        raise invalid("limit", limit, "a Limit that this limiter has defined")
    return limit._handle
