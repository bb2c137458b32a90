"""Virtual environments that are kept or made, and filled, by a real uv without a network."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import uv as uv_package

from gpu_ci.errors import BadInputs, EnvironmentFailed
from gpu_ci.inputs.setup_uv_inputs import SetupUvInputs
from gpu_ci.setup_uv.environments import activate, sync, sync_arguments, synced
from gpu_ci.setup_uv.run_uv import Commands

UV = Path(uv_package.find_uv_bin())
PYPROJECT = """[project]
name = "project"
version = "1"
requires-python = ">=3.9"
dependencies = ["tiny"]

[tool.uv.sources]
tiny = { path = "tiny-1-py3-none-any.whl" }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project that locks one small wheel, which lies beside it."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PYPROJECT)
    write_wheel(folder / "tiny-1-py3-none-any.whl")
    subprocess.run([UV, "lock", "-q"], env=environment(tmp_path), cwd=folder, check=True)
    return folder


def write_wheel(path: Path) -> None:
    about = "tiny-1.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", "NUMBER = 1\n")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "".join(f"{name},,\n" for name in wheel.namelist()))


def environment(folder: Path, **variables: str) -> dict[str, str]:
    return {
        "HOME": str(folder),
        "PATH": str(Path(sys._base_executable).parent),  # type: ignore[attr-defined]  # no other name is documented
        "UV_CACHE_DIR": str(folder / "cache"),
        "UV_PYTHON_INSTALL_DIR": str(folder / "pythons"),
        "UV_OFFLINE": "1",
        **variables,
    }


def commands(folder: Path, **variables: str) -> Commands:
    return Commands(path=UV, env=environment(folder.parent, **variables), folder=folder)


def inputs(folder: Path, **given: str) -> SetupUvInputs:
    written = {f"INPUT_{name.upper()}": value for name, value in given.items()}
    return SetupUvInputs.read({"GITHUB_WORKSPACE": str(folder), **written})


def test_an_environment_is_made_and_then_kept(project: Path) -> None:
    """What a former step, or job, has installed stays; the popular action removes it each time."""
    asked, uv = inputs(project, activate_environment="true"), commands(project)
    assert activate(asked, uv).why == "made anew: there was none"
    (project / ".venv/kept").touch()
    again = activate(asked, uv)
    assert (again.folder, again.why) == (project / ".venv", "kept as it was")
    assert (project / ".venv/kept").exists()


def test_clear_makes_it_anew(project: Path) -> None:
    """When that is asked for."""
    asked, uv = inputs(project, activate_environment="clear"), commands(project)
    activate(asked, uv)
    (project / ".venv/kept").touch()
    assert activate(asked, uv).why == "made anew: activate-environment is clear"
    assert not (project / ".venv/kept").exists()


def test_one_whose_python_has_gone_is_made_anew(project: Path) -> None:
    """A machine's Python is replaced between two jobs: the links lead nowhere."""
    asked, uv = inputs(project, activate_environment="true"), commands(project)
    activate(asked, uv)
    python = project / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert activate(asked, uv).why == "made anew: its Python was gone"
    subprocess.run([python, "-c", "1"], check=True)


@pytest.mark.parametrize("trouble", ["exec /bin/sleep 60", "kill -9 $$"])
def test_one_whose_python_is_slow_or_killed_is_never_emptied(
    project: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """A disk that hangs, or a machine without memory, costs a run and not what was installed."""
    asked, uv = inputs(project, activate_environment="true"), commands(project)
    activate(asked, uv)
    (project / ".venv/kept").touch()
    python = project / ".venv/bin/python"
    python.unlink()
    python.write_text(f"#!/bin/sh\n{trouble}\n")
    python.chmod(0o755)
    monkeypatch.setattr(Commands, "ask", functools.partialmethod(answers_soon))
    with pytest.raises(
        EnvironmentFailed, match="does not answer, but may still be there"
    ) as caught:
        activate(asked, uv)
    assert "clear" in caught.value.cure
    assert (project / ".venv/kept").exists()


def answers_soon(uv: Commands, python: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Ask as Commands does, with less patience."""
    return replace(uv, path=python).run("-I", "-c", code, seconds=0.5)


def test_a_uv_that_fails_is_no_reason_to_empty_an_environment(project: Path) -> None:
    """Only the environment's own Python says that it is gone; and a version that is unclear fails."""
    uv = commands(project)
    activate(inputs(project, activate_environment="true"), uv)
    (project / ".venv/kept").touch()
    (project / "uv.toml").write_text('required-version = "==0.0.1"\n')
    asked = inputs(project, activate_environment="true", python_version=">=3.9")
    with pytest.raises(EnvironmentFailed, match=r"It is unclear .* of Python >=3\.9: "):
        activate(asked, uv)
    assert activate(inputs(project, activate_environment="true"), uv).why == "kept as it was"
    assert (project / ".venv/kept").exists()


@pytest.mark.parametrize("place", ["../elsewhere", "src/../.venv"])
def test_a_kept_one_is_kept_by_whichever_path(project: Path, place: str) -> None:
    """A path with `..` in it, which uv tells without; and a Python that is given by its own path."""
    (project / "src").mkdir()
    uv = commands(project)
    for version in (">=3.9", os.path.realpath(sys._base_executable)):  # type: ignore[attr-defined]  # see above
        asked = inputs(
            project, activate_environment="true", venv_path=place, python_version=version
        )
        made = activate(asked, uv.having({"UV_PYTHON": version}))
        assert ".." not in made.folder.parts
        assert activate(asked, uv).why == "kept as it was"


def test_one_of_another_python_is_made_anew(project: Path) -> None:
    """Else `python-version` would be no more than a wish; it says so."""
    uv = commands(project)
    activate(inputs(project, activate_environment="true"), uv)
    (project / ".venv/kept").touch()
    other = inputs(project, activate_environment="true", python_version="<3.9")
    assert activate(other, uv).why == "made anew: it was not of Python <3.9"
    same = inputs(project, activate_environment="true", python_version=">=3.9")
    assert activate(same, uv).why == "kept as it was"


@pytest.mark.parametrize("choice", ["true", "clear"])
def test_a_folder_that_is_no_environment_is_never_emptied(project: Path, choice: str) -> None:
    """`venv-path: .` would remove the checkout under an older uv."""
    asked = inputs(project, activate_environment=choice, venv_path=".")
    with pytest.raises(EnvironmentFailed, match="is not empty and is not a virtual environment"):
        activate(asked, commands(project))
    assert (project / "pyproject.toml").exists()


def test_one_that_was_only_begun_is_made_anew(project: Path) -> None:
    """A job was cancelled while uv made it: the next one on this machine is not in its way."""
    (project / ".venv/bin").mkdir(parents=True)
    for name in ("CACHEDIR.TAG", ".gitignore", "bin/activate"):
        (project / ".venv" / name).touch()
    activate(inputs(project, activate_environment="true"), commands(project))
    assert (project / ".venv/pyvenv.cfg").is_file()


def test_a_relative_path_is_relative_to_the_working_directory(project: Path) -> None:
    """So says the input's description."""
    asked = inputs(project, activate_environment="true", venv_path="../elsewhere")
    folder = activate(asked, commands(project)).folder
    assert (project.parent / "elsewhere/pyvenv.cfg").is_file()
    assert folder.samefile(project.parent / "elsewhere")


def test_the_workflows_own_place_for_it_is_honoured(project: Path) -> None:
    """UV_PROJECT_ENVIRONMENT says where uv will look for it."""
    uv = commands(project, UV_PROJECT_ENVIRONMENT="elsewhere")
    assert (
        activate(inputs(project, activate_environment="true"), uv).folder == project / "elsewhere"
    )


def test_an_environment_that_cannot_be_made_is_one_sentence(project: Path) -> None:
    """With uv's reason and a cure."""
    (project / "file").touch()
    asked = inputs(project, activate_environment="true", venv_path="file/env")
    with pytest.raises(
        EnvironmentFailed, match=r"could not make the environment .*file/env: "
    ) as caught:
        activate(asked, commands(project))
    assert "venv-path" in caught.value.cure


def test_sync_installs_what_is_locked_and_compiles_it(project: Path) -> None:
    """`uv sync --frozen` by default; later steps start faster for the bytecode."""
    said: list[str] = []
    uv = commands(project)
    lock = (project / "uv.lock").read_text()
    sync(inputs(project, sync="true"), uv, said.append)
    assert synced(uv) == project / ".venv"
    assert [*project.glob(".venv/lib/python*/site-packages/__pycache__/tiny.*.pyc")]
    assert any("tiny==1" in line for line in said)
    assert (project / "uv.lock").read_text() == lock


def test_a_sync_in_a_folder_of_the_project_fills_the_projects_environment(project: Path) -> None:
    """uv keeps it at the project's root, and that one is told."""
    (project / "src").mkdir()
    uv = commands(project / "src", UV_CACHE_DIR=str(project.parent / "cache"))
    asked = inputs(project, working_directory="src", sync="true")
    sync(asked, uv, print)
    assert synced(uv) == project / ".venv"


def test_a_sync_that_fails_says_where_and_what_to_do(project: Path) -> None:
    """uv has said why in the log."""
    (project / "uv.lock").unlink()
    said: list[str] = []
    with pytest.raises(EnvironmentFailed, match=r"uv sync --frozen failed with [12] in") as caught:
        sync(inputs(project, sync="true"), commands(project), said.append)
    assert "commit" in caught.value.cure
    assert any("lockfile" in line for line in said)


@pytest.mark.parametrize(
    ("text", "variables", "arguments"),
    [
        ("true", {}, ["--frozen"]),
        ("--all-extras --group 'my group'", {}, ["--frozen", "--all-extras", "--group", "my group"]),
        ("--extra $(id)", {}, ["--frozen", "--extra", "$(id)"]),
        ("--locked", {}, ["--locked"]),
        ("-P tiny", {}, ["-P", "tiny"]),
        ("--upgrade-package=tiny", {}, ["--upgrade-package=tiny"]),
        ("true", {"UV_LOCKED": "1"}, []),
    ],
)  # fmt: skip
def test_the_arguments_of_sync_are_data(
    tmp_path: Path, text: str, variables: dict[str, str], arguments: list[str]
) -> None:
    """Split as a shell would, run by none; the lock is left alone unless something else is said."""
    uv = Commands(path=UV, env=variables, folder=tmp_path)
    assert sync_arguments(text, uv) == arguments


def test_arguments_that_cannot_be_split_are_a_bad_input(tmp_path: Path) -> None:
    """With the reason."""
    with pytest.raises(BadInputs, match="No closing quotation"):
        sync_arguments("--group 'x", Commands(path=UV, env={}, folder=tmp_path))


def test_no_password_in_the_arguments_of_sync_is_told(project: Path) -> None:
    """An index's address may hold one, and what fails is printed for all to read."""
    (project / "uv.lock").unlink()
    url = "--default-index https://me:s3cret@127.0.0.1:9/simple"
    with pytest.raises(EnvironmentFailed, match=r"//127\.0\.0\.1:9/simple") as failed:
        sync(inputs(project, sync=url), commands(project), lambda _: None)
    with pytest.raises(BadInputs) as bad:
        sync_arguments(f"{url} '", commands(project))
    assert "s3cret" not in str(failed.value) + str(bad.value)


def test_the_bytecode_is_not_wanted_of_a_workflow_that_says_so(project: Path) -> None:
    """UV_COMPILE_BYTECODE of the job goes before ours."""
    sync(inputs(project, sync="true"), commands(project, UV_COMPILE_BYTECODE="0"), print)
    assert not [*project.glob(".venv/lib/python*/site-packages/__pycache__/tiny.*.pyc")]


def test_an_environment_of_an_older_uv_is_kept(project: Path) -> None:
    """Or of Python's own venv: whatever has a pyvenv.cfg and runs."""
    python = shutil.which("python3", path=environment(project)["PATH"]) or sys.executable
    subprocess.run([python, "-m", "venv", "--without-pip", ".venv"], cwd=project, check=True)
    assert os.access(project / ".venv/bin/python", os.X_OK)
    assert (
        activate(inputs(project, activate_environment="true"), commands(project)).why
        == "kept as it was"
    )
