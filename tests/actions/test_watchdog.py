"""The shipped watchdog beside a GPU job: it ends with the pick-up, or ends the run."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest
from tests.pace import assert_within, until

from gpu_ci.errors import NeverPickedUp
from gpu_ci.model.identity import Identity
from gpu_ci_sandbox.world import REPOSITORY

if TYPE_CHECKING:
    from gpu_ci_sandbox.action_step import Step
    from gpu_ci_sandbox.fake_github.records import Job
    from gpu_ci_sandbox.faults import Phase, Request
    from gpu_ci_sandbox.world import World


@pytest.fixture
def job(world: World) -> Job:
    """A GPU job that waits for a runner; the start is over, and the stop comes last."""
    github = world.served.github
    github.set_job(world.start_job, conclusion="success")
    github.set_job(world.stop_job, status="queued", runner_name=None, always=True)
    who = Identity(
        repository=REPOSITORY,
        run_id=str(world.run_id),
        attempt="1",
        key="start",
        scope=f"repos/{REPOSITORY}",
    )
    return github.queue_job(world.run_id, "train", [who.label(who.name(0), "0123abcd")])


def test_a_job_that_is_picked_up(world: World, job: Job) -> None:
    """The watch succeeds at once, with no right but actions: write, and cancels nothing
    (row 1.13)."""
    world.served.github.set_job(job.id, status="in_progress", runner_name="box")
    result = world.act("watchdog")
    assert result.exit_code == 0, result.log
    assert "Picked up: train on box." in result.log
    assert world.served.faults.calls("POST") == []
    assert (result.outputs["cancelled"], result.summary) == ("0", "")
    assert json.loads(result.outputs["report"])["findings"] == []


def test_a_job_that_nobody_takes(world: World, job: Job) -> None:
    """The reason is in the log and in the summary before the cancel is asked for, which ends the run
    but not its stop; the step fails with a code of its own (row 1.13, pain 2)."""
    told: list[str] = []

    def hook(_number: int, at: Phase, request: Request) -> None:
        if at == "before" and request.path.endswith("/cancel"):
            (step,) = world.steps
            told.extend([_log_of(step), (step.folder / "GITHUB_STEP_SUMMARY").read_text()])

    world.served.faults.on_request(hook)
    result = world.act("watchdog", queue_minutes="0.0001")
    assert result.exit_code == NeverPickedUp.exit_code, result.log
    log, summary = told
    assert "'train' has waited" in log
    assert "| run " in summary
    assert "'train' has waited" in summary
    (error,) = [line for line in result.log.splitlines() if line.startswith("::error::")]
    assert job.labels[0] in error
    assert "use 'Re-run all jobs'" in error
    assert result.outputs["cancelled"] == "1"
    assert world.served.github.job(job.id).conclusion == "cancelled"
    assert world.served.github.job(world.stop_job).status == "queued"


def _log_of(step: Step) -> str:
    """Return what a step has printed, as soon as that says why."""
    until(lambda: any("has waited" in line for line in step.lines), lambda: "\n".join(step.lines))
    return "\n".join(step.lines)


def test_a_watch_that_is_cancelled(world: World, job: Job) -> None:
    """A cancel reaches it (pain 7): it is gone within 7 s, and cancels nothing itself."""
    sent: list[float] = []

    def hook(_number: int, at: Phase, request: Request) -> None:
        if at == "after" and request.path.endswith("/jobs") and not sent:
            sent.append(time.monotonic())
            world.steps[0].process.send_signal(signal.SIGINT)

    world.served.faults.on_request(hook)
    result = world.act("watchdog")
    assert result.exit_code == 128 + signal.SIGINT, result.log
    assert_within(7.0, time.monotonic() - sent[0])
    assert world.served.faults.calls("POST") == []
    assert world.served.github.job(job.id).status == "queued"


def test_a_pass_without_any_right_but_to_cancel(world: World, job: Job) -> None:
    """The scheduled one ends the same run with the job's own token, and says what it cannot see."""
    result = world.act("watchdog", scope="repository", queue_minutes="0.0001")
    assert result.exit_code == 0, result.log
    assert result.outputs["cancelled"] == "1"
    assert "::notice::" in result.log
    assert "GITHUB_TOKEN never may" in result.log
    assert world.served.github.job(job.id).conclusion == "cancelled"
