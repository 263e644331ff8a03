"""A recording in the units and words of the public classes.

They give times in seconds, so recorded nanoseconds are divided like theirs before they are compared.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from elixirscope._units import BP, FOREVER_NS, seconds


def in_seconds(value: Any) -> Any:
    """A recording whose times are seconds and shares numbers; a time that never comes is recorded as null."""
    if isinstance(value, list):
        return [in_seconds(item) for item in value]
    if isinstance(value, dict):
        return {k: in_our_unit(k, v) for k, v in value.items()}
    return value


def in_our_unit(name: str, value: Any) -> Any:
    if name.endswith("_ns"):
        return seconds(FOREVER_NS if value is None else value)
    return value / BP if name.endswith("_bp") else in_seconds(value)


def word(member: IntEnum) -> str:
    return member.name.lower()
