"""Virtual environments: one that is there is kept, unless a new one is asked for."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import BadInputs, EnvironmentFailed
from gpu_ci.uv.commands import last_words

if TYPE_CHECKING:
    from pathlib import Path

    from gpu_ci.uv.commands import Commands
    from gpu_ci.uv.inputs import SetupUvInputs

# What says already how the lock is to be treated.
ABOUT_THE_LOCK: Final = {"--frozen", "--locked", "--no-frozen", "--no-locked", "--upgrade", "-U"}


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A virtual environment; `made` says that it is new."""

    folder: Path
    made: bool


def place(inputs: SetupUvInputs) -> Path:
    """Return where the environment is, or will be."""
    return inputs.folder("venv-path") or inputs.working_directory / ".venv"


def activate(inputs: SetupUvInputs, uv: Commands) -> Environment:
    """Return the environment, made if there is none that works. Raises EnvironmentFailed."""
    folder = place(inputs)
    if inputs.activate_environment != "clear" and works(folder):
        return Environment(folder=folder, made=False)
    done = uv.run("venv", "--clear", str(folder))
    if done.returncode:
        raise EnvironmentFailed(
            f"uv could not make the environment {folder}: {last_words(done)}.",
            "Correct venv-path or python-version, or make room on the disk.",
        )
    return Environment(folder=folder, made=True)


def works(folder: Path) -> bool:
    """Say whether an environment has its interpreter: a machine's Python may have gone since."""
    return (folder / "pyvenv.cfg").is_file() and os.access(folder / "bin" / "python", os.X_OK)


def sync(inputs: SetupUvInputs, uv: Commands) -> None:
    """Install what the project locks. Raises BadInputs, EnvironmentFailed."""
    arguments = ["sync", *sync_arguments(inputs.sync)]
    if uv.show(*arguments):
        raise EnvironmentFailed(
            f"uv {shlex.join(arguments)} failed in {inputs.working_directory}; it says why above.",
            "Correct what it says; if the lock is not up to date, run uv lock and commit uv.lock.",
        )


def sync_arguments(text: str) -> list[str]:
    """Return the arguments as a shell would split them, but for no shell; `true` is none of them."""
    try:
        given = [] if text == "true" else shlex.split(text)
    except ValueError as error:
        raise BadInputs(
            [f"sync is {text!r}, which cannot be split into arguments: {error}."]
        ) from None
    return given if ABOUT_THE_LOCK & set(given) else ["--frozen", *given]
