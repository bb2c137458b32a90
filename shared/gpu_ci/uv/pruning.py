"""Keeps uv's cache below a size: what was used least lately goes first, and never under another uv."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpu_ci.waiting import Deadline

GB: Final = 1_000_000_000
# Unpacked wheels are nearly all of a cache; what points to them is made anew when one is gone.
ARCHIVES: Final = "archive-v[0-9]*/*"
PROCESSES: Final = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What came of it: sizes in bytes, and in words why no more was removed, "" if all was."""

    before: int
    after: int
    why: str = ""


def prune(cache: Path, most: float, deadline: Deadline) -> Pruned:
    """Remove archives until the cache has at most so many GB, or the time is up. Never raises."""
    archives = sorted(_archives(cache), key=lambda each: each[1])
    size = before = sum(each[2] for each in archives) + _others(cache)
    if size <= most * GB:
        return Pruned(before=before, after=size)
    with alone(cache) as free:
        if not free:
            return Pruned(before=before, after=size, why="another uv is running")
        for folder, _, bytes_ in archives:
            if size <= most * GB:
                break
            if deadline.passed():
                return Pruned(before=before, after=size, why="time is up")
            shutil.rmtree(folder, ignore_errors=True)
            size -= bytes_
    return Pruned(before=before, after=size)


def _archives(cache: Path) -> Iterator[tuple[Path, float, int]]:
    """Yield each unpacked wheel with when it was used last and its size in bytes."""
    for folder in cache.glob(ARCHIVES):
        yield folder, _last_used(folder), _size(folder)


def _last_used(folder: Path) -> float:
    """Return when it was used: a hard link to a file changes its ctime, a copy its atime."""
    named = [folder, *folder.glob("*.dist-info/RECORD")]
    times = [0.0]
    for each in named:
        with suppress(OSError):
            found = each.stat()
            times += [found.st_mtime, found.st_ctime, found.st_atime if each is not folder else 0.0]
    return max(times)


def _others(cache: Path) -> int:
    """Return the size of all that is no archive: indexes, built wheels, interpreters."""
    buckets = (each for each in cache.iterdir() if not each.match("archive-v[0-9]*"))
    return sum(_size(each) for each in buckets)


def _size(path: Path) -> int:
    """Return the bytes that a file or a folder takes on the disk."""
    total = 0
    for parent, _, files in os.walk(path):
        for name in files:
            with suppress(OSError):
                total += os.lstat(f"{parent}/{name}").st_blocks * 512
    with suppress(OSError):
        total += os.lstat(path).st_blocks * 512
    return total


@contextmanager
def alone(cache: Path) -> Iterator[bool]:
    """Hold uv's own lock of the cache; False if some uv runs, of those before 0.9 too, which hold none."""
    with (cache / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield not _uv_runs()


def _uv_runs() -> bool:
    for each in PROCESSES.glob("[0-9]*/comm"):
        with suppress(OSError):
            if each.read_text().strip() in {"uv", "uvx"}:
                return True
    return False
