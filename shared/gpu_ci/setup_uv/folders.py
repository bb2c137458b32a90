"""The folders of uv: each is tested by writing to it, and later steps get all of them together."""

from __future__ import annotations

import grp
import os
import pwd
import secrets
import stat
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import NoFolder
from gpu_ci.setup_uv.filesystems import can_link, is_networked, mount_of, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from gpu_ci.inputs.setup_uv_inputs import SetupUvInputs
    from gpu_ci.setup_uv.host import Host

# The buckets of uv's cache have a version in their names: wheels-v5, archive-v0 …
BUCKETS: Final = "*-v[0-9]*"
# What is unpacked and ready to be linked; the other buckets alone save no download.
PACKAGES: Final = "archive-v[0-9]*/*"
# What uv locks in each of its folders; it cannot open one that root left there.
LOCK: Final = ".lock"
TEMPORARY: Final = (Path("/var/tmp"), Path("/tmp"))  # noqa: S108 -- only a folder of our own in them is used
# The runner makes this home anew for each job that runs in a container.
HOME_OF_A_CONTAINER: Final = Path("/github/home")
ROOM: Final = 64_000_000  # bytes: one uv takes nearly as many
ROOT_UID: Final = 0
ROOT: Final = "root"
KB: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Absolute paths; `bin` holds links to the uv that won, and `uvs` the kept ones by version.

    `cache_is_kept` says that the next job on this machine finds the cache again, `cache_was_there`
    that this one did; `copies` that uv cannot link from it into the environment. `notes`
    says why a folder is not the usual one.
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
    no home to write in, or to a folder of the user's own in /var/tmp; as a last resort to the job's
    temporary folder, which the runner empties. Network file systems come last, unless an input
    names one.
    """

    inputs: SetupUvInputs
    host: Host
    notes: list[str] = field(default_factory=list)

    def folders(self) -> Folders:
        """Choose and make them. Raises NoFolder when no place for one is left."""
        self._note_home()
        cache = self._first("the cache", self._caches(), "cache-local-path", cache_refusal)
        own = self._first("uv itself", self._data("gpu-ci"))
        kept = self._is_kept(cache)
        return Folders(
            cache=cache,
            pythons=self._first("Pythons", self._pythons()),
            tools=self._first("tools", self._tools(), "tool-dir"),
            tool_bin=self._first("tools' programs", self._tool_bins(), "tool-bin-dir"),
            bin=self._first("uv's programs", [own / "bin"]),
            uvs=self._first("kept uvs", [own / "versions"]),
            cache_is_kept=kept,
            cache_was_there=kept and any(cache.glob(PACKAGES)),
            copies=not can_link(cache, self._environment()),
            notes=tuple(self.notes),
        )

    def _note_home(self) -> None:
        told, home = self.host.job.get("HOME", ""), self.host.home
        if home is None or self.host.home_is_new:
            instead = f"it is {home} from now on" if home else "no other is known"
            self.notes.append(f"HOME is {told or 'unset'}, not a home of this user's: {instead}.")

    def _caches(self) -> Iterator[Path]:
        if not self.inputs.keeps_cache:
            yield from self._passing("cache")
            return
        for asked in self._asked("cache-local-path", "UV_CACHE_DIR"):
            yield asked
            if os.access(asked, os.W_OK):  # a disk that is there for caches, but belongs to root
                yield asked / self._own
        yield from self._named_by_user("XDG_CACHE_HOME", "uv")
        yield from self._at_home(".cache", "uv")
        yield from self._beside_home("cache")

    def _data(self, what: str) -> Iterator[Path]:
        yield from self._named_by_user("XDG_DATA_HOME", "uv", what)
        yield from self._at_home(".local", "share", "uv", what)
        yield from self._beside_home("data", what)

    def _pythons(self) -> Iterator[Path]:
        yield from self._named_by_uv("UV_PYTHON_INSTALL_DIR")
        yield from self._data("python")

    def _tools(self) -> Iterator[Path]:
        yield from self._asked("tool-dir", "UV_TOOL_DIR")
        yield from self._data("tools")

    def _tool_bins(self) -> Iterator[Path]:
        yield from self._asked("tool-bin-dir", "UV_TOOL_BIN_DIR")
        yield from self._named_by_user("XDG_BIN_HOME")
        yield from self._at_home(".local", "bin")
        yield from self._data("tool-bin")

    def _at_home(self, *below: str) -> Iterator[Path]:
        if self.host.home and self.host.home != HOME_OF_A_CONTAINER:
            yield self.host.home.joinpath(*below)

    def _beside_home(self, *below: str) -> Iterator[Path]:
        yield from self._named_by("RUNNER_TOOL_CACHE", self._own, *below)
        for parent in TEMPORARY:
            yield parent.joinpath(self._own, *below)
        yield from self._of_the_job(*below)

    @property
    def _own(self) -> str:
        """Return the name of this user's folder among those of others."""
        return f"gpu-ci-uv-{self.host.uid}"

    def _of_the_job(self, *below: str) -> Iterator[Path]:
        yield from self._named_by("RUNNER_TEMP", "gpu-ci-uv", *below)

    def _passing(self, what: str) -> Iterator[Path]:
        """Yield folders that no later job finds again."""
        yield from self._of_the_job(what)
        new = f"{self._own}-{secrets.token_hex(8)}"
        for parent in (*self._named_by("TMPDIR"), *reversed(TEMPORARY)):
            yield parent / new / what

    def _asked(self, name: str, variable: str) -> Iterator[Path]:
        """Yield what an input asks for, then what the variable does."""
        if asked := self.inputs.folder(name):
            yield asked
        yield from self._named_by_uv(variable)

    def _named_by_uv(self, variable: str) -> Iterator[Path]:
        """Yield the folder that one of uv's variables names, resolved once: uv resolves it in each step."""
        if told := self.host.job.get(variable, ""):
            yield self.inputs.working_directory / told

    def _named_by_user(self, variable: str, *below: str) -> Iterator[Path]:
        """Yield the folder that a user's variable names. Root skips one that is another user's:
        what root makes there would be in that user's way."""
        for folder in self._named_by(variable, *below):
            if self.host.uid != ROOT_UID or nearest(folder).stat().st_uid == ROOT_UID:
                yield folder

    def _named_by(self, variable: str, *below: str) -> Iterator[Path]:
        """Yield the folder that a variable of the job names, if it is absolute."""
        told = self.host.job.get(variable, "")
        if told.startswith("/"):
            yield Path(told, *below)

    def _environment(self) -> Path:
        told = self.host.job.get("UV_PROJECT_ENVIRONMENT", "")
        return self.inputs.folder("venv-path") or self.inputs.working_directory / told

    def _is_kept(self, folder: Path) -> bool:
        temporary = self.host.job.get("RUNNER_TEMP", "")
        in_the_job = bool(temporary) and folder.is_relative_to(temporary)
        stays = self.inputs.keeps_cache and not in_the_job
        return stays and self.host.job.get("RUNNER_ENVIRONMENT") != "github-hosted"

    def _first(
        self,
        what: str,
        candidates: Iterable[Path],
        name: str = "",
        refuses: Callable[[Path, int], str] | None = None,
    ) -> Path:
        """Return the first that is not refused: what the input of this name asks for, then those on
        this machine's own disks, then the others."""
        wanted = list(dict.fromkeys(candidates))
        asked = self.inputs.folder(name) if name else None
        by_input = {asked, asked / self._own} if asked else set()
        against = {each: _far(each) for each in wanted if is_networked(each)}
        for folder in sorted(wanted, key=(against.keys() - by_input).__contains__):
            why = (refuses or refusal)(folder, self.host.uid)
            if not why:
                last = "an input names it" if folder in by_input else "no other was found"
                self._note(what, wanted[: wanted.index(folder) + 1], against, last)
                return folder
            against[folder] = why
        refused = "; ".join(f"{folder} {why}" for folder, why in against.items())
        raise NoFolder(
            f"No folder was found for {what}: {refused}.",
            "Make room, or let the runner's user write in its home or in RUNNER_TOOL_CACHE; "
            "cache-local-path, tool-dir and tool-bin-dir name other folders.",
        )

    def _note(self, what: str, tried: list[Path], against: Mapping[Path, str], last: str) -> None:
        """Note why those before the last one are not used, and what speaks against that one."""
        for folder in filter(against.__contains__, tried):
            so = last if folder == tried[-1] else "it is not used"
            self.notes.append(f"{folder} {against[folder]}: {so} for {what}.")


def _far(folder: Path) -> str:
    return f"is on {mount_of(folder).kind}, where locks are slow or fail"


def cache_refusal(folder: Path, uid: int) -> str:
    """Return why a folder cannot be uv's cache: each bucket in it is tested as well.

    Hard links to files of other users are forbidden, so a bucket must belong to this very user.
    """
    if why := refusal(folder, uid):
        return why
    try:
        for each in filter(Path.is_dir, folder.glob(BUCKETS)):
            if each.stat().st_uid != uid:
                return f"holds {each.name} of another user"
            _try(each)
    except OSError as error:
        return f"holds something that cannot be written ({error.strerror})"
    return ""


def refusal(folder: Path, uid: int) -> str:
    """Return why a folder cannot be used, "" if it can; make it if it is not there.

    Others could put programs for us into a folder that they may write in.
    """
    try:
        if why := _danger(folder, uid) or _shortage(folder):
            return why
        with private():
            folder.mkdir(parents=True, exist_ok=True)
        if why := _strangeness(folder, uid):
            return why
        _try(folder)
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    return ""


def _danger(folder: Path, uid: int) -> str:
    """Return how others could put another folder in its place, "" if they could not."""
    for path in (folder, *folder.parents):
        if not path.parent.exists() or not (who := _writers(above := path.parent.stat(), uid)):
            continue
        if above.st_uid not in {uid, ROOT_UID}:
            return f"is in {path.parent}, another user's, where {who} may write"
        if not above.st_mode & stat.S_ISVTX:
            return f"is in {path.parent}, where {who} may put another in its place"
        if os.path.lexists(path) and path.lstat().st_uid not in {uid, ROOT_UID}:
            return f"is in {path}, which belongs to another user"
    return ""


def _writers(found: os.stat_result, uid: int) -> str:
    """Return who other than the owner may write in a folder, "" if nobody else may."""
    if found.st_mode & stat.S_IWOTH:
        return "everybody"
    by_group = found.st_mode & stat.S_IWGRP and not _is_alone_in(found.st_gid, uid)
    return f"group {found.st_gid}" if by_group else ""


def _is_alone_in(gid: int, uid: int) -> bool:
    """Say whether a group is the user's own, as many systems make one for each user, or root's.

    Its list of members is not enough: it leaves out those whose primary group it is.
    """
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(uid).pw_name
    except KeyError:
        return False
    return group.gr_name in {user, ROOT} and {user, ROOT}.issuperset(group.gr_mem)


def _shortage(folder: Path) -> str:
    disk = os.statvfs(nearest(folder))
    free = disk.f_bavail * disk.f_frsize
    if disk.f_blocks and free < ROOM:  # some file systems report no size at all
        return f"has no room ({free // KB:,} kB free)"
    return ""


def _strangeness(folder: Path, uid: int) -> str:
    """Return why an existing folder is not ours. Root's are: the top of a disk is often root's."""
    found = folder.stat()
    if found.st_uid not in {uid, ROOT_UID}:
        return f"belongs to another user ({found.st_uid})"
    if who := _writers(found, uid):
        return f"can be written by {who}"
    if (folder / LOCK).exists() and not os.access(folder / LOCK, os.R_OK | os.W_OK):
        return f"has a {LOCK} of another user"
    return ""


@contextmanager
def private() -> Iterator[None]:
    """Make new files and folders private to this user, folders above too, whatever the umask."""
    usual = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(usual)


def _try(folder: Path) -> None:
    """Write a file and remove it. Raises OSError."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".gpu-ci-") as file:
        file.write(b"gpu-ci")
        file.flush()
