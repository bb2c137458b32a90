"""A label is used up once, whoever else wants it and whatever becomes of the answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from tests.fakes import FakeClock
from tests.gate.payloads import NUMBER, REPOSITORY

from gpu_ci.errors import Absent, Forbidden, Unreachable
from gpu_ci.github.labels import use_up
from gpu_ci.github.tokens import Access
from gpu_ci.github.transport import Line
from gpu_ci_sandbox.fake_github.credentials import job_token
from gpu_ci_sandbox.fake_github.openapi import assert_valid_requests
from gpu_ci_sandbox.faults import drop, lose_answer

if TYPE_CHECKING:
    from gpu_ci_sandbox.fake_github.rest import ServedGitHub

LABEL = "run-gpu-ci"
KEY = (REPOSITORY, NUMBER)


def ask(hub: ServedGitHub, token: str, label: str = LABEL, number: int = NUMBER) -> bool:
    access = Access(api_url=hub.url, repository=REPOSITORY, tokens=[token])
    return use_up(access, number, label, FakeClock())


def test_a_label_is_removed(hub: ServedGitHub, token: str) -> None:
    """That one alone, by one request that GitHub's description knows."""
    assert ask(hub, token)
    assert hub.github.issue_labels[KEY] == ["docs"]
    assert len(hub.faults.requests) == 1
    assert_valid_requests(hub.faults.requests)


def test_a_label_that_is_gone(hub: ServedGitHub, token: str) -> None:
    """Another run has it, which the list of labels confirms."""
    assert ask(hub, token)
    assert not ask(hub, token)
    assert [each.method for each in hub.faults.requests] == ["DELETE", "DELETE", "GET"]
    assert_valid_requests(hub.faults.requests)


def test_of_many_runs_one_has_the_label(hub: ServedGitHub, token: str) -> None:
    """Eight at once, as by `opened` and a `labeled` for each label: exactly one goes."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ask(hub, token), range(8)))
    assert sorted(found) == [False] * 7 + [True]


@pytest.mark.parametrize("name", ['a";id;"', "a/b", "a b", "50% off?#x", "größe", "<b>"])
def test_odd_labels(name: str, hub: ServedGitHub, token: str) -> None:
    """A name is one part of the address, whatever signs it has (row 1.16)."""
    hub.github.label_issue(REPOSITORY, NUMBER, name)
    assert ask(hub, token, name)
    assert hub.github.issue_labels[KEY] == ["docs", LABEL]


def test_a_label_is_one_part_of_the_address() -> None:
    """Its slashes, dots and questions lead nowhere else."""
    access = Access(api_url="http://127.0.0.1:9", repository=REPOSITORY, tokens=["ghs_x"])
    with mock.patch.object(Line, "delete") as delete:
        assert use_up(access, NUMBER, "../a?b#c/d", FakeClock())
    labels = f"/repos/{REPOSITORY}/issues/{NUMBER}/labels"
    delete.assert_called_once_with(f"{labels}/..%2Fa%3Fb%23c%2Fd")


@pytest.mark.parametrize("permissions", [{}, {"pull_requests": "read"}, {"contents": "write"}])
def test_a_token_that_may_only_read(permissions: dict[str, str], hub: ServedGitHub) -> None:
    """It is an error of its own, with the cure, and never "gone" (row 3.6)."""
    weak = hub.github.issue(job_token(REPOSITORY, **permissions))
    with pytest.raises(Forbidden, match="pull-requests: write"):
        ask(hub, weak)
    assert LABEL in hub.github.issue_labels[KEY]


def test_a_token_of_another_repository(hub: ServedGitHub) -> None:
    """To it everything is 404: that is not taken for a label that somebody used."""
    hub.github.add_repository("octo-org/other")
    stranger = hub.github.issue(job_token("octo-org/other", pull_requests="write"))
    with pytest.raises(Absent):
        ask(hub, stranger)


def test_a_pull_request_that_is_not_there(hub: ServedGitHub, token: str) -> None:
    """Nor is that one without a list of labels."""
    with pytest.raises(Absent):
        ask(hub, token, number=99)


def test_an_answer_that_is_lost(hub: ServedGitHub, token: str) -> None:
    """The label is gone at the second look, and it was this run that removed it."""
    hub.faults.add(lose_answer(method="DELETE"))
    assert ask(hub, token)
    assert LABEL not in hub.github.issue_labels[KEY]


def test_an_outage(hub: ServedGitHub, token: str) -> None:
    """It is tried four times, and then nobody knows: that is an error, not an answer."""
    hub.faults.add(drop(method="DELETE", times=None))
    with pytest.raises(Unreachable):
        ask(hub, token)
    assert len(hub.faults.calls("DELETE")) == 4
