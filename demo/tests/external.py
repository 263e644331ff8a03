"""Writes terms as the BEAM does, for databases of the tests."""

from __future__ import annotations

from typing import Any

from harness.term import Atom


def encode(term: Any) -> bytes:
    """As `term_to_binary/1`."""
    return bytes([131]) + encoded(term)


def encoded(term: Any) -> bytes:
    match term:
        case Atom():
            name = term.encode()
            return bytes([119, len(name)]) + name
        case int():
            return bytes([98]) + term.to_bytes(4, signed=True)
        case bytes():
            return bytes([109]) + len(term).to_bytes(4) + term
        case list() if term:
            return bytes([108]) + len(term).to_bytes(4) + b"".join(map(encoded, term)) + encoded([])
        case list():
            return bytes([106])
        case dict():
            pairs = b"".join(encoded(key) + encoded(value) for key, value in term.items())
            return bytes([116]) + len(term).to_bytes(4) + pairs
        case _:
            raise TypeError(f"no term of these tests: {term!r}")
