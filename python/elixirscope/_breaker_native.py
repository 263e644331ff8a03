"""From Python's options of a breaker to the library's, and back from its refusals.

What a value may be is the library's business. Only shapes are checked here, and its answers translated: it
names its own field, number and unit, and who wrote ``failure_rate=2`` never heard of basis points. Where a
value has no native number, the library is asked what it allows.

Unknown options are refused, and so are those of another policy than the breaker's: an option that silently
does nothing leaves a service unprotected.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from ctypes import byref, sizeof
from typing import Any, Final, TypeAlias

from . import _breaker_abi as abi
from . import _ffi
from ._breaker_options import (
    FAULTS,
    FIELDS,
    OF_POLICY,
    OF_STRATEGY,
    OPTIONS,
    POLICIES,
    STRATEGIES,
    SWITCH,
    Kind,
)
from .errors import Error, WrongType, invalid, wrong_type

# Values as they were given, by the library's fields: options whose groups were taken apart.
Layer: TypeAlias = Mapping[str, object]

# What these are called elsewhere.
_ELSEWHERE: Final = {
    "reset_timeout": "open_for",
    "max_reset_timeout": "max_open_for",
    "recovery_timeout": "open_for",
    "fail_max": "failure_threshold",
    "exclude": "ignore",
    "expected_exception": "failure_on",
    "listeners": "on_event",
}
_OF_THE_BINDING: Final = ("failure_on", "ignore", "is_failure", "on_event", "clock")


def layer(given: Mapping[str, Any]) -> dict[str, object]:
    """Options by the library's fields."""
    fields: dict[str, object] = {}
    for name, value in given.items():
        entry = OPTIONS.get(name)
        if entry is None:
            raise WrongType(_unknown(name))
        if not isinstance(entry, dict):
            fields[entry[0]] = value
            continue
        allowed = "a dictionary with keys of " + ", ".join(map(repr, entry))
        if not isinstance(value, Mapping):
            raise wrong_type(name, value, allowed)
        for key, part in value.items():
            if key not in entry:
                raise invalid(name, value, allowed)
            fields[entry[key][0]] = part
    return fields


def over(upper: Layer, lower: Layer) -> dict[str, object]:
    """One layer over another. A policy or strategy replaces the one below with all of its options."""
    gone: set[str] = set()
    if "policy" in upper:
        gone.update(*OF_POLICY.values())
    if "strategy" in upper:
        gone.update(*OF_STRATEGY.values())
    return {field: value for field, value in lower.items() if field not in gone} | dict(upper)


def native(fields: Layer) -> abi.BreakerOptions:
    """The library's struct."""
    options = _defaults()
    policy = _chosen("policy", fields.get("policy", "consecutive_failures"), OF_POLICY, fields)
    strategy = _chosen("strategy", fields.get("strategy", "fail_fast"), OF_STRATEGY, fields)
    if policy == "rate":
        policy = _window(fields)
    for field, value in fields.items():
        if field not in {"policy", "strategy"}:
            setattr(options, field, _number(field, value))
    options.policy, options.strategy = POLICIES[policy], STRATEGIES[strategy]
    return options


def native_faults(fields: Layer) -> list[int]:
    """The arguments of the library's fault injection."""
    return [_number(field, value) for field, value in fields.items()]


def refusal(status: int, fields: Layer, options: abi.BreakerOptions) -> Error:
    """The exception for options that the library refused, in the words of Python's."""
    failure = _ffi.error(status)
    found = re.fullmatch(r"`(\w+)` is \d+, allowed is (.+)", str(failure))
    if found is None:
        return failure
    field, allowed = found.groups()
    name, kind = FIELDS[field]
    if field in fields:
        value = fields[field]
    else:
        value = _Shown(f"{kind.shown(getattr(options, field))} (its default)")
    return invalid(name, value, _translated(kind, allowed, options))


class _Shown(str):
    """A text that stands for a value."""

    __slots__ = ()
    __repr__ = str.__str__


def _defaults() -> abi.BreakerOptions:
    options = abi.BreakerOptions()
    _ffi.check(_ffi.api.escope_breaker_options_init(byref(options), sizeof(options)))
    return options


def _chosen(option: str, choice: object, choices: Mapping[str, set[str]], fields: Layer) -> str:
    """The word of a policy or strategy, if all that is given belongs to it."""
    if not isinstance(choice, str) or choice not in choices:
        raise invalid(option, choice, " or ".join(map(repr, choices)))
    for field, value in fields.items():
        theirs = [word for word, own in choices.items() if field in own]
        if theirs and choice not in theirs:
            allowed = f"an option of {option} {' or '.join(map(repr, theirs))}; the {option} is {choice!r}"
            raise invalid(FIELDS[field][0], value, allowed)
    return choice


def _window(fields: Layer) -> str:
    if ("window_size" in fields) == ("period_ns" in fields):
        raise invalid(
            "policy", "rate", "'rate' with either `window_size` or `period`: which results it looks at"
        )
    if "window_size" in fields and "buckets" in fields:
        raise invalid("buckets", fields["buckets"], "an option of a `period`, not of a `window_size`")
    return "rate_count" if "window_size" in fields else "rate_time"


def _number(field: str, value: Any) -> int:
    name, kind = FIELDS[field]
    if not isinstance(value, kind.type):
        raise wrong_type(name, value, _allowed(field))
    try:
        number = kind.native(value)
    except (ValueError, OverflowError):
        # Not a number, or infinite.
        raise invalid(name, value, _allowed(field)) from None
    if not 0 <= number <= _largest(field):
        raise invalid(name, value, _allowed(field))
    return number


def _largest(field: str) -> int:
    """The largest number that the library's field holds."""
    wide = field.endswith("_ns") or field == "seed"
    return 2**64 - 1 if wide else 2**32 - 1


def _allowed(field: str) -> str:
    """What the library allows, which it says of a number that no option may have."""
    kind = FIELDS[field][1]
    if kind is SWITCH:
        return kind.what
    options = _defaults()
    if field not in FAULTS:
        setattr(options, field, _largest(field))
        options.strategy = STRATEGIES["gradual_degradation"]
        # The library looks at the options of its policy only.
        for options.policy in POLICIES.values():
            if status := _ffi.api.escope_breaker_new(byref(options), byref(abi.BreakerHandle())):
                _, _, allowed = str(_ffi.error(status)).partition(", allowed is ")
                return _translated(kind, allowed, None)
    return f"{kind.what}, 0 to {kind.shown(_largest(field))}"


def _translated(kind: Kind, allowed: str, options: abi.BreakerOptions | None) -> str:
    """The library's words in units and names of Python; with other options, what these are."""

    def number(found: re.Match[str]) -> str:
        return kind.shown(2**62 - 1 if found[0].startswith("2^") else int(found[0]))

    def option(found: re.Match[str]) -> str:
        field, of_another = found.groups()
        name, kind = FIELDS[field]
        if options is None or of_another:
            return f"`{name}`{of_another or ''}"
        return f"`{name}` ({kind.shown(getattr(options, field))})"

    text = re.sub(r"\b2\^62 - 1|\b\d+\b", number, allowed.removesuffix(" basis points"))
    text = re.sub(r"\b([a-z]+(?:_[a-z]+)+)\b( of its creation)?", option, text)
    return f"{kind.what}, {text}" if kind.what else text


def _unknown(name: str) -> str:
    known = {option: option for option in (*OPTIONS, *_OF_THE_BINDING)} | _ELSEWHERE
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; `{known[close[0]]}` is" if close else ""
    return f"`{name}` is no option of a breaker{hint}"
