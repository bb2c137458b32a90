"""Control of the stand-in for GitHub by other processes, under `/_sandbox/`.

    GET   state              runners, runs and jobs with their logs
    POST  runs               {"repository", …}: a run without jobs
    PATCH runs/<id>          {"status", "conclusion", …}: contradict what follows from its jobs
    POST  jobs               {"repository" or "run", "name", "labels", "script", "env", "always",
                             "status": "waiting" or "pending"}
    GET   jobs/<id>          one job with its log
    PATCH jobs/<id>          {"status", "conclusion", …}: as if a runner elsewhere had done it
    PUT   limits             {"remaining", "reset_in", "token", "status"} or {"secondary": {…}}
    POST  reset              forget runners, runs, jobs and limits

The fault layer in front adds `/_sandbox/faults` and `/_sandbox/requests`.
"""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Blueprint, jsonify

from gpu_ci_sandbox.fake_github import shapes
from gpu_ci_sandbox.fake_github.access import body, github, invalid, not_found, root

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Response
    from flask.typing import ResponseReturnValue

    from gpu_ci_sandbox.fake_github.records import Job, Run, Runner

control = Blueprint("control", __name__, url_prefix="/_sandbox")

RUN_FIELDS = {"name", "event", "branch", "sha", "path", "actor", "status", "conclusion"}
JOB_FIELDS = {
    "status", "conclusion", "runner_id", "runner_name", "group_name", "created_at", "started_at",
}  # fmt: skip


@control.get("/state")
def state() -> Response:
    held = github()
    return jsonify(
        {
            "runners": [_runner(each) for each in held.runners.all()],
            "runs": [_run(each) for each in held.runs.all()],
            "jobs": [_job(each) for each in held.runs.jobs()],
            "counted_calls": held.counted_calls,
        }
    )


@control.post("/runs")
def start_run() -> ResponseReturnValue:
    sent = body()
    repository = _repository(sent)
    made = github().start_run(repository, sent.get("id"), **_fields(sent, RUN_FIELDS))
    return _run(made), HTTPStatus.CREATED


@control.patch("/runs/<int:run_id>")
def change_run(run_id: int) -> ResponseReturnValue:
    if github().runs.get(run_id) is None:
        raise not_found()
    return _run(github().set_run(run_id, **_fields(body(), RUN_FIELDS)))


@control.post("/jobs")
def queue_job() -> ResponseReturnValue:
    """In the run that is named, else in a new one of the repository."""
    sent = body()
    run = sent.get("run") or github().start_run(_repository(sent)).id
    if github().runs.get(run) is None:
        raise not_found()
    made = github().queue_job(
        run,
        sent.get("name", "job"),
        sent.get("labels", []),
        sent.get("script", "true"),
        env=sent.get("env"),
        always=sent.get("always", False),
        status=sent.get("status", "queued"),
    )
    return _job(made), HTTPStatus.CREATED


@control.get("/jobs/<int:job_id>")
def get_job(job_id: int) -> ResponseReturnValue:
    return _job(_known(job_id))


@control.patch("/jobs/<int:job_id>")
def change_job(job_id: int) -> ResponseReturnValue:
    return _job(github().set_job(_known(job_id).id, **_fields(body(), JOB_FIELDS)))


@control.put("/limits")
def set_limits() -> ResponseReturnValue:
    sent = body()
    secondary = sent.pop("secondary", None)
    try:
        if secondary is not None:
            github().set_secondary(**secondary)
        if sent:
            github().set_remaining(**sent)
    except (TypeError, KeyError) as error:
        raise invalid(f"not a limit: {error}") from error
    return "", HTTPStatus.NO_CONTENT


@control.post("/reset")
def reset() -> ResponseReturnValue:
    github().reset()
    return "", HTTPStatus.NO_CONTENT


def _known(job_id: int) -> Job:
    found = github().runs.job(job_id)
    if found is None:
        raise not_found()
    return found


def _repository(sent: Mapping[str, Any]) -> str:
    name = str(sent.get("repository"))
    if name not in github().repositories:
        raise invalid(f"no such repository: {name}")
    return name


def _fields(sent: Mapping[str, Any], known: set[str]) -> Any:
    return {name: value for name, value in sent.items() if name in known}


def _runner(record: Runner) -> dict[str, Any]:
    return shapes.runner(record) | {"scope": record.scope}


def _run(record: Run) -> dict[str, Any]:
    runs = github().runs
    shown = {"status": runs.status(record), "conclusion": runs.conclusion(record)}
    return asdict(record) | shown


def _job(record: Job) -> dict[str, Any]:
    run = github().runs.get(record.run_id)
    shown = shapes.job(record, run, root()) if run else {}
    return shown | {"repository": run.repository if run else None, "log": list(record.log)}
