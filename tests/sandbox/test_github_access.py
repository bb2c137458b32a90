"""Who may do what, and how often: tokens, conditional requests and rate limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpu_ci_sandbox.fake_github import credentials

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from gpu_ci_sandbox.fake_github.rest import ServedGitHub
    from gpu_ci_sandbox.fake_github.state import GitHub
    from gpu_ci_sandbox.stopped_clock import Clock

    Call = Callable[..., requests.Response]

RUNNERS = "actions/runners"
JOB_DENIAL = "Resource not accessible by integration"
FINE_DENIAL = "Resource not accessible by personal access token"


def _refusal(response: requests.Response) -> tuple[int, str]:
    return response.status_code, response.json()["message"]


def test_unknown_token(call: Call) -> None:
    """A token that nobody issued is bad, wherever it is used."""
    assert _refusal(call("GET", RUNNERS, token="ghp_nobody")) == (401, "Bad credentials")
    assert _refusal(call("GET", "/rate_limit", token="x")) == (401, "Bad credentials")


def test_no_token(github: GitHub, call: Call) -> None:
    """Without a token a private repository is not there; a public one's runners are refused."""
    github.add_repository("octo/public", private=False)
    assert _refusal(call("GET", RUNNERS, token="")) == (404, "Not Found")
    public = "/repos/octo/public"
    assert call("GET", f"{public}/actions/runs", token="").status_code == 200
    refused = call("GET", f"{public}/actions/runners", token="")
    assert _refusal(refused) == (401, "Requires authentication")


@pytest.mark.parametrize("method_path", ["GET actions/runners", "DELETE actions/runners/1"])
def test_job_token_cannot_touch_runners(method_path: str, github: GitHub, call: Call) -> None:
    """GITHUB_TOKEN has no administration, for reading neither; but it may cancel (pain 2)."""
    token = github.issue(credentials.job_token("octo/widgets", actions="write"))
    method, path = method_path.split()
    refused = call(method, path, token=token)
    assert _refusal(refused) == (403, JOB_DENIAL)
    assert refused.headers["x-accepted-github-permissions"].startswith("administration=")
    run = github.start_run("octo/widgets")
    assert call("POST", f"actions/runs/{run.id}/cancel", token=token).status_code == 202


def test_job_token_is_never_given_administration() -> None:
    """No workflow can grant it, so the stand-in must not either."""
    with pytest.raises(ValueError, match="administration"):
        credentials.job_token("octo/widgets", administration="write")


@pytest.mark.parametrize(
    ("permissions", "listing", "registering"),
    [
        ({}, 403, 403),
        ({"administration": "read"}, 200, 403),
        ({"administration": "write"}, 200, 201),
    ],
)
def test_fine_grained_token(
    permissions: dict[str, str], listing: int, registering: int, github: GitHub, call: Call
) -> None:
    """Reading asks for administration: read, registering for write."""
    token = github.issue(credentials.fine_grained("octo/widgets", **permissions))
    assert call("GET", RUNNERS, token=token).status_code == listing
    jit = {"name": "x", "runner_group_id": 1, "labels": ["x"]}
    made = call("POST", f"{RUNNERS}/generate-jitconfig", token=token, json=jit)
    assert made.status_code == registering
    assert registering == 201 or made.json()["message"] == FINE_DENIAL


def test_token_for_another_repository(github: GitHub, call: Call) -> None:
    """What a token has no access to is not found."""
    token = github.issue(credentials.classic("octo/other"))
    assert _refusal(call("GET", RUNNERS, token=token)) == (404, "Not Found")
    assert _refusal(call("GET", "", token=token)) == (404, "Not Found")


def test_classic_token_without_admin(github: GitHub, call: Call) -> None:
    """Somebody who is no admin may list runs and not runners."""
    token = github.issue(credentials.classic("octo/widgets", admin=False))
    assert call("GET", "actions/runs", token=token).status_code == 200
    assert _refusal(call("GET", RUNNERS, token=token))[0] == 403
    assert call("GET", "", token=token).json()["permissions"]["admin"] is False


def test_organisation_needs_its_own_right(github: GitHub, call: Call) -> None:
    """Administration of a repository opens no organisation's runners."""
    token = github.issue(credentials.classic("octo/widgets"))
    assert call("GET", "/orgs/octo/actions/runners", token=token).status_code == 403
    assert call("GET", "/orgs/nobody/actions/runners").status_code == 404


def test_revoked_token(github: GitHub, call: Call, admin: str) -> None:
    """A token can end in the middle (credentials expired by the time of stop, pain 11)."""
    assert call("GET", RUNNERS).status_code == 200
    github.revoke(admin)
    assert call("GET", RUNNERS).status_code == 401


def test_not_modified_does_not_count(github: GitHub, call: Call) -> None:
    """An answer that the caller has already is a 304 without a body, and free."""
    first = call("GET", RUNNERS)
    etag = {"If-None-Match": first.headers["ETag"]}
    again = call("GET", RUNNERS, headers=etag)
    assert (again.status_code, again.content) == (304, b"")
    remaining = "x-ratelimit-remaining"
    assert again.headers[remaining] == first.headers[remaining] == "4999"
    assert github.counted_calls == 1
    github.register("octo/widgets", "gpu-1", ["x"])
    changed = call("GET", RUNNERS, headers=etag)
    assert (changed.status_code, changed.json()["total_count"]) == (200, 1)
    assert github.counted_calls == 2


def test_the_log_knows_what_counted(hub: ServedGitHub, call: Call) -> None:
    """The request log tells counted requests from free ones."""
    etag = call("GET", RUNNERS).headers["ETag"]
    call("GET", RUNNERS, headers={"If-None-Match": etag})
    call("GET", "/rate_limit")
    assert [request.counts for request in hub.faults.requests] == [True, False, False]


@pytest.mark.parametrize("status", [403, 429])
def test_primary_limit(status: int, github: GitHub, call: Call, clock: Clock) -> None:
    """The last request left is the last until the reset; both forms of refusal exist."""
    github.set_remaining(1, reset_in=100, status=429 if status == 429 else 403)
    assert call("GET", RUNNERS).headers["x-ratelimit-remaining"] == "0"
    refused = call("GET", RUNNERS)
    assert refused.status_code == status
    assert refused.json()["message"].startswith("API rate limit exceeded")
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert int(refused.headers["x-ratelimit-reset"]) == clock.now + 100
    clock.advance(100)
    assert call("GET", RUNNERS).status_code == 200


def test_job_token_has_a_thousand(github: GitHub, call: Call) -> None:
    """A workflow's own token is limited more than a person's."""
    token = github.issue(credentials.job_token("octo/widgets", actions="read"))
    headers = call("GET", "actions/runs", token=token).headers
    assert (headers["x-ratelimit-limit"], headers["x-ratelimit-used"]) == ("1000", "1")


@pytest.mark.parametrize(("status", "retry_after"), [(403, 60), (429, 5), (403, None)])
def test_secondary_limit(status: int, retry_after: int | None, github: GitHub, call: Call) -> None:
    """The secondary limit refuses so many requests, with or without retry-after."""
    github.set_secondary(times=2, retry_after=retry_after, status=429 if status == 429 else 403)
    for _ in range(2):
        refused = call("GET", RUNNERS)
        assert refused.status_code == status
        assert "secondary rate limit" in refused.json()["message"]
        sent = refused.headers.get("Retry-After")
        assert sent == (None if retry_after is None else str(retry_after))
        assert refused.headers["x-ratelimit-remaining"] != "0"
    assert call("GET", RUNNERS).status_code == 200


def test_rate_limit_endpoint_is_free(github: GitHub, call: Call) -> None:
    """It says what is left and takes nothing; `rate` is gone in the new version only."""
    new = call("GET", "/rate_limit").json()
    assert new["resources"]["core"]["remaining"] == 5000
    assert "rate" not in new
    old = call("GET", "/rate_limit", headers={"X-GitHub-Api-Version": "2022-11-28"}).json()
    assert old["rate"] == old["resources"]["core"]
    assert github.counted_calls == 0


def test_api_version(hub: ServedGitHub, call: Call) -> None:
    """The version that was asked for is used and logged; an unknown one is refused."""
    selected = call("GET", RUNNERS).headers["X-GitHub-Api-Version-Selected"]
    assert selected == "2026-03-10"
    assert hub.faults.requests[0].headers["x-github-api-version"] == "2026-03-10"
    assert call("GET", RUNNERS, headers={"X-GitHub-Api-Version": "2020-01-01"}).status_code == 400


@pytest.mark.parametrize("path", ["/nothing", "actions/runners/x", "actions/runs/1"])
def test_unknown_paths(path: str, call: Call) -> None:
    """What is not there is answered in GitHub's shape."""
    assert _refusal(call("GET", path)) == (404, "Not Found")


def test_broken_json(call: Call) -> None:
    """A body that is no JSON object is the caller's fault."""
    refused = call("POST", f"{RUNNERS}/generate-jitconfig", data=b"{")
    assert _refusal(refused) == (400, "Problems parsing JSON")
