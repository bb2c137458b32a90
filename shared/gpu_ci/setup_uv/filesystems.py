"""What kind of file system a folder is on, and whether files can be linked from one to another."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Where locking fails or takes seconds, and many small files take minutes.
NETWORKED: Final = {
    "9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs3", "nfs4",
    "smb3", "smbfs", "vboxsf", "virtiofs", "wekafs",
}  # fmt: skip
# All other file systems that a program serves are cloud buckets and the like.
LOCAL_FUSE: Final = {
    "fuse.bindfs", "fuse.fuse-overlayfs", "fuse.mergerfs", "fuse.ntfs-3g", "fuse.unionfs",
}  # fmt: skip
MOUNTS: Final = Path("/proc/self/mountinfo")


@dataclass(frozen=True, kw_only=True)
class Mount:
    """Where a file system is mounted, and its type; both "" if unknown."""

    point: str = ""
    kind: str = ""


def mount_of(folder: Path, mounts: Path = MOUNTS) -> Mount:
    """Return the mount that the folder is, or would be, on."""
    place = str(nearest(folder).resolve())
    found = Mount()
    for mount in _mounts(mounts):
        # Of two mounts on one point, the later hides the earlier.
        if _is_in(place, mount.point) and len(mount.point) >= len(found.point):
            found = mount
    return found


def is_networked(folder: Path, mounts: Path = MOUNTS) -> bool:
    """Say whether the folder's files are on another machine."""
    kind = mount_of(folder, mounts).kind
    return kind in NETWORKED or (kind.startswith("fuse.") and kind not in LOCAL_FUSE)


def can_link(first: Path, second: Path, mounts: Path = MOUNTS) -> bool:
    """Say whether files can be linked between two folders, of which neither need exist yet.

    One device is not enough: link(2) refuses between two mounts of it, as a container has them.
    """
    devices = {nearest(each).stat().st_dev for each in (first, second)}
    return len(devices) == 1 and mount_of(first, mounts) == mount_of(second, mounts)


def nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists and may be seen."""
    return next(path for path in (folder, *folder.parents) if os.path.exists(path))  # noqa: PTH110 -- Path.exists raises where we may not look


def _mounts(mounts: Path) -> list[Mount]:
    """Read each mount (proc(5): the point is the fifth field, the type the first after `-`)."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    split = [(line.split(" "), line.partition(" - ")[2].split(" ")) for line in lines]
    return [
        Mount(point=_plain(left[4]), kind=right[0])
        for left, right in split
        if len(left) > 4  # noqa: PLR2004 -- the fifth field
    ]


def _plain(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _is_in(place: str, point: str) -> bool:
    return point in {"/", place} or place.startswith(f"{point}/")
