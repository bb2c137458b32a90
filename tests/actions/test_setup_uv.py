"""action-setup-uv as its step runs in a job: from action.yml to the files that the runner reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.pace import PATIENCE

from gpu_ci_sandbox.action_step import begin
from gpu_ci_sandbox.world import PASSED_ON

ACTION = Path(__file__).parents[2] / "action-setup-uv"


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """The environment of a job on a machine that leaves two variables in it."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    folders = {"HOME": "home", "RUNNER_TEMP": "temp", "GITHUB_WORKSPACE": "work"}
    for name in folders.values():
        (tmp_path / name).mkdir(mode=0o700)
    own = {variable: str(tmp_path / name) for variable, name in folders.items()}
    left = {"PYTHONPATH": "/of/the/workflow", "CONDA_PREFIX": "/of/the/machine"}
    kept = {"XDG_CACHE_HOME": passed.get("XDG_CACHE_HOME", f"{passed['HOME']}/.cache")}
    return {**passed, **own, **left, **kept, "UV_CACHE_DIR": str(tmp_path / "home/cache")}


def test_the_step_tells_later_steps(job: dict[str, str]) -> None:
    """Outputs, variables and PATH reach the runner; of what was set, the machine's is emptied alone
    (pain 40)."""
    step = begin(ACTION, {}, job, {"env.PYTHONPATH": "/of/the/workflow"})
    result = step.result(PATIENCE)
    assert (result.exit_code, result.dropped) == (0, ()), result.log
    assert Path(result.outputs["uv-path"]).is_absolute()
    assert result.outputs["cache-dir"] == job["UV_CACHE_DIR"]
    told = (step.folder / "GITHUB_ENV").read_text()
    assert "CONDA_PREFIX" in told
    assert "PYTHONPATH" not in told
    *_, first = (step.folder / "GITHUB_PATH").read_text().split()
    assert Path(first, "uv").samefile(result.outputs["uv-path"])
    assert "### uv" in result.summary


def test_a_bad_input_fails_the_step(job: dict[str, str]) -> None:
    """With the exit code of its class, and nothing is told to later steps."""
    step = begin(ACTION, {"activate-environment": "maybe"}, job)
    result = step.result(PATIENCE)
    assert result.exit_code == 2
    assert "activate-environment" in result.log
    assert (step.folder / "GITHUB_ENV").read_text() == ""
