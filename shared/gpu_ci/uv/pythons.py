"""The Python that was asked for: one of uv's own, which stay on the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpu_ci.errors import NoPython
from gpu_ci.uv.commands import last_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_ci.uv.commands import Commands


@dataclass(frozen=True, kw_only=True)
class Python:
    """An interpreter, its version, and in words why it is this one."""

    path: str
    version: str
    why: str


def provide(asked: str, uv: Commands, say: Callable[[str], None]) -> Python:
    """Return uv's own Python of this version, downloaded if it is not there, else the machine's.

    Raises NoPython when neither can be had.
    """
    if found := _find(asked, uv, "--managed-python"):
        return _told(found, "kept by uv")
    done = uv.run("python", "install", "--no-bin", asked)
    if found := _find(asked, uv, "--managed-python"):
        return _told(found, "installed by uv")
    why = last_words(done)
    if found := _find(asked, uv, "--no-managed-python", "--system"):
        say(f"uv could not install Python {asked} ({why}); the machine's own is used.")
        return _told(found, "the machine's own")
    raise NoPython(
        f"Python {asked} is not on this machine, and uv could not install it: {why}.",
        "Let this machine reach GitHub's releases or set UV_PYTHON_INSTALL_MIRROR, or correct "
        "python-version.",
    )


def _find(asked: str, uv: Commands, *how: str) -> tuple[str, str] | None:
    """Return path and version of a Python that is there, None if there is none; asks no network."""
    done = uv.run("python", "find", "--no-project", "--no-python-downloads", *how, asked)
    if done.returncode:
        return None
    path = done.stdout.strip()
    version = uv.run(
        "python", "find", "--no-project", "--no-python-downloads", "--show-version", path
    )
    return path, version.stdout.strip()


def _told(found: tuple[str, str], why: str) -> Python:
    path, version = found
    return Python(path=path, version=version, why=why)
