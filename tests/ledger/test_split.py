"""How a machine's billed time splits, and what counts as a hosted minute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from gpu_ci.github.client import Job
from gpu_ci.ledger.split import (
    OUR_STEPS,
    Split,
    hosted_minutes,
    is_step_of,
    on_our_machine,
    spans_of,
    split,
    uses,
)

WORKFLOWS = Path(__file__).parents[2] / ".github" / "workflows"
MOMENTS = st.floats(min_value=0, max_value=2e9)
STOP = "Run org/gpu-ci/action-stop@v1"
HOSTED = Job(
    id=1,
    name="stop",
    status="completed",
    conclusion="success",
    labels=frozenset({"ubuntu-latest"}),
    runner_name="GitHub Actions 7",
    runner_group="GitHub Actions",
    started_at=1000.0,
    completed_at=1061.0,
    steps=(STOP,),
)


@given(MOMENTS, MOMENTS, st.lists(st.tuples(MOMENTS, MOMENTS), max_size=5))
@example(100.0, 200.5, [(150.4, 160.6), (155.0, 170.0)])
@example(200.0, 100.0, [(0.0, 300.0)])
@example(0.0, 2.0, [(0.5, 2.0)])
def test_the_parts_are_the_whole(
    began: float, ended: float, jobs: list[tuple[float, float]]
) -> None:
    """Boot, work and idle add up to the billed seconds, whatever the clocks say, and none is
    below zero."""
    parts = split(began, ended, jobs)
    assert parts.seconds == max(0, round(ended - began))
    assert min(parts.boot, parts.work, parts.idle) >= 0


@pytest.mark.parametrize(
    ("jobs", "parts"),
    [
        ([(1095, 1735)], Split(boot=95, work=640, idle=77)),
        ([(1095, 1200), (1300, 1400)], Split(boot=95, work=205, idle=512)),
        ([(1300, 1400), (1095, 1200)], Split(boot=95, work=205, idle=512)),
        ([(1095, 1400), (1200, 1300)], Split(boot=95, work=305, idle=412)),
        ([(900, 1100)], Split(boot=0, work=100, idle=712)),
        ([(1700, 5000)], Split(boot=700, work=112, idle=0)),
        ([(500, 950), (1095, 1735)], Split(boot=95, work=640, idle=77)),
        ([(500, 1000), (1095, 1735)], Split(boot=95, work=640, idle=77)),
        ([(1095, 1735), (1900, 2000)], Split(boot=95, work=640, idle=77)),
        ([(500, 950)], Split(boot=0, work=0, idle=812)),
        ([(1900, 2000)], Split(boot=0, work=0, idle=812)),
        ([(1812, 1812)], Split(boot=812, work=0, idle=0)),
        ([], Split(boot=0, work=0, idle=812)),
    ],
)
def test_a_split(jobs: list[tuple[float, float]], parts: Split) -> None:
    """Boot ends with the first job, jobs at once count once, what is in part outside is at the edge,
    what a kept machine did before or does later does not count, and without a job all is idle."""
    assert split(1000.0, 1812.0, jobs) == parts


def test_a_machines_jobs_are_those_of_its_runner() -> None:
    """By its name; one that still runs lasts until now, one that never began is none."""
    jobs = [
        replace(HOSTED, runner_name="box"),
        replace(HOSTED, runner_name="box", completed_at=0.0),
        replace(HOSTED, runner_name="box2"),
        replace(HOSTED, runner_name="box", started_at=0.0),
    ]
    assert spans_of("box", jobs, 2000.0) == [(1000.0, 1061.0), (1000.0, 2000.0)]


@pytest.mark.parametrize(
    ("job", "minutes"),
    [
        (HOSTED, 2),
        (replace(HOSTED, completed_at=1060.0), 1),
        (replace(HOSTED, completed_at=1000.0), 1),
        (replace(HOSTED, completed_at=0.0), 4),
        (replace(HOSTED, steps=("Run ruff",)), 0),
        (replace(HOSTED, runner_group="Default"), 0),
        (replace(HOSTED, runner_name=""), 0),
    ],
)
def test_hosted_minutes_are_those_of_our_jobs_on_githubs_runners(job: Job, minutes: int) -> None:
    """Each job rounded up, as GitHub bills; a self-hosted runner costs no minutes."""
    assert hosted_minutes([job], 1181.0) == minutes
    assert hosted_minutes([job, HOSTED], 1181.0) == minutes + 2


def test_what_ran_on_a_rented_machine_is_known() -> None:
    """By the label that only it has, or by the name of a runner of one run."""
    name = "gpu-ci-17-1-test-0123456789-0"
    assert on_our_machine(replace(HOSTED, labels=frozenset({f"{name}-deadbeef"})))
    assert on_our_machine(replace(HOSTED, runner_name=name))
    assert not on_our_machine(HOSTED)


def test_a_step_is_known_by_what_it_uses() -> None:
    """Whoever the owner is, and by whatever reference."""
    assert uses(replace(HOSTED, steps=("Run ./action-stop",)), "action-stop")
    assert uses(replace(HOSTED, steps=("Run $/action-stop",)), "action-stop")
    assert not uses(replace(HOSTED, steps=("Run org/gpu-ci/action-start@v1",)), "action-stop")


def named_steps() -> list[tuple[str, str]]:
    """Return the name of each step of our callable workflows that uses an action, and which."""
    texts = [file.read_text() for file in WORKFLOWS.glob("*.yml")]
    workflows = [yaml.safe_load(text) for text in texts if "workflow_call" in text]
    steps = [
        step
        for workflow in workflows
        for job in workflow["jobs"].values()
        for step in job.get("steps", [])
        if any(f"$/{action}" == step.get("uses") for action in OUR_STEPS)
    ]
    return [(step.get("name", step["uses"]), step["uses"].removeprefix("$/")) for step in steps]


def test_the_steps_of_our_callable_workflows_are_known() -> None:
    """They have names of their own: a stop in them that is not known would be in no ledger."""
    steps = named_steps()
    assert {action for _, action in steps} == set(OUR_STEPS)
    assert [name for name, action in steps if not is_step_of(name, action)] == []
