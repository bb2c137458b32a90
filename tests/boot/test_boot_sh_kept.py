"""Boots one machine again and again on the same folder, as a machine that is kept does."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.boot.boot_world import Machine, World, a_world, phases, running, with_id, with_url
from tests.pace import PATIENCE

from gpu_ci.boot.script import Place
from gpu_ci_sandbox.world import forget_account

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpu_ci.boot.script import Boot

AS_ROOT = os.geteuid() == 0
# A number that no user has, another one in each process of the tests.
FREE = 200_000 + os.getpid()

needs_root = pytest.mark.skipif(not AS_ROOT, reason="only root can make a user")


def new_name() -> str:
    return f"gpuci{uuid.uuid4().hex[:8]}"


@dataclass
class Kept:
    """One named machine and its own account, which the tests may forget between two boots."""

    world: World
    account: str = field(default_factory=new_name)

    @property
    def root(self) -> Path:
        return self.world.folder / "root"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def runner(self) -> Path:
        return self.root / "runner"

    @property
    def number(self) -> int:
        return pwd.getpwnam(self.account).pw_uid

    def boot(self, fake: str = "listen", **changes: Any) -> Boot:
        place = Place(root=str(self.root), user=self.account, home=f"{self.home}/", ends_by="exit")
        boot = self.world.boot(fake, place=place, **changes)
        return replace(boot, registration=replace(boot.registration, name=self.account))

    def start(self, fake: str = "listen", **env: str) -> Machine:
        return self.world.start(self.boot(fake), **env)

    def boots(self, fake: str = "listen", **env: str) -> Machine:
        """Boot until the end, without a failure."""
        machine = self.start(fake, **env)
        report = machine.ends()
        assert (report.failed, report.listening) == ("", True)
        return machine

    def forgets(self) -> None:
        """Be paused as a container: the account is gone, and so is what is in memory."""
        forget_account(self.account)
        shutil.rmtree(self.world.folder / "start", ignore_errors=True)

    def writes(self, path: Path, number: int) -> Path:
        """Make a file, and the folders to it, of this number."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("cached")
        for made in (path, *path.parents):
            if self.root not in made.parents:
                break
            os.chown(made, number, number)
        return path


@pytest.fixture
def kept() -> Iterator[Kept]:
    with a_world() as world:
        machine = Kept(world)
        yield machine
        for one in world.machines:
            one.kill()
        machine.forgets()


@contextmanager
def process(user: str) -> Iterator[int]:
    """Run a process of this user that has nothing in common with any boot."""
    with subprocess.Popen(
        ["/bin/sleep", "600"], user=user, env={}, cwd="/", start_new_session=True
    ) as started:
        try:
            yield started.pid
        finally:
            started.kill()


def watcher_of(machine: Machine) -> int:
    """Return the process that holds the timers."""
    (claim,) = machine.root.glob("boot.claim.*")
    return int(claim.read_text().splitlines()[1].split()[0])


# --- the user and its home -------------------------------------------------------------------------


@needs_root
def test_a_forgotten_user_is_made_again_with_its_number(kept: Kept) -> None:
    """After a pause that forgot the users, HOME and its caches are the new user's, and nothing had
    to be given to it (row 1.8, row 1.17, pain 34)."""
    assert kept.boots().given()["HOME"] == str(kept.home)
    assert kept.home.owner() == kept.account
    kept.forgets()
    cached = kept.writes(kept.home / ".cache" / "uv" / "archive-v0" / "a" / "file", FREE)
    before = cached.stat()
    machine = kept.boots()
    assert kept.number == FREE
    assert pwd.getpwnam(kept.account).pw_dir == machine.given()["HOME"] == str(kept.home)
    assert cached.stat().st_ctime_ns == before.st_ctime_ns
    assert (kept.runner / "given.env").owner() == kept.account


@needs_root
def test_users_that_are_being_changed_are_waited_for(kept: Kept) -> None:
    """While somebody else makes a user, such as the cloud's own boot, the file of users is locked:
    that is no reason for another number, or to fail."""
    kept.writes(kept.home / "file", FREE)
    system = "/usr/local/sbin:/usr/sbin:/sbin"
    useradd = shutil.which("useradd", path=f"{os.environ['PATH']}:{system}")
    tried = kept.world.folder / "tried"
    locked = 'echo "useradd: cannot lock /etc/passwd; try again later." >&2; exit 1'
    kept.world.program(
        "useradd", f'[ -e {tried} ] || {{ : >{tried}; {locked}; }}\nexec {useradd} "$@"'
    )
    kept.boots()
    assert tried.exists()
    assert kept.number == FREE


@needs_root
def test_a_number_that_is_anothers_now(kept: Kept) -> None:
    """Where another user has the home's number, the new user gets another one, and the home
    (pain 35)."""
    nobody = pwd.getpwnam("nobody").pw_uid
    cached = kept.writes(kept.home / "a" / "b" / "c" / "d" / "e" / "f" / "file", nobody)
    kept.boots()
    assert kept.number not in (0, nobody)
    assert {path.owner() for path in (cached, *cached.parents[:7])} == {kept.account}


@needs_root
def test_parts_of_the_cache_that_are_not_the_users(kept: Kept) -> None:
    """What a job's container left as root is given to the user, and no link leads outside
    (pain 35)."""
    kept.boots()
    treasure = kept.world.folder / "treasure"
    treasure.write_text("root's")
    cached = kept.writes(kept.home / ".cache" / "uv" / "wheels-v5" / "pypi" / "a" / "b" / "c", 0)
    work = kept.writes(kept.runner / "_work" / "r" / "r" / "build" / "out" / "file", 0)
    for link in (cached.with_name("link"), work.with_name("link")):
        link.symlink_to(treasure)
        os.lchown(link, 0, 0)
    kept.boots()
    for made in (cached, cached.with_name("link"), work, work.with_name("link")):
        assert {path.lstat().st_uid for path in (made, *made.parents[:6])} - {0} == {kept.number}
        assert made.lstat().st_uid == made.parent.stat().st_uid == kept.number
    assert treasure.stat().st_uid == 0


@needs_root
@pytest.mark.parametrize("writable", [True, False])
def test_without_root_the_home_is_used_if_it_can_be(kept: Kept, writable: bool) -> None:
    """Where the script is not root, HOME is the home that is asked for, or one below the root:
    never a folder that is forgotten (pain 34)."""
    elsewhere = kept.world.folder / "elsewhere"
    for folder, user in ((elsewhere, "nobody" if writable else "root"), (kept.root, "nobody")):
        folder.mkdir()
        shutil.chown(folder, user)
    boot = kept.boot()
    boot = replace(boot, place=replace(boot.place, home=str(elsewhere)))
    machine = kept.world.start(boot, user="nobody")
    assert machine.ends().failed == ""
    assert machine.given()["HOME"] == str(elsewhere if writable else kept.home)


# --- what a job may have planted -------------------------------------------------------------------


@pytest.fixture
def treasure(kept: Kept) -> Path:
    """A folder of root's with a file, neither of which a boot may touch."""
    folder = kept.world.folder / "treasure"
    folder.mkdir(mode=0o700)
    (folder / "file").write_text("root's")
    return folder


def assert_untouched(treasure: Path) -> None:
    state = treasure.stat()
    assert (state.st_uid, state.st_mode & 0o777) == (0, 0o700)
    assert [(path.name, path.read_text(), path.stat().st_uid) for path in treasure.iterdir()] == [
        ("file", "root's", 0)
    ]


def plant(link: Path, target: Path, number: int) -> None:
    """Put a link of this user's in place of whatever is there."""
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    os.lchown(link, number, number)


@needs_root
def test_links_in_a_folder_that_a_job_could_write(kept: Kept, treasure: Path) -> None:
    """Where the root was the user's to write, no link in it leads root to write or chown elsewhere:
    the root becomes root's own, and what was planted goes."""
    kept.boots()
    names = ("boot.log", "boot.log.1", "runner.log", "phase", "failed", "listener", "setup.sh")
    for name in (*names, "apt.conf", "boot.claim.1", "boot.claim.2"):
        plant(kept.root / name, treasure / "file", kept.number)
    for name in ("home", "runner"):
        plant(kept.root / name, treasure, kept.number)
    os.chown(kept.root, kept.number, kept.number)
    boot = replace(kept.boot(), setup_script="true")
    assert kept.world.start(boot).ends().failed == ""
    assert_untouched(treasure)
    assert (kept.root.stat().st_uid, kept.root.stat().st_mode & 0o777) == (0, 0o755)
    assert [path for path in kept.root.iterdir() if path.is_symlink()] == []


@needs_root
@pytest.mark.parametrize("name", ["root", "root/home", "root/runner/_work"])
def test_a_link_in_place_of_a_folder(kept: Kept, treasure: Path, name: str) -> None:
    """A link of the user's in place of the root, the home or the work is replaced by a folder."""
    kept.boots()
    plant(kept.world.folder / name, treasure, kept.number)
    kept.boots()
    assert_untouched(treasure)
    assert not (kept.world.folder / name).is_symlink()


@needs_root
def test_a_link_of_roots_is_the_owners_wish(kept: Kept) -> None:
    """A home that root has put on another disk stays there, in every boot."""
    disk = kept.world.folder / "disk"
    disk.mkdir()
    kept.root.mkdir()
    kept.home.symlink_to(disk)
    for _ in range(2):
        kept.boots()
        assert (kept.home.readlink(), kept.home.lstat().st_uid) == (disk, 0)
        assert disk.owner() == kept.account


@needs_root
def test_a_pipe_among_the_runners_logs(kept: Kept) -> None:
    """What a job puts among the runner's logs does not keep the watcher from its timers."""
    machine = kept.world.start(replace(kept.boot("listen hang"), idle=1))
    machine.listening()
    (kept.runner / "_diag").mkdir(exist_ok=True)
    os.mkfifo(kept.runner / "_diag" / "Runner_2.log")
    assert machine.ends().ended == "no job came for 1 s"


# --- what the last boot left -----------------------------------------------------------------------


@needs_root
def test_a_half_written_runner_is_repaired(kept: Kept) -> None:
    """Half an archive, a damaged part and half a runner of another number's, still registered, give
    way to a whole one (row 1.8, pain 24)."""
    kept.boots()
    (archive,) = kept.root.glob("runner-*.tar.gz")
    archive.write_bytes(archive.read_bytes()[:100])
    archive.with_name(f"{archive.name}.part").write_bytes(b"\0" * 50)
    (kept.runner / "run.sh").write_text("")
    stale = (".runner_migrated", ".credentials", ".credentials_rsaparams", "bin/half")
    for name in (".runner", *stale, "_work/r/file"):
        kept.writes(kept.runner / name, FREE)
    kept.world.archive.asked.clear()
    kept.boots()
    assert kept.world.archive.asked == ["HEAD /whole", "GET /whole"]
    assert [name for name in stale if (kept.runner / name).exists()] == []
    assert (kept.runner / ".runner").read_text() != "cached"
    assert (kept.runner / "_work" / "r" / "file").owner() == kept.account


@needs_root
def test_another_runner_is_checked_as_well(kept: Kept) -> None:
    """A wrong checksum stops a later boot, too, and the runner of the last one is not taken
    (row 1.8)."""
    kept.boots()
    (kept.runner / "given.env").unlink()
    machine = kept.world.start(with_url(kept.boot(), f"{kept.world.archive.url}/whole", "0" * 64))
    assert "its checksum is wrong" in machine.ends().failed
    assert not (kept.runner / "given.env").exists()


@needs_root
def test_names_that_resolve_late(kept: Kept) -> None:
    """DNS that is not up yet when the machine resumes is tried again (row 1.8)."""
    late = kept.world.folder / "late"
    late.touch()
    curl = shutil.which("curl")
    broken = f"rm {late}; echo 'curl: (6) Could not resolve host: github.com' >&2; exit 6"
    kept.world.program("curl", f'if [ -e {late} ]; then {broken}; fi\nexec {curl} "$@"')
    machine = kept.boots()
    assert "Could not resolve host" in machine.log()


@needs_root
def test_logs_are_kept_and_nothing_piles_up(kept: Kept) -> None:
    """The logs of this boot and of the last are there after a resume, and after many boots there is
    no more than after two (row 1.8)."""
    kept.boots("listen")
    kept.boots("diag")
    names = {path.name for path in kept.root.iterdir()} - {"boot.claim.2"}
    for count in (3, 4):
        older = kept.root / f"runner-{count}.tar.gz"
        older.touch()
        older.with_name(f"{older.name}.part").touch()
        kept.forgets()
        kept.boots("listen gone")
        assert {path.name for path in kept.root.iterdir()} - {f"boot.claim.{count}"} == names
    assert {"boot.log", "boot.log.1", "runner.log", "runner.log.1"} <= names
    assert phases((kept.root / "boot.log.1").read_text())[0] == "network"
    assert "no longer exists" in (kept.root / "runner.log.1").read_text()
    assert not (kept.runner / "_diag").exists()


@needs_root
def test_the_last_boots_words_are_not_heard_again(kept: Kept) -> None:
    """Nobody takes the runner for listening, failed or at work because the last one was (pain 24)."""
    kept.boots("diag job")
    (kept.root / "failed").touch()
    go_on = kept.world.folder / "go-on"
    kept.world.program(
        "curl",
        f'while ! [ -e {go_on} ]; do sleep 0.05; done\nexec {shutil.which("curl")} "$@"',
    )
    machine = kept.start("gone")
    machine.wait_for(lambda: log_before(kept) and " beat network" in machine.log())
    report = machine.report()
    assert (report.listening, report.failed, report.ended) == (False, "", "")
    go_on.touch()
    assert "stopped before it listened" in machine.ends().failed


def stamp_of(pid: int, start: str) -> str:
    """Return how the script knows a process, in a start of the machine that has this mark."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{pid} {fields[19]} {boot_id}-{start}\n"


@needs_root
@pytest.mark.parametrize("paused", [False, True])
def test_a_number_that_a_process_has_again(kept: Kept, paused: bool) -> None:
    """In a container the same pid can come again at the same tick of the same host: a pause tells
    it from the boot script, and from the runner at work, that had it before (pain 24)."""
    kept.root.mkdir()
    start = kept.world.folder / "start"
    start.mkdir()
    os.utime(start, (1000, 1000))
    with process("root") as pid:
        for name in ("boot.claim.7", "listener"):
            (kept.root / name).write_text(stamp_of(pid, "1000"))
        (kept.root / "runner.log").write_text("2026-09-01 10:00:01Z: Running job: build\n")
        if paused:
            kept.forgets()
            kept.boots()
        else:
            assert kept.start().process.wait(PATIENCE) == 75
        assert running(str(pid))


# --- a second boot without a pause -----------------------------------------------------------------


@needs_root
def test_a_boot_takes_over_after_a_job(kept: Kept) -> None:
    """What is left of a boot whose job is over, its watcher, is ended at once, even if it hangs."""
    first = kept.start("listen worker finished")
    first.listening()
    watcher = stop_watcher_and_finish(first)
    second = kept.start("listen hang", GPU_CI_BOOT_TURN="6")
    takes_over(kept, second)
    assert not running(str(watcher))
    assert " ended " not in log_before(kept)


@needs_root
def test_elsewhere_a_boot_waits_for_the_watcher(kept: Kept) -> None:
    """On a machine that is not kept, a boot that comes before the last one's watcher has ended waits
    for it, and is not ended by it, though their machine has one name."""
    first = kept.world.start(without_home(kept.boot("listen worker finished")))
    first.listening()
    watcher = stop_watcher_and_finish(first)
    owned = set(first.left())
    second = kept.world.start(without_home(kept.boot("listen hang")), GPU_CI_BOOT_TURN="6")
    with pytest.raises(subprocess.TimeoutExpired):
        second.process.wait(0.3)
    for _ in range(10):  # what the first one's watcher would end
        assert set(first.left()) <= owned
    assert second.process.poll() is None
    with_id(watcher, signal.SIGCONT)
    second.wait_for(lambda: "the runner stopped without" in log_before(kept))
    takes_over(kept, second)
    assert not running(str(watcher))


@needs_root
@pytest.mark.parametrize("listens", [True, False])
@pytest.mark.parametrize("claimed", [True, False])
def test_a_boot_without_a_job_makes_way(kept: Kept, *, listens: bool, claimed: bool) -> None:
    """A boot whose runner no job can reach any more is ended by the next one, whole and at once: its
    script, its runner and its watcher, even one that it was just arming (row 1.3)."""
    slow = kept.world.folder / "slow"
    curl = shutil.which("curl")
    kept.world.program("curl", f'[ ! -e {slow} ] || exec sleep 600\nexec {curl} "$@"')
    if not listens:
        slow.touch()
    first = kept.start("listen hang")
    first.wait_for(lambda: f" phase {'listen' if listens else 'network'}" in first.log())
    old = {*first.left(), watcher_of(first)}
    if not claimed:
        (claim,) = kept.root.glob("boot.claim.*")
        claim.write_text(claim.read_text().splitlines()[0] + "\n")
    slow.unlink(missing_ok=True)
    takes_over(kept, kept.start("listen hang", GPU_CI_BOOT_TURN="6"))
    assert first.process.wait(PATIENCE) == -signal.SIGKILL
    assert [pid for pid in old if running(str(pid))] == []
    assert " ended " not in log_before(kept)


def without_home(boot: Boot) -> Boot:
    return replace(boot, place=replace(boot.place, home=""))


def stop_watcher_and_finish(machine: Machine) -> int:
    """Let the job end while the watcher sees nothing; return the watcher."""
    watcher = watcher_of(machine)
    with_id(watcher, signal.SIGSTOP)
    (machine.runner / "finish").touch()
    assert machine.process.wait(PATIENCE) == 0
    no_worker_runs(machine)
    return watcher


def takes_over(kept: Kept, machine: Machine) -> None:
    """Wait until a second boot's runner listens."""
    machine.wait_for(lambda: log_before(kept))
    machine.listening()
    assert machine.process.poll() is None


def no_worker_runs(machine: Machine) -> None:
    machine.wait_for(lambda: not [pid for pid in machine.left() if is_worker(pid)])


def log_before(kept: Kept) -> str:
    path = kept.root / "boot.log.1"
    return path.read_text() if path.exists() else ""


@needs_root
def test_a_failed_boot_makes_way(kept: Kept) -> None:
    """A boot that failed does not keep the next one waiting: its log can be read all the same."""
    absent = f"{kept.world.archive.url}/absent"
    failed = kept.world.start(with_url(kept.boot(), absent), GPU_CI_BOOT_HOLD="")
    assert "cannot be fetched" in failed.ends().failed
    kept.boots()
    assert "cannot be fetched" in log_before(kept)


@needs_root
@pytest.mark.parametrize("killed", [False, True])
def test_a_job_is_not_disturbed(kept: Kept, killed: bool) -> None:
    """A second boot is refused at once while a job runs, even one whose boot script and watcher have
    been killed; when the job is over, what is left of that one's runner is ended (pain 26)."""
    first = kept.start("listen worker finished hang")
    first.listening()
    listener = int((kept.root / "listener").read_text().split()[0])
    for pid in (first.process.pid, watcher_of(first)) if killed else ():
        with_id(pid, signal.SIGKILL)
    second = kept.start("listen hang", GPU_CI_BOOT_TURN="60")
    assert second.process.wait(PATIENCE) == 75
    assert running(str(listener))
    assert phases(first.log()).count("network") == 1
    if killed:
        first.process.wait()
        (kept.runner / "finish").touch()
        no_worker_runs(first)
        takes_over(kept, kept.start("listen hang"))
        assert not running(str(listener))


def is_worker(pid: int) -> bool:
    try:
        return b"Runner.Worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@needs_root
def test_all_processes_of_the_account_end(kept: Kept) -> None:
    """What a job started outlives neither its boot nor the beginning of the next, even if it has left
    its session and forgotten its environment; another user's goes on (pain 26)."""
    kept.boots()
    with process("nobody") as others, process(kept.account) as before:
        machine = kept.start("listen hang")
        takes_over(kept, machine)
        assert not running(str(before))
        with process(kept.account) as after:
            os.killpg(machine.process.pid, signal.SIGTERM)
            machine.ends()
            assert not running(str(after))
        assert running(str(others))
