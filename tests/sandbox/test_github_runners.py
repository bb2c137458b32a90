"""Runner endpoints of the stand-in for GitHub: registering, listing, deleting, expiring."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from gpu_ci_sandbox.fake_github.state import GitHub
    from gpu_ci_sandbox.stopped_clock import Clock

    Call = Callable[..., requests.Response]


JIT = {"name": "gpu-1", "runner_group_id": 1, "labels": ["gpu-ci-1"]}
SCOPES = ["actions", "/orgs/octo/actions"]


@pytest.mark.parametrize("actions", SCOPES)
def test_jit_registration_lives_until_deleted(actions: str, call: Call) -> None:
    """A registration is listed by its exact name, read by its id, deleted once, then unknown."""
    made = call("POST", f"{actions}/runners/generate-jitconfig", json=JIT)
    assert made.status_code == 201
    runner = made.json()["runner"]
    assert [label["name"] for label in runner["labels"]] == ["gpu-ci-1"]
    assert (runner["status"], runner["busy"], runner["ephemeral"]) == ("offline", False, True)
    listed = call("GET", f"{actions}/runners", params={"name": "gpu-1"}).json()
    assert listed == {"total_count": 1, "runners": [runner]}
    assert call("GET", f"{actions}/runners", params={"name": "gpu"}).json()["total_count"] == 0
    assert call("GET", f"{actions}/runners/{runner['id']}").json() == runner
    assert call("DELETE", f"{actions}/runners/{runner['id']}").status_code == 204
    assert call("DELETE", f"{actions}/runners/{runner['id']}").status_code == 404
    assert call("GET", f"{actions}/runners/{runner['id']}").status_code == 404


def test_scopes_do_not_see_each_other(call: Call) -> None:
    """A repository's runner is none of its organisation's, and the other way round."""
    mine = call("POST", "actions/runners/generate-jitconfig", json=JIT).json()["runner"]["id"]
    assert call("GET", "/orgs/octo/actions/runners").json()["total_count"] == 0
    assert call("GET", f"/orgs/octo/actions/runners/{mine}").status_code == 404


def test_name_is_taken(call: Call) -> None:
    """A second registration of a name is refused with 409, whoever's answer was lost (pain 14)."""
    call("POST", "actions/runners/generate-jitconfig", json=JIT)
    again = call("POST", "actions/runners/generate-jitconfig", json=JIT)
    assert again.status_code == 409
    expected = "Already exists - A runner with the name gpu-1 already exists."
    assert again.json()["message"] == expected


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"labels": []}, 422),
        ({"labels": ["x"] * 101}, 422),
        ({"labels": ["good", ""]}, 422),
        ({"labels": "gpu"}, 422),
        ({"name": ""}, 422),
        ({"name": "x" * 65}, 422),
        ({"runner_group_id": 99}, 404),
    ],
)
def test_what_jit_refuses(change: dict[str, object], status: int, call: Call) -> None:
    """Bad labels, names and groups are refused, and nothing is registered."""
    refused = call("POST", "actions/runners/generate-jitconfig", json=JIT | change)
    assert refused.status_code == status
    assert call("GET", "actions/runners").json()["total_count"] == 0


def test_missing_field(call: Call) -> None:
    """A field that must be there is named."""
    refused = call("POST", "actions/runners/generate-jitconfig", json={"name": "x"})
    assert refused.status_code == 422
    assert "labels" in refused.text


def test_jit_config_has_the_published_shape(call: Call) -> None:
    """Base64 of a JSON object of three files, each base64 of JSON."""
    encoded = call("POST", "actions/runners/generate-jitconfig", json=JIT).json()
    files = json.loads(base64.b64decode(encoded["encoded_jit_config"]))
    assert set(files) == {".runner", ".credentials", ".credentials_rsaparams"}
    settings = json.loads(base64.b64decode(files[".runner"]))
    assert settings["agentName"] == "gpu-1"
    assert settings["workFolder"] == "_work"
    assert 3500 < len(encoded["encoded_jit_config"]) < 4500


def test_busy_runner_is_not_deleted(github: GitHub, call: Call) -> None:
    """A runner with a job stays, and the refusal says why (a working runner is killed, pain 9)."""
    runner = github.register("octo/widgets", "gpu-1", ["x"], online=True, job_id=5)
    refused = call("DELETE", f"actions/runners/{runner.id}")
    assert refused.status_code == 422
    assert "is currently running a job and cannot be deleted" in refused.json()["message"]
    assert call("GET", f"actions/runners/{runner.id}").json()["busy"] is True


def test_downloads_are_the_stand_in_with_its_real_checksum(
    call: Call, session: requests.Session
) -> None:
    """The address serves bytes whose sha256 is the one that was said."""
    listed = call("GET", "actions/runners/downloads").json()
    assert {each["architecture"] for each in listed} == {"x64", "arm64"}
    for each in listed:
        content = session.get(each["download_url"], timeout=10).content
        assert hashlib.sha256(content).hexdigest() == each["sha256_checksum"]
        assert each["download_url"].endswith(each["filename"])


@pytest.mark.parametrize("actions", SCOPES)
@pytest.mark.parametrize("kind", ["registration-token", "remove-token"])
def test_tokens_for_an_hour(actions: str, kind: str, call: Call) -> None:
    """Registration and remove tokens say when they end."""
    made = call("POST", f"{actions}/runners/{kind}")
    assert made.status_code == 201
    assert made.json()["expires_at"] == "2026-11-20T01:00:00Z"


def test_unused_jit_registration_expires(call: Call, clock: Clock) -> None:
    """A config that nobody used is gone after its time."""
    made = call("POST", "actions/runners/generate-jitconfig", json=JIT).json()
    clock.advance(3599)
    assert call("GET", f"actions/runners/{made['runner']['id']}").status_code == 200
    clock.advance(1)
    assert call("GET", f"actions/runners/{made['runner']['id']}").status_code == 404


def test_silent_runner_is_shown_offline(github: GitHub, clock: Clock) -> None:
    """A runner that stops calling goes offline, and vanishes after a day if it is ephemeral."""
    runner = github.register("octo/widgets", "gpu-1", ["x"], online=True)
    clock.advance(59)
    assert github.all_runners()[0].online
    clock.advance(1)
    assert not github.all_runners()[0].online
    clock.advance(86400)
    assert runner.name not in {each.name for each in github.all_runners()}


def test_idle_jit_runner_can_be_taken_away(github: GitHub, clock: Clock) -> None:
    """With that lifetime set, a listening runner without a job loses its registration."""
    from dataclasses import replace

    github.lifetimes = replace(github.lifetimes, jit_idle=30)
    github.register("octo/widgets", "gpu-1", ["x"], online=True)
    clock.advance(29)
    assert github.all_runners()
    clock.advance(1)
    assert github.all_runners() == []


def test_pages(github: GitHub, call: Call) -> None:
    """Pages hold what was asked for, link to each other, and one beyond the end is empty."""
    for number in range(7):
        github.register("octo/widgets", f"gpu-{number}", ["x"])
    middle = call("GET", "actions/runners", params={"per_page": 3, "page": 2})
    assert [each["name"] for each in middle.json()["runners"]] == ["gpu-3", "gpu-4", "gpu-5"]
    assert middle.json()["total_count"] == 7
    assert set(middle.links) == {"prev", "next", "last", "first"}
    assert middle.links["next"]["url"] == middle.links["last"]["url"]
    beyond = call("GET", "actions/runners", params={"per_page": 3, "page": 4})
    assert beyond.json()["runners"] == []
    assert "Link" not in call("GET", "actions/runners").headers


def test_a_page_holds_at_most_a_hundred(github: GitHub, call: Call) -> None:
    """More than 100 a page cannot be had."""
    for number in range(101):
        github.register("octo/widgets", f"gpu-{number}", ["x"])
    first = call("GET", "actions/runners", params={"per_page": 500})
    assert len(first.json()["runners"]) == 100
    assert first.links["next"]["url"].endswith("page=2")


def test_runner_groups(github: GitHub, call: Call) -> None:
    """Groups say who may use them; the filter leaves those that the repository may."""
    github.add_group("octo", "others", visibility="selected", repositories=["octo/other"])
    github.add_group("octo", "open", allows_public_repositories=True)
    groups = "/orgs/octo/actions/runner-groups"
    names = [each["name"] for each in call("GET", groups).json()["runner_groups"]]
    assert names == ["Default", "others", "open"]
    ours = call("GET", groups, params={"visible_to_repository": "widgets"}).json()
    assert [each["name"] for each in ours["runner_groups"]] == ["Default", "open"]
    assert [each["allows_public_repositories"] for each in ours["runner_groups"]] == [False, True]
    assert call("GET", f"{groups}/1").json()["default"] is True
