"""What a pool may be told: names, kinds and units of Python, and the library's field for each.

What a value may be is the library's business. Only shapes are checked here, and its answers translated: it
names its own field and number, and who wrote ``keepalive=60`` never heard of nanoseconds.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from ctypes import byref, sizeof
from typing import Any, Final, Literal, TypedDict

from . import _ffi
from . import _pool_abi as abi
from ._units import FOREVER_NS, nanoseconds, timeout_ns, unsigned
from .errors import Error, WrongType, invalid, wrong_type


class PoolOptions(TypedDict, total=False):
    """The options of a `Pool`, each with a default. Times are seconds.

    How many: ``size`` (5) connections are kept, and up to ``max_overflow`` (10) more are made while there is
    need; one of those is destroyed when it has been idle for ``overflow_ttl`` (0, at once). ``min_idle`` (0)
    are idle or being made ahead of demand. `Pool.resize` may ask for up to ``max_slots`` (0, for ``size`` and
    ``max_overflow``). At most ``max_concurrent_creates`` (65,536) are made at a time.

    Which: ``order`` is ``"lifo"``, the default, ``"fifo"``, ``"round_robin"`` or ``"least_used"``.

    How old: a connection is destroyed when it has been idle for ``idle_timeout`` (0), while more than
    ``min_idle`` are, and when it is ``max_lifetime`` (0) old, or up to ``max_lifetime_jitter`` (0) younger.

    How well: ``check`` tests one that was neither used nor tested for ``keepalive`` (0). ``health`` is
    ``"off"``, the default, ``"passive"``: on return, ``"active"``: all idle ones every ``health_interval``
    (0), or ``"mixed"``: on return, and half of the idle ones every interval. Before it is lent one is tested
    that was neither used nor tested for longer than ``pre_ping_after`` (None, never). A test that takes
    longer than ``check_limit``, ``pre_ping_limit``, or with the reset on return ``return_limit`` (0, no
    limit) has failed.

    Who waits: up to ``max_waiters`` (10,000). When the first in the queue has waited for more than
    ``queue_target`` (0) for a whole ``queue_interval`` (0, never), waits are ended by `Shed`, after CoDel.

    When creations fail: ``create_failure`` is ``"fail_fast"``, the default: the first in the queue gets
    `CreateFailed`, or ``"retry"``: it waits on. The pool pauses for ``create_backoff`` (0.1) seconds, twice
    as long after each further one, up to ``create_backoff_cap`` (10).

    What is told: ``on_leak`` hears of each loan that lasts longer than ``leak_after`` (0, never).
    With ``measure`` the snapshot has the time of use, for a look at the clock with every call.
    """

    size: int
    max_overflow: int
    max_slots: int
    min_idle: int
    max_concurrent_creates: int
    max_waiters: int
    order: Literal["lifo", "fifo", "round_robin", "least_used"]
    overflow_ttl: float
    idle_timeout: float
    max_lifetime: float
    max_lifetime_jitter: float
    keepalive: float
    health: Literal["off", "passive", "active", "mixed"]
    health_interval: float
    check_limit: float
    return_limit: float
    pre_ping_after: float | None
    pre_ping_limit: float
    leak_after: float
    queue_target: float
    queue_interval: float
    create_failure: Literal["fail_fast", "retry"]
    create_backoff: float
    create_backoff_cap: float
    measure: bool


ORDERS: Final = {"lifo": 0, "fifo": 1, "round_robin": 2, "least_used": 3}
HEALTH: Final = {"off": 0, "passive": 1, "active": 2, "mixed": 3}
CREATE_FAILURES: Final = {"fail_fast": 0, "retry": 1}


def _count(option: str, value: object) -> int:
    return unsigned(option, value, 32)


def _switch(option: str, value: object) -> int:
    if not isinstance(value, bool):
        raise wrong_type(option, value, "True or False")
    return int(value)


def _one_of(words: Mapping[str, int]) -> Callable[[str, object], int]:
    def number(option: str, value: object) -> int:
        if not isinstance(value, str) or value not in words:
            *others, last = map(repr, words)
            raise invalid(option, value, f"{', '.join(others)} or {last}")
        return words[value]

    return number


# The library's field and how a value becomes its number, for each option.
OPTIONS: Final[dict[str, tuple[str, Callable[[str, object], int]]]] = {
    "size": ("size", _count),
    "max_overflow": ("max_overflow", _count),
    "max_slots": ("max_slots", _count),
    "min_idle": ("min_idle", _count),
    "max_concurrent_creates": ("max_concurrent_creates", _count),
    "max_waiters": ("max_waiters", _count),
    "order": ("order", _one_of(ORDERS)),
    "overflow_ttl": ("overflow_ttl_ns", nanoseconds),
    "idle_timeout": ("idle_timeout_ns", nanoseconds),
    "max_lifetime": ("max_lifetime_ns", nanoseconds),
    "max_lifetime_jitter": ("max_lifetime_jitter_ns", nanoseconds),
    "keepalive": ("keepalive_ns", nanoseconds),
    "health": ("health", _one_of(HEALTH)),
    "health_interval": ("health_interval_ns", nanoseconds),
    "check_limit": ("check_limit_ns", nanoseconds),
    "return_limit": ("return_limit_ns", nanoseconds),
    "pre_ping_after": ("pre_ping_after_ns", timeout_ns),
    "pre_ping_limit": ("pre_ping_limit_ns", nanoseconds),
    "leak_after": ("leak_after_ns", nanoseconds),
    "queue_target": ("queue_target_ns", nanoseconds),
    "queue_interval": ("queue_interval_ns", nanoseconds),
    "create_failure": ("create_failure", _one_of(CREATE_FAILURES)),
    "create_backoff": ("create_backoff_ns", nanoseconds),
    "create_backoff_cap": ("create_backoff_cap_ns", nanoseconds),
    "measure": ("measure", _switch),
}
_NAMES: Final = {field: name for name, (field, _) in OPTIONS.items()} | {"leaked": "on_leak"}


def native(given: Mapping[str, Any]) -> abi.PoolOptions:
    """The library's options, without callbacks."""
    options = abi.PoolOptions()
    _ffi.check(_ffi.api.escope_pool_options_init(byref(options), sizeof(options)))
    for name, value in given.items():
        if name not in OPTIONS:
            close = difflib.get_close_matches(name, OPTIONS, n=1)
            hint = f"; did you mean `{close[0]}`?" if close else ""
            raise WrongType(f"`{name}` is no option of a pool{hint}")
        field, number = OPTIONS[name]
        setattr(options, field, number(name, value))
    return options


def refusal(status: int, given: Mapping[str, Any]) -> Error:
    """The exception for options that the library refused, in the words of Python's."""
    failure = _ffi.error(status)
    found = re.fullmatch(r"`(\w+)` is (.+), allowed is (.+)", str(failure))
    if found is None or found[1] not in _NAMES.keys() | {"check"}:
        return failure
    field, value, allowed = found.groups()
    name = _NAMES.get(field, field)
    if field.endswith("_ns"):
        value = repr(given[name]) if name in given else f"{int(value) / 1e9:.10g} (its default)"
        # The smallest time that is not 0.
        allowed = re.sub(r"^1 or more", "more than 0", allowed)
    elif value == "NULL":
        value = "None"
    return type(failure)(f"`{name}` is {value}, allowed is {re.sub(r'_ns', '', allowed)}")


def pre_pings(options: abi.PoolOptions) -> bool:
    """Whether a check-out may test a connection."""
    return bool(options.pre_ping_after_ns != FOREVER_NS)
