"""One pass of a watchdog in front of the stand-in: what it was given, what it told, what it did."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.fakes import (
    REPOSITORY,
    FakeKeeper,
    FakeOptions,
    FakeProvider,
    fakes_known,
    tags,
)
from tests.github.desk import RUN

from gpu_ci import cli
from gpu_ci.inputs.reader import variable
from gpu_ci.model.identity import Identity
from gpu_ci.providers import Candidate, Order
from gpu_ci.watchdog import watchdog
from gpu_ci_sandbox.action_step import read_commands
from gpu_ci_sandbox.fake_github import credentials

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest
    from tests.github.desk import Desk

    from gpu_ci.model.machine import Machine
    from gpu_ci_sandbox.fake_github.records import Job, Run, Runner

LIMIT = 15 * 60.0
AGES = 10.0**6


def start_of(run_id: int = RUN, attempt: int = 1, repository: str = REPOSITORY) -> Identity:
    """Return the identity of the start in an attempt of a run."""
    return Identity(
        repository=repository,
        run_id=str(run_id),
        attempt=str(attempt),
        key="start",
        scope=f"repos/{REPOSITORY}",
    )


def name_of(run_id: int = RUN, attempt: int = 1, index: int = 0) -> str:
    """Return the name of a machine of that start, and of its runner."""
    return start_of(run_id, attempt).name(index)


def label_of(run_id: int = RUN, attempt: int = 1, index: int = 0) -> str:
    """Return the label that the jobs of that machine ask for."""
    return start_of(run_id, attempt).label(name_of(run_id, attempt, index), "deadbeef")


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came of a pass: exit code, outputs, summary page, log, and the seconds that it took."""

    code: int
    outputs: Mapping[str, str]
    page: str
    log: str
    seconds: float

    @property
    def report(self) -> Any:
        return json.loads(self.outputs["report"])

    @property
    def findings(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.report["findings"]
        return found

    @property
    def done(self) -> dict[str, str]:
        """Return what became of each thing that was found."""
        return {each["what"]: each["done"] for each in self.findings}

    @property
    def unseen(self) -> str:
        return "\n".join(self.report["unseen"])

    def ended(self) -> tuple[str, ...]:
        return tuple(self.outputs[name] for name in ("cancelled", "released", "removed"))


@dataclass(kw_only=True)
class Scene:
    """A repository, the watchdog's own run 7 in it, and clouds that share the clock."""

    desk: Desk
    folder: Path
    patch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __post_init__(self) -> None:
        self.clock, self.state = self.desk.clock, self.desk.state
        self.job_token = self.state.issue(credentials.job_token(REPOSITORY, actions="write"))
        self.cloud = FakeProvider(FakeOptions(), {}, self.clock)
        self.keeper = FakeKeeper(FakeOptions(), {}, self.clock)
        self.of_runner = dict[str, str]()
        made = {"fake": self.cloud, "keeper": self.keeper}
        self.patch.setattr(
            "gpu_ci.watchdog.provider_class", lambda name: lambda *_given: made[name]
        )
        for name in ("outputs", "page"):
            (self.folder / name).touch()
        self.patch.setenv("GITHUB_ACTIONS", "true")
        self.patch.setenv("GITHUB_OUTPUT", str(self.folder / "outputs"))
        self.patch.setenv("GITHUB_STEP_SUMMARY", str(self.folder / "page"))

    # What there is

    def run(self, run_id: int, **details: Any) -> Run:
        return self.state.start_run(REPOSITORY, run_id, **details)

    def queue(
        self, run_id: int = RUN, name: str = "test", labels: tuple[str, ...] = (), **more: Any
    ) -> Job:
        """Queue a job; without labels it asks for those of the machine of its attempt."""
        attempt = self.state.run(run_id).attempt
        return self.state.queue_job(run_id, name, labels or (label_of(run_id, attempt),), **more)

    def stuck(self, run_id: int, **details: Any) -> Job:
        """Let there be a run with a job that begins to wait now, a second after all others."""
        self.clock.sleep(1)
        self.run(run_id, **details)
        return self.queue(run_id)

    def own_job(self, **more: Any) -> Job:
        """Let the watchdog's own job be on its way; its check run is what the runner tells."""
        job = self.queue(name="watch", labels=("ubuntu-latest",), **more)
        self.of_runner = {"GPU_CI_CHECK_RUN_ID": str(job.id)}
        return self.state.set_job(job.id, status="in_progress", runner_name="hosted-1")

    def over(self, run_id: int, **details: Any) -> Run:
        """Let there be a run that is over."""
        return self.run(run_id, status="completed", conclusion="success", **details)

    def register(
        self, name: str, *labels: str, online: bool = False, busy: bool = False, **state: Any
    ) -> Runner:
        """Register a runner; one that is online is heard of for the rest of the test."""
        made = self.state.register(REPOSITORY, name, labels, online=online, **state)
        if online:
            made = self.state.set_runner(made.id, heard_at=self.clock.now() + AGES)
        return self.state.set_runner(made.id, job_id=5) if busy else made

    def machine(self, run_id: int, attempt: int = 1, **of_tags: Any) -> Machine:
        """Let a machine of a start exist, and its registration, which is offline."""
        start = start_of(run_id, attempt)
        named = {"label": label_of(run_id, attempt), "run_id": str(run_id), "key": start.key}
        made = tags(start.name(0), attempt=str(attempt), **{**named, **of_tags})
        order = Order(candidate=Candidate(type="small"), tags=made, token="", boot_script="")
        self.register(made.name, made.label)
        return self.cloud.land(order)

    def flip(self, name: str, *, busy: bool) -> None:
        """Let the runner of this name have a job from now on, or have none."""
        runner = next(each for each in self.state.all_runners() if each.name == name)
        self.state.set_runner(runner.id, job_id=5 if busy else None)

    def after(self, seconds: float, event: Any, *, must: bool = True) -> None:
        """Let something happen so many seconds from now; a test that ends before fails if it must."""
        self.clock.at(self.clock.elapsed() + seconds, event, must=must)

    # What the watchdog does

    def watch(self, **inputs: str) -> Told:
        """Watch run 7, with the job's own token unless another one is given."""
        return self._told("run", inputs)

    def sweep(self, **inputs: str) -> Told:
        """Make a pass over the repository, as an administrator unless another token is given."""
        return self._told("repository", {"github_token": self.desk.admin, **inputs})

    def _told(self, scope: str, inputs: Mapping[str, str]) -> Told:
        for name in ("outputs", "page"):
            (self.folder / name).write_text("")
        began, env = self.clock.now(), self.env(scope=scope, **inputs)
        with fakes_known():
            code = cli.run(lambda given: watchdog(given, self.clock), env)
        out, err = self.capsys.readouterr()
        return Told(
            code=code,
            outputs=read_commands((self.folder / "outputs").read_text()),
            page=(self.folder / "page").read_text(),
            log=out + err,
            seconds=self.clock.now() - began,
        )

    def env(self, **inputs: str) -> dict[str, str]:
        """Return the environment of the step; as in action.yml the token's default is the job's."""
        given = {
            "github_token": self.job_token, "github_api_url": self.desk.hub.url, **inputs,
        }  # fmt: skip
        run = self.state.run(RUN)
        of_step = {
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": str(RUN),
            "GITHUB_RUN_ATTEMPT": str(run.attempt),
            "GITHUB_JOB": "watch",
            "GPU_CI_RUN_TOKEN": self.job_token,
            "KEEPER_KEY": "k",
        }
        return of_step | self.of_runner | {variable(name): text for name, text in given.items()}

    # What was asked of GitHub

    def posts(self) -> list[str]:
        """Return what was asked to be cancelled and how, in order: `7 cancel`."""
        return [" ".join(each.path.split("/")[-2:]) for each in self.desk.calls("POST")]

    def deleted(self) -> list[str]:
        """Return the ids of the registrations that were asked to be deleted, in order."""
        return [each.path.rpartition("/")[2] for each in self.desk.calls("DELETE")]

    def shown(self, run_id: int) -> tuple[str, str | None]:
        return self.state.run_status(run_id)
