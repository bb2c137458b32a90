"""A repository that uses the library as its README says, under act: what each event leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.e2e.conftest import STAYS
from tests.e2e.rerun import failed_again, with_dependents
from tests.pace import PATIENCE
from tests.processes import processes_with

from gpu_ci_sandbox.act.act_run import Outcome, run_workflow
from gpu_ci_sandbox.act.stage import Trigger
from gpu_ci_sandbox.act.workflow_copy import Kept
from gpu_ci_sandbox.timeline import Timeline
from gpu_ci_sandbox.world import REPOSITORY, World, open_world

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpu_ci_sandbox.fake_github.records import Job

ROOT = Path(__file__).resolve().parents[2]
CONSUMER = Path(__file__).parent / "consumer"
SHIPPED = ROOT / ".github" / "workflows"
WORKFLOW = Path(".github/workflows/gpu.yml")
LABEL = "run-gpu-ci"
NUMBER = 7
LOOP = ("start", "test", "watch", "stop")
JOBS = ("gpu / gate", *(f"gpu / loop / {job}" for job in LOOP), "gpu / result")
REFUSED = {"gpu / gate": "failure", "gpu / result": "failure", "gpu / loop": "skipped"}


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """The repository, and the world that its runs are in."""

    folder: Path
    world: World

    def run(self, trigger: Trigger | None = None, file: Path = WORKFLOW) -> Outcome:
        trigger = trigger or Trigger()
        trigger = replace(trigger, env={**trigger.env, **STAYS})
        return run_workflow(self.folder / file, self.world, Timeline(), trigger)

    def edit(self, old: str, new: str) -> None:
        """Change the workflow as its author would."""
        text = (self.folder / WORKFLOW).read_text()
        assert old in text
        (self.folder / WORKFLOW).write_text(text.replace(old, new))

    @property
    def left(self) -> list[str]:
        return [machine.name for machine in self.world.machines()] + self.world.runner_names()

    def record(self, name: str) -> Job:
        """Return the job of that name that the run has had last."""
        jobs = self.world.served.github.all_jobs()
        return [job for job in jobs if job.run_id == self.world.run_id and job.name == name][-1]

    def asked(self, word: str) -> list[str]:
        """Return what GitHub was asked, where the word is in it."""
        requests = self.world.served.faults.requests
        told = [f"{request.method} {request.path}" for request in requests]
        return [each for each in told if word in each]


@pytest.fixture
def consumer(tmp_path: Path) -> Iterator[Consumer]:
    with open_world(tmp_path / "world") as world:
        yield Consumer(folder=fresh_copy(tmp_path / "science"), world=world)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that the runner, which is another user, can reach."""
    with tempfile.TemporaryDirectory(prefix="gpu-ci-consumer-") as name:
        Path(name).chmod(0o711)
        Path(name, "world").mkdir(mode=0o711)
        yield Path(name)


def fresh_copy(folder: Path) -> Path:
    shutil.copytree(CONSUMER, folder)
    subprocess.run(["git", "init", "-q", "--template=", folder], check=True)
    return folder


def pull(
    labels: Sequence[str], *, action: str = "synchronize", label: str = "", **more: Any
) -> Trigger:
    """Return the event of a pull request; `source` is the repository that its branch is in."""
    source = more.get("source", REPOSITORY)
    payload = {
        "action": action,
        "number": NUMBER,
        "pull_request": {
            "number": NUMBER,
            "labels": [{"name": name} for name in labels],
            "user": {"login": "octocat"},
            "head": {"ref": "topic", "sha": "1" * 40, "repo": {"full_name": source}},
            "base": {"ref": "main", "sha": "2" * 40, "repo": {"full_name": REPOSITORY}},
        },
        **({"label": {"name": label}} if label else {}),
    }
    return Trigger(event="pull_request", payload=payload)


def test_the_label_lets_one_push_of_a_pull_request_run(consumer: Consumer) -> None:
    """Ten lines bring a machine, the test, the machine back and what it has cost. The label is taken
    off before, so that the next push asks again (row 3.1)."""
    github = consumer.world.served.github
    github.label_issue(REPOSITORY, NUMBER, LABEL, "bug")
    outcome = consumer.run(pull(["bug", LABEL], action="labeled", label=LABEL))
    assert outcome.conclusions == dict.fromkeys(JOBS, "success")
    assert outcome.exit_code == 0
    assert consumer.left == []
    check_test(consumer, outcome)
    check_bill(consumer, outcome)
    assert github.issue_labels[REPOSITORY, NUMBER] == ["bug"]
    again = consumer.run(pull(["bug"]))
    assert again.conclusions == REFUSED
    assert LABEL in again.log("gpu / gate")


def check_test(consumer: Consumer, outcome: Outcome) -> None:
    """The test was where start said, on a machine that the profile has asked for."""
    test = consumer.record("gpu / loop / test")
    assert test.labels == (outcome.outputs["gpu / loop / start"]["label"],)
    assert test.labels[0].startswith(f"{test.runner_name}-")
    assert "Ran 1 test" in outcome.log(test.name)
    assert "gives max-lifetime-minutes, idle-minutes" in outcome.log("gpu / loop / start")


def check_bill(consumer: Consumer, outcome: Outcome) -> None:
    """Stop has said what it cost as an output and for the ledger; each has written a summary."""
    stopped = outcome.outputs["gpu / loop / stop"]
    assert stopped["cost"].endswith(" USD")
    assert float(stopped["billed-seconds"]) > 0
    # Gate, start, watch and stop, a minute each; no runner of GitHub's worked for the test.
    assert stopped["hosted-minutes"] == "4"
    noted = consumer.world.served.github.annotations[consumer.record("gpu / loop / stop").id]
    assert [each.title for each in noted] == ["gpu-ci cost"]
    for job in ("gpu / gate", "gpu / loop / start", "gpu / loop / stop"):
        assert outcome.summaries[job].startswith("### ")


def test_a_pull_request_from_a_fork_needs_no_secret_to_hear_why(consumer: Consumer) -> None:
    """Nobody's machine is rented for it, and GitHub is asked for nothing (pain 47)."""
    outcome = consumer.run(pull([LABEL], source="stranger/science"))
    assert outcome.conclusions == REFUSED
    assert "fork" in outcome.log("gpu / gate")
    assert consumer.asked("/runners") == []
    assert consumer.asked("/labels") == []
    assert consumer.left == []


def test_another_label_disturbs_no_test_that_runs(consumer: Consumer) -> None:
    """Its run rents nothing, and its result has another name than the check that is required."""
    started = consumer.world.act("start")
    running = consumer.world.run_id
    outcome = consumer.run(pull(["bug", LABEL], action="labeled", label="bug"))
    assert outcome.conclusions == {
        "gpu / gate": "success",
        "gpu / not this run": "success",
        "gpu / loop": "skipped",
    }
    assert consumer.world.run_id != running
    assert consumer.world.runner_names() == [started.outputs["runner-name"]]
    assert [each.name for each in consumer.world.machines()] == [started.outputs["runner-name"]]


def test_each_leg_of_a_pushs_matrix_has_its_own_machine(consumer: Consumer) -> None:
    """Three at once, by their keys: no leg gets another's machine, and each stop gives back its own."""
    consumer.edit("  gpu:\n", "  gpu:\n    strategy:\n      matrix: {size: [1, 2, 3]}\n")
    consumer.edit("profile: a100\n", "profile: a100\n      key: size-${{ matrix.size }}\n")
    outcome = consumer.run()
    legs = [f"gpu ({size})" for size in (1, 2, 3)]
    names = [job.replace("gpu", leg, 1) for leg in legs for job in JOBS]
    assert outcome.conclusions == dict.fromkeys(names, "success")
    tests = [consumer.record(f"{leg} / loop / test") for leg in legs]
    assert len({job.runner_name for job in tests}) == 3
    for leg, test in zip(legs, tests, strict=True):
        assert outcome.outputs[f"{leg} / loop / start"]["label"] == test.labels[0]
        stop = outcome.log(f"{leg} / loop / stop")
        assert f"{test.runner_name} is given back" in stop
        assert stop.count("is given back") == 1
    assert consumer.left == []


def dispatched(name: str, folder: Path) -> Path:
    """Write a shipped workflow as one that is run by hand, with the same inputs and jobs.

    act ends a run at the first call of a workflow that fails, and what comes after it never runs; in
    one file it does. The `sed` of the documentation makes `$/` a reference that the copy knows.
    """
    text = (SHIPPED / name).read_text().replace("uses: $/", "uses: some-org/gpu-ci/")
    lines = [
        f"{line}@v1" if "uses: some-org/gpu-ci/" in line else line for line in text.splitlines()
    ]
    workflow = yaml.safe_load("\n".join(lines))
    inputs = workflow.pop(True)["workflow_call"]["inputs"]  # YAML 1.1 reads `on` as true
    for spec in inputs.values():
        if "${{" in str(spec.get("default", "")):
            del spec["default"]
    file = folder / ".github" / "workflows" / name
    file.write_text(json.dumps({"on": {"workflow_dispatch": {"inputs": inputs}}, **workflow}))
    return file.relative_to(folder)


def by_hand(commands: str, **more: Any) -> Trigger:
    given = {"run": commands, "setup-uv": "false", "gpus": "0", "provider": "local"}
    inputs = given | {"rerun-failed": more.pop("rerun_failed", "true")}
    return Trigger(event="workflow_dispatch", inputs=inputs, **more)


def again(file: Path, outcome: Outcome, names: set[str], trigger: Trigger) -> Trigger:
    """Return the second attempt, in which only these jobs run: the others keep what they had."""
    jobs = yaml.safe_load(file.read_text())["jobs"]
    kept = {
        job: Kept(conclusion=outcome.conclusions[job], outputs=outcome.outputs.get(job, {}))
        for job in jobs
        if job not in names
    }
    return Trigger(event=trigger.event, inputs=trigger.inputs, attempt=2, kept=kept)


def test_a_failed_test_fails_with_its_watch_and_runs_again_on_a_new_machine(
    consumer: Consumer,
) -> None:
    """ "Re-run failed jobs" does not run start: the watch, which failed with the test, brings a
    machine that has the old label too, and stop gives it back (pain 45)."""
    file = dispatched("gpu-loop.yml", consumer.folder)
    trigger = by_hand('[ "$GITHUB_RUN_ATTEMPT" = 2 ]')
    first = consumer.run(trigger, file)
    assert first.conclusions == {
        "start": "success", "test": "failure", "watch": "failure", "stop": "success",
    }  # fmt: skip
    assert consumer.left == []
    machine = consumer.record("test").runner_name
    names = failed_again(
        yaml.safe_load((consumer.folder / file).read_text())["jobs"], first.conclusions
    )
    assert names == {"test", "watch", "stop"}
    second = consumer.run(again(consumer.folder / file, first, names, trigger), file)
    assert second.conclusions == dict.fromkeys(("test", "watch", "stop"), "success")
    test = consumer.record("test")
    assert (test.attempt, *test.labels) == (2, first.outputs["start"]["label"])
    assert test.runner_name != machine
    assert f"Picked up: test on {test.runner_name}." in second.log("watch")
    assert consumer.left == []


def test_a_test_that_is_run_again_alone_says_what_to_do(consumer: Consumer) -> None:
    """Without a watch that stays it lands on a hosted runner, and fails there at once with words."""
    file = dispatched("gpu-loop.yml", consumer.folder)
    trigger = by_hand("exit 3", rerun_failed="false")
    first = consumer.run(trigger, file)
    assert (first.conclusions["test"], first.conclusions["watch"]) == ("failure", "success")
    jobs = yaml.safe_load((consumer.folder / file).read_text())["jobs"]
    names = with_dependents(jobs, {"test"})
    assert names == {"test", "stop"}
    second = consumer.run(again(consumer.folder / file, first, names, trigger), file)
    assert second.conclusions == {"test": "failure", "stop": "success"}
    assert "Use 'Re-run all jobs'" in second.log("test")
    assert consumer.record("test").labels == ("ubuntu-latest",)
    assert consumer.left == []


@pytest.mark.parametrize(
    ("ended", "wanted"),
    [
        ({}, set()),
        ({"b": "failure", "c": "skipped"}, {"b", "c", "d"}),
        ({"d": "cancelled"}, {"d"}),
        ({"a": "timed_out", "b": "skipped"}, {"a", "b", "c", "d"}),
        ({"e": "failure"}, {"e"}),
        ({"b": "skipped", "c": "skipped"}, set()),
    ],
)
def test_what_failed_is_run_again_with_what_needs_it(
    ended: dict[str, str], wanted: set[str]
) -> None:
    """GitHub's rule, on a small graph: never what a failed job needed, always what needs it."""
    jobs = {
        "a": {},
        "b": {"needs": "a"},
        "c": {"needs": ["b"]},
        "d": {"needs": ["a", "c"]},
        "e": {},
    }
    conclusions = dict.fromkeys(jobs, "success") | ended
    assert failed_again(jobs, conclusions) == wanted


def test_a_cancelled_run_leaves_no_process(tmp_path: Path) -> None:
    """Ctrl-C in the GPU job of a called workflow ends its steps and the machine. act begins no job
    after it; that GitHub begins stop is in the tables of conditions."""
    folder = fresh_copy(tmp_path / "science")
    workflow = folder / WORKFLOW
    commands = "python -m unittest discover -s tests"
    workflow.write_text(workflow.read_text().replace(commands, "echo asleep; sleep 600"))
    with subprocess.Popen(
        [sys.executable, "-I", "-u", str(ROOT / "shared"), "demo", "--workflow", str(workflow)],
        env={**os.environ, "TMPDIR": str(tmp_path / "world")},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        seen = next((line for line in process.stdout if "| asleep" in line), "")
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE)
    assert "gpu / loop / test | asleep" in seen, rest
    assert process.returncode == 128 + signal.SIGINT
    assert processes_with(str(tmp_path / "world")) == []
    assert list((tmp_path / "world").iterdir()) == []
