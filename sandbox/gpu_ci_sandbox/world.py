"""One workflow run in which the shipped actions are used as its jobs would use them, offline."""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import EnvironmentBroken
from gpu_ci.providers.local.local_provider import Local, LocalOptions
from gpu_ci.runtime.clock import SYSTEM_CLOCK, Deadline, every
from gpu_ci_sandbox.action_step import Result, Step, begin
from gpu_ci_sandbox.fake_github.annotations import Annotator
from gpu_ci_sandbox.fake_github.credentials import classic, job_token
from gpu_ci_sandbox.fake_github.records import Step as StepRecord
from gpu_ci_sandbox.fake_github.rest import ServedGitHub, serve_github
from gpu_ci_sandbox.fake_jarvislabs import JarvisLabs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpu_ci.model.machine import Machine
    from gpu_ci_sandbox.fake_github.records import Job

ROOT: Final = Path(__file__).resolve().parents[2]
REPOSITORY: Final = "octo-org/science"
FIRST_RUN_ID: Final = 19_000_000_001
RUN_IDS: Final = 1_000_000_000
FORGET_SECONDS: Final = 10.0
# Steps take seconds, on a machine with much else to do a minute; only what hangs comes to this.
HANGS_AFTER: Final = 500.0
SYSTEM_PROGRAMS: Final = "/usr/sbin:/sbin:/usr/bin:/bin"
# What the steps need of this machine: programs, a home for the kept environment, certificates.
PASSED_ON: Final = (
    "PATH", "HOME", "XDG_CACHE_HOME", "RUNNER_TOOL_CACHE", "LANG", "GPU_CI_UV", "GPU_CI_PYTHON",
    "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip


@dataclass(kw_only=True)
class World:
    """A workflow run, one after the other, in which the actions are used as a job would use them."""

    served: ServedGitHub
    folder: Path
    machines_folder: Path
    token: str
    run_token: str
    run_id: int = 0
    start_job: int = 0
    stop_job: int = 0
    watch_job: int = 0
    on_line: Callable[[str, str], None] | None = None
    steps: list[Step] = field(default_factory=list)
    extra: dict[str, str] = field(default_factory=dict)

    def next_run(self) -> None:
        """Begin a run whose start and stop jobs are in progress; what is done next belongs to it."""
        github = self.served.github
        run = github.start_run(REPOSITORY, new_run_id())
        jobs = [self._hosted(run.id, name) for name in ("start", "stop")]
        self.run_id, (self.start_job, self.stop_job) = run.id, (job.id for job in jobs)
        self.watch_job = 0

    def _hosted(self, run_id: int, name: str) -> Job:
        """Have a job in progress on a runner of GitHub's."""
        job = self.served.github.queue_job(run_id, name, ["ubuntu-latest"])
        runner = f"Hosted Agent {name}"
        return self.served.github.set_job(
            job.id, status="in_progress", runner_name=runner, group_name="GitHub Actions"
        )

    def end_run(self) -> None:
        """End the jobs of the run, and with them the run."""
        for job in self.served.github.all_jobs():
            if job.run_id == self.run_id and not job.completed:
                self.served.github.set_job(job.id, status="completed", conclusion="success")

    def env(self, job: str) -> dict[str, str]:
        """Return what the runner sets for every step of a job."""
        return {
            **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
            **self.extra,
            "GITHUB_API_URL": self.served.url,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": str(self.run_id),
            "GITHUB_RUN_ATTEMPT": str(self.served.github.run(self.run_id).attempt),
            "GITHUB_JOB": job,
            "GITHUB_WORKSPACE": str(self.folder),
            "RUNNER_TEMP": str(self.folder),
            "RUNNER_NAME": f"Hosted Agent {job}",
            "RUNNER_TRACKING_ID": f"github_{job}",
        }

    def begin(self, action: str, **inputs: str) -> Step:
        """Begin a step of one of the actions; keywords are inputs with underscores.

        The watchdog's step is in a job of its own, which the run has from the first such step on;
        each of the gate's is in a new one.
        """
        job, job_id = self._job(action)
        given = self._inputs(action, {name.replace("_", "-"): inputs[name] for name in inputs})
        contexts = {"job.check_run_id": str(job_id), "github.token": self.run_token}
        self._add_step(job_id, action)
        on_line = partial(self._hear, job, job_id, Annotator())
        step = begin(ROOT / f"action-{action}", given, self.env(job), contexts, on_line)
        self.steps.append(step)
        return step

    def _add_step(self, job_id: int, action: str) -> None:
        """Let the job have a step that is named as GitHub names one without a name of its own."""
        steps, name = self.served.github.job(job_id).steps, f"Run org/gpu-ci/action-{action}@v1"
        began = self.served.github.clock()
        made = StepRecord(number=len(steps) + 1, name=name, started_at=began)
        self.served.github.set_job(job_id, steps=(*steps, made))

    def _hear(self, job: str, job_id: int, annotator: Annotator, line: str) -> None:
        for annotation in annotator.hear(line):
            self.served.github.annotate(job_id, annotation)
        if self.on_line:
            self.on_line(job, line)

    def _job(self, action: str) -> tuple[str, int]:
        """Name and id of the job in which the action is used."""
        if action == "watchdog":
            self.watch_job = self.watch_job or self._hosted(self.run_id, "watch").id
            return "watch", self.watch_job
        if action == "gate":
            return "gate", self._hosted(self.run_id, "gate").id
        return ("start", self.start_job) if action == "start" else ("stop", self.stop_job)

    def _inputs(self, action: str, given: dict[str, str]) -> dict[str, str]:
        if action in {"gate", "watchdog"}:
            return given
        given = {"provider": "local", "github-token": self.token, "gpus": "0"} | given
        if action == "stop":
            given.pop("gpus")
        if given["provider"] == "local":
            given.setdefault("provider-options", self.local_options())
        return given

    def act(self, action: str, **inputs: str) -> Result:
        """Run a step of one of the actions to its end."""
        return self.begin(action, **inputs).result(HANGS_AFTER)

    def local_options(self) -> str:
        user = "" if os.geteuid() else ', "user": "nobody"'
        return f'{{"directory": "{self.machines_folder}"{user}}}'

    def machines(self) -> Sequence[Machine]:
        """Return the living machines of this world."""
        options = LocalOptions(directory=str(self.machines_folder))
        return Local(options, {}, SYSTEM_CLOCK).find({}, [])

    def runner_names(self) -> list[str]:
        return [runner.name for runner in self.served.github.all_runners()]

    def clean(self) -> None:
        """End what a failed test left."""
        for step in self.steps:
            if step.process.poll() is None:
                step.process.kill()
                step.process.wait()
        local = Local(LocalOptions(directory=str(self.machines_folder)), {}, SYSTEM_CLOCK)
        for machine in local.find({}, []):
            local.release(machine)


@contextmanager
def open_world(folder: Path, on_line: Callable[[str, str], None] | None = None) -> Iterator[World]:
    """Make a world whose start and stop jobs are in progress; `folder` is for the steps' files.

    `on_line` gets each line that a step prints, with its job's name. At the end every process and
    every machine of this world is gone.
    """
    if not (ROOT / "action-start" / "action.yml").exists():
        raise EnvironmentBroken(
            f"The actions are not in {ROOT}.",
            "This needs a checkout of the repository, not only the installed package.",
        )
    # Not below folder, which may be closed to others: the runner is another user.
    machines = Path(tempfile.mkdtemp(prefix="gpu-ci-machines-"))
    machines.chmod(0o711)
    with serve_github() as served:
        world = _world(served, folder, machines, on_line)
        try:
            yield world
        finally:
            world.clean()
            shutil.rmtree(machines, ignore_errors=True)


def _world(
    served: ServedGitHub,
    folder: Path,
    machines: Path,
    on_line: Callable[[str, str], None] | None,
) -> World:
    github = served.github
    github.add_repository(REPOSITORY)
    world = World(
        served=served,
        on_line=on_line,
        folder=folder,
        machines_folder=machines,
        token=github.issue(classic(REPOSITORY)),
        run_token=github.issue(job_token(REPOSITORY, actions="write", checks="read")),
    )
    world.next_run()
    return world


def new_run_id() -> int:
    """Return a run id that no other world has: local machines are known by their names, in which
    it is, so two worlds with one id would end each other's."""
    return FIRST_RUN_ID + secrets.randbelow(RUN_IDS)


@dataclass(frozen=True, kw_only=True)
class Box:
    """A machine's name at a stand-in for JarvisLabs, which keeps the machine between runs.

    The account of its runner has the same name: a kept machine ends every process of that account,
    and here those of the whole computer, so it must be nobody else's.
    """

    jarvislabs: JarvisLabs
    name: str

    def inputs(self) -> dict[str, str]:
        """Return the inputs of start and stop that name it."""
        options = json.dumps({"user": self.name})
        return {
            "provider": "jarvislabs",
            "machine_name": self.name,
            "provider_options": options,
        }


def forget_account(name: str) -> None:
    """Remove an account that a boot script made, as a container forgets it over a pause.

    Does nothing if there is none. Raises EnvironmentBroken when it cannot be removed.
    """
    if name not in {entry.pw_name for entry in pwd.getpwall()}:
        return
    program = shutil.which("userdel", path=SYSTEM_PROGRAMS) or "deluser"
    said = ""
    # A change of one user locks all others out for a moment.
    for _ in every(0.1, Deadline.after(FORGET_SECONDS, SYSTEM_CLOCK)):
        done = subprocess.run([program, name], capture_output=True, text=True, check=False)
        if not done.returncode:
            return
        said = done.stderr.strip()
    raise EnvironmentBroken(
        f"The account {name} was made here and cannot be removed: {said}.",
        f"Remove it: userdel {name}",
    )


@contextmanager
def open_box(world: World) -> Iterator[Box]:
    """Open a stand-in for JarvisLabs, whose key and address the steps of this world then have.

    At the end all of its processes and the account of its runner are gone. Raises EnvironmentBroken.
    """
    name = f"gpu-box-{secrets.token_hex(3)}"
    with ExitStack() as stack:
        jarvislabs = JarvisLabs(world.machines_folder / "jarvislabs")
        box = Box(jarvislabs=jarvislabs, name=name)
        stack.callback(forget_account, name)
        stack.enter_context(jarvislabs)
        world.extra |= jarvislabs.environment()
        yield box
