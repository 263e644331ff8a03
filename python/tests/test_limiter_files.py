"""A limiter in a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from children import in_child

from elixirscope import InvalidArgument, ManualClock, RateLimiter


@pytest.fixture
def limiter() -> RateLimiter:
    return RateLimiter(clock=ManualClock())


def test_l25_a_limiter_goes_on_after_its_file_was_loaded(limiter: RateLimiter, tmp_path: Path) -> None:
    limiter.check("a", 10, 10**6, cost=7)
    limiter.save(tmp_path / "limiter")
    loaded = RateLimiter.load(str(tmp_path / "limiter"), clock=ManualClock())
    assert loaded.peek("a", 10, 10**6).remaining == 3
    assert loaded.live_keys() == limiter.live_keys() == 1
    unclocked = RateLimiter()
    unclocked.check("a", 10, 10**6, cost=7)
    unclocked.save(tmp_path / "limiter")
    assert RateLimiter.load(tmp_path / "limiter").peek("a", 10, 10**6).remaining == 3


def test_a_damaged_file_is_refused_and_kept(limiter: RateLimiter, tmp_path: Path) -> None:
    path = tmp_path / "limiter"
    limiter.check("a", 1, 60)
    limiter.save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InvalidArgument):
        RateLimiter.load(path)
    assert path.read_bytes() == content
    with pytest.raises(InvalidArgument):
        RateLimiter.load(tmp_path / "nothing")
    with pytest.raises(InvalidArgument):
        limiter.save(tmp_path / "nowhere" / "limiter")


def test_a_file_is_as_it_was_after_a_save_whose_folder_cannot_be_opened(
    limiter: RateLimiter, tmp_path: Path
) -> None:
    path, nobody = tmp_path / "limiter", 65534
    limiter.save(path)
    before = path.read_bytes()
    limiter.check("a", 1, 60)
    # One may put files there, but not look.
    tmp_path.chmod(0o300)
    if os.getuid() == 0:
        os.chown(tmp_path, nobody, nobody)

    def save() -> object:
        os.chdir(tmp_path)
        if os.getuid() == 0:
            os.setuid(nobody)
        Path("another").touch()
        with pytest.raises(InvalidArgument, match="Permission denied"):
            limiter.save("limiter")
        return True

    assert in_child(save) is True
    tmp_path.chmod(0o700)
    assert path.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "limiter"]
