"""Two runs of the shipped actions on one machine that is paused in between, and really boots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.pace import PATIENCE

from gpu_ci.boot.boot_log import BootReport, read_log
from gpu_ci_sandbox.world import Box, World, forget_account, open_box, open_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gpu_ci_sandbox.action_step import Result
    from gpu_ci_sandbox.fake_github.records import Job

SCRIPT = """\
echo "home $HOME"
echo "numbers $(id -u) $(stat -c %u "$HOME")"
if [ -e "$HOME/.cache/made-by" ]; then echo "found $(cat "$HOME/.cache/made-by")"; fi
mkdir -p "$HOME/.cache"
echo "$GITHUB_RUN_ID" >"$HOME/.cache/made-by"
"""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A run that is over: its start, its job, and the boot log of the paused machine."""

    started: Result
    job: Job
    log: str

    def said(self, word: str) -> list[str]:
        """Return the rest of each line of the job that begins with a word."""
        return [line.removeprefix(f"{word} ") for line in self.job.log if line.startswith(word)]

    def report(self) -> BootReport:
        return read_log(self.log)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Two runs on one machine; `stray` asked in the second one for the first one's runner."""

    world: World
    box: Box
    first: Ran
    second: Ran
    stray: Job

    @property
    def folder(self) -> Path:
        """Where the machine has what is of gpu-ci."""
        return _folder(self.box)


def _folder(box: Box) -> Path:
    return box.jarvislabs.machine(box.name).home / "gpu-ci"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """One machine, made by the first run and resumed by the second, with its users forgotten."""
    with open_world(tmp_path_factory.mktemp("kept")) as world, open_box(world) as box:
        first = _run(world, box)
        world.end_run()
        forget_account(box.name)
        world.next_run()
        stray = _queued(world, first.started)
        second = _run(world, box)
        stray = world.served.github.job(stray.id)
        yield Runs(world=world, box=box, first=first, second=second, stray=stray)


def _run(world: World, box: Box) -> Ran:
    started = world.act("start", **box.inputs(), machine="A100")
    assert started.exit_code == 0, started.log
    github, job = world.served.github, _queued(world, started)
    github.wait(lambda: github.job(job.id).completed, PATIENCE)
    stopped = world.act("stop", **box.inputs(), handle=started.outputs["handle"])
    assert stopped.exit_code == 0, stopped.log
    assert box.jarvislabs.machine(box.name).status == "Paused"
    log = (_folder(box) / "boot.log").read_text()
    return Ran(started=started, job=github.job(job.id), log=log)


def _queued(world: World, started: Result) -> Job:
    """Queue a job of the run that asks for the runner of a start."""
    env = {"GITHUB_RUN_ID": str(world.run_id)}
    labels = [started.outputs["label"]]
    return world.served.github.queue_job(world.run_id, "test", labels, SCRIPT, env=env)


def test_the_boot_log_outlives_the_pause(runs: Runs) -> None:
    """Below /home, to the end, and the one of the boot before beside it (row 1.8)."""
    assert (runs.first.report().phase, runs.second.report().phase) == ("listen", "listen")
    assert (runs.first.report().failed, runs.second.report().failed) == ("", "")
    assert (runs.folder / "boot.log.1").read_text() == runs.first.log != runs.second.log
    assert "Running job: test" in (runs.folder / "runner.log").read_text()


def test_a_start_leaves_its_mark_on_the_machine(runs: Runs) -> None:
    """What tells one start from the next is in the machine's memory, not in this computer's, where
    it would outlive every pause."""
    assert (runs.folder.parents[1] / "shm" / "gpu-ci-start").is_dir()


def test_what_is_below_home_is_used_again(runs: Runs) -> None:
    """The runner's HOME is its user's and on /home; the second run finds the first one's cache
    though the machine has forgotten the user (row 1.17)."""
    assert (runs.first.job.conclusion, runs.second.job.conclusion) == ("success", "success")
    for ran in (runs.first, runs.second):
        assert ran.said("home") == [str(runs.folder / "home")]
        (numbers,) = ran.said("numbers")
        user, owner = numbers.split()
        assert user == owner
    assert (runs.first.said("found"), runs.second.said("found")) == (
        [],
        [str(runs.first.job.run_id)],
    )
    ids = [ran.started.outputs["machine-id"] for ran in (runs.first, runs.second)]
    assert ids[0] != ids[1] == str(runs.box.jarvislabs.machine(runs.box.name).id)


def test_a_label_is_of_one_run(runs: Runs) -> None:
    """Each job ran on its own run's runner, though all have one name; what asks for the first
    run's label is taken by nobody in the second (row 1.11)."""
    for ran in (runs.first, runs.second):
        assert ran.job.runner_name == runs.box.name
        assert list(ran.job.labels) == [ran.started.outputs["label"]]
        assert str(ran.job.run_id) in ran.started.outputs["label"]
    assert runs.stray.status == "queued"
    assert runs.world.runner_names() == []
