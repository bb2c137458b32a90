"""The Python that was asked for: one of uv's own, which stay on the machine."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import EnvironmentFailed, NoPython
from gpu_ci.setup_uv.run_uv import last_words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpu_ci.setup_uv.run_uv import Commands

INSTALL_SECONDS: Final = 600.0
# Variables that say which kind of Python is preferred; uv refuses an option for it next to them.
PREFERENCES: Final = ("UV_PYTHON_PREFERENCE", "UV_MANAGED_PYTHON", "UV_NO_MANAGED_PYTHON")
OWN: Final = ("--system", "--python-preference", "only-managed")
MACHINES: Final = ("--system", "--python-preference", "only-system")
QUIET: Final = ("--no-project", "--no-python-downloads")
# uv's words for it: its exit code is that of any other failure.
NONE_FOUND: Final = re.compile(
    r"\bno (?:python )?(?:interpreters?|virtual environment) found", re.IGNORECASE
)
VERSION: Final = "import platform; print(platform.python_version())"
# Prints the same for an environment and for the Python that it was made of, whatever the path.
SELF: Final = "import os, sys; print(os.path.realpath(os.__file__), sys.version)"
# A shell's exit code for a program that is there and does not start.
CANNOT_START: Final = 126


@dataclass(frozen=True, kw_only=True)
class Python:
    """An interpreter, its version, and in words why it is this one."""

    path: str
    version: str
    why: str


def provide(asked: str, uv: Commands, say: Callable[[str], None]) -> Python:
    """Return uv's own Python of this version, downloaded if it is not there, else the machine's.

    The machine's goes first where the job prefers it (UV_PYTHON_PREFERENCE, UV_NO_MANAGED_PYTHON),
    or gives its path.
    Raises NoPython when there is neither.
    """
    machines = _find(asked, uv, "the machine's own", *MACHINES)
    if machines and (_prefers_machines(uv) or "/" in asked):
        return machines
    if found := _find(asked, uv, "kept by uv", *OWN):
        return found
    why = _install(asked, uv, hurry=bool(machines))
    if not why and (found := _find(asked, uv, "installed by uv", *OWN)):
        return found
    if machines:
        say(f"uv has not installed Python {asked} ({why}); the machine's own is used.")
        return machines
    raise NoPython(
        f"Python {asked} is not on this machine, and uv could not install it: {why}.",
        "Let this machine reach GitHub's releases or set UV_PYTHON_INSTALL_MIRROR, or correct "
        "python-version.",
    )


def chosen(uv: Commands, environment: Path | None) -> Python | None:
    """Return the environment's Python, else the one that uv takes by itself in its folder.

    None if it would download one. Raises NoPython for any other failure: later steps would meet it.
    """
    if environment:
        return _python_at(str(environment / "bin" / "python"), uv, "of the environment")
    done = uv.run("python", "find", "--no-python-downloads")
    if not done.returncode:
        return _python_at(done.stdout.strip(), uv, "which the project gets")
    if _none_found(done):
        return None
    raise NoPython(
        f"uv cannot say which Python the project gets: {last_words(done)}.",
        "Correct what it says, in the project or in the configuration of uv.",
    )


def fits(asked: str, environment: Path, uv: Commands) -> bool:
    """Say whether a virtual environment is of the version that was asked for, as uv reads it.

    Where a path was given, its interpreter must be the same: it is never the environment's own.
    Raises EnvironmentFailed where that stays unclear, since one that will not do is made anew.
    """
    active = uv.having({"VIRTUAL_ENV": str(environment)}, *PREFERENCES)
    done = active.run("python", "find", *QUIET, "--", asked)
    if done.returncode and _none_found(done):
        return False
    asked_for, got = done, done
    if not done.returncode:
        asked_for = _ask(uv, done.stdout.strip(), SELF)
        got = _ask(uv, str(environment / "bin" / "python"), SELF)
    for each in (asked_for, got):
        if each.returncode:
            raise EnvironmentFailed(
                f"It is unclear whether {environment} is of Python {asked}: {last_words(each)}.",
                "Run the job again, or set activate-environment to clear.",
            )
    return asked_for.stdout == got.stdout


def _none_found(done: subprocess.CompletedProcess[str]) -> bool:
    return bool(NONE_FOUND.search(" ".join(done.stderr.split())))


def _prefers_machines(uv: Commands) -> bool:
    if uv.env.get("UV_NO_MANAGED_PYTHON", "").lower() in {"1", "true", "yes", "y", "on", "t"}:
        return True
    return uv.env.get("UV_PYTHON_PREFERENCE") in {"system", "only-system"}


def _install(asked: str, uv: Commands, *, hurry: bool) -> str:
    """Install uv's own; return why that failed, "" if it did not.

    In a hurry uv tries once, since its retries take ten seconds where there is no network.
    """
    once = {"UV_HTTP_RETRIES": uv.env.get("UV_HTTP_RETRIES", "0")} if hurry else {}
    install = ("python", "install")
    done = uv.having(once).run(*install, "--no-bin", "--", asked, seconds=INSTALL_SECONDS)
    if "unexpected argument '--no-bin'" in done.stderr:  # before 0.8, which link none by themselves
        done = uv.having(once).run(*install, "--", asked, seconds=INSTALL_SECONDS)
    return last_words(done) if done.returncode else ""


def _find(asked: str, uv: Commands, why: str, *how: str) -> Python | None:
    """Return a Python that is there, None if there is none; asks no network."""
    free = uv.having({}, *PREFERENCES, "VIRTUAL_ENV")
    done = free.run("python", "find", *QUIET, *how, "--", asked)
    return None if done.returncode else _python_at(done.stdout.strip(), free, why)


def _ask(uv: Commands, path: str, code: str) -> subprocess.CompletedProcess[str]:
    """Let an interpreter answer; one that cannot be started ends as it would in a shell."""
    try:
        return uv.ask(path, code)
    except OSError as error:
        return subprocess.CompletedProcess([path], CANNOT_START, "", str(error))


def _python_at(path: str, uv: Commands, why: str) -> Python:
    done = _ask(uv, path, VERSION)
    if done.returncode:
        raise NoPython(
            f"{path} does not say which Python it is: {last_words(done)}.",
            "Look at it on this machine, or set another python-version.",
        )
    return Python(path=path, version=done.stdout.strip(), why=why)
