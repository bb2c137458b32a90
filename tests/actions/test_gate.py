"""The shipped gate: who gets through, what later jobs are told, and that it needs no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.gate.payloads import FORK, NUMBER, environment, pull_request, push
from tests.pace import PATIENCE

from gpu_ci.errors import BadInputs, EventUnreadable, NotAllowed
from gpu_ci_sandbox.fake_github.credentials import job_token
from gpu_ci_sandbox.fake_github.openapi import assert_valid_requests
from gpu_ci_sandbox.world import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from gpu_ci_sandbox.action_step import Result, Step
    from gpu_ci_sandbox.world import World

LABEL = "run-gpu-ci"
RIGHTS = {"contents": "read", "pull_requests": "write"}
PROFILES = (
    "profiles: {big: {provider: ec2, machine: g5.xlarge, aws-role: %s, aws-region: eu-west-1}}"
)
ROLE = "arn:aws:iam::123456789012:role/gpu"


@pytest.fixture
def gate(world: World, tmp_path: Path) -> Any:
    """`gate(event, label="x", …)`: begin the step in a run with this event."""
    github = world.served.github
    world.run_token = github.issue(job_token(REPOSITORY, **RIGHTS))
    github.label_issue(REPOSITORY, NUMBER, LABEL)

    def begin(told: dict[str, Any], **inputs: str) -> Step:
        folder = tmp_path / f"event-{len(world.steps)}"
        folder.mkdir()
        variables = environment(told, folder)
        del variables["GITHUB_RUN_ATTEMPT"]  # the world's run has its own
        world.extra |= variables
        return world.begin("gate", **inputs)

    return begin


def ended(step: Step) -> Result:
    return step.result(PATIENCE)


def test_one_label_is_one_run(gate: Any, world: World) -> None:
    """Two runs that see a label at once: exactly one goes, the other one is no failure; a re-run of
    the first goes again (row 3.3)."""
    pushed = pull_request("synchronize", LABEL)
    steps = [gate(pushed), gate(pushed)]
    found = [ended(step) for step in steps]
    assert [result.exit_code for result in found] == [0, 0], found[0].log + found[1].log
    assert sorted(result.outputs["verdict"] for result in found) == ["elsewhere", "go"]
    assert sorted(result.outputs["run"] for result in found) == ["false", "true"]
    assert len({result.outputs["group"] for result in found}) == 2
    assert_valid_requests(world.served.faults.requests)
    world.end_run()
    world.served.github.runs.rerun(world.served.github.run(world.run_id), lambda _: True)
    again = ended(gate(pushed))
    assert (again.exit_code, again.outputs["verdict"]) == (0, "go")


def test_a_label_at_the_opening(gate: Any, world: World) -> None:
    """GitHub tells of it twice at once, and all jobs of the one run that is meant go (row 3.3)."""
    labelled = pull_request("labeled", LABEL, changed=LABEL)
    steps = [gate(pull_request("opened", LABEL)), gate(labelled), gate(labelled)]
    assert [ended(step).outputs["verdict"] for step in steps] == ["elsewhere", "go", "go"]
    assert world.served.github.issue_labels[REPOSITORY, NUMBER] == []


def test_without_the_label(gate: Any, world: World) -> None:
    """The step fails, so that a check is red and not skipped, with the cure; it asks GitHub nothing
    (row 3.2)."""
    result = ended(gate(pull_request("synchronize")))
    assert result.exit_code == NotAllowed.exit_code
    assert (result.outputs["run"], result.outputs["verdict"]) == ("false", "no")
    assert "Add the label, which begins a new run" in result.log
    assert "The GPU job may not run" in result.summary
    assert world.served.faults.requests == ()


def test_a_fork(gate: Any, world: World) -> None:
    """Its token may only read, it has no secret, and it is told how a maintainer runs it
    (row 1.15, pain 47)."""
    world.run_token = world.served.github.issue(job_token(REPOSITORY, contents="read"))
    told = pull_request("labeled", LABEL, changed=LABEL, source=FORK)
    result = ended(gate(told, profile="big", forks="skip"))
    assert (result.exit_code, result.outputs["verdict"]) == (0, "neutral")
    assert "gh pr checkout 12" in result.log
    assert world.served.faults.requests == ()


def test_a_token_that_may_only_read(gate: Any, world: World) -> None:
    """A warning, and the run that was asked for (row 3.6)."""
    world.run_token = world.served.github.issue(job_token(REPOSITORY, contents="read"))
    result = ended(gate(pull_request("reopened", LABEL)))
    assert (result.exit_code, result.outputs["run"]) == (0, "true")
    assert "::warning::" in result.log
    assert world.run_token in result.masks
    assert world.run_token not in result.log.replace(f"::add-mask::{world.run_token}", "")


def test_the_profile_of_a_push(gate: Any, world: World) -> None:
    """Later jobs learn which role to assume, in outputs that no mask empties (pain 43)."""
    (world.folder / ".github").mkdir()
    (world.folder / ".github" / "gpu-ci.yml").write_text(PROFILES % ROLE)
    result = ended(gate(push(), profile="big"))
    assert result.exit_code == 0, result.log
    assert result.dropped == ()
    assert (result.outputs["provider"], result.outputs["aws-role"]) == ("ec2", ROLE)
    assert result.outputs["aws-region"] == "eu-west-1"


@pytest.mark.parametrize("name", ['a";id;"', "$(touch oops)"])
def test_a_branch_with_an_odd_name(name: str, gate: Any, world: World) -> None:
    """It is a name in a sentence, for the shell and for the runner (row 1.16)."""
    result = ended(gate(pull_request("opened", name, branch=name)))
    assert result.exit_code == NotAllowed.exit_code
    assert "uid=" not in result.log
    assert not list(world.folder.rglob("oops"))


def test_bad_inputs_and_no_event(gate: Any, world: World) -> None:
    """Each is an error of its own, and nobody gets through."""
    bad = ended(gate(push(), forks="run", provider="nowhere"))
    assert (bad.exit_code, bad.outputs["run"]) == (BadInputs.exit_code, "")
    world.extra["GITHUB_EVENT_PATH"] = "/nowhere"
    unread = ended(world.begin("gate"))
    assert (unread.exit_code, unread.outputs["run"]) == (EventUnreadable.exit_code, "")
