"""The stand-in for GitHub with ten thousand runs: as quick, and as right, as with ten."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from gpu_ci_sandbox.fake_github.records import Run
    from gpu_ci_sandbox.fake_github.state import GitHub
    from gpu_ci_sandbox.stopped_clock import Clock

    Call = Callable[..., requests.Response]

OVER = 9_000
ACTIVE = 1_000


@pytest.fixture
def active(github: GitHub) -> list[Run]:
    """Nine thousand runs that are over, then a thousand with a job that nobody takes."""
    jobs = {"start": ["ubuntu-latest"], "test": ["gpu-ci-1"]}
    github.start_runs("octo/widgets", OVER, jobs, {"conclusion": "success"})
    return github.start_runs("octo/widgets", ACTIVE, jobs, event="schedule")


def test_ten_thousand_runs(github: GitHub, call: Call) -> None:
    """They are made in two seconds, and what is asked of them costs milliseconds each."""
    jobs = {"start": ["ubuntu-latest"], "test": ["gpu-ci-1"]}
    begun = time.process_time()
    github.start_runs("octo/widgets", OVER, jobs, {"conclusion": "success"})
    active = github.start_runs("octo/widgets", ACTIVE, jobs)
    made = time.process_time()
    assert made - begun < 2
    for run in active[:100]:
        assert call("GET", f"actions/runs/{run.id}/attempts/1/jobs").json()["total_count"] == 2
        call("GET", "actions/runs", params={"status": "waiting"})
    # Client and server together; walking all jobs in each turn took ten times as long.
    assert time.process_time() - made < 2


def test_statuses_among_many(active: list[Run], github: GitHub, call: Call) -> None:
    """A filter finds exactly the runs that show it now, newest first, a thousand at most."""

    def listed(**params: str | int) -> tuple[int, list[int]]:
        found = call("GET", "actions/runs", params={"per_page": 2, **params}).json()
        return found["total_count"], [run["id"] for run in found["workflow_runs"]]

    last, before = active[-1].id, active[-2].id
    assert listed() == (OVER + ACTIVE, [last, before])
    assert listed(status="queued") == (ACTIVE, [last, before])
    assert listed(status="success")[0] == listed(status="completed")[0] == 1000
    assert call("POST", f"actions/runs/{last}/cancel").status_code == 202
    assert listed(status="queued") == (ACTIVE - 1, [before, before - 1])
    assert listed(status="cancelled") == (1, [last])
    assert call("POST", f"actions/runs/{last}/rerun").status_code == 201
    assert listed(status="cancelled") == (0, [])
    assert listed(status="queued", event="schedule", page=2)[1] == [active[-3].id, active[-4].id]


def test_numbers_count_on(active: list[Run], github: GitHub, call: Call) -> None:
    """A run's number is the next of its repository, also when others were deleted."""
    github.add_repository("octo/gadgets")
    assert active[-1].number == OVER + ACTIVE
    github.set_run(active[0].id, status="completed")
    assert call("DELETE", f"actions/runs/{active[0].id}").status_code == 204
    assert github.start_run("octo/widgets").number == OVER + ACTIVE + 1
    assert github.start_run("octo/gadgets").number == 1


def test_the_oldest_job_goes_first(active: list[Run], github: GitHub, clock: Clock) -> None:
    """A runner gets the oldest job that it fits, also one that another runner had not begun."""
    slow = github.register("octo/widgets", "slow", ["gpu-ci-1"], online=True, session="open")
    first = github.all_jobs()[2 * OVER + 1]
    assert (first.name, first.run_id) == ("test", active[0].id)
    assert github.job(first.id).runner_id == slow.id
    github.register("octo/widgets", "other", ["other"], online=True, session="open")
    clock.advance(60)
    quick = github.register("octo/widgets", "quick", ["gpu-ci-1"], online=True, session="open")
    assert github.job(first.id).runner_id == quick.id


def test_all_time_out_together(active: list[Run], github: GitHub, clock: Clock) -> None:
    """Every job that nobody took fails at the end of its day, or at that of a shorter limit."""
    github.lifetimes = replace(github.lifetimes, queued=600)
    held = github.queue_job(active[0], "deploy", ["gpu"], status="waiting")
    clock.advance(599)
    late = github.start_run("octo/widgets")
    github.queue_job(late, "test", ["gpu-ci-1"])
    clock.advance(1)
    assert github.run_status(active[1].id) == ("completed", "failure")
    assert github.run_status(active[-1].id) == ("completed", "failure")
    assert github.run_status(late.id) == ("queued", None)
    github.lifetimes = replace(github.lifetimes, queued=1)
    assert github.run_status(late.id) == ("completed", "failure")
    assert github.job(held.id).status == "waiting"


def test_a_deleted_run_is_forgotten(active: list[Run], github: GitHub, clock: Clock) -> None:
    """What would have become due for its jobs is no concern of anybody."""
    with github.turn():
        github.runs.delete(active[0])
    clock.advance(86400)
    assert len(github.all_jobs()) == 2 * (OVER + ACTIVE - 1)
    assert github.run_status(active[1].id) == ("completed", "failure")
