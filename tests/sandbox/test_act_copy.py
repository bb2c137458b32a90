"""The copy of a workflow that act runs: what is changed in it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpu_ci.errors import BadInputs
from gpu_ci.sandbox import act_job
from gpu_ci.sandbox.act_copy import ENTER, LABEL, LEAVE, Copy, Place, copy_workflow

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = '{"directory": "/machines"}'


def copy(text: str, *, tree: Path = ROOT, gpus: str = "0") -> Copy:
    place = Place(
        actions=ROOT,
        tree=tree,
        options=OPTIONS,
        gpus=gpus,
        python="/usr/bin/python3",
        script="/act_job.py",
        env={"URL": "http://127.0.0.1:1"},
    )
    return copy_workflow(text, place)


def job_of(text: str, **settings: Any) -> dict[str, Any]:
    """Return job `a` of the copy of a workflow with this job."""
    made = json.loads(copy(f"on: push\njobs:\n  a:\n    runs-on: x\n{text}", **settings).content)
    job: dict[str, Any] = made["jobs"]["a"]
    return job


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(BadInputs) as failure:
        copy(text)
    return failure.value.problems


def labels_of(runs_on: str) -> str:
    """Return the expression by which the first step learns its labels."""
    job = json.loads(copy(f"on: push\njobs: {{a: {{runs-on: {runs_on}}}}}").content)["jobs"]["a"]
    assert job["runs-on"] == LABEL
    return str(job["steps"][0]["env"]["GPU_CI_DEMO_RUNS_ON"])


def test_every_job_gets_a_first_and_a_last_step() -> None:
    """The sandbox hears of every job, and of its end whatever happens in it."""
    steps = job_of("    steps: [{run: mine}]\n")["steps"]
    assert [step.get("id", step["run"]) for step in steps] == [ENTER, "mine", LEAVE]
    assert steps[2]["if"] == "always()"


@pytest.mark.parametrize(
    ("runs_on", "expression"),
    [
        ("ubuntu-latest", '"ubuntu-latest"'),
        ('"${{ needs.s.outputs.label }}"', "${{ toJSON(needs.s.outputs.label) }}"),
        ('["${{ matrix.label }}", gpu]', '${{ toJSON(matrix.label) }}\n"gpu"'),
        ('{group: g, labels: ["gpu"]}', '"gpu"'),
        ("{group: g}", ""),
        ('"gpu-${{ github.run_id }}"', '"gpu-${{ github.run_id }}"'),
    ],
)
def test_the_labels_are_those_of_runs_on(runs_on: str, expression: str) -> None:
    """Every form of `runs-on` reaches the sandbox, its expressions for act to evaluate."""
    assert labels_of(runs_on) == expression


@pytest.mark.parametrize(
    ("told", "labels"),
    [
        ('"one"', ["one"]),
        ('[\n  "one",\n  "two"\n]\n"three"', ["one", "two", "three"]),
        ("", []),
    ],
)
def test_the_first_step_reads_what_the_expression_becomes(told: str, labels: list[str]) -> None:
    """The labels come as JSON, strings or lists of them."""
    assert act_job.read_labels(told) == labels


@pytest.mark.parametrize("labels", [[], [""]])
def test_an_empty_label_is_refused(labels: list[str]) -> None:
    """A job without a label, because start set none, would be taken by any runner."""
    with pytest.raises(SystemExit, match="runs-on is empty"):
        act_job.enter_rented(labels)


def test_words_and_dates_stay_what_they_are() -> None:
    """`on`, `yes` and a date are strings for GitHub, which YAML 1.1 takes for others."""
    job = job_of("    env: {A: on, B: yes, C: 2026-01-02, D: true, E: 3.5, F: 010, G: 7, H:}\n")
    assert job["env"] == {
        "A": "on",
        "B": "yes",
        "C": "2026-01-02",
        "D": True,
        "E": 3.5,
        "F": "010",
        "G": 7,
        "H": None,
    }


def test_our_actions_get_this_machine() -> None:
    """Provider, options and the GPU gate are this machine's; what only a cloud knows is left out."""
    job = job_of("""
    steps:
      - uses: any-owner/gpu-ci/action-start@0123abc
        with: {provider: ec2, region: eu-west-1, machine: g5.xlarge, count: 2, setup-script: reboot}
      - uses: any-owner/gpu-ci/action-stop@0123abc
        with: {provider: ec2, machine: "${{ needs.start.outputs.machine }}"}
""")
    start, stop = (step["with"] for step in job["steps"][1:3])
    assert start == {"provider": "local", "provider-options": OPTIONS, "gpus": "0", "count": 2}
    assert stop == {
        "provider": "local",
        "provider-options": OPTIONS,
        "machine": "${{ needs.start.outputs.machine }}",
    }


def test_the_watchdog_looks_at_this_machine_if_at_any() -> None:
    """Its queue is the sandbox's; machines are this one's, and only where the workflow names some."""
    job = job_of("""
    steps:
      - uses: any-owner/gpu-ci/action-watchdog@0123abc
      - uses: any-owner/gpu-ci/action-watchdog@0123abc
        with: {queue-minutes: 5, labels: gpu-*, cache-dir: /kept, app-id: 1, app-private-key: k}
      - uses: any-owner/gpu-ci/action-watchdog@0123abc
        with: {scope: repository, providers: "ec2, jarvislabs", region: r, machine-name: box}
""")
    plain, chosen, whole = (step["with"] for step in job["steps"][1:4])
    assert plain == {}
    assert chosen == {
        "queue-minutes": 5,
        "labels": "gpu-*",
        "github-token": "${{ secrets.GPU_CI_DEMO_TOKEN }}",
    }
    assert whole == {"scope": "repository", "providers": "local", "provider-options": OPTIONS}


def test_setting_uv_up_stays_as_it_is() -> None:
    """It rents nothing: no provider and no options are forced upon it."""
    text = """
    steps:
      - uses: org/gpu-ci/action-setup-uv@v1
        with: {python-version: "3.12", sync: true}
    """
    step = job_of(text)["steps"][1]
    assert step["with"] == {"python-version": "3.12", "sync": True}


def test_what_was_changed_is_said() -> None:
    """The demo says that it rents nothing from the cloud that the workflow names."""
    made = copy("""
on: push
jobs:
  a:
    runs-on: x
    steps: [{uses: o/gpu-ci/action-start@v1, with: {provider: ec2, region: eu-west-1}}]
""")
    assert made.notes == ("Job a, action-start: provider is local, not ec2; region is left out.",)
    assert made.references == {"o/gpu-ci@v1"}


def test_the_gpu_gate_stays_where_there_are_gpus() -> None:
    """On a machine with GPUs the workflow's own number is asked for."""
    step = "    steps: [{uses: o/gpu-ci/action-start@v1, with: {provider: local, gpus: 4}}]\n"
    assert job_of(step, gpus="")["steps"][1]["with"]["gpus"] == 4


def test_an_app_becomes_a_token() -> None:
    """The sandbox knows no App of the user's: a token of its own takes its place."""
    with_app = "{provider: local, app-id: 1, app-private-key: k}"
    step = f"    steps: [{{uses: o/gpu-ci/action-stop@v1, with: {with_app}}}]\n"
    given = job_of(step)["steps"][1]["with"]
    assert given["github-token"] == "${{ secrets.GPU_CI_DEMO_TOKEN }}"
    assert not given.keys() & {"app-id", "app-private-key"}


def test_actions_of_the_same_commit_are_found() -> None:
    """`$/action` becomes a reference that act is told the folder of."""
    job = job_of("    steps: [{uses: $/action-start, with: {provider: local}}]\n")
    assert job["steps"][1]["uses"] == "octo-org/science/action-start@self"


def test_secrets_and_variables_are_found() -> None:
    """Every one that the file mentions is given a value."""
    made = copy("""
on: push
jobs:
  a:
    runs-on: ${{ vars.SIZE }}
    env: {A: "${{ secrets.ONE }} ${{ secrets['TWO'] }}"}
""")
    assert made.secrets >= {"ONE", "TWO"}
    assert made.variables == {"SIZE"}


@pytest.mark.parametrize(
    ("triggers", "event"),
    [
        ("push", "push"),
        ("[pull_request, workflow_dispatch]", "workflow_dispatch"),
        ("{schedule: [{cron: 0 0 * * 0}]}", "schedule"),
        ("{push: {branches: [release]}}", "push"),
    ],
)
def test_one_event_is_sent_without_filters(triggers: str, event: str) -> None:
    """The copy is on branch main, which the workflow may not listen to."""
    made = copy(f"on: {triggers}\njobs: {{a: {{runs-on: x}}}}")
    assert made.event == event
    assert json.loads(made.content)["on"] == {event: None}


def test_inputs_of_a_dispatch_stay() -> None:
    """act fills in the defaults of a workflow_dispatch."""
    made = copy("on: {workflow_dispatch: {inputs: {n: {default: 3}}}}\njobs: {a: {runs-on: x}}")
    assert json.loads(made.content)["on"]["workflow_dispatch"]["inputs"] == {"n": {"default": 3}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("on: push", "no jobs"),
        ("on: workflow_call\njobs: {a: {runs-on: x}}", "triggered by workflow_call"),
        ("on: push\njobs: {a: {uses: ./b.yml}}", "calls the workflow ./b.yml"),
        ("on: push\njobs: {a: {runs-on: x, container: debian}}", "container engine"),
        ("on: push\njobs: {a: {runs-on: x, services: {s: {image: i}}}}", "container engine"),
        ("on: push\njobs: {a: {runs-on: x, steps: [{uses: o/r@v1}]}}", "o/r@v1"),
        ("on: push\njobs: {a: {runs-on: x, steps: [{uses: ./gone}]}}", "./gone"),
        ("on: push\njobs: {a: {runs-on: x, steps: [{uses: o/gpu-ci/action-no@v1}]}}", "action-no"),
    ],
)
def test_what_act_cannot_run_is_refused(text: str, problem: str) -> None:
    """Nothing runs half: act would skip or ignore it, or fail in the middle."""
    problems = problems_of(text)
    assert len(problems) == 1
    assert problem in problems[0]


def test_all_problems_are_told_at_once() -> None:
    """One look is enough to mend a file."""
    text = "on: issues\njobs: {a: {runs-on: x, container: c, steps: [{uses: o/r@v1}]}}"
    assert len(problems_of(text)) == 3


@pytest.mark.parametrize(
    ("page", "jobs"),
    [
        ("README.md", ("start", "test", "watch", "stop")),
        ("action-start/README.md", ("start", "test", "stop")),
    ],
)
def test_the_workflows_to_paste_can_be_tried(page: str, jobs: tuple[str, ...]) -> None:
    """What a reader pastes first runs in the demo; logging in to the cloud is left out, and told."""
    text = (ROOT / page).read_text().partition("```yaml\n")[2].partition("```")[0]
    made = copy(text)
    assert made.jobs == jobs
    assert "configure-aws-credentials" not in made.content
    assert any("configure-aws-credentials is left out" in note for note in made.notes)
