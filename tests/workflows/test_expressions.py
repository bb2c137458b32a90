"""GitHub's own parser has nothing to say against any workflow and any action here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.workflows.official import HERE, ROOT, skip_without_network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.workflows.official import Official

FOLDERS = (".github/workflows", "tests/e2e/workflows", "tests/e2e/consumer/.github/workflows")
ACTIONS = sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("action-*/action.yml"))
WORKFLOWS = sorted(
    str(file.relative_to(ROOT)) for folder in FOLDERS for file in (ROOT / folder).glob("*.yml")
)
PAGES = [ROOT / "README.md", *ROOT.glob("action-*/README.md"), *sorted(ROOT.glob("docs/**/*.md"))]
SHIPPED = [file for file in WORKFLOWS if file.startswith(".github/")]
LOOP = ".github/workflows/gpu-loop.yml"
CONSUMER = f"{FOLDERS[2]}/gpu.yml"
TRIPLE = f"{FOLDERS[1]}/loop.yml"
START = "action-start/action.yml"
JOB = ".github/workflows/gpu-job.yml"


def test_there_is_something_to_look_at() -> None:
    """The workflows that others call, the consumer's and the actions are found."""
    assert {LOOP, JOB, CONSUMER} <= {*WORKFLOWS}
    assert len(ACTIONS) == 5


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS])
def test_the_official_parser_finds_nothing(path: str, official: Official) -> None:
    """Every key, every expression, and what is given to our own actions and workflows is right."""
    assert official.validate(path, (ROOT / path).read_text()) == []


def shown() -> Iterator[tuple[str, str]]:
    """Yield each workflow that a page shows, with the page and its number there."""
    for page in PAGES:
        blocks = re.findall(r"^```ya?ml.*\n((?:(?!```).*\n)*)```", page.read_text(), re.MULTILINE)
        for number, block in enumerate(blocks):
            if re.search(r"^jobs:", block, re.MULTILINE):
                yield f"{page.relative_to(ROOT)}-{number}.yml", block


SHOWN = list(shown())


@pytest.mark.parametrize(("path", "text"), SHOWN, ids=[path for path, _ in SHOWN])
def test_the_official_parser_finds_nothing_in_what_a_page_shows(
    path: str, text: str, official: Official
) -> None:
    """What a reader pastes is right, down to the inputs of what it calls."""
    event = "" if re.search(r"^on:", text, re.MULTILINE) else "on: push\n"
    assert official.validate(f".github/workflows/{Path(path).name}", event + text) == []


@pytest.mark.parametrize(
    ("path", "old", "new", "said"),
    [
        (LOOP, "needs.start.outputs.label", "needs.begin.outputs.label", "begin"),
        (LOOP, "needs.start.outputs.label", "needs.start.outputs.tag", "tag"),
        (LOOP, "if: always()", "if: forever()", "forever"),
        (LOOP, "needs: start", "needs: begin", "begin"),
        (LOOP, "timeout-minutes:", "timeout-minuts:", "timeout-minuts"),
        (LOOP, "uses: $/action-start", "uses: $/action-begin", "action-begin"),
        (LOOP, "          labels: ${{", "          labelling: ${{", "labelling"),
        (JOB, "queue: max", "quene: max", "quene"),
        (JOB, "      region: ${{ inputs", "      place: ${{ inputs", "place"),
        (JOB, "jobs.loop.outputs.cost", "jobs.loop.outputs.price", "price"),
        (CONSUMER, "profile:", "profil:", "profil"),
        (CONSUMER, "github-token:", "token:", "token"),
        (CONSUMER, "gpu-job.yml", "gpu-jobs.yml", "reusable workflow"),
        (TRIPLE, "action-start@", "action-begin@", "action-begin"),
        (TRIPLE, "          provider:", "          cloud:", "cloud"),
        (START, "inputs.provider }}", "inputs.provider || }}", "expression"),
        (START, "github.token", "secrets.token", "secrets"),
        (START, "using: composite", "using: compound", "compound"),
    ],
)
def test_a_broken_copy_is_found(
    path: str, old: str, new: str, said: str, official: Official
) -> None:
    """The parser sees a slip of the pen in each of the places that matter, so silence means something."""
    text = (ROOT / path).read_text()
    assert old in text
    assert said in "\n".join(official.validate(path, text.replace(old, new)))


def steps_of(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each step of a workflow or an action, and each job that calls a workflow."""
    loaded = yaml.safe_load((ROOT / path).read_text())
    yield from ((f"{path}: {step}", step) for step in loaded.get("runs", {}).get("steps", []))
    for name, job in loaded.get("jobs", {}).items():
        yield from ((f"{path}, {name}: {step}", step) for step in [job, *job.get("steps", [])])


@pytest.mark.parametrize("path", [*SHIPPED, *ACTIONS])
def test_nothing_is_spliced_into_a_script(path: str) -> None:
    """A branch's name, or an input, is never part of a shell's text (row 1.16)."""
    assert [where for where, step in steps_of(path) if "${{" in step.get("run", "")] == []


def test_without_a_network_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a developer's machine alone: where every test has to run, the failure stays one."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="ENOTFOUND"):
        skip_without_network("npm error code ENOTFOUND")
    monkeypatch.setenv("CI", "true")
    skip_without_network("npm error code ENOTFOUND")


def test_a_lock_names_no_host() -> None:
    """npm asks whatever index it is told of, and compares what it gets with the lock."""
    lock = json.loads((HERE / "package-lock.json").read_text())["packages"]
    assert [name for name, package in lock.items() if "resolved" in package] == []
    assert [name for name, package in lock.items() if name and "integrity" not in package] == []
