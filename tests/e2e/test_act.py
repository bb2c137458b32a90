"""Whole workflows under act: what start and stop do when jobs fail, are skipped, or overlap."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.e2e.conftest import STAYS
from tests.pace import PATIENCE
from tests.processes import processes_with

from gpu_ci.errors import BadInputs, EnvironmentBroken
from gpu_ci_sandbox.act.act_run import Outcome, demo_workflow, run_workflow
from gpu_ci_sandbox.act.stage import Trigger
from gpu_ci_sandbox.timeline import DemoFailed, Timeline
from gpu_ci_sandbox.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpu_ci_sandbox.fake_github.records import Job
    from gpu_ci_sandbox.faults import Request

WORKFLOWS = Path(__file__).parent / "workflows"
SHARED = Path(__file__).resolve().parents[2] / "shared"


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A workflow that has run, and the world that it ran in."""

    outcome: Outcome
    world: World

    @property
    def left(self) -> list[str]:
        return [machine.name for machine in self.world.machines()] + self.world.runner_names()

    def conclusions(self) -> dict[str, str]:
        return self.outcome.conclusions

    def records(self) -> list[Job]:
        """Return the run's jobs as the sandbox knows them."""
        jobs = self.world.served.github.all_jobs()
        return [job for job in jobs if job.run_id == self.world.run_id]

    def requests(self) -> Sequence[Request]:
        """Return what GitHub was asked."""
        return self.world.served.faults.requests

    def record(self, name: str) -> Job:
        return next(job for job in self.records() if job.name == name)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[str], Ran]]:
    """`run(name)` runs a file of the folder `workflows`, outside of any repository."""
    with open_world(tmp_path) as world:

        def run_file(name: str) -> Ran:
            file = tmp_path / f"{name}.yml"
            shutil.copy(WORKFLOWS / file.name, file)
            outcome = run_workflow(file, world, Timeline(), Trigger(env=STAYS))
            return Ran(outcome=outcome, world=world)

        yield run_file


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """`write(jobs)` makes a workflow file of these jobs."""

    def write_jobs(jobs: str) -> Path:
        file = tmp_path / "workflow.yml"
        file.write_text(f"on: push\njobs:\n{jobs}")
        return file

    return write_jobs


def test_a_workflow_starts_tests_and_stops(run: Callable[[str], Ran]) -> None:
    """The three jobs succeed, the test on the runner that start brought up; nothing is left."""
    ran = run("loop")
    assert ran.conclusions() == {"start": "success", "test": "success", "stop": "success"}
    assert ran.outcome.exit_code == 0
    assert ran.left == []
    test = ran.record("test")
    assert test.conclusion == "success"
    assert test.labels[0].startswith(f"{test.runner_name}-")
    assert f"on {test.runner_name}, 2 + 2 = 4" in ran.outcome.log("test")
    assert {job.name: job.runner_name for job in ran.records()} == {
        "start": "Hosted Agent start",
        "test": test.runner_name,
        "stop": "Hosted Agent stop",
    }


def test_a_failing_job_does_not_keep_its_machine(run: Callable[[str], Ran]) -> None:
    """When the GPU job fails, a stop that is told nothing gives its machine back all the same."""
    ran = run("failing")
    assert ran.conclusions() == {"start": "success", "test": "failure", "stop": "success"}
    assert ran.record("test").conclusion == "failure"
    assert f"{ran.record('test').runner_name} is given back" in ran.outcome.log("stop")
    assert ran.left == []


def test_a_refused_start_leaves_nothing(run: Callable[[str], Ran]) -> None:
    """When start fails, the GPU job is skipped and stop succeeds with nothing to be told."""
    ran = run("refused")
    assert ran.conclusions() == {"start": "failure", "test": "skipped", "stop": "success"}
    assert [job.name for job in ran.records()] == ["start", "stop"]
    assert "401" in ran.outcome.log("start")
    assert "No machine was left" in ran.outcome.log("stop")
    assert ran.left == []


def test_two_machines_take_one_job_each(run: Callable[[str], Ran]) -> None:
    """Of a start with count 2, each label gets its own job of the matrix; both are given back."""
    ran = run("matrix")
    tests = [job for job in ran.records() if job.name.startswith("test ")]
    assert [job.conclusion for job in tests] == ["success", "success"]
    assert len({job.runner_name for job in tests}) == 2
    for job in tests:
        assert job.name == f"test ({job.labels[0]})"
        assert f"on {job.runner_name}" in ran.outcome.log(job.name)
    assert ran.outcome.log("stop").count("is given back") == 2
    assert ran.left == []


def test_a_stop_without_a_handle_leaves_the_machine_of_a_running_job(
    run: Callable[[str], Ran],
) -> None:
    """A stop that finds by the run's tags does not take what another job of the run is using."""
    ran = run("two_triples")
    assert ran.conclusions() == {
        "start-one": "success",
        "test-one": "success",
        "stop-one": "success",
        "start-two": "failure",
        "test-two": "skipped",
        "stop-two": "success",
    }
    runner = ran.record("test-one").runner_name
    assert f"{runner} is left: " in ran.outcome.log("stop-two")
    assert "still here" in ran.outcome.log("test-one")
    assert f"{runner} is given back" in ran.outcome.log("stop-one")
    assert ran.left == []


def test_a_watch_ends_when_the_job_has_its_runner(run: Callable[[str], Ran]) -> None:
    """A watch beside the GPU job succeeds as soon as that was picked up, and needs no stop of its
    own (row 1.13)."""
    ran = run("watched")
    names = ("start", "watch", "test", "stop")
    assert ran.conclusions() == dict.fromkeys(names, "success")
    runner = ran.record("test").runner_name
    assert f"Picked up: test on {runner}." in ran.outcome.log("watch")
    assert not any(request.path.endswith("cancel") for request in ran.requests())
    assert ran.left == []


MIDDLE = """
on:
  workflow_call:
    inputs: {size: {type: number, required: true}, loud: {type: boolean, default: true}}
    outputs: {said: {value: "${{ jobs.deeper.outputs.said }}"}}
jobs:
  deeper:
    strategy: {matrix: {end: ["!"]}}
    uses: $/.github/workflows/inner.yml
    with: {size: "${{ inputs.size }}", loud: "${{ inputs.loud }}", end: "${{ matrix.end }}"}
    secrets: inherit
  after:
    name: After ${{ inputs.size }}
    needs: deeper
    runs-on: ubuntu-latest
    steps: [{run: 'echo "deeper: $RESULT"', env: {RESULT: "${{ needs.deeper.result }}"}}]
"""
INNER = """
on:
  workflow_call:
    inputs:
      size: {type: number, default: 0}
      loud: {type: boolean, default: false}
      end: {type: string, default: ""}
    outputs: {said: {value: "${{ jobs.say.outputs.said }}"}}
jobs:
  say:
    runs-on: ubuntu-latest
    outputs: {said: "${{ steps.say.outputs.said }}"}
    steps:
      - id: say
        run: echo "said=$SIZE $LOUD $HAS$END" >>"$GITHUB_OUTPUT"
        env:
          SIZE: ${{ inputs.size > 2 && 'large' || 'small' }}
          LOUD: ${{ inputs.loud && 'loud' || 'soft' }}
          HAS: ${{ secrets.DEEP != '' && 'secret' || 'none' }}
          END: ${{ inputs.end }}
  never:
    if: failure()
    runs-on: ubuntu-latest
    steps: [{run: "true"}]
"""
CALLER = """
  call:
    strategy: {matrix: {size: [1, 3]}}
    uses: ./.github/workflows/middle.yml
    with: {size: "${{ matrix.size }}"}
    secrets: inherit
  unwanted:
    if: github.event_name == 'schedule'
    uses: ./.github/workflows/middle.yml
    with: {size: 1}
"""


def test_called_workflows_run_two_deep(write: Callable[[str], Path], tmp_path: Path) -> None:
    """Typed inputs, defaults, inherited secrets and outputs arrive, and each job has GitHub's name:
    callers before it, the values of a caller's matrix behind that one."""
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    (folder / "middle.yml").write_text(MIDDLE)
    (folder / "inner.yml").write_text(INNER)
    subprocess.run(["git", "init", "-q", "--template=", tmp_path], check=True)
    file = write(CALLER)
    (tmp_path / "world").mkdir()
    with open_world(tmp_path / "world") as world:
        outcome = run_workflow(file, world, Timeline())
        names = {job.name for job in world.served.github.all_jobs() if job.run_id == world.run_id}
    ran = {
        f"call ({size}) / {job}" for size in (1, 3) for job in ("deeper (!) / say", f"After {size}")
    }
    skipped = {"call / deeper / never", "unwanted"}
    assert outcome.conclusions == dict.fromkeys(ran, "success") | dict.fromkeys(skipped, "skipped")
    assert names == ran
    assert outcome.outputs["call (1) / deeper (!) / say"] == {"said": "small loud secret!"}
    assert outcome.outputs["call (3) / deeper (!) / say"] == {"said": "large loud secret!"}
    assert outcome.log("call (3) / After 3") == "deeper: success"


BREAKING = """
on: workflow_call
jobs:
  breaks: {runs-on: ubuntu-latest, steps: [{run: exit 1}]}
  needing: {needs: breaks, runs-on: ubuntu-latest, steps: [{run: "true"}]}
"""


def test_what_comes_after_a_failed_call_is_told(
    write: Callable[[str], Path], tmp_path: Path
) -> None:
    """GitHub would run it, act does not: it is not taken for skipped."""
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    (folder / "breaking.yml").write_text(BREAKING)
    (tmp_path / "world").mkdir()
    subprocess.run(["git", "init", "-q", "--template=", tmp_path], check=True)
    file = write("""
  call: {uses: ./.github/workflows/breaking.yml}
  after: {needs: call, if: always(), runs-on: ubuntu-latest, steps: [{run: "true"}]}
""")
    timeline = Timeline()
    with open_world(tmp_path / "world") as world:
        outcome = run_workflow(file, world, timeline)
    assert outcome.conclusions == {
        "call / breaks": "failure",
        "call / needing": "skipped",
        "after": "unfinished",
    }
    assert any("Job after was not run" in each for _, each in timeline.entries)


def test_a_label_that_no_runner_has_fails_at_once(
    write: Callable[[str], Path], tmp_path: Path
) -> None:
    """A job whose label is nobody's fails with words, although act would have run it."""
    file = write("""
  make:
    runs-on: ubuntu-latest
    outputs: {label: nobody}
    steps: [{run: "true"}]
  test:
    needs: make
    runs-on: ${{ needs.make.outputs.label }}
    steps: [{run: echo never reached}]
""")
    with open_world(tmp_path) as world:
        outcome = run_workflow(file, world, Timeline())
    assert outcome.conclusions == {"make": "success", "test": "failure"}
    assert "No runner has the labels ['nobody']" in outcome.log("test")
    assert "never reached" not in outcome.log("test")


def test_steps_see_no_variable_of_the_caller(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """act passes its whole environment on: a cloud's key that the caller has is not in it."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-callers-key")
    monkeypatch.setenv("GREETING", "hello")
    file = write("""
  look:
    runs-on: ubuntu-latest
    steps:
      - run: env | sort; echo "said ${{ vars.GREETING }}, home $HOME"
""")
    with open_world(tmp_path) as world:
        outcome = run_workflow(file, world, Timeline())
    assert outcome.conclusions == {"look": "success"}
    assert "the-callers-key" not in outcome.log("look")
    assert f"said hello, home {tmp_path}" in outcome.log("look")


def test_a_workflow_without_a_stop_fails_and_leaves_nothing(write: Callable[[str], Path]) -> None:
    """The demo fails when the workflow leaves a machine, names it, and ends it."""
    file = write("""
  start:
    runs-on: ubuntu-latest
    steps:
      - uses: some-org/gpu-ci/action-start@v1
        with: {provider: local, github-token: "${{ secrets.TOKEN }}"}
""")
    with pytest.raises(DemoFailed, match=r"left gpu-ci-\S+ behind") as failure:
        demo_workflow(file)
    name = str(failure.value).split()[3]
    assert processes_with(f"GPU_CI_MACHINE={name}") == []


def test_a_failed_job_fails_the_demo(write: Callable[[str], Path]) -> None:
    """The demo fails when a job does, and names it."""
    file = write("  broken: {runs-on: ubuntu-latest, steps: [{run: exit 1}]}\n")
    with pytest.raises(DemoFailed, match="did not succeed: broken"):
        demo_workflow(file)


def test_actions_that_cannot_be_fetched_are_named(write: Callable[[str], Path]) -> None:
    """A workflow with actions from elsewhere is refused before anything runs, all of them named."""
    file = write("""
  test:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v7
      - uses: someone/something@v1
      - uses: docker://alpine:3
""")
    with pytest.raises(BadInputs) as failure:
        demo_workflow(file)
    assert "someone/something@v1" in str(failure.value)
    assert "docker://alpine:3" in str(failure.value)
    assert len(failure.value.problems) == 2


def test_a_missing_act_is_named(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without act the demo says which extra has it."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(EnvironmentBroken, match=r"gpu-ci\[sandbox\]"):
        demo_workflow(write("  a: {runs-on: x, steps: [{run: a}]}\n"))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the runner, which is another user, can reach."""
    with tempfile.TemporaryDirectory(prefix="gpu-ci-interrupted-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def test_an_interrupted_demo_leaves_no_process(
    write: Callable[[str], Path], open_folder: Path
) -> None:
    """Ctrl-C in the GPU job ends act, its steps, what they detached, and the machine; no file stays."""
    file = write("""
  start:
    runs-on: ubuntu-latest
    outputs: {label: "${{ steps.gpu.outputs.label }}"}
    steps:
      - id: gpu
        uses: some-org/gpu-ci/action-start@v1
        with: {provider: local, github-token: "${{ secrets.TOKEN }}"}
  test:
    needs: start
    runs-on: ${{ needs.start.outputs.label }}
    steps: [{run: setsid --fork sleep 600; echo asleep; sleep 600}]
""")
    with subprocess.Popen(
        [sys.executable, "-I", "-u", str(SHARED), "demo", "--workflow", str(file)],
        env={**os.environ, "TMPDIR": str(open_folder)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        seen = next((line for line in process.stdout if "| asleep" in line), "")
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE)
    assert "| asleep" in seen, rest
    assert process.returncode == 128 + signal.SIGINT
    assert processes_with(str(open_folder)) == []
    assert list(open_folder.iterdir()) == []
