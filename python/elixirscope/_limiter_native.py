"""From Python's arguments to the library's structs, and back from its verdicts and failures."""

from __future__ import annotations

import struct
from typing import Any, Final

from . import _ffi
from . import _limiter_abi as abi
from ._limiter_types import Decision, parts
from ._units import NS_PER_S, seconds
from .errors import EXCEPTIONS, Error, InvalidArgument, RateLimited, Status, invalid, wrong_type

# The library names the parts of its own rule; here they came from `limit` and `window`.
_GIVEN: Final = (("`tokens` is", "`limit` is"), ("`period_ns` is", "`window` in nanoseconds is"))

# `abi.Decision`; to read it field by field takes three times as long.
_DECISION: Final = struct.Struct("=4Qi4x")
_OK: Final = Status.OK
_decide: Final = tuple.__new__
_STATUSES: Final = {int(status): status for status in Status}


def key_bytes(key: object) -> bytes:
    """A key as the library has it: text counts as its UTF-8 bytes."""
    allowed = "text that UTF-8 can hold, or bytes"
    if isinstance(key, bytes):
        return key
    if not isinstance(key, str):
        raise wrong_type("key", key, allowed)
    try:
        return key.encode()
    except UnicodeEncodeError:
        raise invalid("key", key, allowed) from None


def native_rule(limit: object, window: object, burst: object) -> abi.Rule:
    """The library's struct."""
    return abi.Rule(*parts(limit, window, burst))


def decisions_of(native: Any) -> list[Decision]:
    """What the library wrote about calls, each in a struct of an array."""
    return [
        _decide(Decision, (True, _OK, remaining, limit, 0.0, reset_after / NS_PER_S))
        if status == 0
        else Decision(False, _STATUSES[status], remaining, limit, seconds(retry_after), seconds(reset_after))
        for remaining, limit, retry_after, reset_after, status in _DECISION.iter_unpack(native)
    ]


def decision_of(native: abi.Decision) -> Decision:
    """What the library wrote about one call."""
    return decisions_of(native)[0]


def failure(status: int) -> Error:
    """The exception for misuse, in the words of Python's arguments."""
    problem = _ffi.error(status)
    message = str(problem)
    for native, given in _GIVEN:
        if message.startswith(native):
            return InvalidArgument(given + message[len(native) :])
    return problem


def refusal(decision: Decision, whom: str, retry_after: float) -> RateLimited:
    """The exception for a call that was refused."""
    kind = EXCEPTIONS[decision.status]
    assert issubclass(kind, RateLimited)
    problem = kind(f"{_ffi.text(decision.status)} {whom}, retry after {retry_after:g} s.", retry_after)
    problem.decision = decision
    return problem
