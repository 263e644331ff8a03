"""What was installed: version, typing marker, library, and that nothing native is left behind."""

from __future__ import annotations

import contextlib
import gc
import re
from importlib import metadata, resources
from pathlib import Path

import tomllib
from header import CHECKOUT

import elixirscope
from elixirscope import Breaker, Pool, RateLimiter, _ffi


def test_one_version_everywhere() -> None:
    cargo = tomllib.loads((CHECKOUT / "Cargo.toml").read_text())
    assert elixirscope.__version__ == cargo["workspace"]["package"]["version"]
    assert elixirscope.__version__ == metadata.version("elixirscope")


def test_the_tests_run_against_the_installed_package() -> None:
    assert not Path(elixirscope.__file__).is_relative_to(CHECKOUT / "python"), (
        "install the wheel; see ci/python.sh"
    )


def test_the_package_is_typed_and_brings_its_library() -> None:
    files = {entry.name for entry in resources.files("elixirscope").iterdir()}
    assert {"py.typed", "libelixirscope.so"} <= files
    tags = metadata.distribution("elixirscope").read_text("WHEEL")
    assert tags is not None
    assert re.search(r"^Tag: py3-none-linux_x86_64$", tags, flags=re.M)


def test_all_is_complete() -> None:
    public = {name for name in vars(elixirscope) if not name.startswith("_")}
    modules = {"breaker", "clock", "errors", "limiter", "pool"}
    assert public - modules == set(elixirscope.__all__) - {"__version__"}


def live_handles() -> int:
    gc.collect()
    return sum(isinstance(thing, _ffi._Handle) and bool(thing.value) for thing in gc.get_objects())


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_native_objects_end_with_their_owners() -> None:
    def once() -> None:
        breaker, limiter, pool = Breaker(), RateLimiter(max_keys=10_000), Pool(object, size=1, max_overflow=0)
        with breaker, pool.checkout():
            limiter.check("a", 1, 60)
            with contextlib.suppress(elixirscope.PoolTimeout):
                pool.checkout(timeout=0.0001).__enter__()

    once()
    before, resident = live_handles(), resident_bytes()
    for _ in range(200):
        once()
    assert live_handles() == before
    # 200 tables of 10,000 keys would be more than 40 MB.
    assert resident_bytes() - resident < 20_000_000
