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
import requests
from tests.pace import PATIENCE, slowness

from gpu_ci.inputs.reader import input_names, variable
from gpu_ci.inputs.start_inputs import StartInputs
from gpu_ci.inputs.stop_inputs import StopInputs
from gpu_ci.inputs.watchdog_inputs import WatchdogInputs
from gpu_ci.model.identity import Identity
from gpu_ci.model.tags import Tags
from gpu_ci_sandbox.action_step import read_commands
from gpu_ci_sandbox.fake_aws import Aws
from gpu_ci_sandbox.fake_jarvislabs import JarvisLabs
from gpu_ci_sandbox.world import REPOSITORY, World, new_run_id, open_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gpu_ci_sandbox.fake_github.records import Job
    from gpu_ci_sandbox.faults import Faults, Phase, Request

SHARED = Path(__file__).resolve().parents[2] / "shared"
WATCH = "watch"
HOUR = 3600.0
# A machine whose job is over ends itself at its next look, here long after a stop has been there.
STAYS = {"GPU_CI_BOOT_TICK": "600"}
# How the calls begin that change nothing.
READS = ("GET", "Describe")
INPUTS: Mapping[str, type[StartInputs | StopInputs | WatchdogInputs]] = {
    "start": StartInputs,
    "stop": StopInputs,
    "watchdog": WatchdogInputs,
}


@dataclass(kw_only=True)
class Zygote:
    """The process of zygote.py, which begins others; asked by one thread."""

    process: subprocess.Popen[str]
    begun: int = 0
    going: set[int] = field(default_factory=set)

    def fork(self, story: str, env: dict[str, str], log: Path) -> int:
        """Begin a story; return its process id. Its limits follow how slow the machine is."""
        order = {"story": story, "env": env, "log": str(log), "slowness": slowness()}
        self.begun = int(self._ask(order)["pid"])
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
        # The first call imports moto, for longer than a story waits where much else is to do.
        post(aws, {"Action": "DescribeImages"})
        yield aws


def post(aws: Aws, form: Mapping[str, str], region: str = "us-east-1") -> None:
    """Send a call as some client of EC2 does. Raises requests.HTTPError."""
    scope = f"Credential=testing/20261101/{region}/ec2/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"}
    data = {"Version": "2016-11-15", **form}
    requests.post(aws.url, data=data, headers=headers, timeout=PATIENCE).raise_for_status()


def made_by(run_id: int, key: str, **more: Any) -> Tags:
    """Return the tags of what a start of this run and key made; `more` are fields of `Tags`."""
    made = {"repository": REPOSITORY, "attempt": "1", "scope": f"repos/{REPOSITORY}", **more}
    fields = {name: made[name] for name in ("repository", "attempt", "scope")}
    who = Identity(run_id=str(run_id), key=key, **fields)
    name = who.name(0)
    return Tags(name=name, label=who.label(name, "0123abcd"), run_id=who.run_id, key=key, **made)


@dataclass(kw_only=True)
class Stories(ABC):
    """Stories that run as processes of their own, and a provider's stand-in for them."""

    world: World
    zygote: Zygote
    log: Path
    _pid_known: threading.Event = field(default_factory=threading.Event)
    _pid: int = 0
    _passed: float = 0.0

    @abstractmethod
    def given(self) -> dict[str, str]:
        """Return the inputs that every story here has, by their names."""

    @abstractmethod
    def swept(self) -> dict[str, str]:
        """Return the inputs that every pass over the repository has here."""

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """Return what leads to the provider's stand-in."""

    @abstractmethod
    def all_faults(self) -> tuple[Faults, ...]:
        """Return what stands before each service."""

    def env(self, story: str, **inputs: str) -> dict[str, str]:
        """Return the environment that the action's step would have."""
        given = {"github-token": self.world.token}
        given |= self.given() if story != "watchdog" else {}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        names = input_names(INPUTS[story])
        job = self._job(story, given.get("scope", "run"))
        return {
            **self.world.env(story),
            **self.environment(),
            **{variable(name): given[name] for name in names if name in given},
            variable("github-api-url"): self.world.served.url,
            "GITHUB_RUN_ID": str(job.run_id),
            "GITHUB_RUN_ATTEMPT": str(self.world.served.github.run(job.run_id).attempt),
            "GPU_CI_CHECK_RUN_ID": str(job.id),
            "GPU_CI_RUN_TOKEN": self.world.run_token,
            "GITHUB_OUTPUT": str(self._file("output")),
            "GITHUB_STEP_SUMMARY": str(self._file("summary")),
        }

    def _job(self, story: str, scope: str) -> Job:
        """Return the job that tells the story; a scheduled watchdog has a run of its own."""
        github = self.world.served.github
        if story != "watchdog":
            return github.job(self.world.start_job if story == "start" else self.world.stop_job)
        run = self.world.run_id
        if scope == "repository":
            run = github.start_run(REPOSITORY, new_run_id(), event="schedule").id
        job = github.queue_job(run, WATCH, ["ubuntu-latest"])
        return github.set_job(job.id, status="in_progress", runner_name=f"Hosted Agent {story}")

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

    def sweep(self, **inputs: str) -> int:
        """Run a pass of a watchdog over the repository to its end; return its exit code."""
        self.begin_sweep(**inputs)
        code = self.zygote.wait()
        self.watches_are_over()
        return code

    def begin_sweep(self, **inputs: str) -> int:
        """Begin such a pass; return its process id."""
        return self.begin("watchdog", **{"scope": "repository", **self.swept(), **inputs})

    def kill(self, signum: int) -> None:
        """Signal the story that was begun last."""
        assert self._pid_known.wait(PATIENCE)
        os.kill(self._pid, signum)

    def kill_at(self, call: str, phase: Phase, signum: int, nth: int = 1) -> list[float]:
        """Arrange for the signal at the nth such call; the list will hold when it was sent."""
        return self._act_at(call, phase, nth, lambda: self.kill(signum))

    def now(self) -> float:
        """Return the time by the stories' clock, in seconds since the epoch."""
        return time.time() + self._passed

    def hour_passes_at(self, call: str, phase: Phase, nth: int = 1) -> None:
        """Let an hour pass for the stories at the nth such call: what they wait for there is over."""
        self._act_at(call, phase, nth, self._pass_hour)

    def _pass_hour(self) -> None:
        self._passed += HOUR
        written = self.log.with_suffix(".clock-to-be")
        written.write_text(str(self._passed))
        written.replace(self.log.with_suffix(".clock"))

    def _act_at(self, call: str, phase: Phase, nth: int, act: Callable[[], object]) -> list[float]:
        done: list[float] = []
        met: list[int] = []

        def hook(number: int, at: Phase, request: Request) -> None:
            if at == phase and self.name(request) == call:
                met.append(number)
                if len(met) == nth:
                    done.append(time.monotonic())
                    act()

        for faults in self.all_faults():
            faults.on_request(hook)
        return done

    def told(self) -> str:
        """Return everything that the stories printed."""
        return self.log.read_text()

    def summary(self) -> str:
        """Return what the stories wrote to the summary page."""
        return self.log.with_suffix(".summary").read_text()

    def output(self, name: str) -> str:
        """Return an output of the stories so far; the last one written counts."""
        return read_commands(self.log.with_suffix(".output").read_text())[name]

    def start_job_is_over(self) -> None:
        """The start's job has ended: no job needs what it made any more."""
        self.world.served.github.set_job(
            self.world.start_job, status="completed", conclusion="cancelled"
        )

    def watches_are_over(self) -> None:
        """The jobs of all watchdogs have ended, and with them the runs of the scheduled ones."""
        for job in self.world.served.github.all_jobs():
            if job.name == WATCH and not job.completed:
                self.world.served.github.set_job(job.id, conclusion="success")

    def calls(self) -> list[str]:
        """Return the calls so far, of both services."""
        return [self.name(request) for faults in self.all_faults() for request in faults.requests]

    def writes(self) -> list[str]:
        """Return a list that will hold the calls from now on that change something, in order."""
        seen: list[str] = []

        def hook(_number: int, at: Phase, request: Request) -> None:
            name = self.name(request)
            if at == "before" and not name.startswith(READS):
                seen.append(name)

        for faults in self.all_faults():
            faults.on_request(hook)
        return seen

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
class Plain(Stories):
    """A world with nothing but GitHub."""

    def given(self) -> dict[str, str]:
        return {}

    def swept(self) -> dict[str, str]:
        return {}

    def environment(self) -> dict[str, str]:
        return {}

    def all_faults(self) -> tuple[Faults, ...]:
        return (self.world.served.faults,)


@dataclass(kw_only=True)
class Cloud(Stories):
    """A world in which `ec2` is the provider."""

    aws: Aws

    def given(self) -> dict[str, str]:
        return {"provider": "ec2", "region": "us-east-1"}

    def swept(self) -> dict[str, str]:
        return {"providers": "ec2"}

    def environment(self) -> dict[str, str]:
        return self.aws.environment()

    def all_faults(self) -> tuple[Faults, ...]:
        return (self.world.served.faults, self.aws.faults)

    def left(self) -> list[str]:
        """Return every machine and registration that still stands."""
        return [each.id for each in self.aws.instances()] + self.world.runner_names()

    def launch(self, tags: Mapping[str, str], region: str = "us-east-1") -> None:
        """Launch a machine with these tags, as some start did long ago."""
        form = {"Action": "RunInstances", "ClientToken": tags["Name"]}
        form |= {"InstanceType": "g4dn.xlarge", "ImageId": "ami-00000000000000002"}
        form |= {"MinCount": "1", "MaxCount": "1", "TagSpecification.1.ResourceType": "instance"}
        for number, (key, value) in enumerate(tags.items(), 1):
            tag = f"TagSpecification.1.Tag.{number}"
            form |= {f"{tag}.Key": key, f"{tag}.Value": value}
        post(self.aws, form, region)

    def machine_names(self) -> set[str]:
        """Return the names of the machines that are billed."""
        tags = [tag for each in self.aws.instances() for tag in each.get_tags()]
        return {tag["value"] for tag in tags if tag["key"] == "Name"}


BOX = "gpu-box"


@dataclass(kw_only=True)
class Box(Stories):
    """A world in which `jarvislabs` is the provider, with one kept machine, paused."""

    jarvislabs: JarvisLabs

    def given(self) -> dict[str, str]:
        return {"provider": "jarvislabs", "machine-name": BOX, "gpus": "0"}

    def swept(self) -> dict[str, str]:
        return {"providers": "jarvislabs", "machine_name": BOX}

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

    def machine_names(self) -> set[str]:
        """Return the names of the machines that are billed for more than their disk."""
        machines = self.jarvislabs.machines()
        return {each.name for each in machines if each.status not in {"Paused", "Destroying"}}


@pytest.fixture
def plain(tmp_path: Path, zygote: Zygote) -> Iterator[Plain]:
    """A run without any machine."""
    with open_world(tmp_path) as world:
        yield Plain(world=world, zygote=zygote, log=tmp_path / "log")


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
