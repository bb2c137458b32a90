"""A machine's disk: folders that stand for its /home and /dev/shm."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

# Not where it is the end of a longer path, such as ${root}/home/ or https://host/home/; but where it
# is the value of ${name:-/home/}.
PREFIXES: Final = re.compile(rb"(?:(?<![\w.})/-])|(?<=:-))/(home|dev/shm)/")
SUDO: Final = """#!/bin/sh
while :; do
    case $1 in
        -n | -E | -H) shift ;;
        *) break ;;
    esac
done
[ "$1" != -- ] || shift
exec env "$@"
"""


@dataclass(frozen=True)
class Disk:
    """The folders of one machine, which other users can pass through: its runner is one."""

    folder: Path

    @property
    def home(self) -> Path:
        """What stands for /home: kept over a pause."""
        return self.folder / "home"

    @property
    def shm(self) -> Path:
        """What stands for /dev/shm: empty at each start."""
        return self.folder / "shm"

    @property
    def root(self) -> Path:
        """What stands for /root, which a container loses over a pause."""
        return self.folder / "root"

    @property
    def log(self) -> Path:
        """What the startup scripts printed."""
        return self.folder / "startup.log"

    @property
    def programs(self) -> Path:
        """A folder for PATH, with a `sudo` that runs its arguments as its caller."""
        return self.folder / "programs"

    def make(self) -> None:
        """Make what a new machine has."""
        for folder, mode in ((self.folder, 0o711), (self.home, 0o755), (self.programs, 0o755)):
            folder.mkdir()
            folder.chmod(mode)
        sudo = self.programs / "sudo"
        sudo.write_text(SUDO)
        sudo.chmod(0o755)

    def boot(self, mounted: Path | None) -> None:
        """Empty what does not outlive a pause and mount the filesystem, or none."""
        for folder, mode in ((self.shm, 0o1777), (self.root, 0o700)):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            folder.chmod(mode)
        mount = self.home / "jl_fs"
        if mount.is_symlink():
            mount.unlink()
        if mounted:
            mount.symlink_to(mounted)

    def localise(self, text: bytes) -> bytes:
        """Point every path below /home/ and /dev/shm/ into the folders that stand for them."""
        places = {b"home": self.home, b"dev/shm": self.shm}
        return PREFIXES.sub(lambda found: bytes(places[found[1]]) + b"/", text)

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)
