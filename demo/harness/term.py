"""Terms of the BEAM's external format, as the EventStore's table holds its events.

https://www.erlang.org/doc/apps/erts/erl_ext_dist.html: what an event of the demo is made of, and no more.
Atoms come as `Atom`, binaries as `bytes`, process identifiers as their bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

VERSION, COMPRESSED = 131, 80


class Atom(str):
    """An atom, which is not the string of its name."""

    __slots__ = ()


class TermError(ValueError):
    """The bytes are no term that is known here."""


def decode(data: bytes) -> Any:
    """The term of a whole `term_to_binary`, compressed or not."""
    if len(data) < 2 or data[0] != VERSION:
        raise TermError(f"no external term: {data[:16]!r}")
    if data[1] == COMPRESSED:
        body = zlib.decompress(data[6:])
        if len(body) != int.from_bytes(data[2:6]):
            raise TermError("a compressed term of another length than it says")
    else:
        body = data[1:]
    reader = Reader(body)
    term = reader.term()
    if reader.left:
        raise TermError(f"{reader.left} bytes after the term")
    return term


class Reader:
    """Reads terms from the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that were not read."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size > self.left:
            raise TermError("the term ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int, signed: bool = False) -> int:
        """A big-endian integer."""
        return int.from_bytes(self.take(size), signed=signed)

    def terms(self, count: int) -> list[Any]:
        """So many terms."""
        return [self.term() for _ in range(count)]

    def term(self) -> Any:
        """The next term."""
        tag = self.number(1)
        if tag not in READERS:
            raise TermError(f"a term of tag {tag}")
        return READERS[tag](self)

    def list(self) -> list[Any]:
        """A list that ends as one should."""
        elements = self.terms(self.number(4))
        if self.term() != []:
            raise TermError("a list without an end")
        return elements

    def large(self) -> int:
        """An integer of any size."""
        size, negative = self.number(1), self.number(1)
        value = int.from_bytes(self.take(size), "little")
        return -value if negative else value

    def float(self) -> float:
        """Eight bytes of IEEE 754."""
        (value,) = struct.unpack(">d", self.take(8))
        return float(value)


READERS: dict[int, Callable[[Reader], Any]] = {
    70: Reader.float,
    # Process identifiers.
    88: lambda reader: (reader.term(), reader.take(12)),
    97: lambda reader: reader.number(1),
    98: lambda reader: reader.number(4, signed=True),
    # Old atoms are in Latin-1.
    100: lambda reader: Atom(reader.take(reader.number(2)).decode("latin-1")),
    104: lambda reader: tuple(reader.terms(reader.number(1))),
    106: lambda _reader: [],
    107: lambda reader: [*reader.take(reader.number(2))],
    108: Reader.list,
    109: lambda reader: reader.take(reader.number(4)),
    110: Reader.large,
    116: lambda reader: {reader.term(): reader.term() for _ in range(reader.number(4))},
    118: lambda reader: Atom(reader.take(reader.number(2)).decode()),
    119: lambda reader: Atom(reader.take(reader.number(1)).decode()),
}
