"""REST endpoints of workflow runs and their jobs."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Blueprint, jsonify, request

from gpu_ci.sandbox import shapes
from gpu_ci.sandbox.access import Refusal, github, not_found, repository, root
from gpu_ci.sandbox.pages import page
from gpu_ci.sandbox.runs import failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Response
    from flask.typing import ResponseReturnValue

    from gpu_ci.sandbox.records import Job, Repository, Run

runs = Blueprint("runs", __name__)

ACTIONS = "/repos/<owner>/<name>/actions"
RUN = f"{ACTIONS}/runs/<int:run_id>"

# With a filter GitHub lists no more than this.
MAX_FILTERED = 1000


def _run(owner: str, name: str, run_id: int, level: str) -> tuple[Run, Repository]:
    of = repository(owner, name, "actions", level)
    found = github().runs.get(run_id)
    if found is None or found.repository != of.full_name:
        raise not_found()
    return found, of


def _job(owner: str, name: str, job_id: int, level: str) -> tuple[Job, Run]:
    job = github().runs.job(job_id)
    if job is None:
        repository(owner, name, "actions", level)
        raise not_found()
    return job, _run(owner, name, job.run_id, level)[0]


@runs.get(f"{ACTIONS}/runs")
def list_runs(owner: str, name: str) -> Response:
    """Newest first; `status` takes a conclusion too."""
    of = repository(owner, name, "actions", "read")
    found = [run for run in github().runs.all() if run.repository == of.full_name]
    if request.args.keys() & FILTERS.keys():
        found = [run for run in found if _passes(run)][:MAX_FILTERED]
    return page("workflow_runs", found, lambda run: _shape(run, of))


def _shape(run: Run, of: Repository, attempt: int | None = None) -> shapes.Shape:
    return shapes.run(run, github().runs, of, root(), attempt)


def _passes(run: Run) -> bool:
    asked = {name: value for name, value in request.args.items() if name in FILTERS}
    return all(FILTERS[name](run, value) for name, value in asked.items())


def _has_status(run: Run, value: str) -> bool:
    state = github().runs
    return value in {state.status(run), state.conclusion(run)}


def _created(run: Run, value: str) -> bool:
    """GitHub's date syntax: `>=T`, `>T`, `<=T`, `<T`, `T..T` (`*` open), or the start of a time."""
    moment = shapes.timestamp(run.created_at)
    for sign, holds in COMPARISONS.items():
        if value.startswith(sign):
            return holds(moment, value.removeprefix(sign))
    first, dots, last = value.partition("..")
    if not dots:
        return moment.startswith(value)
    return first in {"*", min(first, moment)} and (last == "*" or moment <= last)


COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    ">=": str.__ge__,
    "<=": str.__le__,
    ">": str.__gt__,
    "<": str.__lt__,
}
FILTERS: dict[str, Callable[[Run, str], bool]] = {
    "status": _has_status,
    "created": _created,
    "actor": lambda run, value: run.actor == value,
    "branch": lambda run, value: run.branch == value,
    "event": lambda run, value: run.event == value,
    "head_sha": lambda run, value: run.sha == value,
    "check_suite_id": lambda run, value: str(run.id) == value,
}


@runs.get(RUN)
def get_run(owner: str, name: str, run_id: int) -> Response:
    return jsonify(_shape(*_run(owner, name, run_id, "read")))


@runs.get(f"{RUN}/attempts/<int:attempt>")
def get_attempt(owner: str, name: str, run_id: int, attempt: int) -> Response:
    run, of = _run(owner, name, run_id, "read")
    _check_attempt(run, attempt)
    return jsonify(_shape(run, of, attempt))


@runs.get(f"{RUN}/jobs")
def list_jobs(owner: str, name: str, run_id: int) -> Response:
    """Those of the latest attempt, or with `filter=all` of every one."""
    run, _ = _run(owner, name, run_id, "read")
    attempt = None if request.args.get("filter") == "all" else run.attempt
    return _jobs(run, attempt)


@runs.get(f"{RUN}/attempts/<int:attempt>/jobs")
def list_attempt_jobs(owner: str, name: str, run_id: int, attempt: int) -> Response:
    run, _ = _run(owner, name, run_id, "read")
    _check_attempt(run, attempt)
    return _jobs(run, attempt)


def _check_attempt(run: Run, attempt: int) -> None:
    if not 1 <= attempt <= run.attempt:
        raise not_found()


def _jobs(run: Run, attempt: int | None) -> Response:
    found = github().runs.jobs(run.id, attempt)
    return page("jobs", found, lambda job: shapes.job(job, run, root()))


@runs.get(f"{ACTIONS}/jobs/<int:job_id>")
def get_job(owner: str, name: str, job_id: int) -> Response:
    return jsonify(shapes.job(*_job(owner, name, job_id, "read"), root()))


@runs.post(f"{RUN}/cancel")
def cancel(owner: str, name: str, run_id: int) -> ResponseReturnValue:
    return _cancel(owner, name, run_id, force=False)


@runs.post(f"{RUN}/force-cancel")
def force_cancel(owner: str, name: str, run_id: int) -> ResponseReturnValue:
    return _cancel(owner, name, run_id, force=True)


def _cancel(owner: str, name: str, run_id: int, *, force: bool) -> ResponseReturnValue:
    run, _ = _run(owner, name, run_id, "write")
    if github().runs.status(run) == "completed":
        raise Refusal(HTTPStatus.CONFLICT, "Cannot cancel a workflow run that is completed.")
    github().cancel(run, force=force)
    return {}, HTTPStatus.ACCEPTED


@runs.post(f"{RUN}/rerun")
def rerun(owner: str, name: str, run_id: int) -> ResponseReturnValue:
    return _rerun(_run(owner, name, run_id, "write")[0], lambda _: True)


@runs.post(f"{RUN}/rerun-failed-jobs")
def rerun_failed_jobs(owner: str, name: str, run_id: int) -> ResponseReturnValue:
    return _rerun(_run(owner, name, run_id, "write")[0], failed)


@runs.post(f"{ACTIONS}/jobs/<int:job_id>/rerun")
def rerun_job(owner: str, name: str, job_id: int) -> ResponseReturnValue:
    _, run = _job(owner, name, job_id, "write")
    return _rerun(run, lambda job: job.id == job_id)


def _rerun(run: Run, again: Callable[[Job], bool]) -> ResponseReturnValue:
    if github().runs.status(run) != "completed":
        raise Refusal(HTTPStatus.FORBIDDEN, "This workflow is already running")
    github().runs.rerun(run, again)
    return {}, HTTPStatus.CREATED


@runs.delete(RUN)
def delete_run(owner: str, name: str, run_id: int) -> ResponseReturnValue:
    run, _ = _run(owner, name, run_id, "write")
    if github().runs.status(run) != "completed":
        raise Refusal(HTTPStatus.FORBIDDEN, "Cannot delete a workflow run that is not completed.")
    github().runs.delete(run)
    return "", HTTPStatus.NO_CONTENT
