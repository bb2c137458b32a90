"""Takes uv out of what was downloaded, and nothing else."""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Final

from gpu_ci.errors import NotFetched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Where the programs are in a wheel, and in a release's tarball.
IN_WHEEL: Final = re.compile(r"uv-[^/]+\.data/scripts/(uvx?)")
IN_TARBALL: Final = re.compile(r"(?:\./)?uv-[^/]+/(uvx?)")
BROKEN: Final = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, RuntimeError,
)  # fmt: skip
CURE: Final = "Correct mirror, version or checksum."


def unpack(archive: Path, to: Path) -> None:
    """Take uv and uvx out of a wheel or a release's tarball.

    A member in another place or of another kind is skipped, whatever its path or its link says. Raises
    NotFetched when there is no uv in it, OSError when it cannot be written.
    """
    members = _of_wheel if zipfile.is_zipfile(archive) else _of_tarball
    try:
        for name, stream in members(archive):
            with (to / name).open("xb") as file:
                shutil.copyfileobj(stream, file, 1 << 20)
            (to / name).chmod(0o755)
    except (*BROKEN, FileExistsError) as error:
        raise NotFetched(f"What was downloaded is not a whole archive ({error}).", CURE) from None
    if not (to / "uv").exists():
        raise NotFetched("There is no uv in what was downloaded.", CURE)


def _of_wheel(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            if found := IN_WHEEL.fullmatch(member.filename):
                with opened.open(member) as stream:
                    yield found[1], stream


def _of_tarball(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive) as opened:
        for member in opened:
            found = IN_TARBALL.fullmatch(member.name)
            stream = opened.extractfile(member) if found and member.isfile() else None
            if found and stream:
                yield found[1], stream
