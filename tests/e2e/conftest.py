"""A run on GitHub's and Amazon's stand-ins, and processes that can be killed at any call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpu_ci.inputs import StartInputs, StopInputs, input_names, variable
from gpu_ci.sandbox.aws import Aws
from gpu_ci.sandbox.step import read_commands
from gpu_ci.sandbox.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpu_ci.sandbox.faults import Request

SHARED = Path(__file__).resolve().parents[2] / "shared"


@dataclass(kw_only=True)
class Zygote:
    """The process of zygote.py; one story at a time."""

    process: subprocess.Popen[str]

    def fork(self, story: str, env: dict[str, str], log: Path) -> int:
        """Begin a story; return its process id."""
        self._write({"story": story, "env": env, "log": str(log)})
        return int(self._read()["pid"])

    def wait(self) -> int:
        """Return the exit code of the story that was begun last; -9 after SIGKILL."""
        return int(self._read()["exit"])

    def _write(self, order: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "zygote.py")],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SHARED)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Zygote(process=process)
        assert process.stdin
        process.stdin.close()


@pytest.fixture(scope="session")
def amazon() -> Iterator[Aws]:
    with Aws() as aws:
        yield aws


@dataclass(kw_only=True)
class Cloud:
    """A world in which `ec2` is the provider, and stories run as processes of their own."""

    world: World
    aws: Aws
    zygote: Zygote
    log: Path
    _pid_known: threading.Event = field(default_factory=threading.Event)
    _pid: int = 0

    def env(self, story: str, **inputs: str) -> dict[str, str]:
        """Return the environment that the action's step would have."""
        given = {"provider": "ec2", "github-token": self.world.token, "region": "us-east-1"}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        names = input_names(StartInputs if story == "start" else StopInputs)
        job_id = self.world.start_job if story == "start" else self.world.stop_job
        return {
            **self.world.env(story),
            **self.aws.environment(),
            **{variable(name): given[name] for name in names if name in given},
            variable("github-api-url"): self.world.served.url,
            "GPU_CI_CHECK_RUN_ID": str(job_id),
            "GPU_CI_RUN_TOKEN": self.world.run_token,
            "GITHUB_OUTPUT": str(self._file("output")),
            "GITHUB_STEP_SUMMARY": str(self._file("summary")),
        }

    def _file(self, name: str) -> Path:
        path = self.log.with_suffix(f".{name}")
        path.touch()
        return path

    def begin(self, story: str, **inputs: str) -> None:
        self._pid_known.clear()
        self._pid = self.zygote.fork(story, self.env(story, **inputs), self.log)
        self._pid_known.set()

    def run(self, story: str, **inputs: str) -> int:
        """Run a story to its end; return its exit code."""
        self.begin(story, **inputs)
        return self.zygote.wait()

    def kill(self, signum: int) -> None:
        """Signal the story that was begun last."""
        self._pid_known.wait(5)
        os.kill(self._pid, signum)

    def told(self) -> str:
        """Return everything that the stories printed."""
        return self.log.read_text()

    def output(self, name: str) -> str:
        """Return an output of the stories so far; the last one written counts."""
        return read_commands(self.log.with_suffix(".output").read_text())[name]

    def left(self) -> list[str]:
        """Return every machine and registration that still stands."""
        return [each.id for each in self.aws.instances()] + self.world.runner_names()

    def start_job_is_over(self) -> None:
        """The start's job has ended: no job needs what it made any more."""
        self.world.served.github.set_job(
            self.world.start_job, status="completed", conclusion="cancelled"
        )

    def calls(self) -> list[str]:
        """Return the calls so far, of both services."""
        both = (self.world.served.faults, self.aws.faults)
        return [self.name(request) for faults in both for request in faults.requests]

    @staticmethod
    def name(request: Request) -> str:
        """Return a call as the tests name it: its AWS action, or its method and last path part."""
        if request.action:
            return request.action
        if "x-amz-target" in request.headers:
            return request.headers["x-amz-target"].rpartition(".")[2]
        last = request.path.rpartition("/")[2]
        return f"{request.method} {'*' if last.isdigit() else last}"


@pytest.fixture
def cloud(tmp_path: Path, amazon: Aws, zygote: Zygote) -> Iterator[Cloud]:
    """A run whose machines come from EC2 and boot at once."""
    amazon.reset()
    with open_world(tmp_path) as world:
        made = Cloud(world=world, aws=amazon, zygote=zygote, log=tmp_path / "log")
        amazon.settings.on_boot = lambda instance_id, _: _come_online(made, instance_id)
        yield made
        amazon.reset()


def _come_online(cloud: Cloud, instance_id: str) -> None:
    """Do what a booted machine does: its runner, named like it, goes online."""
    names = [
        tag["value"]
        for instance in cloud.aws.instances()
        for tag in instance.get_tags()
        if instance.id == instance_id and tag["key"] == "Name"
    ]
    for runner in cloud.world.served.github.all_runners():
        if runner.name in names:
            cloud.world.served.github.set_runner(runner.id, online=True)
