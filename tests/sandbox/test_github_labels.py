"""Labels on a pull request: shapes by GitHub's own description, rights, and what a 404 says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from githubkit_schemas.v2026_03_10.models import Label
from pydantic import TypeAdapter

from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.fake_github.openapi import assert_valid_requests

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from gpu_ci_sandbox.fake_github.rest import ServedGitHub
    from gpu_ci_sandbox.fake_github.state import GitHub

    Call = Callable[..., requests.Response]

LABELS = "issues/12/labels"


@pytest.fixture
def token(github: GitHub) -> str:
    """A job's own, for a pull request that has three labels."""
    github.label_issue("octo/widgets", 12, "docs", "run-gpu-ci", "a/b c")
    return github.issue(credentials.job_token("octo/widgets", pull_requests="write"))


def _names(response: requests.Response) -> list[str]:
    """The labels of an answer that follows the published model to the letter."""
    assert response.status_code == 200
    parsed = TypeAdapter(list[Label]).validate_json(response.content, strict=True)
    return [label.name for label in parsed]


def test_listing_and_removing(call: Call, token: str, hub: ServedGitHub) -> None:
    """The answer to a removal is what is left; case makes no difference."""
    assert _names(call("GET", LABELS, token=token)) == ["docs", "run-gpu-ci", "a/b c"]
    assert _names(call("DELETE", f"{LABELS}/Run-GPU-CI", token=token)) == ["docs", "a/b c"]
    assert_valid_requests(hub.faults.requests)


def test_a_label_with_odd_signs(call: Call, token: str) -> None:
    """A slash and a space, percent-encoded, are part of the name."""
    assert _names(call("DELETE", f"{LABELS}/a%2Fb%20c", token=token)) == ["docs", "run-gpu-ci"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (f"{LABELS}/gone", "Label does not exist"),
        ("issues/13/labels/docs", "Not Found"),
        ("issues/13/labels", "Not Found"),
    ],
)
def test_what_is_not_there(path: str, message: str, call: Call, token: str) -> None:
    """A label and an issue are missing in different words."""
    method = "GET" if path.endswith("labels") else "DELETE"
    refused = call(method, path, token=token)
    assert (refused.status_code, refused.json()["message"]) == (404, message)


@pytest.mark.parametrize(
    ("permissions", "status"),
    [
        ({"pull_requests": "write"}, 200),
        ({"issues": "write"}, 200),
        ({"pull_requests": "read", "issues": "read"}, 403),
        ({"contents": "write"}, 403),
    ],
)
def test_who_may_remove(
    permissions: dict[str, str], status: int, call: Call, token: str, github: GitHub
) -> None:
    """Either of the two rights will do; with neither it is a 403, not a 404."""
    other = github.issue(credentials.job_token("octo/widgets", **permissions))
    assert call("DELETE", f"{LABELS}/docs", token=other).status_code == status
