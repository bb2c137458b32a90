"""What later steps get."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpu_ci.setup_uv.exports import MISLEADING, Exports
from gpu_ci.setup_uv.folders import Folders
from gpu_ci.setup_uv.host import Host
from gpu_ci_sandbox.action_step import read_commands

if TYPE_CHECKING:
    from collections.abc import Mapping


def a_host(
    job: Mapping[str, str], own: Mapping[str, str] | None = None, home: Path | None = None
) -> Host:
    return Host(
        uid=1000,
        home=home,
        home_is_new=home is not None,
        machine="x86_64",
        libc="gnu",
        job=job,
        own=own or {},
    )


def the_folders(*, copies: bool = False) -> Folders:
    return Folders(
        cache=Path("/d/cache"),
        pythons=Path("/d/python"),
        tools=Path("/d/tools"),
        tool_bin=Path("/d/tool-bin"),
        bin=Path("/d/bin"),
        uvs=Path("/d/uvs"),
        cache_is_kept=True,
        cache_was_there=True,
        copies=copies,
    )


def test_all_of_uvs_folders_are_named_together() -> None:
    """One that is left out would be in a home that cannot be written (pain 34)."""
    exports = Exports(host=a_host({}))
    exports.add_folders(the_folders())
    assert exports.variables == {
        "UV_CACHE_DIR": "/d/cache",
        "UV_PYTHON_INSTALL_DIR": "/d/python",
        "UV_TOOL_DIR": "/d/tools",
        "UV_TOOL_BIN_DIR": "/d/tool-bin",
    }
    assert exports.path == ["/d/tool-bin"]


def test_home_is_set_only_if_it_is_new() -> None:
    """A HOME that does is left alone; one that does not is replaced for later steps (row 1.17)."""
    exports = Exports(host=a_host({"HOME": "/root"}, home=Path("/home/ci")))
    exports.add_folders(the_folders())
    assert exports.variables["HOME"] == "/home/ci"


@pytest.mark.parametrize(
    ("job", "copies", "mode"),
    [
        ({}, True, "copy"),
        ({}, False, None),
        ({"UV_LINK_MODE": "symlink"}, True, None),
        ({"UV_LINK_MODE": ""}, True, "copy"),
    ],
)
def test_the_link_mode_is_set_where_links_fail_and_nobody_has_chosen(
    job: dict[str, str], mode: str | None, *, copies: bool
) -> None:
    """UV_LINK_MODE=copy between two disks, not otherwise (pain 36)."""
    exports = Exports(host=a_host(job))
    exports.add_folders(the_folders(copies=copies))
    assert exports.variables.get("UV_LINK_MODE") == mode


@pytest.mark.parametrize("name", MISLEADING)
def test_what_the_machine_set_is_emptied_and_said(name: str) -> None:
    """A variable cannot be unset for later steps, and empty is the same to uv and Python (pain 40)."""
    exports = Exports(host=a_host({name: "/theirs"}, own={"OTHER": "x"}))
    exports.silence()
    assert exports.variables == {name: ""}
    assert exports.silenced == [f"{name}=/theirs"]
    assert name not in exports.environment()


@pytest.mark.parametrize("name", MISLEADING)
def test_what_the_workflow_set_stays(name: str) -> None:
    """The workflow's own value is meant, one that the machine has put in its place is not."""
    exports = Exports(host=a_host({name: "/ours"}, own={name: "/ours"}))
    exports.silence()
    assert exports.variables == {}
    assert exports.environment()[name] == "/ours"
    other = Exports(host=a_host({name: "/theirs"}, own={name: "/ours"}))
    other.silence()
    assert other.variables == {name: ""}


def test_uv_is_run_as_a_later_step_will_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment here is what the runner makes of the files that are written."""
    for name in ("GITHUB_ENV", "GITHUB_PATH"):
        (tmp_path / name).touch()
        monkeypatch.setenv(name, str(tmp_path / name))
    job = {"PATH": "/usr/bin:/bin", "VIRTUAL_ENV": "/old", "A": "1\n2"}
    exports = Exports(host=a_host(job, home=Path("/home/ci")))
    exports.add_folders(the_folders(copies=True))
    exports.silence()
    exports.path.append("/d/uv")
    exports.activate(Path("/project/a b/.venv"))
    exports.write()
    variables = read_commands((tmp_path / "GITHUB_ENV").read_text())
    path = (tmp_path / "GITHUB_PATH").read_text().splitlines()
    later = {**job, **variables, "PATH": ":".join([*reversed(path), job["PATH"]])}
    assert exports.environment() == later
    assert later["PATH"] == "/project/a b/.venv/bin:/d/uv:/d/tool-bin:/usr/bin:/bin"
    assert later["VIRTUAL_ENV"] == "/project/a b/.venv"


def test_a_job_without_a_path_gets_one() -> None:
    """An empty part of PATH would mean the working folder."""
    exports = Exports(host=a_host({}), path=["/d"])
    assert exports.environment()["PATH"] == "/d"
