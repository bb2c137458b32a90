"""Kept uvs: whole or not used, and installed once however many jobs want them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest
from tests.setup_uv.conftest import program
from tests.setup_uv.index import script

from gpu_ci.errors import NoFolder, NotFetched, NotVerified
from gpu_ci.setup_uv.existing_uvs import Uv, ask_version
from gpu_ci.setup_uv.installed import Kept, is_whole, link
from gpu_ci.setup_uv.version_wanted import parse

SHARED = Path(__file__).parents[2] / "shared"


def fill(folder: Path) -> None:
    program(folder / "uv", script("9.1.0"))


def keep(kept: Kept, version: str) -> Uv:
    return kept.install(version, lambda folder: program(folder / "uv", script(version)))


def left(kept: Kept) -> set[str]:
    """Return what is in the folder besides locks."""
    return {each.name for each in kept.folder.iterdir() if not each.name.startswith(".lock-")}


def test_a_uv_is_kept_with_its_checksum_and_an_uvx(tmp_path: Path) -> None:
    """What `fill` put there is found again, with the uvx that its archive lacked."""
    kept = Kept(folder=tmp_path / "new" / "folder")
    assert kept.one("9.1.0") is None
    new = kept.install("9.1.0", fill)
    again = kept.one("9.1.0")
    assert again
    assert (again.path, str(again.version)) == (new.path, "9.1.0")
    assert "new in" in new.where
    assert "kept in" in again.where
    assert new.uvx == new.path.with_name("uvx")
    assert left(kept) == {"9.1.0"}


def test_uvx_is_uv_tool_run(tmp_path: Path) -> None:
    """The uvx that is made hands every argument on unchanged."""
    kept = Kept(folder=tmp_path / "a folder")
    text = b'#!/bin/sh\n[ "$1" = --version ] && echo uv 9.1.0 || printf "<%s>" "$@"\n'
    uv = kept.install("9.1.0", lambda folder: program(folder / "uv", text))
    with os.popen(f"'{uv.uvx}' 'a b' '$c'") as told:
        assert told.read() == "<tool><run><a b><$c>"


@pytest.mark.parametrize(
    "damage", ["changed", "cut", "gone", "no longer a program", "no sums", "odd sums"]
)
def test_a_damaged_one_is_not_used_and_replaced(tmp_path: Path, damage: str) -> None:
    """A kept copy is verified each time; one that is not what it was is made anew."""
    kept = Kept(folder=tmp_path)
    uv = kept.install("9.1.0", fill).path
    sums = uv.with_name("SHA256SUMS")
    match damage:
        case "changed":
            program(uv, script("9.9.9"))
        case "cut":
            os.truncate(uv, 10)
        case "gone":
            uv.with_name("uvx").unlink()
        case "no longer a program":
            uv.chmod(0o644)
        case "no sums":
            sums.unlink()
        case _:
            sums.write_text("odd\n")
    assert kept.one("9.1.0") is None
    assert kept.newest(parse("9.1", "a test")) is None
    kept.install("9.1.0", fill)
    assert is_whole(uv.parent)
    assert ask_version(uv) == kept.install("9.1.0", fill).version
    assert left(kept) == {"9.1.0"}


def test_the_newest_that_is_whole_and_will_do_is_found(tmp_path: Path) -> None:
    """Versions are compared as versions, and a damaged one is passed over."""
    kept = Kept(folder=tmp_path)
    for version in ("9.9.0", "9.10.0", "9.11.0", "10.0.0"):
        keep(kept, version)
    (tmp_path / "9.11.0" / "uv").write_text("damaged")
    (tmp_path / "99 bottles").mkdir()
    newest = kept.newest(parse("<10", "a test"))
    assert str(newest and newest.version) == "9.10.0"


def test_an_archive_of_a_checksum_is_kept_by_itself(tmp_path: Path) -> None:
    """What came without the checksum that is asked for does not stand in for what came with it."""
    kept = Kept(folder=tmp_path)
    kept.install("9.1.0", fill)
    assert kept.one("9.1.0", "ab" * 32) is None
    uv = kept.install("9.1.0", fill, "ab" * 32)
    again = kept.one("9.1.0", "ab" * 32)
    assert again
    assert again.path == uv.path
    assert kept.one("9.1.0", "cd" * 32) is None
    assert str(uv.version) == "9.1.0"


def test_one_that_does_not_run_here_is_not_kept(tmp_path: Path) -> None:
    """A uv for another libc or machine is a sentence with the cure, and nothing stays."""
    kept = Kept(folder=tmp_path)
    with pytest.raises(NotFetched, match=r"The uv that came as 9\.1\.0 does not run.*libc"):
        kept.install("9.1.0", lambda folder: program(folder / "uv", b"#!/lib/ld-musl\n"))
    assert left(kept) == set()


def test_one_of_another_version_is_not_kept(tmp_path: Path) -> None:
    """A mirror that gives another version than it says is found out."""
    kept = Kept(folder=tmp_path)
    with pytest.raises(NotVerified, match=r"came as uv 9\.2\.0 says that it is uv 9\.1\.0"):
        kept.install("9.2.0", fill)
    assert left(kept) == set()


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    """No room is said with the folder and the cure, and what was written is removed."""
    kept = Kept(folder=tmp_path)

    def full(folder: Path) -> None:
        fill(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(NoFolder) as caught:
        kept.install("9.1.0", full)
    assert f"{tmp_path}: No space left on device. Make room" in str(caught.value)
    assert left(kept) == set()


def test_what_a_killed_job_left_is_no_hindrance(tmp_path: Path) -> None:
    """Half an installation is never found, and the next job's takes its place."""
    (tmp_path / ".new-9.1.0" / "made").mkdir(parents=True)
    (tmp_path / ".new-9.1.0" / "made" / "uv").write_text("half")
    kept = Kept(folder=tmp_path)
    assert kept.newest(parse("latest", "a test")) is None
    kept.install("9.1.0", fill)
    assert left(kept) == {"9.1.0"}


# A job that installs one version after another, and says how often it was the one that did it.
JOB = """
import sys, time
from pathlib import Path
from gpu_ci.setup_uv.installed import Kept
from gpu_ci.setup_uv.existing_uvs import ask_version

filled = []

def fill(folder):
    filled.append(folder)
    (folder / "uv").write_text("#!/bin/sh\\n")
    (folder / "uv").chmod(0o755)
    (folder / "uv").write_text(f"#!/bin/sh\\necho uv {version}\\n")

sys.stdin.readline()
for number in range(20):
    version = f"9.{number}.0"
    uv = Kept(folder=Path(sys.argv[1])).install(version, fill)
    assert str(ask_version(uv.path)) == version
print(len(filled))
"""


def test_of_jobs_at_once_one_installs_and_all_have_it(tmp_path: Path) -> None:
    """Twenty times, three real processes want the same version at once: it is made once."""
    command = [sys.executable, "-c", JOB, str(tmp_path)]
    env = {"PYTHONPATH": str(SHARED)}
    jobs = [
        subprocess.Popen(command, env=env, stdin=PIPE, stdout=PIPE, text=True) for _ in range(3)
    ]
    for job in jobs:
        assert job.stdin
        job.stdin.write("go\n")
        job.stdin.flush()
    told = [job.communicate(timeout=60)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0]
    assert sum(map(int, told)) == 20
    assert left(Kept(folder=tmp_path)) == {f"9.{number}.0" for number in range(20)}


def test_a_foreign_uv_gets_a_folder_of_links_alone(tmp_path: Path) -> None:
    """A conda environment's Python must not come with its uv: PATH gets links and nothing else."""
    conda = tmp_path / "conda" / "bin"
    conda.mkdir(parents=True)
    for name in ("uv", "uvx", "python", "pip"):
        program(conda / name, script("9.1.0"))
    uv = Uv(path=conda / "uv", version=keep(Kept(folder=tmp_path), "9.1.0").version, where="here")
    folder = link(uv, tmp_path / "bin")
    assert {each.name: each.readlink() for each in folder.iterdir()} == {
        "uv": conda / "uv",
        "uvx": conda / "uvx",
    }
    assert link(uv, tmp_path / "bin") == folder


def test_links_that_cannot_be_written_are_one_sentence(tmp_path: Path) -> None:
    """A full or foreign disk is said with its folder and the cure, not with a traceback."""
    uv = keep(Kept(folder=tmp_path), "9.1.0")
    (tmp_path / "bin").touch()  # what is a file there cannot be a folder
    with pytest.raises(NoFolder, match=r"could not be linked in .*/bin: Not a dir.* Make room"):
        link(uv, tmp_path / "bin")


def test_a_link_that_leads_elsewhere_is_put_right(tmp_path: Path) -> None:
    """Whatever lies in the place of a link, it leads to the uv that won afterwards."""
    program(tmp_path / "uv", script("9.1.0"))
    uv = Uv(
        path=tmp_path / "uv", version=keep(Kept(folder=tmp_path), "9.1.0").version, where="here"
    )
    place = link(uv, tmp_path / "bin") / "uv"
    for wrong in ("link", "file"):
        place.unlink()
        if wrong == "link":
            place.symlink_to("/nowhere/uv")
        else:
            program(place, script("6.6.6"))
        link(uv, tmp_path / "bin")
        assert place.readlink() == tmp_path / "uv"
        assert [each.name for each in place.parent.iterdir()] == ["uv"]
