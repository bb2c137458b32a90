"""What the user may write for action-setup-uv."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gpu_ci.errors import BadInputs
from gpu_ci.inputs.setup_uv_inputs import SetupUvInputs

if TYPE_CHECKING:
    from pathlib import Path


def read(workspace: Path, **inputs: str) -> SetupUvInputs:
    given = {f"INPUT_{name.upper()}": value for name, value in inputs.items()}
    return SetupUvInputs.read(
        {"GITHUB_WORKSPACE": str(workspace), "HOME": str(workspace / "home"), **given}
    )


def test_nothing_needs_to_be_written(tmp_path: Path) -> None:
    """Without an input everything has its default."""
    inputs = read(tmp_path)
    assert inputs.working_directory == tmp_path
    assert (inputs.activate_environment, inputs.enable_cache) == ("false", "auto")
    assert (inputs.cache_max_gb, inputs.mirror, inputs.checksum) == (0.0, "", "")
    assert inputs.folder("venv-path") is None


def test_values_arrive_as_the_code_takes_them(tmp_path: Path) -> None:
    """Addresses lose their last slash, checksums their prefix, sizes may be decimal."""
    (tmp_path / "sub").mkdir()
    inputs = read(
        tmp_path,
        mirror="https://mirror.example/uv/",
        checksum=f"SHA256:{'AB' * 32}",
        cache_max_gb="2.5",
        working_directory="sub",
        cache_local_path="kept",
        tool_dir="/opt/tools",
    )
    assert inputs.mirror == "https://mirror.example/uv"
    assert inputs.checksum == "ab" * 32
    assert inputs.cache_max_gb == 2.5
    assert inputs.folder("cache-local-path") == tmp_path / "sub" / "kept"
    assert str(inputs.folder("tool-dir")) == "/opt/tools"


@pytest.mark.parametrize(
    ("inputs", "part"),
    [
        ({"working_directory": "none"}, "is not a readable folder"),
        ({"working_directory": "a" * 5000}, "is not a readable folder"),
        ({"checksum": "md5:00", "version": "0.9.1"}, "64 hexadecimal digits"),
        ({"mirror": "file:///srv/uv"}, "mirror is no address"),
        ({"mirror": "https://mirror.example/uv?token=1"}, "mirror is no address"),
        ({"enable_cache": "yes"}, "must be one of auto, true, false"),
        ({"activate_environment": "maybe"}, "must be one of false, true, clear"),
        ({"cache_max_gb": "much"}, "number of GB"),
        ({"cache_max_gb": "-1"}, "number of GB"),
        ({"cache_max_gb": "nan"}, "number of GB"),
        ({"cache_max_gb": "1e999"}, "number of GB"),
        ({"venv_path": "env"}, "venv-path is for activate-environment or sync"),
    ],
)
def test_what_cannot_be_meant_is_a_problem(
    tmp_path: Path, inputs: dict[str, str], part: str
) -> None:
    """Each bad input is named with what it must be."""
    with pytest.raises(BadInputs, match=part):
        read(tmp_path, **inputs)


def test_a_workspace_that_may_not_be_read_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's checkout of mode 0700 is said here, not in a traceback later (pain 41)."""
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path or not mode & os.X_OK)
    with pytest.raises(BadInputs, match="is not a readable folder"):
        read(tmp_path)


def test_a_path_is_as_uv_prints_it(tmp_path: Path) -> None:
    """`..` is taken out, so that a folder is known again in what uv says of it; links stay."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    inputs = read(tmp_path, working_directory="sub", tool_dir="../env", tool_bin_dir="../link/./x")
    assert str(inputs.folder("tool-dir")) == f"{tmp_path}/env"
    assert str(inputs.folder("tool-bin-dir")) == f"{tmp_path}/link/x"


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    """Nobody has to run a workflow again for the next problem."""
    with pytest.raises(BadInputs) as caught:
        read(tmp_path, checksum="0", mirror="x", cache_max_gb="y", enable_cache="z")
    assert len(caught.value.problems) == 4


def test_a_password_in_mirror_is_not_told(tmp_path: Path) -> None:
    """An address may hold a secret, so a bad one is not repeated."""
    with pytest.raises(BadInputs) as caught:
        read(tmp_path, mirror="ftp://me:hunter2@mirror.example/uv")
    assert "hunter2" not in str(caught.value)


def test_a_tilde_is_the_users_home(tmp_path: Path) -> None:
    """`~/…` is below the home that uv is set up for."""
    (tmp_path / "home").mkdir()
    inputs = read(tmp_path, cache_local_path="~/cache", tool_dir="~", tool_bin_dir="~other/x")
    assert inputs.folder("cache-local-path") == tmp_path / "home" / "cache"
    assert inputs.folder("tool-dir") == tmp_path / "home"
    assert inputs.folder("tool-bin-dir") == tmp_path / "~other" / "x"


def test_a_tilde_without_a_home_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user without a home is told to write another path (pain 34)."""
    monkeypatch.setattr("gpu_ci.inputs.setup_uv_inputs.find_home", lambda told, uid: None)
    with pytest.raises(BadInputs, match="this user has no home"):
        read(tmp_path, cache_local_path="~/cache")


def test_a_command_in_an_input_stays_text(tmp_path: Path) -> None:
    """What a shell would run is a name like any other."""
    assert read(tmp_path, tool_dir="$(touch x)`id`").tool_dir == "$(touch x)`id`"
