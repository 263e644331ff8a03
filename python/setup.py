"""Builds the native library with cargo and puts it into the package.

The metadata stand in ``pyproject.toml``. A wheel holds no code for one Python version only, so it is tagged
``py3-none-<platform>``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

LIBRARY = "libelixirscope.so"
CHECKOUT = Path(__file__).resolve().parent.parent


def build_library() -> Path:
    """Runs cargo in the checkout and gives the path of what it built."""
    if sys.platform != "linux":
        sys.exit(f"elixirscope: the platform is {sys.platform}, supported is linux")
    if not (CHECKOUT / "Cargo.toml").is_file():
        sys.exit(
            f"elixirscope: no Cargo.toml in {CHECKOUT}; build from a checkout, with `pip install ./python`"
        )
    cargo = os.environ.get("CARGO") or shutil.which("cargo")
    if cargo is None:
        sys.exit(
            "elixirscope: cargo was not found, and the native library is built with it. "
            "Install Rust, or set CARGO to the path of cargo."
        )
    target = Path(os.environ.get("CARGO_TARGET_DIR") or CHECKOUT / "target")
    command = [cargo, "build", "--release", "--locked", "--package", "elixirscope"]
    try:
        subprocess.run([*command, "--target-dir", str(target)], cwd=CHECKOUT, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"elixirscope: building the native library failed: {error}")
    return target / "release" / LIBRARY


class BuildWithLibrary(build_py):
    def run(self) -> None:
        super().run()
        library = build_library()
        place = Path("elixirscope") if self.editable_mode else Path(self.build_lib, "elixirscope")
        place.mkdir(parents=True, exist_ok=True)
        # A new file and a rename: overwriting a library that a process has mapped would kill that process.
        fresh = place / f".{LIBRARY}.new"
        shutil.copyfile(library, fresh)
        fresh.replace(place / LIBRARY)


class PlatformWheel(bdist_wheel):
    def finalize_options(self) -> None:
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])


class NoSourceDistribution(sdist):
    def run(self) -> None:
        sys.exit(
            "elixirscope: no source distribution, since the native sources stand beside this directory; "
            "build a wheel"
        )


class NativeDistribution(Distribution):
    """Makes setuptools install to platlib and name the platform."""

    def has_ext_modules(self) -> bool:
        return True


setup(
    distclass=NativeDistribution,
    cmdclass={"build_py": BuildWithLibrary, "bdist_wheel": PlatformWheel, "sdist": NoSourceDistribution},
)
