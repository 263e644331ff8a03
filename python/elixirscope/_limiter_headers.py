"""Header fields of HTTP that tell a client about its rate limit.

As in the IETF draft draft-ietf-httpapi-ratelimit-headers, and ``Retry-After`` of RFC 9110.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref, c_size_t, create_string_buffer, sizeof
from typing import Any, Final

from . import _ffi
from . import _limiter_abi as abi
from ._limiter_limits import Limit
from ._limiter_native import failure, native_rule
from ._limiter_types import Decision, Rule
from ._units import FOREVER_NS, nanoseconds
from .errors import invalid, wrong_type

_FIELD_SIZE: Final = 192


def rate_limit_headers(decision: Decision, policy: Limit | str, rule: Rule | None = None) -> dict[str, str]:
    """Names and values of the fields to send with an answer.

    ``policy`` is a `Limit`, or a name of 1 to 64 printable ASCII characters; a limit, or a ``rule``, adds
    ``RateLimit-Policy``. ``Retry-After`` is there after a refusal that a wait helps. Times are whole seconds,
    rounded up.

    >>> from elixirscope import ManualClock, RateLimiter, Rule, rate_limit_headers
    >>> limiter = RateLimiter(clock=ManualClock())
    >>> decision = limiter.check("ann", limit=1, window=60)
    >>> rate_limit_headers(decision, "api", Rule(1, 60))
    {'RateLimit': '"api";r=0;t=60', 'RateLimit-Policy': '"api";q=1;w=60'}
    >>> rate_limit_headers(limiter.check("ann", limit=1, window=60), "api")
    {'RateLimit': '"api";r=0;t=60', 'Retry-After': '60'}
    """
    if not isinstance(decision, Decision):
        raise wrong_type("decision", decision, "a Decision")
    if rule is not None and not isinstance(rule, Rule):
        raise wrong_type("rule", rule, "a Rule, or None")
    if isinstance(policy, Limit):
        rule = policy.rule if rule is None else rule
    name = _name(policy.name if isinstance(policy, Limit) else policy)
    native = abi.Decision(
        decision.remaining,
        decision.limit,
        _nanoseconds(decision.retry_after),
        _nanoseconds(decision.reset_after),
        decision.status,
    )
    fields = {"RateLimit": _rendered(_ffi.api.escope_decision_render_limit, byref(native), name)}
    if rule is not None:
        terms = byref(native_rule(*rule))
        fields["RateLimit-Policy"] = _rendered(_ffi.api.escope_rule_render_policy, terms, name)
    retry_after = _rendered(_ffi.api.escope_decision_render_retry_after, byref(native))
    if retry_after:
        fields["Retry-After"] = retry_after
    return fields


def _name(policy: object) -> bytes:
    allowed = "a Limit, or text of 1 to 64 printable ASCII characters"
    if not isinstance(policy, str):
        raise wrong_type("policy", policy, allowed)
    if not (policy.isascii() and policy.isprintable() and 1 <= len(policy) <= 64):
        raise invalid("policy", policy, allowed)
    return policy.encode()


def _nanoseconds(seconds: float) -> int:
    return FOREVER_NS if seconds == float("inf") else nanoseconds("seconds", seconds)


def _rendered(render: Callable[..., int], *arguments: Any) -> str:
    buffer, length = create_string_buffer(_FIELD_SIZE), c_size_t()
    status = render(*arguments, buffer, sizeof(buffer), byref(length))
    if status:
        raise failure(status)
    return buffer.value.decode()
