"""The private service that the stand-in runner talks to, under `/_runner/`.

The key of the runner's config authorises every call but the first two:

    GET  archive/<file>             the runner program
    POST register, unregister       with a registration or remove token
    POST connect, disconnect        open and end the session
    GET  message/<seconds>          200 a job or a cancellation, 204 nothing yet, 404 gone
    POST jobs/<id>/begin|step|log|finish
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response

from gpu_ci_sandbox.fake_github.access import Refusal, bearer, body, github, not_found, root
from gpu_ci_sandbox.fake_github.rest_runners import runner_files
from gpu_ci_sandbox.fake_github.runners import IMPLICIT_LABELS
from gpu_ci_sandbox.fake_runner import find_archive

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from gpu_ci_sandbox.fake_github.records import Job, Runner

service = Blueprint("service", __name__, url_prefix="/_runner")

MAX_WAIT_SECONDS = 5.0


def _known() -> Runner:
    found = github().runners.by_secret(bearer())
    if found is None:
        raise Refusal(HTTPStatus.NOT_FOUND, "The runner no longer exists on the server.")
    return found


def _caller() -> Runner:
    """The runner, heard of in its session."""
    found = _known()
    return github().runners.heard(found) if found.session else found


@service.get("/archive/<filename>")
def download(filename: str) -> Response:
    found = find_archive(filename)
    if found is None:
        raise not_found()
    return Response(found.content, content_type="application/octet-stream")


@service.post("/register")
def register() -> ResponseReturnValue:
    """What `config.sh` asks for; the files of its answer are stored in the runner's folder."""
    sent = body()
    scope = sent["scope"]
    if not github().token_opens(sent["token"], scope):
        raise Refusal(HTTPStatus.UNAUTHORIZED, "Invalid configuration provided for token.")
    labels = [*([] if sent["no_default_labels"] else IMPLICIT_LABELS), *sent["labels"]]
    runner = _registered(scope, sent, labels)
    return runner_files(runner, sent["work"], root()), HTTPStatus.CREATED


def _registered(scope: str, sent: dict[str, Any], labels: list[str]) -> Runner:
    known = github().runners.named(scope, sent["name"])
    ephemeral = sent["ephemeral"]
    if known and not sent["replace"]:
        message = f"A runner exists with the same name {known.name}."
        raise Refusal(HTTPStatus.CONFLICT, message)
    if known:
        return github().runners.reregister(known, labels, ephemeral=ephemeral)
    return github().runners.register(
        scope,
        sent["name"],
        labels,
        group_id=_group_id(scope, sent["runnergroup"]),
        ephemeral=ephemeral,
    )


def _group_id(scope: str, name: str) -> int:
    groups = {group.name: group.id for group in github().groups_of(scope)} | {"": 1}
    if name not in groups:
        message = f'Could not find any self-hosted runner group named "{name}".'
        raise Refusal(HTTPStatus.NOT_FOUND, message)
    return groups[name]


@service.post("/unregister")
def unregister() -> ResponseReturnValue:
    sent = body()
    runner = github().runners.named(sent["scope"], sent["name"])
    if not github().token_opens(sent["token"], sent["scope"]) or runner is None:
        raise not_found()
    github().runners.remove(runner.id)
    return "", HTTPStatus.NO_CONTENT


@service.post("/connect")
def connect() -> ResponseReturnValue:
    runner = _known()  # who asks for a session does not keep an older one alive
    if runner.session and runner.online:
        raise Refusal(HTTPStatus.CONFLICT, "A session for this runner already exists.")
    connected = github().runners.connect(runner, str(body()["version"]))
    return {"session": connected.session}, HTTPStatus.CREATED


@service.post("/disconnect")
def disconnect() -> ResponseReturnValue:
    github().runners.disconnect(_caller())
    return "", HTTPStatus.NO_CONTENT


@service.get("/message/<float:seconds>")
def message(seconds: float) -> ResponseReturnValue:
    """Wait for news, giving the turn away meanwhile; the caller asks again."""
    runner = _caller()
    news = _news(runner.id)
    if news is None:
        state = github()
        state.wait(lambda: _news(runner.id) is not None, min(seconds, MAX_WAIT_SECONDS))
        _caller()
        news = _news(runner.id)
    return news if news is not None else ("", HTTPStatus.NO_CONTENT)


def _news(runner_id: int) -> dict[str, Any] | None:
    runner = github().runners.get(runner_id)
    if runner is None:
        return {}  # the caller looks again and learns that it no longer exists
    job = github().runs.job(runner.job_id) if runner.job_id is not None else None
    if job is None:
        return None
    if job.cancelled_at is not None:
        return {"cancel": job.id}
    return {"job": _job_shape(job)} if job.assigned_at is not None else None


def _job_shape(job: Job) -> dict[str, Any]:
    run = github().runs.get(job.run_id)
    repository = run.repository if run else ""
    facts = {
        "GITHUB_REPOSITORY": repository,
        "GITHUB_RUN_ID": str(job.run_id),
        "GITHUB_RUN_ATTEMPT": str(job.attempt),
        "GITHUB_JOB": job.name,
        "GITHUB_SHA": run.sha if run else "",
        "GITHUB_EVENT_NAME": run.event if run else "",
        "GITHUB_WORKFLOW": run.name if run else "",
        "GITHUB_SERVER_URL": root(),
        "GITHUB_API_URL": root(),
    }
    return {"id": job.id, "name": job.name, "script": job.script, "env": facts | dict(job.env)}


def _job(job_id: int) -> Job:
    runner = _caller()
    job = github().runs.job(job_id)
    if job is None or job.completed or runner.job_id != job_id:
        raise Refusal(HTTPStatus.CONFLICT, "The job is not this runner's any more.")
    return job


@service.post("/jobs/<int:job_id>/begin")
def begin(job_id: int) -> ResponseReturnValue:
    github().runs.begin(_job(job_id))
    return "", HTTPStatus.NO_CONTENT


@service.post("/jobs/<int:job_id>/step")
def step(job_id: int) -> ResponseReturnValue:
    sent = body()
    github().runs.step(_job(job_id), sent["name"], sent["ended"])
    return "", HTTPStatus.NO_CONTENT


@service.post("/jobs/<int:job_id>/log")
def log(job_id: int) -> ResponseReturnValue:
    job = _job(job_id)
    github().runs.change(job.id, log=(*job.log, *body()["lines"]))
    return "", HTTPStatus.NO_CONTENT


@service.post("/jobs/<int:job_id>/finish")
def finish(job_id: int) -> ResponseReturnValue:
    github().finish(_job(job_id), body()["conclusion"])
    return "", HTTPStatus.NO_CONTENT
