"""The machine and the user that uv is set up for."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import EnvironmentBroken
from gpu_ci.runtime.home import find_home

if TYPE_CHECKING:
    from collections.abc import Mapping

# `shared/run` takes these out of its own way and leaves them to be read under this prefix.
OF_THE_JOB: Final = "GPU_CI_JOB_"
# What the workflow itself has set: the action passes its `env` context on under this prefix.
OF_THE_WORKFLOW: Final = "GPU_CI_ENV_"
# What `uname -m` says, where uv's releases say it otherwise.
MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
ROOT: Final = Path("/")


@dataclass(frozen=True, kw_only=True)
class Host:
    """The user and the machine.

    `home` is None where the user has no usable one, and `home_is_new` says that the job's HOME is
    another one or unset. `job` is the environment that the step began with, `own` the part of
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
        """Read it. Raises EnvironmentBroken for a system other than Linux."""
        job = job_environment(env)
        uid = os.getuid()
        told = job.get("HOME", "")
        home = find_home(told, uid)
        return cls(
            uid=uid,
            home=home,
            home_is_new=home is not None and home != Path(told),
            machine=_machine(),
            libc=find_libc(),
            job=job,
            own=_with_prefix(env, OF_THE_WORKFLOW),
        )

    @property
    def target(self) -> str:
        """Return the machine as uv's releases name it."""
        return f"{self.machine}-unknown-linux-{self.libc}"


def job_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment as it was before `shared/run` cleaned it."""
    hidden = (OF_THE_JOB, OF_THE_WORKFLOW)
    kept = {name: value for name, value in env.items() if not name.startswith(hidden)}
    return {**kept, **_with_prefix(env, OF_THE_JOB)}


def _with_prefix(env: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {n.removeprefix(prefix): value for n, value in env.items() if n.startswith(prefix)}


def _machine() -> str:
    system, machine = platform.system(), platform.machine()
    if system == "Linux":
        return MACHINES.get(machine, machine)
    raise EnvironmentBroken(
        f"This action needs Linux, but the machine runs {system}.",
        "Install uv on the machine yourself, and leave this step out.",
    )


def find_libc(root: Path = ROOT) -> str:
    """Return the C library that programs find here: `gnu`, or `musl`, whose uv needs none at all."""
    musl, gnu = (
        any(True for folder in ("lib", "lib64") for _ in (root / folder).glob(name))
        for name in ("ld-musl-*.so.1", "ld-linux-*.so.*")
    )
    if musl and gnu:  # one of them is only a guest: Debian's package `musl`, Alpine's `gcompat`
        return "gnu" if platform.libc_ver()[0] == "glibc" else "musl"
    return "gnu" if gnu else "musl"
