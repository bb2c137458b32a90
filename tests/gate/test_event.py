"""What GitHub tells of an event is read as it is, or refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.gate.payloads import (
    DEPENDABOT,
    DEPENDABOT_OPENS,
    FORK,
    REPOSITORY,
    environment,
    pull_request,
    push,
)

from gpu_ci.errors import EventUnreadable
from gpu_ci.gate.event import Event, PullRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_pull_request(tmp_path: Path) -> None:
    """Its number, what happened to it, its labels, whose it is and where it comes from."""
    told = pull_request("labeled", "docs", "a b", changed="a b", source=FORK, author="stranger")
    found = Event.read(environment(told, tmp_path, GITHUB_RUN_ATTEMPT="3"))
    assert (found.name, found.actor, found.attempt) == ("pull_request", "stranger", 3)
    assert found.pull_request == PullRequest(
        number=12,
        action="labeled",
        changed="a b",
        labels=("docs", "a b"),
        author="stranger",
        source=FORK,
        from_fork=True,
    )


def test_a_repository_that_is_a_fork_itself(tmp_path: Path) -> None:
    """Its own pull requests are its own: what counts is where the branch is, not what it is of."""
    told = pull_request()
    pull = told["payload"]["pull_request"]
    pull["head"]["repo"]["fork"] = pull["base"]["repo"]["fork"] = True
    found = Event.read(environment(told, tmp_path)).pull_request
    assert (found and found.source, found and found.from_fork) == (REPOSITORY, False)


def test_dependabot(tmp_path: Path) -> None:
    """Its branches are in the repository, and it is known by who did it."""
    found = Event.read(environment(DEPENDABOT_OPENS, tmp_path))
    assert found.actor == DEPENDABOT
    assert found.pull_request
    assert (found.pull_request.author, found.pull_request.from_fork) == (DEPENDABOT, False)


def test_a_push(tmp_path: Path) -> None:
    """It has a ref and a default branch, and is about no pull request."""
    found = Event.read(environment(push("refs/tags/v1"), tmp_path))
    assert (found.ref, found.default_branch, found.pull_request) == ("refs/tags/v1", "main", None)


def test_an_author_who_is_gone(tmp_path: Path) -> None:
    """The user of a deleted account is null: nobody in particular."""
    told = pull_request()
    told["payload"]["pull_request"]["user"] = None
    found = Event.read(environment(told, tmp_path)).pull_request
    assert found
    assert found.author == ""


def _without(*path: str) -> Callable[[dict[str, Any]], None]:
    def cut(payload: dict[str, Any]) -> None:
        *above, last = path
        for name in above:
            payload = payload[name]
        del payload[last]

    return cut


@pytest.mark.parametrize(
    "cut",
    [
        _without("pull_request"),
        _without("action"),
        _without("pull_request", "number"),
        _without("pull_request", "labels"),
        _without("pull_request", "head", "repo"),
        _without("pull_request", "base"),
        lambda payload: payload["pull_request"].update(labels=["run-gpu-ci"]),
        lambda payload: payload["pull_request"].update(number="x"),
        lambda payload: payload["pull_request"]["base"].update(repo=None),
    ],
)
def test_a_payload_of_another_shape(cut: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    """What may be a fork's is not taken for the repository's own: it is refused."""
    told = pull_request("opened", "run-gpu-ci")
    cut(told["payload"])
    with pytest.raises(EventUnreadable, match="does not have GitHub's shape"):
        Event.read(environment(told, tmp_path))


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read"), ("{", "cannot be read"), ("[]", "not a JSON object")],
)
def test_a_payload_that_cannot_be_read(content: str | None, words: str, tmp_path: Path) -> None:
    """Missing, broken or no object: nobody knows who asks."""
    env = environment(push(), tmp_path)
    path = tmp_path / "event.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(EventUnreadable, match=words):
        Event.read(env)


@pytest.mark.parametrize("missing", ["GITHUB_EVENT_NAME", "GITHUB_EVENT_PATH"])
def test_a_variable_that_is_not_set(missing: str, tmp_path: Path) -> None:
    """Outside a workflow there is no event, and the error says what would tell one."""
    env = environment(push(), tmp_path)
    del env[missing]
    with pytest.raises(EventUnreadable, match="In a workflow the runner sets"):
        Event.read(env)


def test_an_attempt_that_is_no_number(tmp_path: Path) -> None:
    """It decides whether a label is used up, so it is not guessed."""
    with pytest.raises(EventUnreadable):
        Event.read(environment(push(), tmp_path, GITHUB_RUN_ATTEMPT="first"))


def test_the_payload_is_read_as_utf_8(tmp_path: Path) -> None:
    """Whatever the locale of the machine is."""
    told = pull_request("opened", "größe ✓")
    env = environment(told, tmp_path)
    (tmp_path / "event.json").write_text(
        json.dumps(told["payload"], ensure_ascii=False), encoding="utf-8"
    )
    found = Event.read(env).pull_request
    assert found
    assert found.labels == ("größe ✓",)
