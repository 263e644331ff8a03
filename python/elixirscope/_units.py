"""From Python's numbers to the unsigned integers of the native library.

Only what cannot be represented is refused here; which of the representable values make sense is the
library's to say. ctypes would cut an integer that is too large without a word, hence these checks.
"""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any, Final, cast

from .errors import invalid, wrong_type

NS_PER_S: Final = 1_000_000_000
# Basis points: shares are numbers from 0 to 1 here.
BP: Final = 10_000
FOREVER_NS: Final = 2**64 - 1
_LARGEST_NS: Final = FOREVER_NS - 1
_SECONDS: Final = f"a number of seconds from 0 to {_LARGEST_NS // NS_PER_S}"


def unsigned(argument: str, value: object, bits: int) -> int:
    """An integer that fits into ``bits`` bits.

    >>> unsigned("size", 5, 32)
    5
    >>> unsigned("size", -1, 32)
    Traceback (most recent call last):
    elixirscope.errors.InvalidArgument: `size` is -1, allowed is an integer from 0 to 4294967295
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise wrong_type(argument, value, _integers(bits)) from None
    if not 0 <= number < 1 << bits:
        raise invalid(argument, value, _integers(bits))
    return number


def _integers(bits: int) -> str:
    return f"an integer from 0 to {2**bits - 1}"


def nanoseconds(argument: str, seconds: object) -> int:
    """Seconds as a whole number of nanoseconds; exact for an integer or a fraction, rounded for a float.

    >>> nanoseconds("open_for", 0.25)
    250000000
    >>> nanoseconds("rest", float("nan"))
    Traceback (most recent call last):
    elixirscope.errors.InvalidArgument: `rest` is nan, allowed is a number of seconds from 0 to 18446744073
    """
    if not isinstance(seconds, Real):
        raise wrong_type(argument, seconds, _SECONDS)
    try:
        number: int = round(cast(Any, seconds) * NS_PER_S)
    except (ValueError, OverflowError):
        raise invalid(argument, seconds, _SECONDS) from None
    if not 0 <= number <= _LARGEST_NS:
        raise invalid(argument, seconds, _SECONDS)
    return number


def timeout_ns(argument: str, seconds: object) -> int:
    """Like `nanoseconds`; ``None`` and infinity mean: wait for ever."""
    if seconds is None or seconds == math.inf:
        return FOREVER_NS
    return nanoseconds(argument, seconds)


def seconds(number: int) -> float:
    """Nanoseconds as seconds; the library's "never" is infinity."""
    return math.inf if number == FOREVER_NS else number / NS_PER_S
