"""Who asks, and where: homes, C libraries, and the job's own environment."""

from __future__ import annotations

import os
import platform
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpu_ci.errors import EnvironmentBroken
from gpu_ci.runtime.home import find_home
from gpu_ci.setup_uv.host import Host, find_libc, job_environment

if TYPE_CHECKING:
    from collections.abc import Callable

UID = 54321
OTHER = 54322


@pytest.fixture
def knows(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Path], None]:
    """A user database of this test's own, empty at first."""
    homes: dict[int, Path] = {}

    def entry(uid: int) -> pwd.struct_passwd:
        return pwd.struct_passwd(("user", "x", uid, uid, "", str(homes[uid]), "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwuid", entry)
    return homes.__setitem__


@pytest.mark.parametrize(
    "told", ["", "/", "//", "relative", "/proc/none", "/proc/1/cwd/x", "/dev/null"]
)
def test_a_home_that_is_none_gives_way_to_the_databases(
    knows: Callable[[int, Path], None], tmp_path: Path, told: str
) -> None:
    """HOME is unset, /, relative, gone or no folder: the user's own is found (pain 34)."""
    knows(os.getuid(), tmp_path)
    assert find_home(told, os.getuid()) == tmp_path


def test_a_home_of_ones_own_is_kept(knows: Callable[[int, Path], None], tmp_path: Path) -> None:
    """HOME is taken at its word if it can be, whatever the database says (row 1.17)."""
    knows(os.getuid(), tmp_path / "other")
    assert find_home(str(tmp_path), os.getuid()) == tmp_path


def test_without_an_entry_and_a_home_there_is_none(knows: Callable[[int, Path], None]) -> None:
    """A container's user that stands nowhere has no home; nothing is invented (pain 34)."""
    assert find_home("", UID) is None


def test_anothers_home_is_not_ours_though_we_may_write_in_it(
    knows: Callable[[int, Path], None], tmp_path: Path
) -> None:
    """What root leaves in the runner's home would be in the runner's way (pain 41)."""
    owner = tmp_path.stat().st_uid
    knows(owner, tmp_path)
    assert find_home(str(tmp_path), uid=owner + 1) is None
    knows(owner, Path("/elsewhere"))
    assert find_home(str(tmp_path), uid=owner + 1) == tmp_path


def test_a_home_that_cannot_be_written_is_none(
    knows: Callable[[int, Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home on a disk that is read-only is of no use."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert find_home(str(tmp_path), os.getuid()) is None


@pytest.mark.parametrize(
    ("loaders", "running", "libc"),
    [
        (["lib64/ld-linux-x86-64.so.2"], "glibc", "gnu"),
        (["lib/ld-linux-aarch64.so.1"], "glibc", "gnu"),
        (["lib/ld-musl-x86_64.so.1"], "", "musl"),
        (["lib/ld-musl-aarch64.so.1", "lib64/ld-linux-x86-64.so.2"], "glibc", "gnu"),
        (["lib/ld-musl-x86_64.so.1", "lib/ld-linux-x86-64.so.2"], "", "musl"),
        ([], "glibc", "musl"),
    ],
    ids=["gnu", "arm64", "musl", "gnu with musl", "musl with gcompat", "neither"],
)
def test_the_c_library_is_the_one_that_programs_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaders: list[str], running: str, libc: str
) -> None:
    """By the loaders that are here; where there is none, the uv that needs none."""
    monkeypatch.setattr(platform, "libc_ver", lambda: (running, ""))
    for loader in loaders:
        (tmp_path / loader).parent.mkdir(exist_ok=True)
        (tmp_path / loader).touch()
    assert find_libc(tmp_path) == libc


@pytest.mark.parametrize(
    ("told", "machine"),
    [("x86_64", "x86_64"), ("aarch64", "aarch64"), ("arm64", "aarch64"), ("riscv64", "riscv64")],
)
def test_the_machine_is_named_as_uvs_releases_name_it(
    monkeypatch: pytest.MonkeyPatch, told: str, machine: str
) -> None:
    """Of a machine that no uv is known for, one on PATH may still do: it is no error."""
    monkeypatch.setattr(platform, "machine", lambda: told)
    host = Host.read({})
    assert host.target == f"{machine}-unknown-linux-{host.libc}"


def test_another_system_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not Linux: one sentence with the cure."""
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(EnvironmentBroken, match=r"needs Linux, but the machine runs Darwin\."):
        Host.read({})


def test_the_jobs_environment_is_what_it_was() -> None:
    """What `shared/run` put aside is in its place again, and what it added for us is not."""
    env = {"GPU_CI_JOB_UV_INDEX": "a", "UV_INDEX": "b", "PATH": "/bin", "GPU_CI_ENV_PATH": "/x"}
    assert job_environment(env) == {"UV_INDEX": "a", "PATH": "/bin"}


def test_what_the_workflow_set_is_told_apart(tmp_path: Path) -> None:
    """`job` has all variables, `own` those of the workflow's own `env`."""
    env = {"PYTHONHOME": "", "GPU_CI_JOB_PYTHONHOME": "/a", "GPU_CI_ENV_PYTHONHOME": "/a"}
    host = Host.read({**env, "HOME": str(tmp_path)})
    assert (host.job["PYTHONHOME"], host.own) == ("/a", {"PYTHONHOME": "/a"})


@pytest.mark.parametrize(("end", "new"), [("", False), ("/", False), ("/none", True)])
def test_a_home_is_new_only_if_it_is_another(
    knows: Callable[[int, Path], None], tmp_path: Path, end: str, *, new: bool
) -> None:
    """Later steps get HOME only where theirs would not do."""
    knows(os.getuid(), tmp_path)
    host = Host.read({"HOME": f"{tmp_path}{end}"})
    assert (host.home, host.home_is_new) == (tmp_path, new)
