"""A run on GitHub's and Amazon's stand-ins, and processes that can be killed at any call."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpu_ci.inputs import StartInputs, StopInputs, input_names, variable
from gpu_ci.sandbox.aws import Aws
from gpu_ci.sandbox.jarvislabs import JarvisLabs
from gpu_ci.sandbox.step import read_commands
from gpu_ci.sandbox.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpu_ci.sandbox.faults import Faults, Phase, Request

SHARED = Path(__file__).resolve().parents[2] / "shared"


@dataclass(kw_only=True)
class Zygote:
    """The process of zygote.py, which begins others; asked by one thread."""

    process: subprocess.Popen[str]
    begun: int = 0
    going: set[int] = field(default_factory=set)

    def fork(self, story: str, env: dict[str, str], log: Path) -> int:
        """Begin a story; return its process id."""
        self.begun = int(self._ask({"story": story, "env": env, "log": str(log)})["pid"])
        self.going.add(self.begun)
        return self.begun

    def wait(self, pid: int = 0) -> int:
        """Return the exit code of a story, of the one begun last by default; -9 after SIGKILL."""
        code = int(self._ask({"wait": pid or self.begun})["exit"])
        self.going.discard(pid or self.begun)
        return code

    def end(self) -> None:
        """End what a failed test left: no later one would get an answer."""
        for pid in self.going:
            os.kill(pid, signal.SIGKILL)

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
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
        zygote = Zygote(process=process)
        yield zygote
        zygote.end()
        assert process.stdin
        process.stdin.close()


@pytest.fixture(scope="session")
def amazon() -> Iterator[Aws]:
    with Aws() as aws:
        yield aws


@dataclass(kw_only=True)
class Stories(ABC):
    """Stories that run as processes of their own, and a provider's stand-in for them."""

    world: World
    zygote: Zygote
    log: Path
    _pid_known: threading.Event = field(default_factory=threading.Event)
    _pid: int = 0

    @abstractmethod
    def given(self) -> dict[str, str]:
        """Return the inputs that every story here has, by their names."""

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """Return what leads to the provider's stand-in."""

    @abstractmethod
    def all_faults(self) -> tuple[Faults, ...]:
        """Return what stands before each service."""

    def env(self, story: str, **inputs: str) -> dict[str, str]:
        """Return the environment that the action's step would have."""
        given = {"github-token": self.world.token, **self.given()}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        names = input_names(StartInputs if story == "start" else StopInputs)
        job_id = self.world.start_job if story == "start" else self.world.stop_job
        return {
            **self.world.env(story),
            **self.environment(),
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

    def begin(self, story: str, **inputs: str) -> int:
        """Begin a story; return its process id."""
        self._pid_known.clear()
        self._pid = self.zygote.fork(story, self.env(story, **inputs), self.log)
        self._pid_known.set()
        return self._pid

    def run(self, story: str, **inputs: str) -> int:
        """Run a story to its end; return its exit code."""
        self.begin(story, **inputs)
        return self.zygote.wait()

    def kill(self, signum: int) -> None:
        """Signal the story that was begun last."""
        self._pid_known.wait(5)
        os.kill(self._pid, signum)

    def kill_at(self, call: str, phase: Phase, signum: int, nth: int = 1) -> list[float]:
        """Arrange for the signal at the nth such call; the list will hold when it was sent."""
        sent: list[float] = []
        met: list[int] = []

        def hook(number: int, at: Phase, request: Request) -> None:
            if at == phase and self.name(request) == call:
                met.append(number)
                if len(met) == nth:
                    sent.append(time.monotonic())
                    self.kill(signum)

        for faults in self.all_faults():
            faults.on_request(hook)
        return sent

    def told(self) -> str:
        """Return everything that the stories printed."""
        return self.log.read_text()

    def output(self, name: str) -> str:
        """Return an output of the stories so far; the last one written counts."""
        return read_commands(self.log.with_suffix(".output").read_text())[name]

    def start_job_is_over(self) -> None:
        """The start's job has ended: no job needs what it made any more."""
        self.world.served.github.set_job(
            self.world.start_job, status="completed", conclusion="cancelled"
        )

    def calls(self) -> list[str]:
        """Return the calls so far, of both services."""
        return [self.name(request) for faults in self.all_faults() for request in faults.requests]

    def forget_calls(self) -> None:
        for faults in self.all_faults():
            faults.forget_requests()

    def all_well_again(self) -> None:
        """No fault and no kill comes any more."""
        for faults in self.all_faults():
            faults.clear()

    @staticmethod
    def name(request: Request) -> str:
        """Return a call as the tests name it: its AWS action, or its method and last path part."""
        if request.action:
            return request.action
        if "x-amz-target" in request.headers:
            return request.headers["x-amz-target"].rpartition(".")[2]
        last = request.path.rstrip("/").rpartition("/")[2]
        return f"{request.method} {'*' if last.isdigit() else last}"


@dataclass(kw_only=True)
class Cloud(Stories):
    """A world in which `ec2` is the provider."""

    aws: Aws

    def given(self) -> dict[str, str]:
        return {"provider": "ec2", "region": "us-east-1"}

    def environment(self) -> dict[str, str]:
        return self.aws.environment()

    def all_faults(self) -> tuple[Faults, ...]:
        return (self.world.served.faults, self.aws.faults)

    def left(self) -> list[str]:
        """Return every machine and registration that still stands."""
        return [each.id for each in self.aws.instances()] + self.world.runner_names()


BOX = "gpu-box"


@dataclass(kw_only=True)
class Box(Stories):
    """A world in which `jarvislabs` is the provider, with one kept machine, paused."""

    jarvislabs: JarvisLabs

    def given(self) -> dict[str, str]:
        return {"provider": "jarvislabs", "machine-name": BOX, "gpus": "0"}

    def environment(self) -> dict[str, str]:
        return self.jarvislabs.environment()

    def all_faults(self) -> tuple[Faults, ...]:
        return (self.world.served.faults, self.jarvislabs.faults)

    def status(self) -> str:
        return self.jarvislabs.machine(BOX).status

    def left(self) -> list[str]:
        """Return what is not as it should be in the end."""
        running = [each.name for each in self.jarvislabs.machines() if each.status != "Paused"]
        return running + self.world.runner_names()


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


@pytest.fixture
def box(tmp_path: Path, zygote: Zygote) -> Iterator[Box]:
    """A run whose machine is kept at JarvisLabs, and whose runner is online as soon as it runs."""
    with open_world(tmp_path) as world, JarvisLabs(tmp_path / "jarvislabs") as jarvislabs:
        jarvislabs.settings.run_scripts = False
        jarvislabs.settings.on_running = lambda record: _go_online(world, record.name)
        jarvislabs.add_machine(BOX)
        yield Box(world=world, jarvislabs=jarvislabs, zygote=zygote, log=tmp_path / "log")


def _go_online(world: World, name: str) -> None:
    """Do what a boot script does in the end: the machine's runner goes online."""
    for runner in world.served.github.all_runners():
        if runner.name == name:
            world.served.github.set_runner(runner.id, online=True)
