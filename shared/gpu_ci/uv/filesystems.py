"""What kind of file system a folder is on, and whether two are on one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

# Where locking fails or takes seconds, and many small files take minutes.
NETWORKED: Final = {
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs",
    "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre", "nfs", "nfs3", "nfs4", "smb3",
    "smbfs", "vboxsf", "virtiofs", "wekafs",
}  # fmt: skip
MOUNTS: Final = Path("/proc/self/mountinfo")


def kind(folder: Path) -> str:
    """Return the type of the file system that the folder is, or would be, on; "" if unknown."""
    place = str(nearest(folder).resolve())
    found = ("", "")
    for line in _lines():
        point, type_ = line
        if _is_in(place, point) and len(point) >= len(found[0]):
            found = (point, type_)
    return found[1]


def is_networked(folder: Path) -> bool:
    return kind(folder) in NETWORKED


def same_device(first: Path, second: Path) -> bool:
    """Say whether files can be linked between the folders, of which neither need exist yet."""
    return nearest(first).stat().st_dev == nearest(second).stat().st_dev


def nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _lines() -> list[tuple[str, str]]:
    """Return each mount's point and type (proc(5): the fifth field, and the first after `-`)."""
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:
        return []
    split = [(line.split(" "), line.partition(" - ")[2].split(" ")) for line in lines]
    return [(_plain(left[4]), right[0]) for left, right in split if len(left) > 4]  # noqa: PLR2004


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _is_in(place: str, point: str) -> bool:
    return point in {"/", place} or place.startswith(f"{point}/")
