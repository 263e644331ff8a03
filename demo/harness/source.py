"""Events from real text: the paragraphs of a file, repeated in passes until there are enough.

Pass and index of a paragraph are an event's identity; `seq` is that pair as one number. A worker gets its
events as a file of records `<seq> <bytes>\\n<body>\\n`: a length, not a separator, ends a body, so any
text is safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

EVENTS = 20_000

# Of six consecutive events four go to the BEAM, one to the C program and one to the Python script.
TURN = ("elixir", "elixir", "elixir", "elixir", "c", "python")


class SourceError(Exception):
    """The input cannot serve as a source of events; the text says why."""


@dataclass(frozen=True)
class Event:
    """One thing to store, exactly once."""

    seq: int
    language: str
    body: str


def paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """Blocks of lines between blank ones, without their final line break."""
    block: list[str] = []
    for line in lines:
        if line.strip():
            block.append(line)
        elif block:
            yield "".join(block).rstrip("\n")
            block = []
    if block:
        yield "".join(block).rstrip("\n")


def read_paragraphs(path: Path, most: int = EVENTS) -> list[str]:
    """The first `most` paragraphs of a file; bytes that are no UTF-8 become U+FFFD, NUL too."""
    found: list[str] = []
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for paragraph in paragraphs(file):
                found.append(paragraph.replace("\0", "\ufffd"))
                if len(found) == most:
                    break
    except OSError as error:
        raise SourceError(f"INPUT is {path}, which cannot be read: {error.strerror}") from error
    if not found:
        raise SourceError(f"INPUT is {path}, which holds no paragraph; allowed is a file with text in it")
    return found


def events(texts: list[str], count: int = EVENTS) -> list[Event]:
    """`count` events: pass 0 of all texts, then pass 1, and so on."""
    return [Event(seq, TURN[seq % len(TURN)], texts[seq % len(texts)]) for seq in range(count)]


def identity(seq: int, texts: int) -> tuple[int, int]:
    """The (pass, index) that `seq` stands for."""
    return divmod(seq, texts)


def write_share(share: Iterable[Event], path: Path) -> None:
    """Writes a worker's events as length-prefixed records."""
    with path.open("wb") as file:
        for event in share:
            body = event.body.encode()
            file.write(b"%d %d\n%s\n" % (event.seq, len(body), body))
