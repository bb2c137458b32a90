"""`gpu-ci demo`: the whole loop on this machine, with the shipped actions and no account anywhere."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import GpuCiError
from gpu_ci.sandbox.world import REPOSITORY, World, open_world

if TYPE_CHECKING:
    from gpu_ci.sandbox.records import Job
    from gpu_ci.sandbox.step import Result

JOB_SECONDS: Final = 60.0
# What the demo's GPU job runs.
SCRIPT: Final = """\
echo "Hello from runner $RUNNER_NAME, as user $(id -un), in $PWD"
if command -v nvidia-smi >/dev/null; then nvidia-smi -L; else echo "No GPU here: a dry loop."; fi
python3 -c 'print("2 + 2 =", 2 + 2)'
"""


class DemoFailed(GpuCiError):
    """A step of the demo did not do what it should."""


@dataclass
class Timeline:
    """Prints what happens when it happens, and remembers it."""

    began: float = field(default_factory=time.monotonic)
    entries: list[tuple[float, str]] = field(default_factory=list)

    def note(self, what: str) -> None:
        self.entries.append((time.monotonic() - self.began, what))
        print(f"{self.entries[-1][0]:6.1f} s  {what}", flush=True)

    def quote(self, job: str, line: str) -> None:
        """Print a line of a step, but not the commands that tell the runner what to hide."""
        if not line.startswith(("::add-mask::", "::endgroup::")):
            shown = line.removeprefix("::group::")
            print(f"          {job:>5} | {shown}", flush=True)


def demo(workflow: str | None = None) -> None:
    """Run the loop: start, a job on the runner that it brought up, stop. Raises DemoFailed."""
    if workflow:
        from gpu_ci.sandbox.act import demo_workflow  # noqa: PLC0415 -- needs act

        demo_workflow(Path(workflow))
        return
    timeline = Timeline()
    folder = Path(tempfile.mkdtemp(prefix="gpu-ci-demo-"))
    try:
        with open_world(folder, timeline.quote) as world:
            timeline.note(f"A stand-in for GitHub is at {world.served.url}, with {REPOSITORY}.")
            _loop(world, timeline)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _loop(world: World, timeline: Timeline) -> None:
    timeline.note("Job start: action-start brings up a runner on this machine.")
    started = _succeeded(world.act("start", gpus=str(gpus_here())))
    timeline.note(f"The runner is online, with label {started.outputs['label']}.")
    job = _run_job(world, timeline, started.outputs["label"])
    timeline.note("Job stop: action-stop gives the machine back.")
    stopped = _succeeded(world.act("stop", machine=started.outputs["machine"]))
    left = [*world.machines(), *world.runner_names()]
    if left:
        raise DemoFailed(f"Left behind: {left}.")
    timeline.note("Nothing is left: 0 machines, 0 registrations.")
    _print_summary(started, job, stopped, timeline)


def _run_job(world: World, timeline: Timeline, label: str) -> Job:
    github = world.served.github
    queued = github.queue_job(world.run_id, "test", [label], SCRIPT)
    timeline.note("Job test: queued with that label.")
    github.wait(lambda: github.job(queued.id).status != "queued", JOB_SECONDS)
    timeline.note(f"The watch sees it picked up by {github.job(queued.id).runner_name}.")
    github.wait(lambda: github.job(queued.id).completed, JOB_SECONDS)
    job = github.job(queued.id)
    for line in job.log:
        timeline.quote("test", line)
    if job.conclusion != "success":
        raise DemoFailed(f"The job ended as {job.conclusion or job.status}.")
    timeline.note("Job test: success.")
    return job


def gpus_here() -> int:
    """Return how many GPUs this machine has, so that the gate looks at them too."""
    if not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _succeeded(result: Result) -> Result:
    if result.exit_code:
        raise DemoFailed(f"The step ended with exit code {result.exit_code}; it says why above.")
    return result


def _print_summary(started: Result, job: Job, stopped: Result, timeline: Timeline) -> None:
    print("\nThe job summary, as GitHub would show it:\n")
    print(started.summary.strip(), stopped.summary.strip(), sep="\n\n")
    print(f"\n{job.name}: {job.conclusion} on {job.runner_name}")
    print(f"The whole loop took {timeline.entries[-1][0]:.1f} s.")
