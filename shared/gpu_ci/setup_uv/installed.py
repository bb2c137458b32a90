"""The uvs that this action keeps: each in a folder of its version, with its checksum next to it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.version import InvalidVersion, Version

from gpu_ci.errors import NoFolder, NotFetched, NotVerified
from gpu_ci.setup_uv.existing_uvs import Uv, ask_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpu_ci.setup_uv.version_wanted import Wanted

PROGRAMS: Final = ("uv", "uvx")
SUMS: Final = "SHA256SUMS"
# What uvx is: another name for one of uv's commands.
UVX: Final = """#!/bin/sh
exec "${0%/*}/uv" tool run "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A folder of kept uvs, which several jobs may use at once; all are for one kind of machine.

    One from an archive whose checksum the user gave has that checksum in its name too, so that no
    other stands in for it.
    """

    folder: Path

    def newest(self, wanted: Wanted) -> Uv | None:
        """Return the newest one that will do and is whole, None if there is none."""
        told = ((_version(each.name), each) for each in self.folder.glob("[0-9]*"))
        fitting = [(version, each) for version, each in told if version and wanted.allows(version)]
        newest_first = sorted(fitting, reverse=True)
        return next((self._installed_uv(*each) for each in newest_first if is_whole(each[1])), None)

    def one(self, version: str, archive: str = "") -> Uv | None:
        """Return the one of this version (and checksum), None if it is not there or not whole."""
        place = self._place(version, archive)
        return self._installed_uv(Version(version), place) if is_whole(place) else None

    def install(self, version: str, fill: Callable[[Path], None], archive: str = "") -> Uv:
        """Keep a uv that `fill` puts into the folder that it gets; of several jobs only one does it.

        Raises what `fill` raises; NotFetched or NotVerified when what came does not run here, or is
        another version; NoFolder when it cannot be written.
        """
        place = self._place(version, archive)
        try:
            with self._locked(place):
                if there := self.one(version, archive):
                    return there
                self._renew(place, version, fill)
        except OSError as error:
            raise NoFolder(
                f"uv {version} could not be kept in {self.folder}: {error.strerror or error}.",
                "Make room on that disk, and let the runner's user write there.",
            ) from None
        return Uv(path=place / "uv", version=Version(version), where=f"new in {self.folder}")

    def _place(self, version: str, archive: str) -> Path:
        return self.folder / "-".join(filter(None, (version, archive)))

    def _installed_uv(self, version: Version, place: Path) -> Uv:
        return Uv(path=place / "uv", version=version, where=f"kept in {self.folder}")

    def _renew(self, place: Path, version: str, fill: Callable[[Path], None]) -> None:
        """Make it next to its place, then move it there in one step."""
        scratch = self.folder / f".new-{place.name}"
        shutil.rmtree(scratch, ignore_errors=True)  # of a job that was killed
        made = scratch / "made"
        made.mkdir(parents=True, mode=0o755)
        try:
            fill(made)
            _look_at(made / "uv", version)
            _complete(made)
            if place.exists():  # and is not whole
                place.rename(scratch / "broken")
            made.rename(place)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    @contextmanager
    def _locked(self, place: Path) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f".lock-{place.name}").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _look_at(uv: Path, version: str) -> None:
    """Check that it runs and is what it should be. Raises NotFetched, NotVerified."""
    found = ask_version(uv)
    if found is None:
        raise NotFetched(
            f"The uv that came as {version} does not run on this machine.",
            "Is its libc too old, or does the folder allow no programs (noexec)? Install uv on the "
            "machine, or give another version.",
        )
    if Version(found.public) != Version(version):
        raise NotVerified(
            f"What came as uv {version} says that it is uv {found}; it was not used.",
            "Correct mirror, version or checksum.",
        )


def _complete(made: Path) -> None:
    """Add what else belongs in the folder of a kept uv."""
    if not (made / "uvx").exists():
        (made / "uvx").write_text(UVX)
        (made / "uvx").chmod(0o755)
    sums = [f"{digest(made / name)}  {name}\n" for name in PROGRAMS]
    (made / SUMS).write_text("".join(sums))


def link(uv: Uv, below: Path) -> Path:
    """Return a folder that has nothing but links to this uv and its uvx, the same for each job.

    Raises NoFolder when it cannot be written.
    """
    name = hashlib.sha256(str(uv.path).encode()).hexdigest()[:12]
    folder = below / f"{uv.version}-{name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for program in filter(None, (uv.path, uv.uvx)):
            _point(folder / program.name, program)
    except OSError as error:
        raise NoFolder(
            f"uv {uv.version} could not be linked in {below}: {error.strerror or error}.",
            "Make room on that disk, and let the runner's user write there.",
        ) from None
    return folder


def _point(link: Path, to: Path) -> None:
    """Point a link there in one step: other jobs may be using it."""
    if link.is_symlink() and link.readlink() == to:
        return
    with tempfile.TemporaryDirectory(dir=link.parent, prefix=".new-") as scratch:
        made = Path(scratch, link.name)
        made.symlink_to(to)
        made.replace(link)


def is_whole(folder: Path) -> bool:
    """Say whether the programs in a folder are those that were put there, and can be run."""
    try:
        lines = (folder / SUMS).read_text().splitlines()
        told = {name: sum_ for sum_, name in (line.split("  ", 1) for line in lines)}
        return all(
            digest(folder / name) == told.get(name) and os.access(folder / name, os.X_OK)
            for name in PROGRAMS
        )
    except (OSError, ValueError):
        return False


def digest(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _version(name: str) -> Version | None:
    try:
        return Version(name.partition("-")[0])
    except InvalidVersion:
        return None
