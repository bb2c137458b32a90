"""The watch in a run: it ends when the GPU job has a runner, or ends the run when none comes."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import requests
from tests.e2e.conftest import BOX, Box, Plain, Stories, made_by
from tests.pace import PATIENCE, assert_within

from gpu_ci.errors import NeverPickedUp
from gpu_ci_sandbox.faults import answer
from gpu_ci_sandbox.world import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpu_ci_sandbox.fake_github.records import Job
    from gpu_ci_sandbox.faults import Phase, Request, Rule

LONG_AGO = 3600.0
PICKED_UP = {"status": "in_progress", "runner_name": "box"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """What becomes of the GPU job when the watch has read the jobs so often (`looks`), and what of
    the watch: its exit code, how often it asks for the cancel, and the GPU job's conclusion.

    The job was queued `ago` seconds ago, and may wait for `minutes`.
    """

    minutes: str = "15"
    ago: float = 0.0
    looks: int = 0
    then: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int = 0
    cancels: int = 0
    conclusion: str | None = None
    faults: tuple[Rule, ...] = ()
    told: str = ""


STUCK = NeverPickedUp.exit_code
CASES = {
    "picked up already": Case(then=PICKED_UP, told="Picked up: train on box."),
    "picked up while it is watched": Case(looks=3, then=PICKED_UP),
    "picked up at the last moment": Case(ago=LONG_AGO, looks=1, then=PICKED_UP),
    "over before it was seen": Case(then={"conclusion": "failure"}, conclusion="failure"),
    "the run ends meanwhile": Case(
        looks=2, then={"conclusion": "cancelled"}, conclusion="cancelled"
    ),
    "no runner comes": Case(
        minutes="0.01",
        exit_code=STUCK,
        cancels=1,
        conclusion="cancelled",
        told="No runner has that label.",
    ),
    "GitHub breaks for a moment": Case(
        looks=3,
        then=PICKED_UP,
        faults=(answer(502, "", path="/jobs", nth=2, times=1),),
    ),
    "the cancel is refused": Case(
        ago=LONG_AGO,
        exit_code=STUCK,
        cancels=2,  # with the job's own token, then with the other one
        faults=(answer(403, {"message": "No"}, path="/cancel$", times=None),),
        told="could not be cancelled, and keeps waiting",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_watch(plain: Plain, name: str) -> None:
    """It cancels only its own run, once, and only when its job is still without a runner; what runs
    always goes on, so that stop gives the machine back (row 1.13, pain 2)."""
    case, job, others = CASES[name], _waits(plain, CASES[name].ago), _another_run(plain)
    github = plain.world.served.github
    plain.world.served.faults.add(*case.faults)
    _after_looks(plain, case.looks, lambda: github.set_job(job.id, **case.then))
    asked = _asked_to_cancel(plain)
    assert plain.run("watchdog", queue_minutes=case.minutes) == case.exit_code, plain.told()
    assert case.told in plain.told()
    assert github.job(job.id).conclusion == case.conclusion
    assert asked == [plain.world.run_id] * case.cancels
    assert plain.output("cancelled") == str(
        int(case.conclusion == "cancelled" and case.cancels == 1)
    )
    assert github.job(plain.world.stop_job).status == "queued"
    assert github.job(others.id).status == "queued"


def _waits(stories: Stories, ago: float = LONG_AGO) -> Job:
    """Have the run's start end, its GPU job wait, and its stop come after that whatever happens."""
    stories.start_job_is_over()
    world, github = stories.world, stories.world.served.github
    github.set_job(world.stop_job, status="queued", runner_name=None, always=True)
    job = github.queue_job(world.run_id, "train", [made_by(world.run_id, "start").label])
    return _queued(stories, job, ago)


def _queued(stories: Stories, job: Job, ago: float) -> Job:
    """Have the job wait since so many seconds ago, when its run's attempt had begun."""
    github, since = stories.world.served.github, time.time() - ago
    github.set_run(job.run_id, created_at=since, started_at=since)
    return github.set_job(job.id, created_at=since, started_at=since)


def _another_run(stories: Stories) -> Job:
    """Return a job that waits in another run."""
    github = stories.world.served.github
    run = github.start_run(REPOSITORY)
    return github.queue_job(run, "train", [made_by(run.id, "start").label])


def _after_looks(stories: Stories, looks: int, act: Callable[[], object]) -> None:
    """Act when the run's jobs have been read so often."""
    seen: list[int] = []

    def hook(number: int, at: Phase, request: Request) -> None:
        if at == "after" and request.path.endswith("/jobs"):
            seen.append(number)
            if len(seen) == looks:
                act()

    stories.world.served.faults.on_request(hook)
    if not looks:
        act()


def _asked_to_cancel(stories: Stories) -> list[int]:
    """Return a list that will hold the runs whose cancel is asked for."""
    asked: list[int] = []

    def hook(_number: int, at: Phase, request: Request) -> None:
        if at == "before" and request.path.endswith("cancel"):
            asked.append(int(request.path.split("/")[-2]))

    stories.world.served.faults.on_request(hook)
    return asked


def test_the_words_come_first(plain: Plain) -> None:
    """The cancel ends the watch's own job too, so the reason is in the log and in the summary before
    it is asked for, and a signal that it brings changes nothing (row 1.13)."""
    job, told = _waits(plain), list[str]()

    def hook(_number: int, at: Phase, request: Request) -> None:
        if at == "before" and request.path.endswith("/cancel"):
            told.extend([plain.told(), plain.summary()])
        elif at == "after" and request.path.endswith("/cancel"):
            plain.kill(signal.SIGINT)

    plain.world.served.faults.on_request(hook)
    assert plain.run("watchdog") == STUCK, plain.told()
    log, summary = told
    label = "-".join(job.labels)
    assert all("'train' has waited" in text.replace("\\", "") for text in told)
    assert label in log
    assert label in summary.replace("\\", "")
    assert "use 'Re-run all jobs'" in plain.told()


def test_a_run_that_is_over_as_it_is_cancelled(plain: Plain) -> None:
    """GitHub says 409 of a run that is over, and that is no trouble (row 1.13, pain 5)."""
    _waits(plain)
    run_id, github = plain.world.run_id, plain.world.served.github

    def hook(_number: int, at: Phase, request: Request) -> None:
        if at == "before" and request.path.endswith("/cancel"):
            github.set_run(run_id, status="completed", conclusion="cancelled")

    plain.world.served.faults.on_request(hook)
    assert plain.run("watchdog") == STUCK, plain.told()
    assert [request.status for request in plain.world.served.faults.calls("POST")] == [409]
    assert "could not be cancelled" not in plain.told()


def test_failed_jobs_that_run_again(plain: Plain) -> None:
    """The start is not run again with them, so the label is of a machine that is gone: that is known
    at once, and said (pain 6)."""
    job = _waits(plain)
    github = plain.world.served.github
    for each in (job.id, plain.world.stop_job):
        github.set_job(each, conclusion="failure" if each == job.id else "success")
    url = f"{plain.world.served.url}/repos/{REPOSITORY}/actions/runs/{plain.world.run_id}"
    headers = {"Authorization": f"Bearer {plain.world.token}"}
    requests.post(f"{url}/rerun-failed-jobs", headers=headers, timeout=PATIENCE).raise_for_status()
    # An hour: a watch that waited for the job would not end in this test's time.
    assert plain.run("watchdog", queue_minutes="60") == STUCK, plain.told()
    assert "which was attempt 1's" in plain.told()
    assert "use 'Re-run all jobs'" in plain.told()
    assert github.run_status(plain.world.run_id)[1] == "cancelled"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_watch_that_is_cancelled(plain: Plain, signum: signal.Signals) -> None:
    """It ends at once and cancels nothing."""
    job, asked = _waits(plain, ago=0), _asked_to_cancel(plain)
    sent: list[float] = []

    def cancel() -> None:
        sent.append(time.monotonic())
        plain.kill(signum)

    _after_looks(plain, 2, cancel)
    assert plain.run("watchdog") == 128 + signum, plain.told()
    assert_within(2.0, time.monotonic() - sent[0])
    assert asked == []
    assert plain.world.served.github.job(job.id).status == "queued"


# --- with a machine --------------------------------------------------------------------------------


def _exits(box: Box) -> None:
    (runner,) = box.world.served.github.all_runners()
    box.world.served.github.set_runner(runner.id, online=False)


def _hangs(box: Box) -> None:
    """The process listens on, but GitHub has dropped its registration."""
    with box.world.served.github.turn():
        box.world.served.github.runners.remove(box.world.served.github.runners.all()[0].id)


# What becomes of the runner whose start has seen it online.
LISTENERS = {"exits": _exits, "hangs without its registration": _hangs}
NAMES = {"fresh": "", "kept": BOX}


@pytest.mark.parametrize("ends_by", ["stop", "pass"])
@pytest.mark.parametrize("machine", NAMES)
@pytest.mark.parametrize("listener", LISTENERS)
def test_a_listener_that_takes_no_job(box: Box, listener: str, machine: str, ends_by: str) -> None:
    """It was online when start ended, and its job is queued for ever (pain 21): the watch ends the
    run and fails, and stop or, where that died too, a pass ends the machine."""
    name, machine_type = NAMES[machine], {} if NAMES[machine] else {"machine": "L4"}
    assert box.run("start", machine_name=name, **machine_type) == 0, box.told()
    box.start_job_is_over()
    github, label = box.world.served.github, box.output("label")
    job = _queued(box, github.queue_job(box.world.run_id, "train", [label]), LONG_AGO)
    LISTENERS[listener](box)
    assert box.run("watchdog") == STUCK, box.told()
    (found,) = json.loads(box.output("report"))["findings"]
    assert label in found["why"]
    assert github.job(job.id).conclusion == "cancelled"
    box.watches_are_over()
    if ends_by == "pass":
        box.world.end_run()
    code = box.sweep() if ends_by == "pass" else box.run("stop", machine_name=name)
    assert code == 0, box.told()
    assert (box.machine_names(), box.world.runner_names()) == (set(), []), box.told()
