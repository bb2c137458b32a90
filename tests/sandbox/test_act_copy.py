"""The copy of a workflow that act runs: what is changed in it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpu_ci.errors import BadInputs
from gpu_ci_sandbox.act import job_steps
from gpu_ci_sandbox.act.local_profiles import for_this_machine
from gpu_ci_sandbox.act.runnable_steps import Place
from gpu_ci_sandbox.act.workflow_copy import ENTER, LABEL, LEAVE, Copy, Kept, copy_workflow

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = '{"directory": "/machines"}'


def copy(text: str, *, tree: Path = ROOT, gpus: str = "0", **more: Any) -> Copy:
    place = Place(
        actions=ROOT,
        tree=tree,
        options=OPTIONS,
        gpus=gpus,
        python="/usr/bin/python3",
        script="/act_job.py",
        env={"URL": "http://127.0.0.1:1"},
    )
    return copy_workflow(text, place, **more)


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
    assert job_steps.read_labels(told) == labels


@pytest.mark.parametrize("labels", [[], [""]])
def test_an_empty_label_is_refused(labels: list[str]) -> None:
    """A job without a label, because start set none, would be taken by any runner."""
    with pytest.raises(SystemExit, match="runs-on is empty"):
        job_steps.enter_rented(labels)


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
        with: {provider: ec2, handle: "${{ needs.start.outputs.handle }}"}
""")
    start, stop = (step["with"] for step in job["steps"][1:3])
    assert start == {"provider": "local", "provider-options": OPTIONS, "gpus": "0", "count": 2}
    assert stop == {
        "provider": "local",
        "provider-options": OPTIONS,
        "handle": "${{ needs.start.outputs.handle }}",
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


def test_a_checkout_has_the_one_commit_that_there_is() -> None:
    """act would fetch another one from GitHub; that it is not is said."""
    steps = "[{uses: actions/checkout@v7, with: {ref: release, path: sub}}, {uses: actions/checkout@v7}]"
    made = copy(f"on: push\njobs: {{a: {{runs-on: x, steps: {steps}}}}}")
    kept = json.loads(made.content)["jobs"]["a"]["steps"][1:3]
    assert kept == [
        {"uses": "actions/checkout@v7", "with": {"path": "sub"}},
        {"uses": "actions/checkout@v7"},
    ]
    assert made.notes == ("Job a, actions/checkout: ref is left out.",)


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
        ("on: push\njobs: {a: {uses: $/.github/workflows/no.yml}}", "workflows/no.yml"),
        ("on: push\njobs: {a: {uses: o/r/.github/workflows/c.yml@v1}}", "o/r/.github"),
        ("on: push\njobs: {a: {uses: o/gpu-ci/.github/workflows/no.yml@v1}}", "no.yml@v1"),
        ("on: push\njobs: {a: {uses: ./.github/workflows/ci.yml}}", "cannot be called"),
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


def pasted(page: str) -> Copy:
    """Return the copy of the first workflow that a page shows."""
    return copy((ROOT / page).read_text().partition("```yaml\n")[2].partition("```")[0])


def test_the_workflow_to_paste_can_be_tried() -> None:
    """What a reader pastes first runs in the demo, down to the jobs of what it calls."""
    loop = ("start", "test", "watch", "stop")
    assert set(pasted("README.md").jobs) == {
        ("gpu", "gate"),
        *(("gpu", "loop", job) for job in loop),
        ("gpu", "result"),
    }


def test_the_workflow_of_the_action_can_be_tried() -> None:
    """Logging in to the cloud is left out, and told."""
    made = pasted("action-start/README.md")
    assert made.jobs == (("start",), ("test",), ("stop",))
    assert "configure-aws-credentials" not in made.content
    assert any("configure-aws-credentials is left out" in note for note in made.notes)


LOOP = "any-owner/gpu-ci/.github/workflows/gpu-loop.yml@v1"
GPU_JOB = "any-owner/gpu-ci/.github/workflows/gpu-job.yml@v1"


def called(made: Copy) -> dict[str, dict[str, Any]]:
    """Return the copies of the workflows that are called, by their names."""
    return {Path(each.path).name: json.loads(text) for each, text in made.called.items()}


def write(tree: Path, name: str, text: str) -> None:
    file = tree / ".github" / "workflows" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_the_jobs_of_called_workflows_are_rewritten_too() -> None:
    """Those of this library, and those that they call in turn; each by where it is read from."""
    made = copy(f"on: push\njobs: {{gpu: {{uses: {GPU_JOB}, with: {{run: make}}}}}}")
    loop = ("start", "test", "watch", "stop")
    assert made.jobs == (
        ("gpu", "gate"),
        *(("gpu", "loop", job) for job in loop),
        ("gpu", "result"),
    )
    files = called(made)
    assert files.keys() == {"gpu-job.yml", "gpu-loop.yml"}
    assert files["gpu-job.yml"]["jobs"]["loop"]["uses"] == LOOP
    assert {files["gpu-loop.yml"]["jobs"][job]["runs-on"] for job in loop} == {LABEL}
    assert made.references == {"any-owner/gpu-ci@v1"}


def test_actions_of_the_commit_that_is_called_get_this_machine() -> None:
    """`$/` in this library's workflow is this library, at the ref that the user wrote."""
    made = copy(f"on: push\njobs: {{gpu: {{uses: {LOOP}, with: {{run: make}}}}}}")
    steps = called(made)["gpu-loop.yml"]["jobs"]["start"]["steps"]
    (start,) = (step for step in steps if "uses" in step)
    assert start["uses"] == "any-owner/gpu-ci/action-start@v1"
    assert start["with"]["provider"] == "local"
    assert start["with"]["profile"] == "${{ inputs.profile }}"
    token = "${{ secrets.github-token || secrets.app-private-key }}"
    assert start["with"]["github-token"] == token


def test_what_a_call_says_and_does_not_get_is_told_once() -> None:
    """By the words of the user's own file, not by those of the workflow that is called."""
    given = "{run: make, provider: ec2, region: eu-west-1, gpus: 2}"
    made = copy(f"on: push\njobs: {{gpu: {{uses: {LOOP}, with: {given}}}}}")
    assert made.notes == (
        "Job gpu, gpu-loop.yml: provider is local, not ec2; region is left out; gpus is 0, not 2.",
    )
    assert json.loads(made.content)["jobs"]["gpu"]["with"]["gpus"] == "0"


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("with: {rnu: make, run: make}", "input rnu is unknown"),
        ("with: {provider: ec2}", "input run is missing"),
        ("with: {run: make}, secrets: {token: t}", "secret token is unknown"),
    ],
)
def test_a_call_that_github_would_refuse_is_refused(call: str, problem: str) -> None:
    """act takes it, and what was not given is empty."""
    assert problems_of(f"on: push\njobs: {{a: {{uses: {LOOP}, {call}}}}}") == (
        f"Job a: {problem}.",
    )


@pytest.mark.parametrize("own", ["./", "$/"])
def test_workflows_of_the_same_repository_are_called(own: str, tmp_path: Path) -> None:
    """By either spelling; their secrets and variables are found, and one may call another."""
    write(
        tmp_path,
        "one.yml",
        f"on: workflow_call\njobs: {{b: {{uses: {own}.github/workflows/two.yml}}}}",
    )
    inner = "{runs-on: x, env: {A: '${{ secrets.DEEP }}', B: '${{ vars.SIZE }}'}}"
    write(tmp_path, "two.yml", f"on: {{workflow_call: }}\njobs: {{c: {inner}}}")
    call = f"{{uses: {own}.github/workflows/one.yml, secrets: inherit}}"
    made = copy(f"on: push\njobs: {{a: {call}}}", tree=tmp_path)
    assert made.jobs == (("a", "b", "c"),)
    assert "DEEP" in made.secrets
    assert made.variables == {"SIZE"}
    assert called(made).keys() == {"one.yml", "two.yml"}


def test_a_workflow_that_calls_itself_is_refused(tmp_path: Path) -> None:
    """GitHub allows ten levels."""
    call = "jobs: {a: {uses: ./.github/workflows/one.yml}}"
    write(tmp_path, "one.yml", f"on: workflow_call\n{call}")
    with pytest.raises(BadInputs, match=r"workflows/one\.yml"):
        copy(f"on: push\n{call}", tree=tmp_path)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ('{"id": "test" }', "test"),
        ('{"id": "test", "name": "Test it" }', "Test it"),
        ('{"id": "a", "matrix": {"x": 1, "y": "z"} }{"id": "b", "name": "B" }', "a (1, z) / B"),
        ('{"id": "a", "matrix": null }', "a"),
    ],
)
def test_a_job_has_the_name_that_github_gives_it(path: str, name: str) -> None:
    """Its callers before it, its matrix' values behind it."""
    assert job_steps.shown_name(path) == name


@pytest.mark.parametrize(
    ("job", "name"),
    [
        ("name: Plain", '"name": "Plain"'),
        (
            'name: "{It\'s} ${{ inputs.x }}!"',
            "\"name\": ${{ toJSON(format('{{It''s}} {0}!', ( inputs.x ))) }}",
        ),
        ("strategy: {matrix: {x: [1]}}", '"matrix": ${{ toJSON(matrix) }}'),
        ("name: 'n', strategy: {matrix: {x: [1]}}", '"name": "n", "matrix": ${{ toJSON(matrix) }}'),
    ],
)
def test_the_name_that_act_knows_becomes_that_path(job: str, name: str) -> None:
    """Expressions in it are left to act."""
    made = copy(f"on: push\njobs: {{a: {{runs-on: x, {job}}}}}")
    written = json.loads(made.content)["jobs"]["a"]["name"]
    assert written == f'{job_steps.MARK}{{"id": "a", {name} }}'


def test_what_a_rerun_keeps_does_nothing() -> None:
    """Its outputs are those of the earlier attempt, and it is not among the jobs that run."""
    text = "on: push\njobs: {a: {runs-on: x, outputs: {o: no}}, b: {needs: a, runs-on: x}}"
    kept = {"a": Kept(conclusion="success", outputs={"o": "yes"})}
    made = copy(text, kept=kept)
    assert made.jobs == (("b",),)
    job = json.loads(made.content)["jobs"]["a"]
    assert (job["outputs"], job["if"], job["steps"]) == (
        {"o": "yes"},
        "always()",
        [{"run": "true"}],
    )


def test_an_event_can_be_asked_for() -> None:
    """One that the workflow does not listen to is refused."""
    text = "on: [push, pull_request]\njobs: {a: {runs-on: x}}"
    assert copy(text, event="pull_request").event == "pull_request"
    with pytest.raises(BadInputs, match="the demo can send schedule"):
        copy(text, event="schedule")


@pytest.mark.parametrize(
    ("text", "made"),
    [
        (
            "profiles: {a: {provider: ec2, machine: x, region: [r], max-lifetime-minutes: 5}, b: {}}",
            {"profiles": {"a": {"provider": "local", "max-lifetime-minutes": 5}, "b": {}}},
        ),
        ("profiles: [a]", {"profiles": ["a"]}),
        ("other: 1", {"other": 1}),
    ],
)
def test_profiles_lose_what_only_a_cloud_knows(text: str, made: dict[str, Any]) -> None:
    """What is wrong with the file stays wrong, for the action to say so."""
    assert yaml.safe_load(for_this_machine(text)) == made


def test_a_file_of_profiles_that_cannot_be_read_stays() -> None:
    """It is the action that says what is wrong with it."""
    assert for_this_machine("a: [") == "a: ["
