"""Many keys in one call: all or nothing, or each by itself."""

from __future__ import annotations

from collections.abc import Iterable
from ctypes import byref, c_size_t, c_uint64
from typing import NamedTuple

from . import _ffi
from . import _limiter_abi as abi
from ._limiter_admin import AdministeredLimiter
from ._limiter_limits import Charge, Limit, native_charges
from ._limiter_native import decisions_of, refusal
from ._limiter_types import Decision
from ._units import seconds, unsigned
from .errors import Status, invalid

MAX_GROUP = 32


class GroupDecision(NamedTuple):
    """Verdict on a group; true when it is allowed.

    ``decisions`` has what each key says by itself. Of a refused group, ``refused`` is the index of the first
    charge that is refused as the group is, ``level`` the name of its limit if it has one, and after
    ``retry_after`` seconds the group can pass; infinite means never.
    """

    allowed: bool
    status: Status
    decisions: tuple[Decision, ...]
    refused: int | None
    level: str | None
    retry_after: float

    def __bool__(self) -> bool:
        return self.allowed


class GroupLimiter(AdministeredLimiter):
    """The part of `RateLimiter` that measures many keys in one call."""

    __slots__ = ()

    def check_many(self, charges: Iterable[Charge]) -> GroupDecision:
        """Takes the tokens of all charges, at most 32, or none: user, organisation and everybody in one call.

        Charges of one key are summed. While a group is under way another call may be refused a token that
        the group then gives back; none is ever admitted beyond what each key allows.

        >>> from elixirscope import Charge, ManualClock, RateLimiter
        >>> limiter = RateLimiter(clock=ManualClock())
        >>> user = limiter.define("user", limit=5, window=60)
        >>> everybody = limiter.define("everybody", limit=1, window=60)
        >>> charges = [Charge("user:ann", user), Charge("everybody", everybody)]
        >>> limiter.check_many(charges).allowed
        True
        >>> denial = limiter.check_many(charges)
        >>> denial.level, denial.retry_after
        ('everybody', 60.0)
        >>> limiter.peek("user:ann", user).remaining
        4
        """
        return self._group(list(charges))

    def require_many(self, charges: Iterable[Charge]) -> GroupDecision:
        """Like `check_many`, and raises `RateLimited` when the group is refused."""
        group = list(charges)
        verdict = self._group(group)
        if verdict.refused is not None:
            charge = group[verdict.refused]
            whom = f"Key {charge.key!r}" + (f" of {verdict.level!r}" if verdict.level else "")
            raise refusal(verdict.decisions[verdict.refused], whom, verdict.retry_after)
        return verdict

    def check_batch(self, charges: Iterable[Charge]) -> list[Decision]:
        """Checks each charge by itself, in order, at one moment. A refusal does not stop the rest.

        >>> from elixirscope import Charge, ManualClock, RateLimiter
        >>> limiter = RateLimiter(clock=ManualClock())
        >>> batch = [Charge(key, limit=1, window=60) for key in ("a", "b", "a")]
        >>> [decision.allowed for decision in limiter.check_batch(batch)]
        [True, True, False]
        """
        batch = list(charges)
        native = native_charges(batch, self._owner)
        decisions = (abi.Decision * len(batch))()
        if self._clock is None:
            status = _ffi.api.escope_limiter_check_batch(self._live(), native, len(batch), decisions, None)
        else:
            now = unsigned("clock", self._clock(), 64)
            status = _ffi.api.escope_limiter_check_batch_at(
                self._live(), native, len(batch), decisions, None, now
            )
        if status:
            raise self._failure(status)
        return decisions_of(decisions)

    def _group(self, charges: list[Charge]) -> GroupDecision:
        count = len(charges)
        if count > MAX_GROUP:
            raise invalid("charges", f"{count} charges", f"up to {MAX_GROUP}")
        decisions, refused, retry_after = (abi.Decision * count)(), c_size_t(), c_uint64()
        arguments = (
            self._live(),
            native_charges(charges, self._owner),
            count,
            decisions,
            byref(refused),
            byref(retry_after),
        )
        if self._clock is None:
            status = _ffi.api.escope_limiter_check_many(*arguments)
        else:
            now = unsigned("clock", self._clock(), 64)
            status = _ffi.api.escope_limiter_check_many_at(*arguments, now)
        if status < 0:
            raise self._failure(status)
        blamed = refused.value if status else None
        limit = None if blamed is None else charges[blamed].limit
        return GroupDecision(
            status == 0,
            Status(status),
            tuple(decisions_of(decisions)),
            blamed,
            limit.name if isinstance(limit, Limit) else None,
            seconds(retry_after.value),
        )
