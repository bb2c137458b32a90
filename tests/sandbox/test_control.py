"""Control over HTTP, as another process uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from gpu_ci_sandbox.fake_github.state import GitHub
    from gpu_ci_sandbox.stopped_clock import Clock

    Call = Callable[..., requests.Response]


def test_queue_a_job_and_read_the_state(github: GitHub, call: Call) -> None:
    """A job without a run gets one; state shows runners, runs and jobs with their log."""
    github.register("octo/widgets", "gpu-1", ["x"])
    sent = {"repository": "octo/widgets", "name": "test", "labels": ["gpu"], "script": "echo hi"}
    job = call("POST", "/_sandbox/jobs", json=sent)
    assert job.status_code == 201
    assert (job.json()["status"], job.json()["log"]) == ("queued", [])
    state = call("GET", "/_sandbox/state").json()
    assert [each["scope"] for each in state["runners"]] == ["octo/widgets"]
    assert [each["status"] for each in state["runs"]] == ["queued"]
    assert [each["id"] for each in state["jobs"]] == [job.json()["id"]]
    assert github.job(job.json()["id"]).script == "echo hi"


def test_change_runs_and_jobs(call: Call) -> None:
    """A hosted job can be begun and completed by hand, a run be made to contradict its jobs."""
    run = call("POST", "/_sandbox/runs", json={"repository": "octo/widgets", "name": "ci"}).json()
    job = call("POST", "/_sandbox/jobs", json={"run": run["id"], "labels": ["hosted"]}).json()
    address = f"/_sandbox/jobs/{job['id']}"
    assert call("PATCH", address, json={"status": "in_progress"}).json()["status"] == "in_progress"
    done = call("PATCH", address, json={"conclusion": "failure"}).json()
    assert (done["status"], done["conclusion"]) == ("completed", "failure")
    assert call("GET", address).json() == done
    changed = call("PATCH", f"/_sandbox/runs/{run['id']}", json={"status": "waiting"})
    assert changed.json()["status"] == "waiting"


def test_limits_and_reset(github: GitHub, call: Call) -> None:
    """Limits can be set; a reset forgets them with everything else but who may."""
    assert call("PUT", "/_sandbox/limits", json={"remaining": 0}).status_code == 204
    assert call("GET", "actions/runners").status_code == 403
    sent = {"secondary": {"retry_after": None}}
    assert call("PUT", "/_sandbox/limits", json=sent).status_code == 204
    assert "secondary" in call("GET", "actions/runners").text
    github.start_run("octo/widgets")
    assert call("POST", "/_sandbox/reset").status_code == 204
    assert call("GET", "/_sandbox/state").json()["runs"] == []
    assert call("GET", "actions/runners").status_code == 200


def test_what_control_refuses(call: Call, clock: Clock) -> None:
    """A misspelt request is refused, not ignored."""
    assert call("POST", "/_sandbox/jobs", json={"repository": "octo/none"}).status_code == 422
    assert call("POST", "/_sandbox/jobs", json={"run": 5}).status_code == 404
    assert call("GET", "/_sandbox/jobs/5").status_code == 404
    assert call("PATCH", "/_sandbox/runs/5", json={}).status_code == 404
    assert call("PUT", "/_sandbox/limits", json={"remainder": 5}).status_code == 422
    assert call("POST", "/_sandbox/runs", json={"repository": "x/y"}).status_code == 422


def test_control_is_neither_logged_nor_counted(github: GitHub, call: Call) -> None:
    """What tests do with it is no part of what they observe."""
    call("GET", "/_sandbox/state")
    assert call("GET", "/_sandbox/requests").json() == []
    assert github.counted_calls == 0
