""" "Re-run failed jobs" as gpu-loop.yml's jobs live it: the watch brings a machine again (pain 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import requests
from tests.pace import PATIENCE, until

from gpu_ci.errors import JobFailed, NeverPickedUp
from gpu_ci_sandbox.world import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from gpu_ci_sandbox.action_step import Result
    from gpu_ci_sandbox.fake_github.records import Job
    from gpu_ci_sandbox.world import World

# It fails in the first attempt, and finds in the second what the first has left.
FLAKY = '[ -e "$FLAG" ] || { touch "$FLAG"; exit 1; }'


@dataclass(kw_only=True)
class Loop:
    """The jobs of gpu-loop.yml, with the steps that it gives them."""

    world: World
    flag: Path
    label: str = ""
    handle: str = ""

    def first_attempt(self) -> None:
        """Start, the job that fails, the watch that fails with it, stop."""
        world = self.world
        started = world.act("start")
        self.label, self.handle = started.outputs["label"], started.outputs["handle"]
        github = world.served.github
        github.set_job(world.start_job, conclusion="success")
        job = github.queue_job(
            world.run_id, "test", [self.label], FLAKY, env={"FLAG": str(self.flag)}
        )
        watched = world.begin("watchdog", labels=self.label, until="done")
        assert self.ended(job.name).conclusion == "failure"
        self.stop(handle=self.handle)
        github.set_job(world.stop_job, conclusion="success")
        assert watched.result(PATIENCE).exit_code == JobFailed.exit_code
        github.set_job(world.watch_job, conclusion="failure")

    def rerun(self, what: str = "") -> None:
        """Press the button; the watch job, if it is run again, begins."""
        world = self.world
        path = what or f"runs/{world.run_id}/rerun-failed-jobs"
        done = requests.post(
            f"{world.served.url}/repos/{REPOSITORY}/actions/{path}",
            headers={"Authorization": f"Bearer {world.token}"},
            timeout=PATIENCE,
        )
        assert done.status_code == 201, done.text
        watch = self.job("watch")
        if not watch.completed:
            world.served.github.set_job(
                watch.id, status="in_progress", runner_name="Hosted Agent watch"
            )
            world.watch_job = world.start_job = watch.id

    def look(self) -> Result:
        return self.world.act("watchdog", labels=self.label, until="once")

    def start_again(self, **inputs: str) -> Result:
        return self.world.act("start", labels=self.label, key=self.label, **inputs)

    def stop(self, **inputs: str) -> Result:
        stopped = self.world.act("stop", **inputs)
        assert stopped.exit_code == 0, stopped.log
        return stopped

    def job(self, name: str) -> Job:
        """Return the latest attempt's job."""
        github = self.world.served.github
        attempt = github.run(self.world.run_id).attempt
        [found] = [
            job
            for job in github.all_jobs()
            if (job.run_id, job.attempt, job.name) == (self.world.run_id, attempt, name)
        ]
        return found

    def ended(self, name: str) -> Job:
        self.world.served.github.wait(lambda: self.job(name).completed, PATIENCE)
        return self.job(name)

    @property
    def left(self) -> list[str]:
        return [each.name for each in self.world.machines()] + self.world.runner_names()


@pytest.fixture
def loop(world: World) -> Loop:
    folder = world.machines_folder / "flags"
    folder.mkdir()
    folder.chmod(0o777)
    made = Loop(world=world, flag=folder / "flag")
    made.first_attempt()
    assert made.left == []
    return made


def test_a_failed_job_gets_a_machine_again(loop: Loop) -> None:
    """Only test and watch are run again; the job that asks for the old label is picked up by a new
    machine, succeeds, and nothing is left (pain 6)."""
    loop.rerun()
    assert loop.job("test").status == "queued"
    assert loop.job("start").completed
    assert loop.look().outputs["queued"] == "1"
    again = loop.start_again()
    assert again.exit_code == 0, again.log
    assert again.outputs["label"] != loop.label
    watched = loop.world.act("watchdog", labels=loop.label, until="done")
    assert watched.exit_code == 0, watched.log
    test = loop.ended("test")
    assert (test.conclusion, test.runner_name) == ("success", again.outputs["runner-name"])
    loop.stop(handle=loop.handle)
    loop.stop(key=loop.label)
    assert loop.left == []


def test_it_can_fail_and_be_run_again_as_often_as_one_likes(loop: Loop) -> None:
    """The third attempt is as good as the second: its machine has the first one's label too."""
    loop.flag.unlink()
    loop.rerun()
    names = set()
    for expected in ("failure", "success"):
        assert loop.look().outputs["queued"] == "1"
        names.add(loop.start_again().outputs["runner-name"])
        watched = loop.world.act("watchdog", labels=loop.label, until="done")
        assert watched.exit_code == (0 if expected == "success" else JobFailed.exit_code)
        assert loop.ended("test").conclusion == expected
        loop.stop(key=loop.label)
        if expected == "failure":
            loop.world.served.github.set_job(loop.world.watch_job, conclusion="failure")
            loop.rerun()
    assert len(names) == 2
    assert loop.left == []


def test_a_watch_that_is_run_again_alone_starts_nothing(loop: Loop) -> None:
    """Whose GPU job is not run again needs no machine: it is looked before one is paid for."""
    github = loop.world.served.github
    loop.rerun(f"jobs/{loop.job('watch').id}/rerun")
    assert github.run(loop.world.run_id).attempt == 2
    assert loop.job("test").completed
    assert loop.look().outputs["queued"] == "0"


def test_a_machine_that_does_not_come_ends_the_wait(loop: Loop) -> None:
    """Where no machine can be started again, the run is cancelled within a minute, with the cure,
    instead of waiting for a day; a short limit is not made longer for it (pain 6)."""
    loop.rerun()
    assert loop.start_again(github_token="ghp_revoked").exit_code
    watched = loop.world.act("watchdog", labels=loop.label, queue_minutes="0.05")
    assert watched.exit_code == NeverPickedUp.exit_code
    assert "use 'Re-run all jobs'" in watched.log
    assert loop.job("test").conclusion == "cancelled"
    assert loop.left == []


def test_a_watch_that_is_killed_over_its_start_leaves_nothing(loop: Loop) -> None:
    """The stop job gives back by the key what the killed step could not tell of (pains 1 and 6)."""
    loop.rerun()
    # Nobody asks for its label any more, so that the machine stays as the kill leaves it.
    loop.world.served.github.set_job(loop.job("test").id, conclusion="cancelled")
    step = loop.world.begin("start", labels=loop.label, key=loop.label)
    until(loop.world.machines, lambda: "\n".join(step.lines))
    step.process.kill()
    step.process.wait()
    assert loop.left
    loop.stop(handle=loop.handle)
    assert loop.stop(key=loop.label).outputs["stopped"] == "1"
    assert loop.left == []


def test_a_stop_that_is_run_again_alone_still_has_the_first_machine(world: World) -> None:
    """Its machine is that of the first attempt's start: the handle ends it, and the key finds none."""
    started = world.act("start")
    github = world.served.github
    github.set_job(world.start_job, conclusion="success")
    github.set_job(world.stop_job, conclusion="failure")
    requests.post(
        f"{world.served.url}/repos/{REPOSITORY}/actions/runs/{world.run_id}/rerun-failed-jobs",
        headers={"Authorization": f"Bearer {world.token}"},
        timeout=PATIENCE,
    ).raise_for_status()
    assert world.act("stop", handle=started.outputs["handle"]).outputs["stopped"] == "1"
    again = world.act("stop", key=started.outputs["label"])
    assert (again.exit_code, again.outputs["stopped"]) == (0, "0")
    assert world.machines() == []
    assert world.runner_names() == []
