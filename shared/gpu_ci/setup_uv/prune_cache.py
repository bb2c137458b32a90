"""Keeps uv's cache below a size: the least recently used goes first, and nothing under a running uv."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpu_ci.runtime.clock import Deadline

GB: Final = 1_000_000_000
BLOCK: Final = 512  # of st_blocks, see stat(2)
# What uv downloads or makes anew when it is gone: unpacked wheels and environments, links to these,
# what a killed build left, and what was built, by its package.
ENTRIES: Final = (
    "archive-v[0-9]*/*", "environments-v[0-9]*/*", "builds-v[0-9]*/*", "sdists-v[0-9]*/pypi/*",
    "sdists-v[0-9]*/index/*/*", "sdists-v[0-9]*/path/*", "sdists-v[0-9]*/url/*",
    "sdists-v[0-9]*/editable/*", "sdists-v[0-9]*/git/*",
)  # fmt: skip
# Files that are linked into, or read in, whatever an entry is used for; RECORD is copied at all times.
USED: Final = (
    "*.dist-info/METADATA", "*.dist-info/WHEEL", "pyvenv.cfg", "revision.*", "*/revision.*",
)  # fmt: skip
ASIDE: Final = ".gpu-ci-removed"
PROCESSES: Final = Path("/proc")
LINKED: Final = "UV_LINK_MODE is symlink, so environments live on the cache and nothing was removed"
RUNNING: Final = "another uv is running, so nothing was removed"


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """The result: bytes kept, entries removed, and in words why no more were, "" if all were."""

    kept: int
    removed: int = 0
    why: str = ""


def prune(cache: Path, most: float, deadline: Deadline, link_mode: str = "") -> Pruned:
    """Remove the least recently used until the cache has at most `most` GB, or the time is up.

    Nothing is removed where the job's `link_mode` is symlink: environments would lose their files.
    Never raises: what cannot be read or removed stays.
    """
    if link_mode == "symlink":
        return Pruned(kept=Sizes(deadline=deadline).of(cache), why=LINKED)
    entries = sorted(_entries(cache), key=_last_used, reverse=True)
    kept, surplus = _split(cache, entries, most * GB, deadline)
    if deadline.passed():
        return Pruned(kept=kept, why="the time was up before all was measured")
    removed, why = _taken(cache, surplus)
    why = why or _emptied(cache / ASIDE, deadline)
    if kept > most * GB:
        why = why or "what is left, indexes above all, only `uv cache clean` removes"
    return Pruned(kept=kept, removed=removed, why=why)


def _taken(cache: Path, surplus: Sequence[Path]) -> tuple[int, str]:
    """Take entries out of the cache, the oldest first; return how many, and why not all."""
    if not surplus:
        return 0, ""
    with alone(cache) as why:
        return (0, why) if why else (_put_aside(cache, surplus[::-1]), "")


def _entries(cache: Path) -> Iterator[Path]:
    for pattern in ENTRIES:
        yield from cache.glob(pattern)


def _last_used(entry: Path) -> float:
    """Return when it was used: a hard link to a file changes its ctime, reading it its atime.

    The atime only now and then (relatime), or never: then the time when it was made counts.
    """
    files = [file for pattern in USED for file in entry.glob(pattern)]
    times = [0.0]
    with suppress(OSError):
        times.append(entry.lstat().st_mtime)
    for file in files:
        with suppress(OSError):
            found = file.stat()
            times += [found.st_mtime, found.st_ctime, found.st_atime]
    return max(times)


def _split(
    cache: Path, entries: Sequence[Path], most: float, deadline: Deadline
) -> tuple[int, Sequence[Path]]:
    """Return the bytes that stay, and the entries for which there is no room, both newest first.

    The surplus is never measured: in a cache that has grown for months that would take longest.
    """
    sizes = Sizes(deadline=deadline)
    size = sizes.of(cache, without={str(each) for each in entries})
    for place, entry in enumerate(entries):
        more = sizes.of(entry)
        if size + more > most:
            return size, entries[place:]
        size += more
    return size, ()


@dataclass(kw_only=True)
class Sizes:
    """Bytes on the disk, each file counted once however often it is linked."""

    deadline: Deadline
    seen: set[int] = field(default_factory=set)

    def of(self, path: Path, without: frozenset[str] | set[str] = frozenset()) -> int:
        """Return the bytes of a file or a folder, without some of its entries; too few once time is up."""
        total = self._one(str(path))
        for parent, folders, files in os.walk(path):
            if self.deadline.passed():
                break
            folders[:] = [each for each in folders if f"{parent}/{each}" not in without]
            names = (f"{parent}/{each}" for each in (*folders, *files))
            total += sum(self._one(name) for name in names if name not in without)
        return total

    def _one(self, name: str) -> int:
        try:
            found = os.lstat(name)
        except OSError:
            return 0
        if found.st_ino in self.seen:
            return 0
        if found.st_nlink > 1:
            self.seen.add(found.st_ino)
        return found.st_blocks * BLOCK


@contextmanager
def alone(cache: Path) -> Iterator[str]:
    """Hold uv's own lock on the cache; yield in words why that cannot be, "" if it can.

    Each uv since 0.9 holds it shared for as long as it runs; those before hold none, and are looked
    for among the processes of this user, the only one who can write in this cache.
    """
    with ExitStack() as held:
        yield _locked(cache, held)


def _locked(cache: Path, held: ExitStack) -> str:
    try:
        file = held.enter_context((cache / ".lock").open("a"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return RUNNING
    except OSError as error:
        return f"the cache cannot be locked ({error.strerror}), so nothing was removed"
    return RUNNING if _uv_runs() else ""


def _uv_runs() -> bool:
    own = os.getuid()
    try:
        processes = [each for each in PROCESSES.iterdir() if each.name.isdecimal()]
    except OSError:  # a chroot may have none
        return False
    return any(_is_uv(process, own) for process in processes)


def _is_uv(process: Path, own: int) -> bool:
    try:
        return process.stat().st_uid == own and (process / "comm").read_text().strip() in {
            "uv",
            "uvx",
        }
    except OSError:  # it has just ended, or is another user's
        return False


def _put_aside(cache: Path, entries: Sequence[Path]) -> int:
    """Move entries away, each in one step: half of one would be installed as if it were whole.

    Returns how many; those that cannot be moved stay.
    """
    moved = 0
    with suppress(OSError):
        (cache / ASIDE).mkdir(exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=cache / ASIDE))
        for number, entry in enumerate(entries):
            with suppress(OSError):
                entry.rename(aside / str(number))
                moved += 1
    return moved


def _emptied(aside: Path, deadline: Deadline) -> str:
    """Remove what was put aside, now or by a killed job; return why not all, "" if all went.

    Other uvs may run meanwhile: none looks there.
    """
    for each in aside.glob("*/*"):
        if deadline.passed():
            return "the time was up, so the next job removes the rest"
        shutil.rmtree(each, ignore_errors=True)
        with suppress(OSError):  # a link, which rmtree leaves
            each.unlink()
    for folder in (*aside.glob("*"), aside):
        with suppress(OSError):
            folder.rmdir()
    return ""
