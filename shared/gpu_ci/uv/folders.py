"""Where uv keeps what: each folder is tried by writing, and all are named together."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import NoFolder
from gpu_ci.uv.filesystems import is_networked, kind, same_device

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpu_ci.uv.host import Host
    from gpu_ci.uv.inputs import SetupUvInputs

# The buckets of uv's cache have a version in their names: wheels-v5, archive-v0 …
BUCKETS: Final = "*-v[0-9]*"
TEMPORARY: Final = Path("/var/tmp"), Path("/tmp")  # noqa: S108 -- only a folder of our own in them is used


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Absolute paths; `bin` holds links to the uv that won, and `uvs` the kept ones by version.

    `cache_is_kept` says that the next job on this machine finds the cache again, `cache_was_there`
    that this one did; `copies` that nothing can be linked from it into the workspace. `notes` says
    why a folder is not the usual one.
    """

    cache: Path
    pythons: Path
    tools: Path
    tool_bin: Path
    bin: Path
    uvs: Path
    cache_is_kept: bool
    cache_was_there: bool
    copies: bool
    notes: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Choosing:
    """Chooses the folders for one job, each the first that can be written by this user alone.

    What stays on the machine goes to the user's home, or to the runner's tool cache where there is
    no home to write in, or to a folder of the user's own in /var/tmp; at last to the job's temporary
    folder, which the runner empties.
    """

    inputs: SetupUvInputs
    host: Host
    notes: list[str] = field(default_factory=list)

    def folders(self) -> Folders:
        """Choose, and make them. Raises NoFolder when one cannot be had anywhere."""
        cache = self._first("the cache", self._caches())
        data = self._first("uv and Pythons", self._data())
        pythons = self._first("Pythons", [*self._told("UV_PYTHON_INSTALL_DIR"), data / "python"])
        kept = self._is_kept(cache)
        return Folders(
            cache=cache,
            pythons=pythons,
            tools=self._first("tools", [*self._asked("tool-dir", "UV_TOOL_DIR"), data / "tools"]),
            tool_bin=self._first("tools' programs", self._tool_bins(data)),
            bin=self._first("uv's programs", [data / "gpu-ci" / "bin"]),
            uvs=self._first("kept uvs", [data / "gpu-ci" / "versions"]),
            cache_is_kept=kept,
            cache_was_there=kept and any(cache.glob(BUCKETS)),
            copies=not same_device(cache, self.inputs.working_directory),
            notes=tuple(self.notes),
        )

    def _caches(self) -> Iterator[Path]:
        if not self.inputs.keeps_cache:
            yield from self._of_the_job("cache")
        yield from self._asked("cache-local-path", "UV_CACHE_DIR")
        yield from self._told("XDG_CACHE_HOME", "uv")
        if self.host.home:
            yield self.host.home / ".cache" / "uv"
        yield from self._beside_home("cache")

    def _data(self) -> Iterator[Path]:
        yield from self._told("XDG_DATA_HOME", "uv")
        if self.host.home:
            yield self.host.home / ".local" / "share" / "uv"
        yield from self._beside_home("data")

    def _tool_bins(self, data: Path) -> Iterator[Path]:
        yield from self._asked("tool-bin-dir", "UV_TOOL_BIN_DIR")
        if self.host.home:
            yield self.host.home / ".local" / "bin"
        yield data / "tool-bin"

    def _beside_home(self, what: str) -> Iterator[Path]:
        own = f"gpu-ci-uv-{self.host.uid}"
        yield from self._told("RUNNER_TOOL_CACHE", own, what)
        for parent in TEMPORARY:
            yield parent / own / what
        yield from self._of_the_job(what)

    def _of_the_job(self, what: str) -> Iterator[Path]:
        yield from self._told("RUNNER_TEMP", "gpu-ci-uv", what)

    def _asked(self, name: str, variable: str) -> Iterator[Path]:
        """Yield what an input asks for, relative to the working directory, then the variable's."""
        if asked := self.inputs.folder(name):
            yield asked
        yield from self._told(variable)

    def _told(self, variable: str, *below: str) -> Iterator[Path]:
        """Yield the folder that a variable of the job names, if it is absolute."""
        told = self.host.job.get(variable, "")
        if told.startswith("/"):
            yield Path(told, *below)

    def _is_kept(self, folder: Path) -> bool:
        temporary = self.host.job.get("RUNNER_TEMP", "")
        in_the_job = bool(temporary) and folder.is_relative_to(temporary)
        return not in_the_job and self.host.job.get("RUNNER_ENVIRONMENT") != "github-hosted"

    def _first(self, what: str, candidates: Iterable[Path]) -> Path:
        refused: list[str] = []
        for folder in dict.fromkeys(candidates):
            if not (why := refusal(folder, self.host.uid)):
                self.notes += [f"{what}: {text}" for text in refused]
                return folder
            refused.append(f"{folder} {why}")
        raise NoFolder(
            f"No folder was found for {what}: {'; '.join(refused)}.",
            "Let the runner's user write in its home or in RUNNER_TOOL_CACHE, or name a folder: "
            "cache-local-path, tool-dir, tool-bin-dir.",
        )


def refusal(folder: Path, uid: int) -> str:
    """Return why a folder cannot be used, "" if it can; it is made if it is not there.

    One that others own could be filled by them with programs for us, and hard links to their files
    are forbidden; on a network's file system locks fail.
    """
    if is_networked(folder):
        return f"is on {kind(folder)}, where locks fail"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for each in (folder, *folder.glob(BUCKETS)):
            if each.stat().st_uid != uid:
                return f"belongs to another user ({each.name}: {each.stat().st_uid})"
            _try(each)
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    return ""


def _try(folder: Path) -> None:
    """Write a file and remove it. Raises OSError."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".gpu-ci-") as file:
        file.write(b"gpu-ci")
        file.flush()
        os.fsync(file.fileno())  # a full disk may show only now
