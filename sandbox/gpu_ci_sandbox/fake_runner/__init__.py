"""The stand-in runner as an archive of the shape in which GitHub publishes its runner.

Unpacked in place it has `run.sh`, `config.sh` and `bin/`. It needs bash and python3, nothing else.
Switches for tests, read from the environment that `run.sh` was started in:

    STANDIN_RUNNER_EXIT=online    exit (code 1) as soon as it is online
    STANDIN_RUNNER_EXIT=start     exit (code 1) before it connects, as with a missing library
    STANDIN_RUNNER_HANG=job       take a job and never begin it
    STANDIN_RUNNER_DEPRECATED=1   be refused as too old
    STANDIN_RUNNER_RETRY=SECONDS  wait so long (30) before trying again to open a session
    STANDIN_RUNNER_PATIENCE=SECONDS  between SIGINT and SIGTERM (7.5) to a cancelled job
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

VERSION = "2.336.0"
ARCHITECTURES = ("x64", "arm64")
SOURCES = {
    "run.sh": "run.sh",
    "run-helper.sh": "run-helper.sh",
    "config.sh": "config.sh",
    "bin/installdependencies.sh": "installdependencies.sh",
    "bin/Runner.Listener": "listener.py",
    "bin/Runner.Worker": "worker.py",
}
# -E and -s: a job's or a user's Python settings must not change the runner.
SHEBANG = b"#!/usr/bin/env -S python3 -Es\n"


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A tar.gz whose bytes depend on nothing but its content."""

    filename: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@cache
def archive(architecture: str = "x64") -> Archive:
    """The runner for an architecture (`x64`, `arm64`); they differ in nothing but the name."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, source in SOURCES.items():
            _add(tar, name, _content(source))
    return Archive(
        filename=f"actions-runner-linux-{architecture}-{VERSION}.tar.gz",
        content=gzip.compress(packed.getvalue(), mtime=0),
    )


def find_archive(filename: str) -> Archive | None:
    """The archive of this name, None if there is none."""
    built = (archive(architecture) for architecture in ARCHITECTURES)
    return next((each for each in built if each.filename == filename), None)


def _content(source: str) -> bytes:
    content = (files("gpu_ci_sandbox.fake_runner.archive_files") / source).read_bytes()
    return SHEBANG + content if source.endswith(".py") else content


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(f"./{name}")
    member.size = len(content)
    member.mode = 0o755
    tar.addfile(member, io.BytesIO(content))
