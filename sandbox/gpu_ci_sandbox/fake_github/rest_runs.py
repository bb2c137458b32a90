"""REST endpoints of workflow runs and their jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from itertools import islice
from math import inf
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from flask import Blueprint, jsonify, request

from gpu_ci_sandbox.fake_github import shapes
from gpu_ci_sandbox.fake_github.access import Refusal, github, invalid, not_found, repository, root
from gpu_ci_sandbox.fake_github.pages import page
from gpu_ci_sandbox.fake_github.runners import DAY
from gpu_ci_sandbox.fake_github.runs import failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from flask import Response
    from flask.typing import ResponseReturnValue

    from gpu_ci_sandbox.fake_github.records import Job, Repository, Run

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
    return _page(of, _asked(of))


@runs.get(f"{ACTIONS}/workflows/<workflow>/runs")
def list_workflow_runs(owner: str, name: str, workflow: str) -> Response:
    """The same of one workflow: its id or the name of its file. Known from its runs alone."""
    of = repository(owner, name, "actions", "read")
    files = {run.path for run in github().runs.of(of.full_name)}
    meant = {path for path in files if workflow in _names(path)}
    if not meant:
        raise not_found()
    return _page(of, (run for run in _asked(of) if run.path in meant))


def _names(path: str) -> set[str]:
    return {str(shapes.workflow_id(path)), PurePosixPath(path).name}


def _asked(of: Repository) -> Iterator[Run]:
    """The repository's runs that pass the filters of the request."""
    status = request.args.get("status")
    state = github().runs
    found = state.showing(of.full_name, status) if status else state.of(of.full_name)
    passes = [FILTERS[name](value) for name, value in request.args.items() if name in FILTERS]
    return (run for run in found if all(each(run) for each in passes))


def _page(of: Repository, found: Iterable[Run]) -> Response:
    filtered = request.args.keys() & {"status", *FILTERS}
    shown = list(islice(found, MAX_FILTERED if filtered else None))
    return page("workflow_runs", shown, lambda run: _shape(run, of))


def _shape(run: Run, of: Repository, attempt: int | None = None) -> shapes.Shape:
    return shapes.run(run, github().runs, of, root(), attempt)


def _created(value: str) -> Callable[[Run], bool]:
    """GitHub's date syntax: a time or a day `T`, `>=T`, `>T`, `<=T`, `<T`, or `T..T` (`*` open)."""
    first, dots, last = value.partition("..")
    sign = next((each for each in BOUNDS if value.startswith(each)), "")
    if dots:
        begin, end = _span(first, -inf)[0], _span(last, inf)[1]
    elif sign:
        begin, end = BOUNDS[sign](*_span(value.removeprefix(sign)))
    else:
        begin, end = _span(value)
    return lambda run: begin <= run.created_at < end


def _span(value: str, open_end: float | None = None) -> tuple[float, float]:
    """When a day or a second begins, and when it is over."""
    if value == "*" and open_end is not None:
        return open_end, open_end
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise invalid(f"not a date or a time: {value}") from error
    begin = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return begin, begin + (1 if "T" in value else DAY)


BOUNDS: dict[str, Callable[[float, float], tuple[float, float]]] = {
    ">=": lambda begin, _: (begin, inf),
    "<=": lambda _, end: (-inf, end),
    ">": lambda _, end: (end, inf),
    "<": lambda begin, _: (-inf, begin),
}
FILTERS: dict[str, Callable[[str], Callable[[Run], bool]]] = {
    "created": _created,
    "actor": lambda value: lambda run: run.actor == value,
    "branch": lambda value: lambda run: run.branch == value,
    "event": lambda value: lambda run: run.event == value,
    "head_sha": lambda value: lambda run: run.sha == value,
    "check_suite_id": lambda value: lambda run: str(run.id) == value,
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
