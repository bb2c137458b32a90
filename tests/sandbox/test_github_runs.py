"""Run and job endpoints of the stand-in for GitHub: statuses, cancelling, attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpu_ci_sandbox.fake_github.openapi import assert_valid_requests
from gpu_ci_sandbox.faults import answer

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from gpu_ci_sandbox.fake_github.records import Run
    from gpu_ci_sandbox.fake_github.rest import ServedGitHub
    from gpu_ci_sandbox.fake_github.state import GitHub
    from gpu_ci_sandbox.stopped_clock import Clock

    Call = Callable[..., requests.Response]


@pytest.fixture
def run(github: GitHub) -> Run:
    return github.start_run("octo/widgets", name="ci")


def test_queued_job(run: Run, github: GitHub, call: Call) -> None:
    """A queued job has a creation time, nobody who runs it, and no steps."""
    job = github.queue_job(run, "test", ["gpu"])
    shown = call("GET", f"actions/jobs/{job.id}").json()
    assert (shown["status"], shown["conclusion"], shown["runner_id"]) == ("queued", None, None)
    assert shown["created_at"] == shown["started_at"] == "2026-11-20T00:00:00Z"
    assert shown["labels"] == ["gpu"]
    assert shown["steps"] == []
    assert call("GET", "actions/jobs/1").status_code == 404


def test_run_follows_its_least_advanced_job(run: Run, github: GitHub, call: Call) -> None:
    """One job that waits makes a run look queued although another is running."""
    first, second = (github.queue_job(run, name, ["hosted"]) for name in ("a", "b"))
    address = f"actions/runs/{run.id}"
    github.set_job(first.id, status="in_progress")
    assert call("GET", address).json()["status"] == "queued"
    github.set_job(second.id, status="in_progress")
    assert call("GET", address).json()["status"] == "in_progress"
    github.set_job(first.id, conclusion="success")
    github.set_job(second.id, conclusion="failure")
    shown = call("GET", address).json()
    assert (shown["status"], shown["conclusion"]) == ("completed", "failure")


def test_a_run_waits_with_its_jobs(run: Run, github: GitHub) -> None:
    """A job that waits for approval or for its concurrency group makes the run show that."""
    held = github.queue_job(run, "deploy", ["gpu"], status="waiting")
    assert github.run_status(run.id) == ("waiting", None)
    other = github.queue_job(run, "lint", ["hosted"])
    github.set_job(other.id, status="in_progress")
    assert github.run_status(run.id) == ("waiting", None)
    github.set_job(held.id, status="pending")
    assert github.run_status(run.id) == ("pending", None)
    github.set_job(other.id, conclusion="success")
    github.set_job(held.id, conclusion="success")
    assert github.run_status(run.id) == ("completed", "success")


def test_a_run_in_progress_with_a_queued_job(run: Run, github: GitHub, call: Call) -> None:
    """The other behaviour that is reported can be had, and taken back (pain 4)."""
    start, test = (github.queue_job(run, name, ["x"]) for name in ("start", "test"))
    github.set_quirks(run_status="begun")
    assert github.run_status(run.id) == ("queued", None)
    github.set_job(start.id, status="in_progress")
    assert github.run_status(run.id) == ("in_progress", None)
    github.set_job(start.id, conclusion="success")
    listed = call("GET", "actions/runs", params={"status": "in_progress"}).json()
    assert [each["id"] for each in listed["workflow_runs"]] == [run.id]
    assert call("GET", f"actions/jobs/{test.id}").json()["status"] == "queued"
    github.set_quirks(run_status="least-advanced")
    assert call("GET", "actions/runs", params={"status": "in_progress"}).json()["total_count"] == 0
    assert github.run_status(run.id) == ("queued", None)


def test_approval_puts_a_job_in_the_queue(run: Run, github: GitHub, clock: Clock) -> None:
    """Its time in the queue begins when the approval is given; when it was made stays."""
    held = github.queue_job(run, "deploy", ["gpu"], status="waiting")
    clock.advance(86400 * 2)
    runner = github.register("octo/widgets", "gpu-1", ["gpu"], online=True, session="open")
    assert github.job(held.id).runner_id is None
    approved = github.set_job(held.id, status="queued")
    assert (approved.created_at, approved.started_at) == (held.created_at, clock())
    assert github.job(held.id).runner_id == runner.id
    assert github.job(held.id).status == "queued"


def test_set_run_outranks_the_jobs(run: Run, github: GitHub, call: Call) -> None:
    """A run can be made to contradict its jobs (a job queued in a dead run, pain 4)."""
    github.queue_job(run, "a", ["gpu"])
    github.set_run(run.id, status="completed", conclusion="startup_failure")
    shown = call("GET", f"actions/runs/{run.id}").json()
    assert (shown["status"], shown["conclusion"]) == ("completed", "startup_failure")


def test_cancel_spares_always_jobs_and_force_cancel_does_not(
    run: Run, github: GitHub, call: Call
) -> None:
    """A plain cancel lets `if: always()` jobs go on; force-cancel ends them (pain 5)."""
    test = github.queue_job(run, "test", ["gpu"])
    stop = github.queue_job(run, "stop", ["hosted"], always=True)
    assert call("POST", f"actions/runs/{run.id}/cancel").status_code == 202
    assert github.job(test.id).conclusion == "cancelled"
    assert github.job(stop.id).status == "queued"
    assert call("POST", f"actions/runs/{run.id}/force-cancel").status_code == 202
    assert github.job(stop.id).conclusion == "cancelled"
    refused = call("POST", f"actions/runs/{run.id}/cancel")
    assert refused.status_code == 409
    expected = "Cannot cancel a workflow run that is completed."
    assert refused.json()["message"] == expected


NOT_QUEUED = "Cannot cancel a workflow re-run that has not yet queued."


def test_a_cancel_that_does_nothing(
    run: Run, hub: ServedGitHub, github: GitHub, call: Call
) -> None:
    """Faults make a plain cancel be accepted and ignored, and force-cancel fail twice (pain 5)."""
    job = github.queue_job(run, "test", ["gpu"])
    address = f"actions/runs/{run.id}"
    hub.faults.add(
        answer(202, {}, method="POST", path=f"/{run.id}/cancel$", times=None),
        answer(500, {"message": "Server Error"}, method="POST", path="/force-cancel$", times=2),
    )
    assert call("POST", f"{address}/cancel").status_code == 202
    assert github.job(job.id).status == "queued"
    forced = [call("POST", f"{address}/force-cancel").status_code for _ in range(3)]
    assert forced == [500, 500, 202]
    assert github.run_status(run.id) == ("completed", "cancelled")


def test_a_cancel_that_comes_too_early(
    run: Run, hub: ServedGitHub, github: GitHub, call: Call
) -> None:
    """A fault refuses to cancel a re-run that is not queued yet, until it is (pain 5)."""
    github.queue_job(run, "test", ["gpu"])
    hub.faults.add(answer(409, {"message": NOT_QUEUED}, method="POST", path="/cancel$", times=2))
    refused = [call("POST", f"actions/runs/{run.id}/cancel") for _ in range(3)]
    assert [each.status_code for each in refused] == [409, 409, 202]
    assert refused[0].json()["message"] == NOT_QUEUED
    assert github.run_status(run.id) == ("completed", "cancelled")


def test_rerun_failed_jobs(run: Run, github: GitHub, call: Call, clock: Clock) -> None:
    """The next attempt has new job ids and times; the run's creation time stays (pain 4)."""
    good, bad = (github.queue_job(run, name, ["gpu"]) for name in ("good", "bad"))
    assert call("POST", f"actions/runs/{run.id}/rerun-failed-jobs").status_code == 403
    github.set_job(good.id, conclusion="success")
    github.set_job(bad.id, conclusion="failure")
    clock.advance(3600)
    assert call("POST", f"actions/runs/{run.id}/rerun-failed-jobs").status_code == 201
    shown = call("GET", f"actions/runs/{run.id}").json()
    assert (shown["run_attempt"], shown["status"]) == (2, "queued")
    assert shown["created_at"] == "2026-11-20T00:00:00Z"
    assert shown["run_started_at"] == "2026-11-20T01:00:00Z"
    jobs = call("GET", f"actions/runs/{run.id}/jobs").json()["jobs"]
    assert {job["name"]: job["status"] for job in jobs} == {"good": "completed", "bad": "queued"}
    assert not {job["id"] for job in jobs} & {good.id, bad.id}
    assert {job["run_attempt"] for job in jobs} == {2}


def test_a_job_that_was_not_run_again(run: Run, github: GitHub, call: Call, clock: Clock) -> None:
    """It is in the new attempt with its old times; the attempt shown can be its own (pain 6)."""
    good, bad = (github.queue_job(run, name, ["gpu"]) for name in ("good", "bad"))
    github.set_job(good.id, status="in_progress")
    github.set_job(good.id, conclusion="success")
    github.set_job(bad.id, conclusion="failure")
    clock.advance(3600)
    github.set_quirks(carried_attempt="own")
    assert call("POST", f"actions/runs/{run.id}/rerun-failed-jobs").status_code == 201
    carried, again = call("GET", f"actions/runs/{run.id}/attempts/2/jobs").json()["jobs"]
    assert (carried["run_attempt"], again["run_attempt"]) == (1, 2)
    assert carried["completed_at"] == "2026-11-20T00:00:00Z"
    github.set_job(again["id"], conclusion="failure")
    assert call("POST", f"actions/runs/{run.id}/rerun-failed-jobs").status_code == 201
    third = call("GET", f"actions/runs/{run.id}/attempts/3/jobs").json()["jobs"]
    assert [job["run_attempt"] for job in third] == [1, 3]


def test_attempts(run: Run, github: GitHub, call: Call) -> None:
    """Each attempt keeps its jobs; `filter=all` has those of all."""
    old = github.queue_job(run, "test", ["gpu"])
    github.set_job(old.id, conclusion="success")
    assert call("POST", f"actions/runs/{run.id}/rerun").status_code == 201
    address = f"actions/runs/{run.id}"
    first = call("GET", f"{address}/attempts/1/jobs").json()["jobs"]
    assert [job["id"] for job in first] == [old.id]
    assert call("GET", f"{address}/jobs", params={"filter": "all"}).json()["total_count"] == 2
    assert call("GET", f"{address}/jobs").json()["total_count"] == 1
    assert call("GET", f"{address}/attempts/1").json()["conclusion"] == "success"
    assert call("GET", f"{address}/attempts/2").json()["status"] == "queued"
    assert call("GET", f"{address}/attempts/3/jobs").status_code == 404


def test_rerun_of_one_job(run: Run, github: GitHub, call: Call) -> None:
    """Only that job is queued again."""
    jobs = [github.queue_job(run, name, ["gpu"]) for name in ("a", "b")]
    for job in jobs:
        github.set_job(job.id, conclusion="success")
    assert call("POST", f"actions/jobs/{jobs[1].id}/rerun").status_code == 201
    latest = call("GET", f"actions/runs/{run.id}/jobs").json()["jobs"]
    assert [(job["name"], job["status"]) for job in latest] == [("a", "completed"), ("b", "queued")]


def test_delete_only_when_completed(run: Run, github: GitHub, call: Call) -> None:
    """A run that is not completed stays."""
    job = github.queue_job(run, "test", ["gpu"])
    assert call("DELETE", f"actions/runs/{run.id}").status_code == 403
    github.set_job(job.id, conclusion="success")
    assert call("DELETE", f"actions/runs/{run.id}").status_code == 204
    assert call("GET", f"actions/runs/{run.id}").status_code == 404


def test_list_runs_with_filters(github: GitHub, call: Call, clock: Clock) -> None:
    """Newest first; each filter leaves the runs that it is for."""
    done = github.start_run("octo/widgets", branch="main")
    github.set_job(github.queue_job(done, "a", ["x"]).id, conclusion="failure")
    clock.advance(60)
    late = github.start_run("octo/widgets", branch="topic", event="pull_request")
    every = call("GET", "actions/runs").json()
    assert [run["id"] for run in every["workflow_runs"]] == [late.id, done.id]

    def listed(**params: str) -> list[int]:
        found = call("GET", "actions/runs", params=params).json()
        return [run["id"] for run in found["workflow_runs"]]

    assert listed(status="failure") == listed(status="completed") == [done.id]
    assert listed(status="queued") == listed(branch="topic") == [late.id]
    assert listed(event="push") == [done.id]
    assert listed(created=">2026-11-20T00:00:00Z") == [late.id]
    assert listed(created="<=2026-11-20T00:00:00Z") == [done.id]
    assert listed(created="2026-11-19..2026-11-20T00:00:30Z") == [done.id]
    assert listed(created="2026-11-20") == [late.id, done.id]


@pytest.mark.parametrize(
    ("created", "listed"),
    [
        (">=2026-11-20T10:00:00Z", "bcd"),
        (">2026-11-20T10:00:00Z", "cd"),
        ("<=2026-11-20T10:00:00Z", "ab"),
        ("<2026-11-20T10:00:00Z", "a"),
        ("2026-11-20T10:00:00Z", "b"),
        ("2026-11-20T10:00:00Z..2026-11-20T10:00:01Z", "bc"),
        ("2026-11-20T10:00:01Z..*", "cd"),
        ("*..2026-11-20T10:00:00Z", "ab"),
        ("2026-11-20T12:00:00+02:00", "b"),
        ("2026-11-20", "abc"),
        (">2026-11-20", "d"),
        (">=2026-11-20", "abcd"),
        ("<=2026-11-20", "abc"),
        ("<2026-11-20", ""),
        ("2026-11-20..2026-11-21", "abcd"),
        ("2026-11-21..*", "d"),
    ],
)
def test_created(created: str, listed: str, github: GitHub, call: Call, clock: Clock) -> None:
    """A time stands for its second and a day for all of it, wherever a bound is put."""
    midnight = clock()
    for name, seconds in {"a": 0, "b": 36000.7, "c": 36001, "d": 86400}.items():
        github.start_run("octo/widgets", name=name, created_at=midnight + seconds)
    found = call("GET", "actions/runs", params={"created": created}).json()["workflow_runs"]
    assert "".join(sorted(run["name"] for run in found)) == listed


def test_created_that_is_no_date(run: Run, call: Call) -> None:
    """A misspelt bound is refused rather than passing over every run."""
    refused = call("GET", "actions/runs", params={"created": f">={run.id}"})
    assert refused.status_code == 422
    assert str(run.id) in refused.json()["message"]


@pytest.fixture
def nightly(github: GitHub) -> Run:
    """A run of another workflow than `run`."""
    return github.start_run("octo/widgets", path=".github/workflows/nightly.yml", event="schedule")


def test_runs_of_one_workflow(
    run: Run, nightly: Run, github: GitHub, hub: ServedGitHub, call: Call
) -> None:
    """By its file's name or its id, with the same filters, pages and ETags as all runs."""
    listing = "actions/workflows/nightly.yml/runs"
    found = call("GET", listing)
    assert [each["id"] for each in found.json()["workflow_runs"]] == [nightly.id]
    number = found.json()["workflow_runs"][0]["workflow_id"]
    assert call("GET", f"actions/workflows/{number}/runs").json() == found.json()
    assert call("GET", listing, params={"status": "completed"}).json()["total_count"] == 0
    assert call("GET", listing, params={"event": "schedule"}).json()["total_count"] == 1
    again = call("GET", listing, headers={"If-None-Match": found.headers["ETag"]})
    assert again.status_code == 304
    job = github.queue_job(nightly, "test", ["gpu"])
    github.set_job(job.id, conclusion="success")
    again = call("GET", listing, headers={"If-None-Match": found.headers["ETag"]})
    assert again.json()["workflow_runs"][0]["conclusion"] == "success"
    assert call("GET", "actions/workflows/other.yml/runs").status_code == 404
    assert_valid_requests(hub.faults.requests)


def test_a_job_nobody_takes_fails_after_a_day(run: Run, github: GitHub, clock: Clock) -> None:
    """The queue's own limit is a day (no runner will ever come, pain 2)."""
    job = github.queue_job(run, "test", ["gpu"])
    clock.advance(86399)
    assert github.job(job.id).status == "queued"
    clock.advance(1)
    assert github.job(job.id).conclusion == "failure"


def test_the_day_begins_when_a_wait_is_over(run: Run, github: GitHub, clock: Clock) -> None:
    """A job that went back to waiting has a whole day in the queue before it again."""
    job = github.queue_job(run, "test", ["gpu"])
    github.set_job(job.id, status="pending")
    clock.advance(100)
    github.set_job(job.id, status="queued")
    clock.advance(86399)
    assert github.job(job.id).status == "queued"
    clock.advance(1)
    assert github.job(job.id).conclusion == "failure"


def test_one_job_at_a_time(run: Run, github: GitHub) -> None:
    """Of two jobs that fit a runner the older one gets it, the other waits until it is free."""
    older, newer = (github.queue_job(run, name, ["gpu"]) for name in ("a", "b"))
    runner = github.register("octo/widgets", "gpu-1", ["gpu"], jit=False)
    github.set_runner(runner.id, online=True, session="open")
    assert github.job(older.id).runner_id == runner.id
    assert github.job(newer.id).runner_id is None
    with github.turn():
        github.finish(github.job(older.id), "success")
    assert github.job(newer.id).runner_id == runner.id


def test_job_not_begun_in_a_minute_is_queued_again(
    run: Run, github: GitHub, call: Call, clock: Clock
) -> None:
    """A runner that takes a job and does nothing loses it; it shows as queued meanwhile."""
    runner = github.register("octo/widgets", "gpu-1", ["GPU"], online=True, session="open")
    job = github.queue_job(run, "test", ["gpu"])
    assert github.job(job.id).runner_id == runner.id
    assert call("GET", f"actions/jobs/{job.id}").json()["status"] == "queued"
    assert call("GET", f"actions/jobs/{job.id}").json()["runner_id"] is None
    clock.advance(60)
    assert github.job(job.id).runner_id is None
    assert not github.all_runners()[0].busy


def test_labels_decide_who_gets_the_job(run: Run, github: GitHub) -> None:
    """All labels of the job must be the runner's; nothing is implied."""
    github.register("octo/widgets", "gpu-1", ["gpu-ci-1"], online=True, session="open")
    unfit = github.queue_job(run, "test", ["self-hosted", "gpu-ci-1"])
    assert github.job(unfit.id).runner_id is None
    fit = github.queue_job(run, "test", ["gpu-ci-1"])
    assert github.job(fit.id).runner_name == "gpu-1"


def test_organisation_runner_serves_what_its_group_may(github: GitHub) -> None:
    """A public repository gets no runner of a group that does not allow it (pain 47)."""
    github.add_repository("octo/public", private=False)
    open_group = github.add_group("octo", "open", allows_public_repositories=True)
    github.register("octo", "closed-1", ["gpu"], online=True, session="open")
    job = github.queue_job(github.start_run("octo/public"), "test", ["gpu"])
    assert github.job(job.id).runner_id is None
    with github.turn():
        github.runners.register("octo", "open-1", ["gpu"], group_id=open_group.id)
        made = github.runners.named("octo", "open-1")
        assert made
        github.runners.connect(made, "2.336.0")
    assert github.job(job.id).runner_name == "open-1"
