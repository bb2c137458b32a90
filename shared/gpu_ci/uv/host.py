"""The machine and the user that uv is set up for."""

from __future__ import annotations

import os
import platform
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import EnvironmentBroken

if TYPE_CHECKING:
    from collections.abc import Mapping

# `shared/run` takes these out of its own way and leaves them to be read under this prefix.
OF_THE_JOB: Final = "GPU_CI_JOB_"
# What `uname -m` says, and the same machine in the names of uv's releases.
MACHINES: Final = {"x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


@dataclass(frozen=True, kw_only=True)
class Host:
    """Who asks, and where.

    `home` is None where the user has none that can be used, and `home_is_new` says that the job's
    HOME is another or unset. `job` is the environment that the step began with, `own` the part of
    it that the workflow itself has set.
    """

    uid: int
    home: Path | None
    home_is_new: bool
    machine: str
    libc: str
    job: Mapping[str, str]
    own: Mapping[str, str]

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Host:
        """Read it. Raises EnvironmentBroken for a machine that uv is not made for."""
        job = job_environment(env)
        uid = os.getuid()
        home = find_home(job.get("HOME", ""), uid)
        return cls(
            uid=uid,
            home=home,
            home_is_new=str(home or "") != job.get("HOME", ""),
            machine=_machine(),
            libc="musl" if any(Path("/lib").glob("ld-musl-*.so.1")) else "gnu",
            job=job,
            own={name: env.get(f"GPU_CI_ENV_{name}", "") for name in OWN},
        )

    @property
    def target(self) -> str:
        """Return the machine as uv's releases name it."""
        return f"{self.machine}-unknown-linux-{self.libc}"


# What a workflow may set for later steps on purpose; the action passes its own `env` context on.
OWN: Final = ("PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX")


def job_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment as it was before `shared/run` cleaned it."""
    kept = {name: value for name, value in env.items() if not name.startswith(OF_THE_JOB)}
    taken = {n.removeprefix(OF_THE_JOB): v for n, v in env.items() if n.startswith(OF_THE_JOB)}
    return {**kept, **taken}


def find_home(told: str, uid: int) -> Path | None:
    """Return HOME if it is this user's, else the home of the user database, None if neither can be used.

    A runner that is started by a service, `su` or `docker exec` often has root's HOME, `/` or none.
    """
    candidates = [told, _home_of(uid)]
    usable = (Path(text) for text in candidates if text.startswith("/") and text != "/")
    return next((path for path in usable if _is_own(path, uid)), None)


def _home_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:  # a container's user often stands in no database
        return ""


def _is_own(path: Path, uid: int) -> bool:
    """Say whether a folder can be this user's home: it is theirs, or they may write in it."""
    try:
        return path.is_dir() and (path.stat().st_uid == uid or os.access(path, os.W_OK | os.X_OK))
    except OSError:
        return False


def _machine() -> str:
    system, machine = platform.system(), platform.machine()
    if system == "Linux" and machine in MACHINES:
        return MACHINES[machine]
    raise EnvironmentBroken(
        f"There is no uv for {system} on {machine} that this action knows.",
        "Install uv on the machine yourself, and leave this step out.",
    )
