"""The uvs that are on the machine already."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpu_ci.uv.host import Host
    from gpu_ci.uv.wanted import Wanted

ANSWER_SECONDS: Final = 20.0


@dataclass(frozen=True, kw_only=True)
class Uv:
    """A uv that runs here, by its absolute path; `where` says in words how it came here."""

    path: Path
    version: Version
    where: str

    @property
    def uvx(self) -> Path | None:
        """Return the uvx beside it, None where there is none."""
        beside = self.path.with_name("uvx")
        return beside if os.access(beside, os.X_OK) else None


def on_path(host: Host, ours: Path) -> Iterator[Uv]:
    """Yield the uvs on the job's PATH, in its order; not those in `ours`, which a former step put there."""
    folders = (Path(text) for text in host.job.get("PATH", "").split(":") if text.startswith("/"))
    for folder in dict.fromkeys(folders):
        if folder.is_relative_to(ours) or not os.access(folder / "uv", os.X_OK):
            continue
        if version := ask_version(folder / "uv"):
            yield Uv(path=folder / "uv", version=version, where=f"on PATH ({folder})")


def ask_version(path: Path) -> Version | None:
    """Return what a uv says that it is, None if it does not run: for another machine, or no uv."""
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    found = re.match(r"uv (\d+\.\d+\.\d+)", done.stdout)
    return Version(found[1]) if found else None


def choose(wanted: Wanted, present: Sequence[Uv]) -> Uv | None:
    """Return the first that will do: those on PATH come before kept ones."""
    return next((uv for uv in present if wanted.allows(uv.version)), None)
