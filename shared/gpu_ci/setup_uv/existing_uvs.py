"""The uvs that are on the machine already."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Final

from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpu_ci.setup_uv.host import Host
    from gpu_ci.setup_uv.version_wanted import Wanted

ANSWER_SECONDS: Final = 10.0
LONGEST_ANSWER: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Uv:
    """A uv that runs here, by its absolute path; `where` says in words where it is from."""

    path: Path
    version: Version
    where: str

    @property
    def uvx(self) -> Path | None:
        """Return the uvx next to it, None where there is none."""
        beside = self.path.with_name("uvx")
        return beside if os.access(beside, os.X_OK) else None


def on_path(host: Host, ours: Path) -> Iterator[Uv]:
    """Yield the uvs on the job's PATH, in its order, each by its absolute path.

    Skips those in `ours`, which an earlier step put there, and those in a virtual environment, which
    may be synced or made anew, with its uv.
    """
    for folder in dict.fromkeys(_folders(host)):
        if _is_in(folder, ours) or _is_environments(folder):
            continue
        if os.access(folder / "uv", os.X_OK) and (version := ask_version(folder / "uv")):
            yield Uv(path=folder / "uv", version=version, where=f"on PATH ({folder})")


def _folders(host: Host) -> Iterator[Path]:
    """Yield the entries of PATH that are absolute: what others mean changes with each step's folder."""
    entries = host.job.get("PATH", "").split(":")
    yield from (Path(entry) for entry in entries if entry.startswith("/"))


def _is_in(folder: Path, parent: Path) -> bool:
    return folder.is_relative_to(parent) or folder.resolve().is_relative_to(parent.resolve())


def _is_environments(folder: Path) -> bool:
    """Say whether a folder of programs, or the one that it leads to, is a virtual environment's."""
    above = (folder.parent, folder.resolve().parent)
    return any(os.access(each / "pyvenv.cfg", os.F_OK) for each in above)


def ask_version(path: Path) -> Version | None:
    """Return the version that a uv reports, None if it does not run here or is not a uv."""
    try:
        found = re.match(r"uv (\S+)\s", _answer(path))
        return Version(found[1]) if found else None
    except (OSError, InvalidVersion):
        return None


def _answer(path: Path) -> str:
    """Return the first line that a program prints, "" if it fails or is not done in time. Raises OSError."""
    with subprocess.Popen(
        [path, "--version"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        patience = Timer(ANSWER_SECONDS, _end, [process])
        patience.start()
        try:
            line = process.stdout.readline(LONGEST_ANSWER) if process.stdout else b""
            process.wait()
        finally:
            patience.cancel()
            if process.returncode is None:
                _end(process)
    return line.decode(errors="replace") if process.returncode == 0 else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End all that a program started: its process id cannot be reused until it is waited for."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def choose(wanted: Wanted, present: Sequence[Uv]) -> Uv | None:
    """Return the first that will do."""
    return next((uv for uv in present if wanted.allows(uv.version)), None)
