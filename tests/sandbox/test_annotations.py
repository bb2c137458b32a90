"""What a step's commands leave on a check run of the stand-in, and who may read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.fake_github.annotations import LONGEST, Annotation, Annotator

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from gpu_ci_sandbox.fake_github.state import GitHub

REPOSITORY = "octo/widgets"


def heard(*lines: str) -> list[Annotation]:
    annotator = Annotator()
    return [found for line in lines for found in annotator.hear(line)]


@pytest.mark.parametrize(
    ("line", "annotation"),
    [
        ("::notice::hello", Annotation(level="notice", message="hello")),
        ("  ::warning::a%0Ab%25", Annotation(level="warning", message="a\nb%")),
        ("::error file=a.py,line=3::x: y", Annotation(level="failure", message="x: y")),
        (
            "::notice title=a%3A b%2C c,col=1::x",
            Annotation(level="notice", message="x", title="a: b, c"),
        ),
    ],
)
def test_a_command_becomes_an_annotation(line: str, annotation: Annotation) -> None:
    """With its title, and what was escaped."""
    assert heard(line) == [annotation]


@pytest.mark.parametrize(
    "line", ["notice: hello", "a ::notice::x", "::debug::x", "::group::x", "##[notice]x"]
)
def test_anything_else_becomes_none(line: str) -> None:
    """Only commands of the three levels, at the beginning of a line."""
    assert heard(line) == []


def test_stopped_commands_leave_nothing() -> None:
    """Until their token is printed: what a machine said is quoted so."""
    lines = (
        "::stop-commands::t0k3n",
        "::notice::forged",
        "::other::",
        "::t0k3n::",
        "::notice::own",
    )
    assert [each.message for each in heard(*lines)] == ["own"]


def test_what_is_masked_is_hidden() -> None:
    """As in the log."""
    lines = ("::add-mask::s3cret", "::notice::the s3cret is told")
    assert [each.message for each in heard(*lines)] == ["the *** is told"]


def test_the_runner_keeps_ten_of_a_kind_and_cuts_long_ones() -> None:
    """Whatever else a step prints."""
    found = heard(*["::notice::x"] * 12, "::warning::y", f"::error::{'z' * 5000}")
    assert [each.level for each in found] == ["notice"] * 10 + ["warning", "failure"]
    assert len(found[-1].message) == LONGEST


def test_annotations_are_listed_by_pages(
    github: GitHub, call: Callable[..., requests.Response]
) -> None:
    """Oldest first, as a bare list, with a link to the next page."""
    job = github.queue_job(github.start_run(REPOSITORY), "a", [])
    for number in range(3):
        github.annotate(job.id, Annotation(level="notice", message=f"{number}"))
    first = call("GET", f"check-runs/{job.id}/annotations", params={"per_page": 2})
    assert [each["message"] for each in first.json()] == ["0", "1"]
    assert 'rel="next"' in first.headers["Link"]
    rest = call("GET", f"check-runs/{job.id}/annotations", params={"per_page": 2, "page": 2})
    assert [each["message"] for each in rest.json()] == ["2"]
    assert call("GET", f"check-runs/{job.id + 1}/annotations").status_code == 404


@pytest.mark.parametrize(
    ("rights", "status"),
    [({"checks": "read"}, 200), ({"checks": "write"}, 200), ({"actions": "write"}, 403)],
)
def test_reading_them_is_a_right_of_its_own(
    github: GitHub, call: Callable[..., requests.Response], rights: dict[str, Any], status: int
) -> None:
    """`checks: read`, which `actions` does not give."""
    job = github.queue_job(github.start_run(REPOSITORY), "a", [])
    token = github.issue(credentials.job_token(REPOSITORY, **rights))
    answer = call("GET", f"check-runs/{job.id}/annotations", token=token)
    assert answer.status_code == status
