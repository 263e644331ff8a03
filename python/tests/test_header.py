"""The declarations for ctypes are those of the C header."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from header import HEADER, read

from elixirscope import (
    BreakerSnapshot,
    Cause,
    Level,
    Mode,
    Outcome,
    Phase,
    Status,
    _breaker_abi,
    _ffi,
    _limiter_abi,
    _pool_abi,
)
from elixirscope._breaker_options import FAULTS, FIELDS, POLICIES, STRATEGIES

HEADER_OF_NOW = read()

# Struct names in C and here, and what a C type is in ctypes.
STRUCTS: dict[str, type[ctypes.Structure]] = {
    "escope_" + "".join("_" + c.lower() if c.isupper() else c for c in kind.__name__)[1:]: kind
    for module in (_breaker_abi, _limiter_abi, _pool_abi)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, ctypes.Structure) and kind is not ctypes.Structure
}
HANDLES = {
    "escope_breaker": _breaker_abi.BreakerHandle,
    "escope_limiter": _limiter_abi.LimiterHandle,
    "escope_limit": _limiter_abi.LimitHandle,
    "escope_pool": _pool_abi.PoolHandle,
    "escope_waiter": _pool_abi.WaiterHandle,
}
SCALARS: dict[str, Any] = {
    "int": ctypes.c_int,
    "void": None,
    "char *": ctypes.c_char_p,
    "void *": ctypes.c_void_p,
    "escope_status": ctypes.c_int32,
    "int32_t": ctypes.c_int32,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
}


def as_ctypes(c_type: str, *, result: bool) -> Any:
    base, _, stars = c_type.partition(" ")
    if base in HANDLES:
        # A handle that is returned stays a plain address: who wants it owned wraps it.
        by_stars = {"*": ctypes.c_void_p if result else HANDLES[base], "**": ctypes.POINTER(HANDLES[base])}
        return by_stars[stars]
    if c_type == "char *" and not result:
        return ctypes.c_void_p
    if c_type in SCALARS:
        return SCALARS[c_type]
    if c_type == "void **":
        return ctypes.POINTER(ctypes.c_void_p)
    return ctypes.POINTER(STRUCTS[base] if base in STRUCTS else SCALARS[base])


def test_the_header_was_understood() -> None:
    assert len(HEADER_OF_NOW.functions) > 30
    assert HEADER_OF_NOW.structs["escope_rule"] == ["tokens", "period_ns", "burst"]


def test_every_function_is_declared_and_no_other() -> None:
    assert set(_ffi.PROTOTYPES) == set(HEADER_OF_NOW.functions)


@pytest.mark.parametrize("name", sorted(HEADER_OF_NOW.functions))
def test_a_prototype_has_the_types_of_the_header(name: str) -> None:
    c_result, c_arguments = HEADER_OF_NOW.functions[name]
    result, arguments = _ffi.PROTOTYPES[name]
    assert result is as_ctypes(c_result, result=True)
    assert list(arguments) == [as_ctypes(c_type, result=False) for c_type in c_arguments]


def test_every_struct_is_declared_and_no_other() -> None:
    assert set(STRUCTS) == set(HEADER_OF_NOW.structs)


def test_structs_have_the_layout_of_the_c_compiler(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    assert compiler, "no C compiler on the path"
    lines = []
    for name, fields in HEADER_OF_NOW.structs.items():
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
        lines += [f'printf("{name}.{f} %zu\\n", offsetof(struct {name}, {f}));' for f in fields]
    source = tmp_path / "layout.c"
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{HEADER}"\n'
        f"int main(void) {{\n{chr(10).join(lines)}\nreturn 0;\n}}\n"
    )
    subprocess.run([compiler, "-o", tmp_path / "layout", source], check=True)
    said = subprocess.run([tmp_path / "layout"], check=True, capture_output=True, text=True).stdout
    ours = []
    for name in HEADER_OF_NOW.structs:
        kind = STRUCTS[name]
        ours.append(f"{name} {ctypes.sizeof(kind)}")
        ours += [f"{name}.{field[0]} {getattr(kind, field[0]).offset}" for field in kind._fields_]
    assert said.splitlines() == ours


@pytest.mark.parametrize(
    ("prefix", "enumeration"),
    [
        ("ESCOPE_STATUS_", Status),
        ("ESCOPE_PHASE_", Phase),
        ("ESCOPE_MODE_", Mode),
        ("ESCOPE_LEVEL_", Level),
        ("ESCOPE_OUTCOME_", Outcome),
        ("ESCOPE_CAUSE_", Cause),
    ],
)
def test_an_enumeration_has_the_numbers_of_the_header(prefix: str, enumeration: Any) -> None:
    theirs = {n.removeprefix(prefix): v for n, v in HEADER_OF_NOW.constants.items() if n.startswith(prefix)}
    assert theirs == {member.name: member.value for member in enumeration}


@pytest.mark.parametrize(
    ("prefix", "words"), [("ESCOPE_POLICY_", POLICIES), ("ESCOPE_STRATEGY_", STRATEGIES)]
)
def test_a_choice_has_the_numbers_of_the_header(prefix: str, words: dict[str, int]) -> None:
    theirs = {
        n.removeprefix(prefix).lower(): v for n, v in HEADER_OF_NOW.constants.items() if n.startswith(prefix)
    }
    assert theirs == words


def test_every_option_of_a_breaker_has_a_name_here() -> None:
    fields = set(HEADER_OF_NOW.structs["escope_breaker_options"]) - {"struct_size"}
    assert set(FIELDS) - set(FAULTS) == fields


def test_every_number_of_a_breaker_is_shown() -> None:
    theirs = set(HEADER_OF_NOW.structs["escope_breaker_stats"]) - {"struct_size", "reserved"}
    assert {re.sub("_(ns|bp)$", "", field) for field in theirs} == set(BreakerSnapshot.__dataclass_fields__)


def test_a_cause_has_the_word_of_the_library() -> None:
    for cause in Cause:
        assert _ffi.api.escope_breaker_cause_str(cause).decode() == cause.name.lower()


def test_the_abi_version_is_that_of_the_header() -> None:
    assert HEADER_OF_NOW.constants["ESCOPE_ABI_VERSION"] == _ffi.ABI_VERSION
