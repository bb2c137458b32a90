"""The uvs that this action keeps: each in a folder of its version, with its checksum beside it."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tarfile
import tempfile
import zipfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Final

from packaging.version import InvalidVersion, Version

from gpu_ci.errors import NotFetched
from gpu_ci.uv.present import Uv, ask_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAMS: Final = ("uv", "uvx")
SUMS: Final = "SHA256SUMS"
# What uvx is: another name for one of uv's commands.
UVX: Final = """#!/bin/sh
exec "${0%/*}/uv" tool run "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A folder of kept uvs, which several jobs may use at once."""

    folder: Path

    def all(self) -> list[Uv]:
        """Return those that are whole, the newest first; each is verified again."""
        found = []
        for each in self.folder.iterdir():
            version = _version(each.name)
            if version and is_whole(each):
                found.append(Uv(path=each / "uv", version=version, where=f"kept in {self.folder}"))
        return sorted(found, key=lambda uv: uv.version, reverse=True)

    def one(self, version: str) -> Uv | None:
        """Return the one of this version, None if it is not there or not whole."""
        if not is_whole(self.folder / version):
            return None
        path = self.folder / version / "uv"
        return Uv(path=path, version=Version(version), where=f"kept in {self.folder}")

    def install(self, version: str, fill: Callable[[Path], None]) -> Uv:
        """Keep a uv that `fill` puts into the folder that it is given; several jobs do it once.

        Raises what `fill` raises, and NotFetched when what came does not run here.
        """
        with self._locked(version):
            if there := self.one(version):
                return there
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=".new-") as name:
                made = self._made(version, Path(name), fill)
                shutil.rmtree(self.folder / version, ignore_errors=True)
                made.rename(self.folder / version)
        path = self.folder / version / "uv"
        return Uv(path=path, version=Version(version), where=f"new in {self.folder}")

    def _made(self, version: str, scratch: Path, fill: Callable[[Path], None]) -> Path:
        made = scratch / "made"
        made.mkdir(mode=0o755)
        fill(made)
        if ask_version(made / "uv") is None:
            raise NotFetched(
                f"uv {version} was downloaded, and does not run on this machine.",
                "Is its libc too old? Install uv on the machine, or give another version.",
            )
        if not (made / "uvx").exists():
            (made / "uvx").write_text(UVX)
            (made / "uvx").chmod(0o755)
        sums = [f"{digest(made / name)}  {name}\n" for name in PROGRAMS]
        (made / SUMS).write_text("".join(sums))
        return made

    @contextmanager
    def _locked(self, version: str) -> Iterator[None]:
        with (self.folder / f".lock-{version}").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def link(uv: Uv, below: Path) -> Path:
    """Return a folder that has nothing but links to this uv and its uvx, the same for each job."""
    name = hashlib.sha256(str(uv.path).encode()).hexdigest()[:12]
    folder = below / f"{uv.version}-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    for program in filter(None, (uv.path, uv.uvx)):
        with suppress(FileExistsError):
            (folder / program.name).symlink_to(program)
    return folder


def is_whole(folder: Path) -> bool:
    """Say whether the programs in a folder are those that were put there."""
    try:
        lines = (folder / SUMS).read_text().splitlines()
        told = {name: sum_ for sum_, name in (line.split("  ", 1) for line in lines)}
        return "uv" in told and all(digest(folder / name) == told[name] for name in told)
    except (OSError, ValueError):
        return False


def digest(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def unpack(archive: Path, to: Path) -> None:
    """Take uv and uvx out of a wheel or a release's tarball, and nothing else.

    Raises NotFetched when there is no uv in it.
    """
    members = _of_wheel(archive) if zipfile.is_zipfile(archive) else _of_tarball(archive)
    for name, stream in members:
        with (to / name).open("wb") as file:
            shutil.copyfileobj(stream, file)
        (to / name).chmod(0o755)
    if not (to / "uv").exists():
        raise NotFetched("There is no uv in what was downloaded.", "Correct mirror or version.")


def _of_wheel(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.namelist():
            if (name := PurePosixPath(member).name) in PROGRAMS and "/scripts/" in member:
                with opened.open(member) as stream:
                    yield name, stream


def _of_tarball(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    try:
        with tarfile.open(archive) as opened:
            for member in opened:
                stream = opened.extractfile(member) if member.isfile() else None
                if stream and (name := PurePosixPath(member.name).name) in PROGRAMS:
                    yield name, stream
    except tarfile.TarError as error:
        raise NotFetched(
            f"What was downloaded is no archive ({error}).", "Correct mirror."
        ) from None


def _version(name: str) -> Version | None:
    try:
        return Version(name)
    except InvalidVersion:
        return None
