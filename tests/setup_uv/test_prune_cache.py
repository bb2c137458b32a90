"""A cache that is kept below its size, filled and used by a real uv from a loopback index."""

from __future__ import annotations

import fcntl
import functools
import http.server
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uv as uv_package

from gpu_ci.runtime.clock import Deadline
from gpu_ci.setup_uv import prune_cache
from gpu_ci.setup_uv.prune_cache import GB, Pruned, Sizes, prune

if TYPE_CHECKING:
    from collections.abc import Iterator

UV = Path(uv_package.find_uv_bin())
MB = GB / 1000
NAMES = ("first", "second", "third")
EACH = 2  # MB of an unpacked wheel
NOBODY = 65534


class Index(http.server.SimpleHTTPRequestHandler):
    """A folder of wheels; each request for one is noted."""

    asked: list[str]

    def do_GET(self) -> None:
        if self.path.endswith(".whl"):
            self.asked.append(self.path.strip("/").partition("-")[0])
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


class Machine:
    """A machine with a cache, environments and an index."""

    def __init__(self, folder: Path, url: str, asked: list[str]) -> None:
        self.folder, self.cache, self.asked = folder, folder / "cache", asked
        self._made = 0
        self.env = {
            "HOME": str(folder),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "UV_CACHE_DIR": str(self.cache),
            "UV_FIND_LINKS": url,
            "UV_LINK_MODE": "hardlink",
        }

    def install(self, *names: str) -> Path:
        """Install packages into a folder of their own, as a job does."""
        self._made += 1
        place = self.folder / f"installed-{self._made}"
        command: list[str | Path] = [
            UV,
            "pip",
            "install",
            "-q",
            "--no-index",
            "--target",
            place,
            *names,
        ]
        subprocess.run(command, env=self.env, cwd=self.folder, check=True)
        return place

    def kept(self) -> list[str]:
        """Return the packages of which the wheels are unpacked in the cache."""
        return sorted(each.stem for each in self.cache.glob("archive-v*/*/*.py"))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in NAMES:
        write_wheel(wheels, name)
    asked: list[str] = []
    handler = type("Noting", (Index,), {"asked": asked})
    serving = functools.partial(handler, directory=str(wheels))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), serving)
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    yield Machine(tmp_path, f"http://127.0.0.1:{server.server_address[1]}/", asked)
    server.shutdown()
    thread.join()
    server.server_close()


def write_wheel(folder: Path, name: str) -> None:
    about = f"{name}-1.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{name}.bin", os.urandom(int(EACH * MB)))
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "".join(f"{each},,\n" for each in wheel.namelist()))


class SlowSince:
    """A clock that stands until there is a certain folder, and then leaps."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def now(self) -> float:
        return 1000.0 if self._folder.exists() else 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError("pruning waits for nothing")


def soon() -> Deadline:
    return Deadline.after(60)


@pytest.fixture(autouse=True)
def no_old_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return what stands for /proc: other tests' uvs run on this machine at the same time."""
    processes = tmp_path / "proc"
    processes.mkdir()
    monkeypatch.setattr(prune_cache, "PROCESSES", processes)
    return processes


def test_what_was_used_least_lately_goes_first(machine: Machine) -> None:
    """A cap holds (pain 38), and a package that a job has just used again is not the oldest."""
    for name in NAMES:
        machine.install(name)
    machine.install("first")  # by hard links alone
    done = prune(machine.cache, 5 / 1000, soon())
    assert machine.kept() == ["first", "third"]
    assert done.removed == 1
    assert done.why == ""
    size = int(subprocess.check_output(["du", "-s", "--block-size=1", machine.cache]).split()[0])
    assert size == done.kept <= 5 * MB


def test_only_what_was_removed_is_downloaded_again(machine: Machine) -> None:
    """uv finds its way about a cache of which parts are gone."""
    machine.install(*NAMES)
    machine.install("second", "third")
    prune(machine.cache, 5 / 1000, soon())
    machine.asked.clear()
    place = machine.install(*NAMES)
    assert set(machine.asked) == {"first"}
    assert [*place.glob("first.bin")]
    assert machine.kept() == sorted(NAMES)


def test_a_cache_below_its_size_is_left_alone(machine: Machine) -> None:
    """Its lock is not even taken."""
    machine.install(*NAMES)
    with (machine.cache / ".lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = prune(machine.cache, 1, soon())
    assert (done.removed, done.why) == (0, "")
    assert machine.kept() == sorted(NAMES)


def test_nothing_is_removed_from_under_symbolic_links(machine: Machine) -> None:
    """Environments that a job links to the cache would lose their packages."""
    machine.install(*NAMES)
    done = prune(machine.cache, 1 / 1000, soon(), "symlink")
    assert (done.removed, machine.kept()) == (0, sorted(NAMES))
    assert done.why.startswith("UV_LINK_MODE is symlink")
    assert done.kept > EACH * MB * len(NAMES)


def test_nothing_is_removed_under_a_running_uv(machine: Machine) -> None:
    """It says so and goes on, instead of waiting for hours (pain 37)."""
    machine.install(*NAMES)
    wait = "echo up; exec sleep 60"
    command: list[str | Path] = [UV, "run", "--no-project", "sh", "-c", wait]
    with subprocess.Popen(command, env=machine.env, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"up\n"
        done = prune(machine.cache, 1 / 1000, soon())
        running.terminate()
    assert (done.removed, done.why) == (0, "another uv is running, so nothing was removed")
    assert machine.kept() == sorted(NAMES)


def test_an_old_uv_holds_no_lock_and_is_seen_all_the_same(
    machine: Machine, no_old_uv: Path
) -> None:
    """Those before 0.9 are found among the processes of this user."""
    machine.install(*NAMES)
    (no_old_uv / "7").mkdir()
    (no_old_uv / "7/comm").write_text("uv\n")
    assert prune(machine.cache, 1 / 1000, soon()).why.startswith("another uv is running")
    (no_old_uv / "7/comm").write_text("uvicorn\n")
    assert prune(machine.cache, 1 / 1000, soon()).removed == 3


def test_the_time_is_limited_and_the_next_job_goes_on(machine: Machine) -> None:
    """Nothing is left half: what was taken out of the cache lies aside until it is removed."""
    machine.install(*NAMES)
    left = machine.cache / prune_cache.ASIDE
    done = prune(machine.cache, 1 / 1000, Deadline.after(60, SlowSince(left)))
    assert (done.removed, done.why) == (3, "the time was up, so the next job removes the rest")
    assert machine.kept() == []
    assert [*left.rglob("*.bin")]
    machine.install("first")
    assert prune(machine.cache, 1, soon()).why == ""
    assert not left.exists()
    assert machine.kept() == ["first"]


def test_a_cache_that_takes_too_long_to_measure_is_left_alone(machine: Machine) -> None:
    """Of what was not measured nothing is known, so nothing is removed."""
    machine.install(*NAMES)
    late = Deadline(60, SlowSince(machine.cache))
    done = prune(machine.cache, 1 / 1000, late)
    assert (done.removed, done.why) == (0, "the time was up before all was measured")
    assert machine.kept() == sorted(NAMES)


def test_what_no_entry_is_stays_and_is_named(machine: Machine) -> None:
    """Indexes can be larger than the cap; uv has a command for those."""
    machine.install("first")
    (machine.cache / "simple-v0").mkdir()
    (machine.cache / "simple-v0/index.rkyv").write_bytes(os.urandom(int(3 * MB)))
    done = prune(machine.cache, 2 / 1000, soon())
    assert done.removed == 1
    assert "uv cache clean" in done.why
    assert done.kept > 2 * MB


def test_a_file_is_counted_once_however_often_it_is_linked(tmp_path: Path) -> None:
    """As an environment in the cache is linked to the wheels in it."""
    (tmp_path / "one").write_bytes(os.urandom(1 << 20))
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    size = int(subprocess.check_output(["du", "-s", "--block-size=1", tmp_path]).split()[0])
    assert Sizes(deadline=soon()).of(tmp_path) == size


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a cache of a user that is not root, where root has left an entry; act as that user."""
    if os.getuid() != 0:
        pytest.skip("only root can leave files of another user")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    for name in ("ours", "roots"):
        (folder / "archive-v0" / name).mkdir(parents=True)
        (folder / "archive-v0" / name / "file").write_bytes(os.urandom(1 << 20))
    (folder / "archive-v0/roots").chmod(0o700)
    for each in (folder, folder / "archive-v0", *(folder / "archive-v0/ours").rglob("*")):
        os.chown(each, NOBODY, NOBODY)
    os.chown(folder / "archive-v0/ours", NOBODY, NOBODY)
    monkeypatch.setattr(prune_cache, "PROCESSES", folder / "no-proc-is-mounted")
    os.seteuid(NOBODY)
    yield folder
    os.seteuid(0)
    shutil.rmtree(folder)


def test_what_cannot_be_read_or_removed_does_not_fail_the_job(foreign: Path) -> None:
    """Root's files in a cache (pain 35) stay, the rest goes."""
    done = prune(foreign, 0.1 / 1000, soon())
    assert done.removed == 1
    assert [each.name for each in (foreign / "archive-v0").iterdir()] == ["roots"]


def test_a_cache_that_is_not_there_has_nothing(tmp_path: Path) -> None:
    """Nor is one made."""
    assert prune(tmp_path / "none", 1, soon()) == Pruned(kept=0)
    assert not (tmp_path / "none").exists()
