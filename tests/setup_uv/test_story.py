"""The order of events of setting uv up: what stands when, and what is told, by the shipped entry file."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import uv as uv_package
from tests.pace import assert_within, until
from tests.processes import processes_with

ENTRY = Path(__file__).parents[2] / "action-setup-uv/setup_uv.py"
UV = Path(uv_package.find_uv_bin())
PROJECT = '[project]\nname = "project"\nversion = "1"\nrequires-python = ">=3.9"\n'
FAKE = """#!/bin/sh
case $1 in
--version) echo "uv 9.9.9 (a stand-in)" ;;
sync) {sync} ;;
*) echo "error: No interpreter found" >&2; exit 2 ;;
esac
"""


@dataclass
class Step:
    """One machine on which the step runs, again and again."""

    folder: Path
    path: Path

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    def env(self, **inputs: str) -> dict[str, str]:
        files = {
            name: str(self.folder / name) for name in ("ENV", "PATH", "OUTPUT", "STEP_SUMMARY")
        }
        for file in files.values():
            Path(file).write_text("")
        return {
            "HOME": str(self.folder / "home"),
            "PATH": f"{self.path}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "RUNNER_TEMP": str(self.folder / "temp"),
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(self.workspace),
            **{f"GITHUB_{name}": file for name, file in files.items()},
            **{f"INPUT_{name.upper()}": value for name, value in inputs.items()},
        }

    def run(
        self, *, more: dict[str, str] | None = None, **inputs: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", ENTRY],
            env={**self.env(**inputs), **(more or {})},
            capture_output=True,
            text=True,
            check=False,
        )

    def variables(self) -> dict[str, str]:
        """Return what later steps get, by the runner's file format."""
        return self._file("ENV")

    def outputs(self) -> dict[str, str]:
        return self._file("OUTPUT")

    def _file(self, name: str) -> dict[str, str]:
        lines = iter((self.folder / name).read_text().splitlines())
        found = {}
        for line in lines:
            key, _, end = line.partition("<<")
            value = list(iter(lambda: next(lines), end))
            found[key] = "\n".join(value)
        return found

    def first_on_path(self) -> list[str]:
        return (self.folder / "PATH").read_text().split()[::-1]

    def stand_in(self, sync: str) -> None:
        """Put a uv on PATH of which `sync` does this."""
        (self.path / "uv").unlink(missing_ok=True)
        (self.path / "uv").write_text(FAKE.format(sync=sync))
        (self.path / "uv").chmod(0o755)


@pytest.fixture
def step(tmp_path: Path) -> Step:
    for name in ("home", "temp", "workspace", "bin"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin/uv").symlink_to(UV)
    return Step(folder=tmp_path, path=tmp_path / "bin")


@pytest.fixture
def project(step: Step) -> Step:
    (step.workspace / "pyproject.toml").write_text(PROJECT)
    subprocess.run([UV, "lock", "-q", "--offline"], cwd=step.workspace, env=step.env(), check=True)
    return step


def test_later_steps_get_uv_python_and_environment(project: Step) -> None:
    """All folders together, the environment first on PATH, and one line that says what won and why."""
    done = project.run(activate_environment="true", sync="true")
    assert done.returncode == 0, done.stdout + done.stderr
    variables, outputs = project.variables(), project.outputs()
    venv = project.workspace / ".venv"
    assert variables["VIRTUAL_ENV"] == outputs["venv"] == str(venv)
    assert {"UV_CACHE_DIR", "UV_PYTHON_INSTALL_DIR", "UV_TOOL_DIR", "UV_TOOL_BIN_DIR"} <= {
        *variables
    }
    assert project.first_on_path()[0] == str(venv / "bin")
    version = subprocess.check_output([venv / "bin/python", "-V"], text=True).split()[1]
    assert outputs["python-version"] == version
    summary = (project.folder / "STEP_SUMMARY").read_text()
    assert f"uv {outputs['uv-version']} on PATH" in summary
    assert f"Python {version}, of the environment ({venv}/bin/python)" in summary
    assert f"Environment: {venv}, made anew: there was none, in step with the lock." in summary


def test_what_is_for_one_command_alone_is_not_told_to_later_steps(project: Step) -> None:
    """Each `uv run` would compile again, and other projects of the job would share an environment."""
    project.run(activate_environment="true", sync="true")
    assert not {"UV_COMPILE_BYTECODE", "UV_PROJECT_ENVIRONMENT"} & {*project.variables()}


def test_an_environment_elsewhere_is_the_projects_for_later_steps_too(project: Step) -> None:
    """`uv run` would otherwise make another one in the usual place."""
    project.run(sync="true", venv_path="elsewhere")
    told = project.variables()
    assert told["UV_PROJECT_ENVIRONMENT"] == str(project.workspace / "elsewhere")
    assert project.outputs()["venv"] == str(project.workspace / "elsewhere")
    assert "VIRTUAL_ENV" not in told


def test_the_second_run_asks_nobody_and_changes_nothing(project: Step) -> None:
    """No request at all, not even for a list of versions; and the cache was there (pain 38, row 1.17)."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        through = dict.fromkeys(("http_proxy", "https_proxy", "ALL_PROXY"), url)
        first = project.run(activate_environment="true", sync="true", more=through)
        (project.workspace / ".venv/kept").touch()
        assert project.outputs()["cache-hit"] == "false"
        Path(project.outputs()["cache-dir"], "archive-v0/a-wheel").mkdir(parents=True)
        second = project.run(activate_environment="true", sync="true", more=through)
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert (first.returncode, second.returncode) == (0, 0)
    assert (project.workspace / ".venv/kept").exists()
    assert project.outputs()["cache-hit"] == "true"


def test_a_failed_sync_leaves_a_uv_to_later_steps(project: Step) -> None:
    """Steps with `if: always()`, which report or tidy up, find it on PATH."""
    (project.workspace / "uv.lock").unlink()
    done = project.run(activate_environment="true", sync="true")
    assert done.returncode == 64
    assert "uv sync --frozen failed" in done.stdout
    assert project.variables()["VIRTUAL_ENV"] == str(project.workspace / ".venv")
    assert project.outputs()["uv-path"] == str(project.path / "uv")
    later = os.pathsep.join(project.first_on_path())
    found = subprocess.run(["sh", "-c", "uv --version"], env={"PATH": f"{later}:/bin"}, check=False)
    assert found.returncode == 0


def test_a_python_that_cannot_be_had_is_not_told_to_later_steps(step: Step) -> None:
    """UV_PYTHON would make each later uv fail; uv itself they get."""
    done = step.run(python_version="3.99")
    assert done.returncode == 63
    assert "Python 3.99 is not on this machine" in done.stdout
    assert "UV_PYTHON" not in step.variables()
    assert "UV_CACHE_DIR" in step.variables()


def test_a_version_that_is_asked_for_is_that_of_later_steps(project: Step) -> None:
    """In the outputs, for uv, and in the environment."""
    own = {"UV_PYTHON_PREFERENCE": "only-system"}
    done = project.run(python_version=">=3.9", activate_environment="true", more=own)
    assert done.returncode == 0, done.stdout + done.stderr
    python = project.workspace / ".venv/bin/python"
    version = subprocess.check_output([python, "-V"], text=True).split()[1]
    assert project.outputs()["python-version"] == version
    assert project.variables()["UV_PYTHON"] == ">=3.9"
    assert "the machine's own" in done.stdout


def test_what_uv_says_is_no_command_to_the_runner(step: Step) -> None:
    """Build scripts of packages speak through uv, and could set variables of later steps."""
    step.stand_in("echo '::error::obey'; printf 'a\\r::warning::obey\\n' >&2; echo '##[group]x'")
    done = step.run(version="9.9.9", sync="true")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    assert not [each for each in lines if each.startswith(("::error", "::warning", "##["))]
    assert sum("obey" in each for each in lines) == 2


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_cancel_ends_uv_and_what_it_started(step: Step, signum: signal.Signals) -> None:
    """The runner signals the step's process alone; a compiler would go on for hours (pain 7)."""
    step.stand_in("echo compiling; sleep 600 & sleep 600")
    env = step.env(version="9.9.9", sync="true") | {"CANCELLED_IN": str(step.folder)}
    with subprocess.Popen(
        [sys.executable, "-I", ENTRY], env=env, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert any("compiling" in line for line in running.stdout)
        begun = time.monotonic()
        running.send_signal(signum)
        said = running.stdout.read()
    assert_within(7.0, time.monotonic() - begun)
    assert running.returncode == 128 + signum
    assert f"cancelled by {signum.name}" in said
    until(lambda: not processes_with(f"CANCELLED_IN={step.folder}"))
    assert step.outputs()["uv-version"] == "9.9.9"


def test_pruning_is_told(step: Step) -> None:
    """With what is kept, and it fails nothing."""
    done = step.run(cache_max_gb="0.5")
    assert done.returncode == 0
    assert "Cache: 0 entries removed, 0.0 GB kept." in done.stdout


def test_nothing_is_pruned_under_environments_that_are_links(step: Step) -> None:
    """The job's UV_LINK_MODE=symlink reaches the pruning, which says why it removed nothing."""
    done = step.run(cache_max_gb="0.5", more={"UV_LINK_MODE": "symlink"})
    assert "0 entries removed, 0.0 GB kept; UV_LINK_MODE is symlink" in done.stdout


def test_false_is_no_argument_of_sync(step: Step) -> None:
    """As a workflow's expression gives it."""
    assert step.run(sync="false").returncode == 0


def test_everything_that_is_written_is_under_the_folders_that_are_named(project: Step) -> None:
    """Nothing of the user's own Pythons or home is changed."""
    before = {*project.folder.rglob("*")}
    done = project.run(activate_environment="true", sync="true")
    [line] = [each for each in done.stdout.splitlines() if each.startswith("Written to: ")]
    named = [Path(each) for each in line.removeprefix("Written to: ").rstrip(".").split(", ")]
    named.append(project.workspace / ".venv")
    new = [each for each in {*project.folder.rglob("*")} - before if not each.is_dir()]
    files = {project.folder / each for each in ("ENV", "PATH", "OUTPUT", "STEP_SUMMARY")}
    assert new
    assert not [
        each for each in new if each not in files and not any(map(each.is_relative_to, named))
    ]
