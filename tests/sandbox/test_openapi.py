"""The stand-in and its request checker against GitHub's own description, by way of githubkit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from githubkit import GitHub as Client
from githubkit import UnauthAuthStrategy
from githubkit.exception import RequestFailed
from pydantic import TypeAdapter

from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.fake_github.annotations import Annotation
from gpu_ci_sandbox.fake_github.openapi import assert_valid_requests, problems
from gpu_ci_sandbox.faults import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpu_ci_sandbox.fake_github.rest import ServedGitHub
    from gpu_ci_sandbox.fake_github.state import GitHub
    from gpu_ci_sandbox.stopped_clock import Clock

JIT: Any = {"name": "gpu-1", "runner_group_id": 1, "labels": ["gpu"]}
WHERE = ("octo", "widgets")


@pytest.fixture
def client(hub: ServedGitHub, admin: str) -> Iterator[Client[Any]]:
    """The vendor's client, unchanged; whatever it was made to ask must pass our checker too."""
    with Client(admin, base_url=hub.url, http_cache=False, auto_retry=False) as made:
        yield made
    assert hub.faults.requests
    assert_valid_requests(hub.faults.requests)


def _parsed(response: Any) -> Any:
    """The answer as the published model; fails if it does not follow it to the letter."""
    parsed = response.parsed_data
    kind: Any = list[type(parsed[0])] if isinstance(parsed, list) else type(parsed)  # type: ignore[misc]  # only pydantic reads it
    # The client itself would take "1" for a number or a boolean.
    TypeAdapter(kind).validate_json(response.content, strict=True)
    return parsed


def test_runners_of_a_repository(client: Client[Any]) -> None:
    """Registering, listing, reading, downloads and tokens follow the published models."""
    actions = client.rest("2026-03-10").actions
    made = _parsed(actions.generate_runner_jitconfig_for_repo(*WHERE, data=JIT))
    assert made.runner.name == "gpu-1"
    listed = _parsed(actions.list_self_hosted_runners_for_repo(*WHERE, name="gpu-1", per_page=5))
    assert listed.runners == [made.runner]
    got = _parsed(actions.get_self_hosted_runner_for_repo(*WHERE, made.runner.id))
    assert got == made.runner
    assert len(_parsed(actions.list_runner_applications_for_repo(*WHERE))) == 2
    assert _parsed(actions.create_registration_token_for_repo(*WHERE)).token
    assert _parsed(actions.create_remove_token_for_repo(*WHERE)).token
    gone = actions.delete_self_hosted_runner_from_repo(*WHERE, made.runner.id)
    assert gone.status_code == 204


def test_runners_of_an_organisation(client: Client[Any]) -> None:
    """The same for an organisation, with its groups."""
    actions = client.rest("2026-03-10").actions
    made = _parsed(actions.generate_runner_jitconfig_for_org("octo", data=JIT))
    listed = _parsed(actions.list_self_hosted_runners_for_org("octo", per_page=1, page=1))
    assert listed.runners == [made.runner]
    assert _parsed(actions.get_self_hosted_runner_for_org("octo", made.runner.id)).id == 1
    assert _parsed(actions.list_runner_applications_for_org("octo"))
    assert _parsed(actions.create_registration_token_for_org("octo")).expires_at
    assert _parsed(actions.create_remove_token_for_org("octo")).expires_at
    groups = actions.list_self_hosted_runner_groups_for_org("octo", visible_to_repository="widgets")
    assert [group.name for group in _parsed(groups).runner_groups] == ["Default"]
    assert _parsed(actions.get_self_hosted_runner_group_for_org("octo", 1)).default
    assert actions.delete_self_hosted_runner_from_org("octo", 1).status_code == 204


def test_selected_group(client: Client[Any], github: GitHub) -> None:
    """A group for selected repositories says where they are listed."""
    github.add_group("octo", "some", visibility="selected", repositories=["octo/widgets"])
    groups = client.rest("2026-03-10").actions.list_self_hosted_runner_groups_for_org("octo")
    assert _parsed(groups).runner_groups[1].selected_repositories_url


def test_annotations_of_a_check_run(client: Client[Any], github: GitHub) -> None:
    """What a step left, with and without a title."""
    job = github.queue_job(github.start_run("octo/widgets"), "a", [])
    github.annotate(job.id, Annotation(level="notice", message="x", title="gpu-ci cost"))
    github.annotate(job.id, Annotation(level="failure", message="y"))
    checks = client.rest("2026-03-10").checks
    listed = _parsed(checks.list_annotations(*WHERE, job.id, per_page=5, page=1))
    assert [each.title for each in listed] == ["gpu-ci cost", ""]


def test_runs_and_jobs(client: Client[Any], github: GitHub) -> None:
    """Runs, attempts and jobs in every state, and what can be done with them."""
    run = github.start_run("octo/widgets")
    github.register("octo/widgets", "gpu-1", ["gpu"], online=True, session="open")
    handed, waiting = (github.queue_job(run, name, ["gpu"]) for name in ("a", "b"))
    with github.turn():
        github.runs.step(
            github.runs.begin(github.runs.hand_to(*_hand(github, handed.id))), "x", "success"
        )
    actions = client.rest("2026-03-10").actions
    jobs = _parsed(actions.list_jobs_for_workflow_run(*WHERE, run.id, filter_="all")).jobs
    assert [job.status for job in jobs] == ["in_progress", "queued"]
    assert [step.status for step in jobs[0].steps] == ["completed", "in_progress"]
    assert _parsed(actions.get_job_for_workflow_run(*WHERE, waiting.id)).runner_id is None
    runs = actions.list_workflow_runs_for_repo(*WHERE, status="queued", per_page=10, event="push")
    assert [each.id for each in _parsed(runs).workflow_runs] == [run.id]
    assert _parsed(actions.get_workflow_run(*WHERE, run.id)).status == "queued"
    assert actions.cancel_workflow_run(*WHERE, run.id).status_code == 202
    assert actions.force_cancel_workflow_run(*WHERE, run.id).status_code == 202
    assert actions.re_run_workflow_failed_jobs(*WHERE, run.id).status_code == 201
    assert actions.force_cancel_workflow_run(*WHERE, run.id).status_code == 202
    assert actions.re_run_workflow(*WHERE, run.id, enable_debug_logging=True).status_code == 201
    attempt = _parsed(actions.get_workflow_run_attempt(*WHERE, run.id, 1))
    assert (attempt.conclusion, attempt.run_attempt) == ("cancelled", 1)
    first = _parsed(actions.list_jobs_for_workflow_run_attempt(*WHERE, run.id, 1)).jobs
    assert {job.conclusion for job in first} == {"cancelled"}
    assert actions.force_cancel_workflow_run(*WHERE, run.id).status_code == 202
    latest = _parsed(actions.list_jobs_for_workflow_run(*WHERE, run.id)).jobs[0]
    assert actions.re_run_job_for_workflow_run(*WHERE, latest.id).status_code == 201
    assert actions.force_cancel_workflow_run(*WHERE, run.id).status_code == 202
    assert actions.delete_workflow_run(*WHERE, run.id).status_code == 204


def _hand(github: GitHub, job_id: int) -> tuple[Any, Any, Any]:
    runner = github.all_runners()[0]
    return github.job(job_id), runner, github.group_of(runner)


def test_repository_and_rate_limit(client: Client[Any]) -> None:
    """A repository and the limits follow their models."""
    rest = client.rest("2026-03-10")
    assert _parsed(rest.repos.get(*WHERE)).permissions.admin is True
    assert _parsed(rest.rate_limit.get()).resources.core.remaining == 4999


def test_errors(client: Client[Any], github: GitHub) -> None:
    """Refusals parse as the error models that the description gives for them."""
    actions = client.rest("2026-03-10").actions
    actions.generate_runner_jitconfig_for_repo(*WHERE, data=JIT)
    github.set_runner(1, job_id=5)
    run = github.start_run("octo/widgets")
    github.set_run(run.id, status="completed")
    taken = _error(lambda: actions.generate_runner_jitconfig_for_repo(*WHERE, data=JIT))
    assert taken == (409, "BasicError")
    busy = _error(lambda: actions.delete_self_hosted_runner_from_repo(*WHERE, 1))
    assert busy == (422, "ValidationErrorSimple")
    absent = _error(lambda: actions.generate_runner_jitconfig_for_repo("octo", "none", data=JIT))
    assert absent == (404, "BasicError")
    late = _error(lambda: actions.cancel_workflow_run(*WHERE, run.id))
    assert late == (409, "BasicError")


def _error(ask: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(RequestFailed) as refused:
        ask()
    response = refused.value.response
    parsed = response.parsed_data
    assert parsed.message
    assert parsed.documentation_url
    return response.status_code, type(parsed).__name__


def test_app(hub: ServedGitHub, github: GitHub, clock: Clock) -> None:
    """Installation and its token follow their models, and so do the refusals."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    github.install(
        credentials.App(
            id=7,
            public_key=public.decode(),
            installation_id=8,
            account="octo",
            repositories=frozenset({"octo/widgets"}),
        )
    )
    now = int(clock.now)
    signed = jwt.encode({"iss": "7", "iat": now - 60, "exp": now + 60}, key, algorithm="RS256")
    who = {"Authorization": f"Bearer {signed}"}
    with Client(
        UnauthAuthStrategy(), base_url=hub.url, http_cache=False, auto_retry=False
    ) as client:
        apps = client.rest("2026-03-10").apps
        assert _parsed(apps.get_repo_installation(*WHERE, headers=who)).id == 8
        assert _parsed(apps.get_org_installation("octo", headers=who)).app_id == 7
        asked = {"repositories": ["widgets"], "permissions": {"administration": "write"}}
        made = _parsed(apps.create_installation_access_token(8, headers=who, data=asked))
        assert made.repositories[0].full_name == "octo/widgets"
        whole = _parsed(apps.create_installation_access_token(8, headers=who, data={}))
        assert whole.token
        wide = {"permissions": {"contents": "write"}}
        refused = _error(lambda: apps.create_installation_access_token(8, headers=who, data=wide))
        assert refused == (422, "ValidationError")
    assert_valid_requests(hub.faults.requests)


def _request(method: str, path: str, body: str = "", version: str = "2026-03-10") -> Request:
    path, _, query = path.partition("?")
    headers = {"x-github-api-version": version, "content-type": "application/json"}
    return Request(number=1, method=method, path=path, query=query, body=body, headers=headers)


RUNNERS = "/repos/o/r/actions/runners"


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (_request("GET", RUNNERS, version="2022-11-28"), "X-GitHub-Api-Version"),
        (_request("PUT", RUNNERS), "no such operation"),
        (_request("GET", "/repos/o/r/actions/runnerz"), "no such operation"),
        (_request("GET", f"{RUNNERS}/abc"), "runner_id may not be 'abc'"),
        (_request("GET", f"{RUNNERS}?labels=x"), "unknown query parameter labels"),
        (_request("GET", f"{RUNNERS}?page=one"), "query parameter page may not be 'one'"),
        (_request("GET", "/repos/o/r/actions/runs?status=done"), "may not be 'done'"),
        (_request("GET", "/repos/o/r/actions/runs/1?exclude_pull_requests=1"), "may not be '1'"),
        (_request("POST", f"{RUNNERS}/registration-token", "{}"), "takes no body"),
        (_request("POST", f"{RUNNERS}/generate-jitconfig"), "Field required"),
        (
            _request(
                "POST",
                f"{RUNNERS}/generate-jitconfig",
                '{"name": "x", "runner_group_id": "1", "labels": ["x"]}',
            ),
            "runner_group_id",
        ),
        (
            _request(
                "POST",
                f"{RUNNERS}/generate-jitconfig",
                '{"name": "x", "runner_group_id": 1, "labels": ["x"], "label": "y"}',
            ),
            "unknown field label",
        ),
    ],
)
def test_checker_finds(request_: Request, problem: str) -> None:
    """Each way in which a request can be wrong is found."""
    assert problem in "; ".join(problems(request_))
    with pytest.raises(AssertionError):
        assert_valid_requests([request_])


def test_checker_accepts() -> None:
    """Sound requests and the stand-in's private paths pass."""
    assert_valid_requests(
        [
            _request("GET", f"{RUNNERS}?name=x&per_page=100&page=2"),
            _request("GET", f"{RUNNERS}/downloads"),
            _request("POST", "/repos/o/r/actions/runs/1/rerun"),
            _request("POST", "/repos/o/r/actions/runs/1/cancel"),
            _request(
                "POST",
                f"{RUNNERS}/generate-jitconfig",
                '{"name": "x", "runner_group_id": 1, "labels": ["x"], "work_folder": "w"}',
            ),
            _request("GET", "/_runner/anything"),
        ]
    )
