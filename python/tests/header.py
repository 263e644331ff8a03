"""Reads ``elixirscope.h``: enough of C for a header that a generator wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
HEADER = CHECKOUT / "include" / "elixirscope.h"


@dataclass(frozen=True)
class Header:
    structs: dict[str, list[str]]
    functions: dict[str, tuple[str, list[str]]]
    constants: dict[str, int]


def _type_of(declaration: str) -> str:
    """``const struct escope_rule *rule`` is ``escope_rule *``."""
    declaration = re.sub(r"\b(const|struct)\b", " ", declaration)
    stars = declaration.count("*")
    words = declaration.replace("*", " ").split()
    base = words[0]
    return " ".join([base, "*" * stars]).strip()


def read(path: Path = HEADER) -> Header:
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", path.read_text(), flags=re.S)
    structs = {
        name: [re.sub(r"\[.*?\]", "", field.split()[-1].lstrip("*")) for field in _fields(body)]
        for name, body in re.findall(r"typedef struct (escope_\w+)\s*\{(.*?)\}", text, flags=re.S)
    }
    functions = {
        name: (
            _type_of(result + " "),
            [_type_of(a) for a in arguments.split(",") if a.strip() not in ("", "void")],
        )
        for result, name, arguments in re.findall(
            r"^((?:const )?(?:struct )?\w+[ *]+)(escope_\w+)\(([^;{]*)\);", text, flags=re.M
        )
    }
    constants = {name: int(value) for name, value in re.findall(r"\b(ESCOPE_\w+)(?: *= *| +)(-?\d+)\b", text)}
    return Header(structs, functions, constants)


def _fields(body: str) -> list[str]:
    """Declarations; a function pointer stands for its name."""
    found = []
    for field in body.split(";"):
        pointer = re.search(r"\(\*\s*(\w+)\)", field)
        if pointer:
            found.append(pointer.group(1))
        elif field.strip():
            found.append(field.strip())
    return found
