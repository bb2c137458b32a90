"""How the offline world uses an action: in which job, with which inputs and whose rights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import requests

from gpu_ci_sandbox import world as module
from gpu_ci_sandbox.world import REPOSITORY, open_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gpu_ci_sandbox.world import World


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments of every step that would have been begun."""
    calls: list[tuple[Any, ...]] = []

    def begin(*given: Any) -> SimpleNamespace:
        calls.append(given)
        return SimpleNamespace(process=SimpleNamespace(poll=lambda: 0))

    monkeypatch.setattr(module, "begin", begin)
    return calls


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as made:
        yield made


def names(world: World) -> list[str]:
    return [job.name for job in world.served.github.all_jobs() if job.run_id == world.run_id]


def test_the_watchdog_has_a_job_of_its_own(world: World, begun: list[tuple[Any, ...]]) -> None:
    """The run has a third job from the first step of the watchdog on, and only one."""
    assert names(world) == ["start", "stop"]
    world.begin("watchdog", queue_minutes="1")
    world.begin("watchdog", scope="repository")
    assert names(world) == ["start", "stop", "watch"]
    job = world.served.github.job(world.watch_job)
    assert (job.status, job.runner_name) == ("in_progress", "Hosted Agent watch")
    folder, given, env, contexts, _ = begun[0]
    assert folder.name == "action-watchdog"
    assert given == {"queue-minutes": "1"}
    assert (env["GITHUB_JOB"], env["RUNNER_NAME"]) == ("watch", "Hosted Agent watch")
    assert contexts["job.check_run_id"] == str(job.id)
    world.next_run()
    assert names(world) == ["start", "stop"]
    world.begin("watchdog")
    assert names(world) == ["start", "stop", "watch"]


def test_the_job_token_may_cancel(world: World) -> None:
    """What a watchdog with `actions: write` needs, the job's own token can do; no more."""
    actions = f"{world.served.url}/repos/{REPOSITORY}/actions"
    headers = {"Authorization": f"Bearer {world.run_token}"}
    cancel = requests.post(f"{actions}/runs/{world.run_id}/cancel", headers=headers, timeout=10)
    assert cancel.status_code == 202
    assert requests.get(f"{actions}/runners", headers=headers, timeout=10).status_code == 403


def test_the_attempt_is_the_runs(world: World) -> None:
    """A step of a re-run is told the new attempt."""
    assert world.env("start")["GITHUB_RUN_ATTEMPT"] == "1"
    world.served.github.set_run(world.run_id, attempt=2)
    assert world.env("start")["GITHUB_RUN_ATTEMPT"] == "2"
