"""Virtual environments: one that is there is kept, unless a new one is asked for or needed."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import BadInputs, EnvironmentFailed
from gpu_ci.setup_uv.pythons import fits
from gpu_ci.setup_uv.run_uv import TOO_LONG, last_words, without_passwords

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_ci.inputs.setup_uv_inputs import SetupUvInputs
    from gpu_ci.setup_uv.run_uv import Commands

# What already says how to treat the lock: options of uv sync, and variables.
ABOUT_THE_LOCK: Final = (
    "--frozen", "--no-frozen", "--locked", "--upgrade", "-U", "--upgrade-package", "-P",
    "--upgrade-group", "--script",
)  # fmt: skip
PROJECTS: Final = "UV_PROJECT_ENVIRONMENT"
LOCK_VARIABLES: Final = ("UV_LOCKED", "UV_FROZEN")
# What uv makes in an environment before its pyvenv.cfg; CACHEDIR.TAG comes first.
BEGUN: Final = ("CACHEDIR.TAG", ".gitignore", ".lock", "bin", "lib", "lib64")
# How a program fails to start that is missing, lacks its loader, or is for another kind of machine.
GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENOEXEC)
VENV_SECONDS: Final = 600.0  # uv may download a Python for it


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A virtual environment, and why it is as it is, in words."""

    folder: Path
    why: str


def place(inputs: SetupUvInputs, uv: Commands) -> Path:
    """Return where the environment to activate is, or will be, without `..` in it, as uv prints it."""
    told = uv.env.get(PROJECTS) or ".venv"
    folder = inputs.folder("venv-path") or inputs.working_directory / told
    return Path(os.path.normpath(folder))


def activate(inputs: SetupUvInputs, uv: Commands) -> Environment:
    """Return the environment, made if there is none that will do. Raises EnvironmentFailed."""
    folder = place(inputs, uv)
    if not (why := _why_anew(inputs, folder, uv)):
        return Environment(folder=folder, why="kept as it was")
    _make_room(folder)
    done = uv.run("venv", "--clear", "--", str(folder), seconds=VENV_SECONDS)
    if done.returncode:
        raise EnvironmentFailed(
            f"uv could not make the environment {folder}: {last_words(done)}.",
            "Correct venv-path or python-version, or make room on the disk.",
        )
    return Environment(folder=folder, why=f"made anew: {why}")


def _why_anew(inputs: SetupUvInputs, folder: Path, uv: Commands) -> str:
    """Return why a new environment is needed, "" if the existing one will do."""
    if not (folder / "pyvenv.cfg").is_file():
        return "there was none"
    if inputs.activate_environment == "clear":
        return "activate-environment is clear"
    if not _runs(folder, uv):
        return "its Python was gone"
    if inputs.python_version and not fits(inputs.python_version, folder, uv):
        return f"it was not of Python {inputs.python_version}"
    return ""


def _runs(folder: Path, uv: Commands) -> bool:
    """Say whether an environment's Python answers: the machine's may have gone, or changed, since.

    Raises EnvironmentFailed where that stays unclear: a slow disk must not cost an environment.
    """
    try:
        done = uv.ask(folder / "bin" / "python", "")
    except OSError as error:
        if error.errno in GONE:
            return False
        raise _unclear(folder, str(error.strerror)) from None
    if done.returncode == TOO_LONG or done.returncode < 0:
        raise _unclear(folder, last_words(done))
    return not done.returncode


def _unclear(folder: Path, why: str) -> EnvironmentFailed:
    return EnvironmentFailed(
        f"The Python of {folder} does not answer, but may still be there: {why}.",
        "Run the job again, or set activate-environment to clear.",
    )


def _make_room(folder: Path) -> None:
    """Remove what a killed uv had begun. Raises EnvironmentFailed where anything else would go too.

    Newer uvs themselves refuse to clear what is not an environment; older ones empty the folder.
    """
    if not folder.is_dir() or (folder / "pyvenv.cfg").is_file():
        return
    names = {each.name for each in folder.iterdir()}
    if BEGUN[0] in names and names <= {*BEGUN}:
        shutil.rmtree(folder, ignore_errors=True)
    elif names:
        raise EnvironmentFailed(
            f"{folder} is not empty and is not a virtual environment, so none was made in it.",
            "Correct venv-path, or remove the folder.",
        )


def sync(inputs: SetupUvInputs, uv: Commands, say: Callable[[str], None]) -> None:
    """Install what the project locks, compiled. Raises BadInputs, EnvironmentFailed."""
    arguments = ["sync", *sync_arguments(inputs.sync, uv)]
    # For this one call: if it stayed set, each later `uv run` would look at every file again.
    compiling = {"UV_COMPILE_BYTECODE": uv.env.get("UV_COMPILE_BYTECODE", "1")}
    if code := uv.having(compiling).show(*arguments, say=say):
        raise EnvironmentFailed(
            f"uv {shlex.join(map(without_passwords, arguments))} failed with {code} in {inputs.working_directory}; it says "
            "why above.",
            "Correct what it says; if uv.lock is missing or out of date, run uv lock and commit it.",
        )


def sync_arguments(text: str, uv: Commands) -> list[str]:
    """Return the arguments, split as a shell would, though no shell runs; `true` stands for none.

    The lock is taken as it is, unless they or the job's variables say otherwise. Raises BadInputs.
    """
    try:
        given = [] if text == "true" else shlex.split(text)
    except ValueError as error:
        raise BadInputs(
            [f"sync is {without_passwords(text)!r}, which cannot be split into arguments: {error}."]
        ) from None
    told = {each.partition("=")[0] for each in given} & {*ABOUT_THE_LOCK}
    return given if told or any(map(uv.env.get, LOCK_VARIABLES)) else ["--frozen", *given]


def synced(uv: Commands) -> Path | None:
    """Return the environment that uv has put the project in: at its root, or where variables say."""
    done = uv.run("run", "--no-sync", "python", "-I", "-c", "import sys; print(sys.prefix)")
    return None if done.returncode else Path(done.stdout.strip())
