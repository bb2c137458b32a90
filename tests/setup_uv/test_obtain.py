"""The whole way to a uv: what is there, what is kept, what is downloaded, and what is said."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest
from tests.setup_uv.conftest import PINNED, program
from tests.setup_uv.index import GNU, script, sha256, tarball, wheel

from gpu_ci.errors import BadInputs, NoFolder, NotFetched, NotVerified
from gpu_ci.setup_uv.existing_uvs import ask_version

if TYPE_CHECKING:
    from tests.setup_uv.conftest import Machine

PIN = f"/pinned/uv-{PINNED}-py3-none-{GNU}.whl"
SHARED = Path(__file__).parents[2] / "shared"


def left(machine: Machine) -> list[str]:
    """Return what is kept, half or whole."""
    kept = machine.kept
    found = kept.iterdir() if kept.is_dir() else ()
    return sorted(each.name for each in found if not each.name.startswith(".lock-"))


def test_the_pinned_version_is_one_request(machine: Machine) -> None:
    """Without a wish the pinned wheel is fetched with the lock's checksum, no list, no other file (pain 39)."""
    uv, wanted = machine.obtain()
    assert (str(uv.version), str(wanted)) == (PINNED, PINNED)
    assert uv.path == machine.kept / PINNED / "uv"
    assert ask_version(uv.path) == uv.version
    assert machine.index.asked == [PIN]
    assert machine.said == [f"uv {PINNED}: downloads 0.0 MB, requests 1."]


def test_a_second_run_asks_nobody(machine: Machine) -> None:
    """What was kept is used again without a request, or what makes one (row 1.17)."""
    first, _ = machine.obtain()
    machine.index.asked.clear()
    machine.fetchers.clear()
    for wish in ("", PINNED, "9.5", ">=9"):
        uv, _ = machine.obtain(version=wish)
        assert uv.path == first.path
    assert (machine.index.asked, machine.fetchers) == ([], [])


def test_an_exact_version_is_its_release(machine: Machine) -> None:
    """Another exact version is two requests: the release and the checksum beside it."""
    path = machine.index.release("9.1.0")
    uv, _ = machine.obtain(version="9.1.0")
    assert ask_version(uv.path) == uv.version
    assert machine.index.asked == [f"{path}.sha256", path]


@pytest.mark.parametrize("version", ["latest", "9", ">=9.0,<9.9"])
def test_a_range_is_one_list_and_one_file(machine: Machine, version: str) -> None:
    """A range or `latest` costs one list, whose checksum is used."""
    machine.index.wheel("9.1.0")
    path = machine.index.wheel("9.2.0")
    uv, _ = machine.obtain(version=version)
    assert str(uv.version) == "9.2.0"
    assert machine.index.asked == ["/simple/uv/", path]


def test_the_next_source_is_asked(machine: Machine) -> None:
    """Where the pinned wheel and the release are gone, the index has it (pain 39)."""
    machine.index.faults[PIN] = [404]
    path = machine.index.wheel(PINNED)
    uv, _ = machine.obtain()
    assert ask_version(uv.path) == uv.version
    assert machine.index.asked == [
        PIN, f"/releases/{PINNED}/uv-{machine.host().target}.tar.gz.sha256", "/simple/uv/", path,
    ]  # fmt: skip


def test_an_own_index_that_has_no_uv_is_no_hindrance(machine: Machine) -> None:
    """An index for other packages is asked once, and then everybody else."""
    machine.job["UV_DEFAULT_INDEX"] = f"{machine.index.root}/torch"
    machine.index.wheel("9.1.0")
    uv, _ = machine.obtain(version="latest")
    assert str(uv.version) == "9.1.0"
    assert machine.index.asked[:2] == ["/torch/uv/", "/simple/uv/"]


def test_a_mirror_alone_is_asked(machine: Machine) -> None:
    """With a mirror no other address sees a request, even if it fails."""
    path = machine.index.release("9.1.0")
    mirror = f"{machine.index.root}/releases/"
    uv, _ = machine.obtain(version="9.1.0", mirror=mirror)
    assert ask_version(uv.path) == uv.version
    with pytest.raises(NotFetched, match=r"uv 9\.2\.0 cannot be had.*404"):
        machine.obtain(version="9.2.0", mirror=mirror)
    other = path.replace("9.1.0", "9.2.0")
    assert machine.index.asked == [f"{path}.sha256", path, f"{other}.sha256"]


def test_nothing_to_be_had_says_why_each_source_failed(machine: Machine) -> None:
    """One sentence a source and one cure; nothing is left behind."""
    machine.index.wheel("9.0.0")
    with pytest.raises(NotFetched) as caught:
        machine.obtain(version="9.1.0")
    assert str(caught.value).startswith("uv 9.1.0 cannot be had. ")
    assert "404 (Not Found)" in str(caught.value)
    assert str(caught.value).endswith(
        "The index has no uv 9.1.0 for x86_64-unknown-linux-gnu. Correct version."
    )
    assert left(machine) == []


def test_a_wrong_checksum_is_refused_everywhere(machine: Machine) -> None:
    """A changed download is not used, the next source is, and if all are changed it is said."""
    machine.pinned()
    machine.index.pages[PIN] = wheel(PINNED, {"uv-9.5.0.data/scripts/uv": b"evil"})
    machine.index.release(PINNED)
    uv, _ = machine.obtain()
    assert ask_version(uv.path) == uv.version
    shutil.rmtree(machine.kept)
    machine.index.release(PINNED, sidecar="ab" * 32)
    with pytest.raises(NotVerified) as caught:
        machine.obtain()
    assert str(caught.value).count("it was not used") == 2
    assert left(machine) == []


def test_a_release_without_a_checksum_is_refused(machine: Machine) -> None:
    """Unknown is refused, though nothing else could be had."""
    machine.index.release("9.1.0", sidecar="<html>hello</html>")
    with pytest.raises(NotVerified, match="No checksum is known"):
        machine.obtain(version="9.1.0")
    assert left(machine) == []


def test_a_given_checksum_is_held(machine: Machine) -> None:
    """With a checksum only what has it is used, not even what is on PATH or kept; again without a request."""
    machine.install("9.1.0")
    data = tarball("9.1.0")
    path = machine.index.release("9.1.0", data, "odd")
    uv, _ = machine.obtain(version="9.1.0", checksum=sha256(data))
    assert uv.path == machine.kept / f"9.1.0-{sha256(data)}" / "uv"
    assert machine.index.asked == [path]
    again, _ = machine.obtain(version="9.1.0", checksum=sha256(data))
    assert again.path == uv.path
    assert machine.index.asked == [path]
    with pytest.raises(NotVerified, match="instead of abab"):
        machine.obtain(version="9.1.0", checksum="ab" * 32)


def test_a_checksum_may_be_a_wheels(machine: Machine) -> None:
    """The file of the index that has the checksum is found among all sources."""
    data = machine.index.pages[machine.index.wheel("9.1.0")]
    machine.index.release("9.1.0")
    uv, _ = machine.obtain(version="9.1.0", checksum=sha256(data))
    assert ask_version(uv.path) == uv.version


@pytest.mark.parametrize("fault", ["cut", "reset"])
def test_a_broken_download_is_tried_again(machine: Machine, fault: str) -> None:
    """Half a download twice, and then a whole one, is a uv (pain 39)."""
    machine.index.faults[PIN] = [fault, fault]
    uv, _ = machine.obtain()
    assert ask_version(uv.path) == uv.version
    assert machine.index.asked == [PIN] * 3


def test_half_a_download_each_time_leaves_nothing(machine: Machine) -> None:
    """What never came whole is a sentence, and no half file stays."""
    machine.index.faults[PIN] = ["cut"] * 9
    with pytest.raises(NotFetched, match="no whole answer"):
        machine.obtain()
    assert left(machine) == []


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full as soon as a download is written."""
    real = Path.open

    def open_(self: Path, *how: Any, **more: Any) -> Any:
        return real(Path("/dev/full") if self.name == "download" else self, *how, **more)

    monkeypatch.setattr(Path, "open", open_)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_said_once_and_ends_it(machine: Machine) -> None:
    """With no room, no further source is asked: the sentence names the folder and the cure."""
    with pytest.raises(NoFolder, match=r"could not be kept in .*: No space left on device\. Make"):
        machine.obtain()
    assert machine.index.asked == [PIN]
    assert left(machine) == []


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_and_latest_is_the_newest_that_is_here(machine: Machine) -> None:
    """Where the newest cannot be kept, an older one that is here is used, and it is said."""
    there = machine.install("9.1.0")
    machine.index.wheel("9.7.0")
    uv, _ = machine.obtain(version="latest")
    assert uv.path == there
    assert "No space left on device. So uv 9.1.0 is used" in machine.said[-1]


def test_no_network_and_latest_is_the_newest_that_is_here(machine: Machine) -> None:
    """Without a list the newest of PATH and of what is kept is used, and it is said."""
    machine.install("9.2.0", "one")
    machine.install("9.7.0", "two")
    machine.index.release("9.6.0")
    machine.obtain(version="9.6.0")
    machine.said.clear()
    machine.index.root = "http://127.0.0.1:9"
    uv, _ = machine.obtain(version="latest")
    assert uv.path == machine.root / "two" / "uv"
    assert any("So uv 9.7.0 is used, which is here." in line for line in machine.said)
    machine.path = []
    uv, _ = machine.obtain(version="latest")
    assert str(uv.version) == "9.6.0"


def test_latest_that_is_here_is_not_downloaded(machine: Machine) -> None:
    """Where the list's newest is on PATH or kept, the list is all that is asked for."""
    machine.index.wheel("9.7.0")
    there = machine.install("9.7.0")
    uv, _ = machine.obtain(version="latest")
    assert uv.path == there
    assert machine.index.asked == ["/simple/uv/"]


def test_latest_outranks_an_older_one_and_names_it(machine: Machine) -> None:
    """An older uv on PATH is said to be shadowed, though `latest` would allow any."""
    old = machine.install("9.1.0")
    machine.index.wheel("9.7.0")
    uv, _ = machine.obtain(version="latest")
    assert str(uv.version) == "9.7.0"
    assert f"uv 9.1.0 on PATH ({old.parent})" in machine.said[-1]


def test_a_newer_uv_of_conda_is_used_where_it_is(machine: Machine) -> None:
    """One on PATH that will do is used by its absolute path, and nobody is asked."""
    conda = machine.install("9.7.0")
    uv, _ = machine.obtain(version=">=9.2")
    assert uv.path == conda
    assert machine.index.asked == []
    assert machine.said == []
    assert left(machine) == []


def test_an_older_uv_of_conda_is_outranked_and_named(machine: Machine) -> None:
    """One that will not do is named with its folder, what is wanted and by whom, and what goes before it."""
    conda = machine.install("9.1.0")
    (machine.inputs().working_directory / "uv.toml").write_text('required-version = ">=9.2"\n')
    machine.index.wheel("9.3.0")
    uv, _ = machine.obtain()
    (line,) = [line for line in machine.said if "goes before" in line]
    assert f"uv 9.1.0 on PATH ({conda.parent})" in line
    assert ">=9.2" in line
    assert "uv.toml" in line
    assert str(uv.path) in line


def test_only_those_before_the_winner_are_shadowed(machine: Machine) -> None:
    """What comes later on PATH than the winner would not have been found anyway."""
    for number in (1, 5, 2):
        machine.install(f"9.{number}.0", f"at{number}")
    machine.obtain(version="9.5.0")
    assert [line.split()[1] for line in machine.said] == ["9.1.0"]


def test_one_on_path_goes_before_a_kept_one(machine: Machine) -> None:
    """What the machine's owner put on PATH is meant to be used, where it will do."""
    machine.index.release("9.6.0")
    machine.obtain(version="9.6.0")
    there = machine.install("9.5.5")
    uv, _ = machine.obtain(version="9")
    assert uv.path == there


def test_a_damaged_kept_one_is_fetched_again(machine: Machine) -> None:
    """A kept copy is verified; one that is not what it was is never run (row 1.17)."""
    uv, _ = machine.obtain()
    program(uv.path, b"#!/bin/sh\ntouch " + str(machine.root / "ran").encode() + b"\n")
    machine.obtain()
    assert machine.index.asked == [PIN, PIN]
    assert ask_version(uv.path) == uv.version
    assert not (machine.root / "ran").exists()


def test_a_damaged_kept_one_without_a_network_is_said(machine: Machine) -> None:
    """A copy that cannot be trusted is not the second best."""
    uv, _ = machine.obtain()
    uv.path.write_bytes(b"")
    machine.index.root = "http://127.0.0.1:9"
    with pytest.raises(NotFetched, match="cannot be had"):
        machine.obtain()


def test_the_uv_that_set_the_action_up_is_kept(machine: Machine) -> None:
    """Where the action itself had to bring the pinned uv, that one is copied, not fetched twice."""
    machine.own = machine.root / "own"
    machine.own.mkdir()
    program(machine.own / f"uv-{PINNED}", script(PINNED))
    uv, _ = machine.obtain(version="9.5")
    assert uv.path == machine.kept / PINNED / "uv"
    assert machine.index.asked == []
    program(machine.own / f"uv-{PINNED}", b"damaged")
    assert machine.obtain()[0].path == uv.path
    shutil.rmtree(machine.kept)
    machine.obtain()
    assert machine.index.asked == [PIN]


def test_a_uv_for_another_libc_is_a_sentence(machine: Machine) -> None:
    """What is downloaded and does not run is not kept: the next source is tried, and it is said."""
    foreign = b"#!/lib/ld-musl-of-another-machine.so.1\n"
    machine.index.release("9.1.0", tarball("9.1.0", {f"uv-{machine.host().target}/uv": foreign}))
    with pytest.raises(
        NotFetched, match=r"The uv that came as 9\.1\.0 does not run on this machine"
    ):
        machine.obtain(version="9.1.0")
    assert left(machine) == []
    machine.index.wheel("9.1.0")
    assert ask_version(machine.obtain(version="9.1.0")[0].path)


def test_each_kind_of_machine_has_its_own(machine: Machine) -> None:
    """A home that several kinds of machines share keeps a uv for each of them."""
    uv, _ = machine.obtain()
    assert uv.path.parents[1].name == "x86_64-unknown-linux-gnu"
    assert uv.path.is_relative_to(machine.folders().uvs)


def test_what_cannot_be_read_as_a_version_is_asked_of_nobody(machine: Machine) -> None:
    """A bad input is said before anything is downloaded."""
    with pytest.raises(BadInputs):
        machine.obtain(version="$(touch x)")
    assert machine.index.asked == []


# A second run as it is: a fresh Python in which what is kept is found.
SECOND = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from gpu_ci.setup_uv.host import Host
from gpu_ci.inputs.setup_uv_inputs import SetupUvInputs
from gpu_ci.setup_uv.obtain import Obtaining

def fetcher():
    raise AssertionError("a second run must not download")

told = json.loads(sys.argv[1])
host = replace(Host.read({}), machine="x86_64", libc="gnu", job={"PATH": told["path"]})
uv, _ = Obtaining(
    inputs=SetupUvInputs.read({"GITHUB_WORKSPACE": told["root"], "INPUT_VERSION": "9.1.0"}),
    host=host, folders=SimpleNamespace(uvs=Path(told["uvs"])), own=None, say=print, fetcher=fetcher,
).uv()
network = ("requests", "urllib3", "http", "ssl", "socket", "tarfile", "zipfile", "certifi")
print(json.dumps([str(uv.path), [name for name in network if name in sys.modules]]))
"""


@pytest.mark.parametrize("place", ["kept", "on PATH"])
def test_a_second_run_loads_nothing_that_could_ask(machine: Machine, place: str) -> None:
    """A fresh interpreter that finds its uv has loaded neither requests nor anything of the network."""
    if place == "kept":
        machine.index.release("9.1.0")
        expected = machine.obtain(version="9.1.0")[0].path
    else:
        expected = machine.install("9.1.0")
    told = {
        "path": ":".join(machine.path),
        "root": str(machine.root),
        "uvs": str(machine.folders().uvs),
    }
    done = subprocess.run(
        [sys.executable, "-c", SECOND, json.dumps(told)],
        env={"PYTHONPATH": str(SHARED), "PATH": os.environ["PATH"]},
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [str(expected), []]


# A job as it is, which gets one version after another from a mirror.
JOB = """
import json, sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from gpu_ci.setup_uv.download import Fetcher
from gpu_ci.setup_uv.host import Host
from gpu_ci.inputs.setup_uv_inputs import SetupUvInputs
from gpu_ci.setup_uv.obtain import Obtaining
from gpu_ci.setup_uv.existing_uvs import ask_version
from gpu_ci.runtime.clock import Deadline

told = json.loads(sys.argv[1])
host = replace(Host.read({}), machine="x86_64", libc="gnu", job={})
sys.stdin.readline()
for version in told["versions"]:
    inputs = {"GITHUB_WORKSPACE": told["root"], "INPUT_MIRROR": told["mirror"]}
    uv, _ = Obtaining(
        inputs=SetupUvInputs.read({**inputs, "INPUT_VERSION": version}),
        host=host, folders=SimpleNamespace(uvs=Path(told["uvs"])), own=None, say=print,
        fetcher=lambda: Fetcher(job={}, deadline=Deadline.after(60), say=print),
    ).uv()
    assert str(ask_version(uv.path)) == version
"""


def test_of_jobs_at_once_one_downloads(machine: Machine) -> None:
    """Two real jobs on one machine that want the same versions download each once."""
    versions = [f"9.{number}.0" for number in range(5)]
    paths = [machine.index.release(version) for version in versions]
    told = {
        "versions": versions,
        "root": str(machine.root),
        "mirror": f"{machine.index.root}/releases",
        "uvs": str(machine.folders().uvs),
    }
    command = [sys.executable, "-c", JOB, json.dumps(told)]
    env = {"PYTHONPATH": str(SHARED), "PATH": os.environ["PATH"]}
    jobs = [
        subprocess.Popen(command, env=env, stdin=PIPE, stdout=PIPE, text=True) for _ in range(2)
    ]
    for job in jobs:
        assert job.stdin
        job.stdin.write("go\n")
        job.stdin.flush()
    for job in jobs:
        job.communicate(timeout=60)
    assert [job.returncode for job in jobs] == [0, 0]
    assert sorted(machine.index.asked) == sorted(each for p in paths for each in (p, f"{p}.sha256"))
    assert left(machine) == versions
