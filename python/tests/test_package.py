"""What was installed: version, typing marker, library, and that nothing native is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import weakref
from importlib import metadata, resources
from pathlib import Path

from header import CHECKOUT

import elixirscope
from elixirscope import Breaker, Outcome, Pool, RateLimiter


def test_one_version_everywhere() -> None:
    cargo = (CHECKOUT / "Cargo.toml").read_text()
    version = re.search(r'^\[workspace\.package\]\n(?:[^\[].*\n)*?version = "(.+)"$', cargo, flags=re.M)
    assert version is not None
    assert elixirscope.__version__ == version[1]
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


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_native_objects_end_with_their_owners() -> None:
    async def later() -> None: ...

    def once() -> list[weakref.ref[object]]:
        breaker, limiter, pool = Breaker(), RateLimiter(max_keys=10_000), Pool(object, size=1, max_overflow=0)
        permit, coroutine = breaker.acquire(), breaker.call(later)
        asyncio.run(coroutine)
        permit.record(Outcome.SUCCESS)
        with breaker, pool.checkout():
            limiter.check("a", 1, 60)
            with contextlib.suppress(elixirscope.PoolTimeout):
                pool.checkout(timeout=0.0001).__enter__()
        return [weakref.ref(thing._handle) for thing in (breaker, limiter, pool)]

    once()
    resident, handles = resident_bytes(), []
    for turn in range(200):
        handles += once()
        if turn % 20 == 19:
            gc.collect()
    assert len(handles) == 600
    assert [handle for handle in handles if handle() is not None] == []
    # 200 tables of 10,000 keys would be more than 40 MB.
    assert resident_bytes() - resident < 20_000_000


def test_a_finalizer_may_use_what_goes_with_it() -> None:
    said: list[object] = []

    class Last:
        """In a cycle with what it uses when it is finalized."""

        def __init__(self) -> None:
            self.breaker, self.limiter, self.pool = Breaker(), RateLimiter(), Pool(lambda: self, size=1)
            with self.pool.checkout() as this:
                assert this is self

        def __del__(self) -> None:
            said.append(self.breaker.call(len, ""))
            said.append(self.limiter.check("a", 1, 60).allowed)
            try:
                with self.pool.checkout(timeout=0):
                    said.append("lent")
            except elixirscope.PoolClosed:
                said.append("closed")

    for _ in range(5):
        Last()
        gc.collect()
        assert said[:2] == [0, True]
        assert said[2:] in (["lent"], ["closed"])
        said.clear()
