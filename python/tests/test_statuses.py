"""One table of statuses: the library's. Exceptions are checked against it."""

from __future__ import annotations

import re

import pytest

import elixirscope
from elixirscope import Error, Status, _ffi
from elixirscope.errors import EXCEPTIONS

VERDICTS = {Status.OK, Status.STALE, Status.EXPIRED}


def test_every_status_but_the_verdicts_has_an_exception() -> None:
    assert set(EXCEPTIONS) == set(Status) - VERDICTS


@pytest.mark.parametrize("status", sorted(EXCEPTIONS))
def test_an_exception_has_the_name_and_the_text_of_its_status(status: Status) -> None:
    kind = EXCEPTIONS[status]
    assert kind.status is status
    assert re.sub(r"(?<!^)([A-Z])", r"_\1", kind.__name__).upper() == status.name
    assert kind.__doc__ is not None
    assert kind.__doc__.splitlines()[0] == _ffi.text(status)
    assert issubclass(kind, Error)
    assert getattr(elixirscope, kind.__name__) is kind


@pytest.mark.parametrize("status", [19, -11, 1000])
def test_the_table_ends_where_the_library_says(status: int) -> None:
    assert "no status" in _ffi.text(status)


def test_every_exception_of_the_package_is_an_error() -> None:
    kinds = [k for k in vars(elixirscope).values() if isinstance(k, type) and issubclass(k, BaseException)]
    assert len(kinds) > len(EXCEPTIONS)
    assert all(issubclass(kind, Error) for kind in kinds)
