"""Where the file is read, whose word it is then, and what is said when it cannot be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpu_ci.errors import BadInputs, Forbidden
from gpu_ci.profiles.trusted_file import find
from gpu_ci_sandbox.fake_github.credentials import classic, job_token
from gpu_ci_sandbox.fake_github.openapi import assert_valid_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gpu_ci_sandbox.fake_github.rest import ServedGitHub

REPOSITORY = "octo-org/science"
FILE = ".github/gpu-ci.yml"
OF_THE_BASE = b"profiles: {a: {provider: ec2}}"
OF_THE_RUN = b"profiles: {a: {provider: local}}"
LYING = "profiles: {a: {provider: jarvislabs}}"


def found(env: Mapping[str, str]) -> bytes:
    return find(env, lambda _: None).data


def test_the_workspace_comes_first(
    step: dict[str, str], hub: ServedGitHub, checked_out: Callable[[str], None]
) -> None:
    """A job that has checked out needs no right and asks nothing."""
    checked_out(LYING)
    assert found(step) == LYING.encode()
    assert hub.faults.requests == ()


def test_without_a_checkout_github_is_asked(step: dict[str, str], hub: ServedGitHub) -> None:
    """At the commit of the run, in one request that GitHub's description allows."""
    assert found(step) == OF_THE_RUN
    (asked,) = hub.faults.requests
    assert asked.query == f"ref={'c' * 40}"
    assert_valid_requests(hub.faults.requests)


@pytest.mark.parametrize(
    "event", ["push", "workflow_dispatch", "schedule", "merge_group", "repository_dispatch"]
)
def test_a_run_of_those_who_may_push_believes_its_workspace(
    step: dict[str, str], checked_out: Callable[[str], None], event: str
) -> None:
    """They could change the workflow as well."""
    checked_out(LYING)
    assert found(step | {"GITHUB_EVENT_NAME": event}) == LYING.encode()


@pytest.mark.parametrize("event", ["workflow_run", "issue_comment", "issues", "never_heard_of"])
def test_other_events_ask_for_the_commit_of_the_run(
    step: dict[str, str], checked_out: Callable[[str], None], event: str
) -> None:
    """They run with secrets, and what lies in the workspace may be anybody's."""
    checked_out(LYING)
    assert found(step | {"GITHUB_EVENT_NAME": event}) == OF_THE_RUN


def test_on_a_machine_that_stays_the_workspace_is_not_believed(
    step: dict[str, str], checked_out: Callable[[str], None]
) -> None:
    """What lies there may be left from an earlier job."""
    checked_out(LYING)
    assert found(step | {"RUNNER_ENVIRONMENT": "self-hosted"}) == OF_THE_RUN


def test_a_pull_request_of_the_repository_itself_is_believed(
    step: dict[str, str],
    checked_out: Callable[[str], None],
    pull_request: Callable[..., dict[str, str]],
) -> None:
    """Who can push a branch may try a profile there."""
    assert found(step | pull_request()) == OF_THE_RUN
    assert found(step | pull_request(head=REPOSITORY.upper())) == OF_THE_RUN
    checked_out(LYING)
    assert found(step | pull_request()) == LYING.encode()


@pytest.mark.parametrize(
    "given",
    [
        {"head": "mallory/science"},
        {"head": None},
        {"author": "dependabot[bot]"},
        {"actor": "dependabot[bot]"},
        {"event": "pull_request_target"},
        {"event": "pull_request_target", "head": "mallory/science"},
        {"event": "pull_request_review", "head": "mallory/science"},
        {"event": "pull_request_review_comment", "head": "mallory/science"},
    ],
    ids=str,
)
def test_other_pull_requests_get_the_file_of_the_base(
    step: dict[str, str],
    hub: ServedGitHub,
    checked_out: Callable[[str], None],
    pull_request: Callable[..., dict[str, str]],
    given: dict[str, str],
) -> None:
    """A stranger's change of a profile chooses no machine (fork, deleted fork, Dependabot,
    pull_request_target), neither from the workspace nor from the commit of the run."""
    checked_out(LYING)
    source = find(step | pull_request(**given), lambda _: None)
    assert source.data == OF_THE_BASE
    assert source.told == f"{FILE} of the base (bbbbbbb)"


@pytest.mark.parametrize("payload", ["", "[]", "{}", '{"pull_request": {"base": {}}}', "\xff"])
def test_a_pull_request_whose_event_cannot_be_read_gets_no_profile(
    step: dict[str, str],
    tmp_path: Path,
    checked_out: Callable[[str], None],
    pull_request: Callable[..., dict[str, str]],
    payload: str,
) -> None:
    """Not known whose it is means not believed."""
    checked_out(LYING)
    env = step | pull_request()
    (tmp_path / "event.json").write_text(payload)
    with pytest.raises(BadInputs) as caught:
        found(env)
    assert str(caught.value) == (
        "The event (pull_request) cannot be read from GITHUB_EVENT_PATH, so it is not known whose "
        "pull request this is, or which profile to trust. Leave profile out, and give the "
        "inputs themselves."
    )


def test_a_base_that_is_no_commit_is_not_asked_for(
    step: dict[str, str], hub: ServedGitHub, tmp_path: Path
) -> None:
    """What stands in an event is data, and becomes no address."""
    file = tmp_path / "event.json"
    file.write_text('{"pull_request": {"base": {"sha": "../../x"}, "head": {}, "user": {}}}')
    env = step | {"GITHUB_EVENT_NAME": "pull_request_target", "GITHUB_EVENT_PATH": str(file)}
    with pytest.raises(BadInputs):
        found(env)
    assert hub.faults.requests == ()


def test_a_file_that_is_not_there_is_said_to_be_missing(
    step: dict[str, str], hub: ServedGitHub
) -> None:
    """When the token sees the repository at that commit, a 404 is an absence."""
    hub.github.contents.put(REPOSITORY, "d" * 40, "README.md", "x")
    with pytest.raises(BadInputs) as caught:
        found(step | {"GITHUB_SHA": "d" * 40})
    assert str(caught.value) == (
        f"There is no {FILE} at commit ddddddd, and a profile is named. Commit the file (`gpu-ci init` "
        "writes one), or leave profile out."
    )
    assert_valid_requests(hub.faults.requests)


def test_a_token_that_may_not_is_told_apart_from_an_absence(
    step: dict[str, str], hub: ServedGitHub
) -> None:
    """403, and 404 for a repository that the token does not see: both say which right to give."""
    blind = hub.github.issue(job_token(REPOSITORY, actions="write"))
    stranger = hub.github.issue(job_token("other/one", contents="read"))
    for token, status in ((blind, 403), (stranger, 404)):
        with pytest.raises(Forbidden) as caught:
            found(step | {"GPU_CI_RUN_TOKEN": token})
        assert f"GitHub answered {status}" in str(caught.value)
        assert str(caught.value).endswith(
            "In a private repository the job needs `permissions: contents: read` to read the profile; "
            "a job with a `permissions` block has no right that is not named there."
        )
        assert token not in str(caught.value)


def test_a_public_repository_needs_no_right(hub: ServedGitHub, step: dict[str, str]) -> None:
    """There everybody may read."""
    hub.github.add_repository(REPOSITORY, private=False)
    blind = hub.github.issue(job_token(REPOSITORY, actions="write"))
    assert found(step | {"GPU_CI_RUN_TOKEN": blind}) == OF_THE_RUN


def test_the_token_for_runners_is_asked_where_the_jobs_own_may_not(
    step: dict[str, str], hub: ServedGitHub
) -> None:
    """A classic token with `repo` reads the file too."""
    blind = hub.github.issue(job_token(REPOSITORY, actions="write"))
    env = step | {"INPUT_GITHUB_TOKEN": hub.github.issue(classic(REPOSITORY))}
    assert found(env | {"GPU_CI_RUN_TOKEN": blind}) == OF_THE_RUN
    assert found(env | {"GPU_CI_RUN_TOKEN": ""}) == OF_THE_RUN


def test_a_step_without_any_token_is_told_so(step: dict[str, str]) -> None:
    """Nobody is asked as nobody."""
    with pytest.raises(Forbidden, match="this step has no token"):
        found(step | {"GPU_CI_RUN_TOKEN": ""})


@pytest.mark.parametrize("size", [70_000, 2_000_000])
def test_a_large_file_is_read_as_too_large(
    step: dict[str, str], hub: ServedGitHub, checked_out: Callable[[str], None], size: int
) -> None:
    """Of more than 1 MiB GitHub sends nothing; that is no empty file. Nor is a workspace's read whole."""
    hub.github.contents.put(REPOSITORY, "c" * 40, FILE, "#" * size)
    assert len(found(step)) == 64 * 1024 + 1
    checked_out("#" * size)
    assert len(found(step)) == 64 * 1024 + 1


def test_a_terminal_reads_the_file_of_its_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From any folder of it, and from no folder above it."""
    inner = tmp_path / "repository" / "src" / "deep"
    inner.mkdir(parents=True)
    (tmp_path / ".github").mkdir()
    (tmp_path / FILE).write_text("above")
    (tmp_path / "repository" / ".git").mkdir()
    monkeypatch.chdir(inner)
    with pytest.raises(BadInputs, match=r"There is no .* in this repository"):
        found({})
    (tmp_path / "repository" / ".github").mkdir()
    (tmp_path / "repository" / FILE).write_text(LYING)
    assert found({}) == LYING.encode()


def test_a_run_without_a_commit_says_what_to_do(step: dict[str, str]) -> None:
    """Neither a file nor a commit to ask for."""
    with pytest.raises(BadInputs, match="GITHUB_SHA is not set"):
        found(step | {"GITHUB_SHA": ""})
