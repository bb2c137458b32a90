"""Files of a repository at the stand-in, against GitHub's own description."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from githubkit import GitHub as Client
from githubkit.exception import RequestFailed
from pydantic import TypeAdapter

from gpu_ci_sandbox.fake_github.credentials import fine_grained
from gpu_ci_sandbox.fake_github.openapi import assert_valid_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

    from gpu_ci_sandbox.fake_github.rest import ServedGitHub
    from gpu_ci_sandbox.fake_github.state import GitHub

WHERE = ("octo", "widgets")
OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def client(hub: ServedGitHub, admin: str, github: GitHub) -> Iterator[Client[Any]]:
    """Two commits, of which the newer has more; what was asked must pass our checker."""
    github.contents.put("octo/widgets", OLD, "README.md", "old")
    github.contents.put("octo/widgets", NEW, "README.md", "new")
    github.contents.put("octo/widgets", NEW, ".github/gpu-ci.yml", "profiles: {}\n")
    with Client(admin, base_url=hub.url, http_cache=False, auto_retry=False) as made:
        yield made
    assert_valid_requests(hub.faults.requests)


def parsed(response: Any) -> Any:
    """Return the answer as the published model; fails if it does not follow it to the letter."""
    found = response.parsed_data
    kind: Any = list[type(found[0])] if isinstance(found, list) else type(found)  # type: ignore[misc]  # only pydantic reads it
    TypeAdapter(kind).validate_json(response.content, strict=True)
    return found


def test_a_file_is_read_at_its_commit(client: Client[Any]) -> None:
    """In base64, at the commit that is named, or at the newest."""
    repos = client.rest("2026-03-10").repos
    for ref, text in ((OLD, b"old"), (NEW, b"new")):
        file = parsed(repos.get_content(*WHERE, "README.md", ref=ref))
        assert (base64.b64decode(file.content), file.size, file.type) == (text, 3, "file")
    newest = parsed(repos.get_content(*WHERE, ".github/gpu-ci.yml"))
    assert base64.b64decode(newest.content) == b"profiles: {}\n"


def test_a_folder_lists_what_is_in_it(client: Client[Any]) -> None:
    """Files and folders, also of the root."""
    repos = client.rest("2026-03-10").repos
    root = parsed(repos.get_content(*WHERE, "", ref=NEW))
    assert [(each.path, each.type) for each in root] == [(".github", "dir"), ("README.md", "file")]
    below = parsed(repos.get_content(*WHERE, ".github", ref=NEW))
    assert [each.path for each in below] == [".github/gpu-ci.yml"]


def test_what_is_not_there_is_404(client: Client[Any]) -> None:
    """A path, a folder, and a commit that nobody has."""
    repos = client.rest("2026-03-10").repos
    for path, ref in ((".github/gpu-ci.yml", OLD), ("README.md", "c" * 40)):
        with pytest.raises(RequestFailed) as refused:
            repos.get_content(*WHERE, path, ref=ref)
        assert refused.value.response.status_code == 404
        assert refused.value.response.parsed_data.message


def test_a_private_repository_is_read_with_the_right_alone(
    call: Callable[..., requests.Response], client: Client[Any], github: GitHub
) -> None:
    """403 without `contents: read`, 404 for who does not even see the repository."""
    reader = github.issue(fine_grained("octo/widgets", contents="read"))
    blind = github.issue(fine_grained("octo/widgets", actions="write"))
    stranger = github.issue(fine_grained("other/one", contents="read"))
    asked = {who: call("GET", "contents/README.md", token=who) for who in (reader, blind, stranger)}
    assert [answer.status_code for answer in asked.values()] == [200, 403, 404]


def test_of_a_large_file_nothing_is_sent(
    call: Callable[..., requests.Response], client: Client[Any], github: GitHub
) -> None:
    """Above 1 MiB GitHub says its size and an encoding of none."""
    github.contents.put("octo/widgets", NEW, "large", b"x" * (1024 * 1024 + 1))
    told = call("GET", "contents/large").json()
    assert (told["size"], told["encoding"], told["content"]) == (1024 * 1024 + 1, "none", "")
