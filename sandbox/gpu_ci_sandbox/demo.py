"""`gpu-ci demo`: the whole loop on this machine, with the shipped actions and no account anywhere."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import BadInputs
from gpu_ci.runtime.signals import Cancellation
from gpu_ci_sandbox.timeline import DemoFailed, Timeline, gpus_here
from gpu_ci_sandbox.world import REPOSITORY, Box, World, forget_account, open_box, open_world

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_ci_sandbox.action_step import Result
    from gpu_ci_sandbox.fake_github.records import Job

JOB_SECONDS: Final = 60.0
# What the demo's GPU job runs.
SCRIPT: Final = """\
echo "Hello from runner $RUNNER_NAME, as user $(id -un), in $PWD"
if command -v nvidia-smi >/dev/null; then nvidia-smi -L; else echo "No GPU here: a dry loop."; fi
python3 -c 'print("2 + 2 =", 2 + 2)'
"""
# What it runs on a machine that is kept: the first run makes what the second one finds.
KEPT_SCRIPT: Final = """\
echo "Hello from runner $RUNNER_NAME, as user $(id -un), HOME is $HOME"
began=$(date +%s%3N)
if [ -x "$HOME/env/bin/python" ]; then
    echo "Found the environment of run $(cat "$HOME/env/made-by") on /home: nothing to make."
else
    python3 -m venv --without-pip "$HOME/env"
    PYTHONPYCACHEPREFIX="$HOME/.cache/compiled" "$HOME/env/bin/python" -m compileall -q \
        "$(python3 -c 'import asyncio; print(asyncio.__path__[0])')"
    echo "$GITHUB_RUN_ID" >"$HOME/env/made-by"
    echo "Made an environment and a cache of compiled files on /home."
fi
echo "Ready to work after $(($(date +%s%3N) - began)) ms."
"""


@dataclass(frozen=True, kw_only=True)
class Loop:
    """What came of a start, of a job on its machine, and of the stop."""

    started: Result
    job: Job
    stopped: Result


def demo(workflow: str | None = None, provider: str = "local") -> None:
    """Run the loop: start, a job on the runner that it brought up, stop.

    With `jarvislabs` twice, on one machine that is paused in between. Raises DemoFailed, and
    BadInputs for a workflow file with another provider than `local`.
    """
    if workflow and provider != "local":
        raise BadInputs(
            [f"A workflow file runs on this machine alone: leave out --provider {provider}."]
        )
    if workflow:
        from gpu_ci_sandbox.act.act_run import demo_workflow  # noqa: PLC0415 -- needs act

        demo_workflow(Path(workflow))
        return
    timeline = Timeline()
    folder = Path(tempfile.mkdtemp(prefix="gpu-ci-demo-"))
    try:
        with Cancellation(), open_world(folder, timeline.quote) as world:
            timeline.note(f"A stand-in for GitHub is at {world.served.url}, with {REPOSITORY}.")
            LOOPS[provider](world, timeline)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _loop(world: World, timeline: Timeline) -> None:
    timeline.note("Job start: action-start brings up a runner on this machine.")
    started = _succeeded(world.act("start", gpus=str(gpus_here())))
    timeline.note(f"The runner is online, with label {started.outputs['label']}.")
    job = _run_job(world, timeline, started.outputs["label"], SCRIPT)
    timeline.note("Job stop: action-stop gives the machine back.")
    stopped = _succeeded(world.act("stop", handle=started.outputs["handle"]))
    left = [*world.machines(), *world.runner_names()]
    if left:
        raise DemoFailed(f"Left behind: {left}.")
    timeline.note("Nothing is left: 0 machines, 0 registrations.")
    _print_summary([Loop(started=started, job=job, stopped=stopped)], timeline)


def _kept_loop(world: World, timeline: Timeline) -> None:
    with open_box(world) as box:
        timeline.note(f"A stand-in for JarvisLabs is at {box.jarvislabs.url}.")
        first = _kept_run(world, box, timeline, "makes")
        world.end_run()
        forget_account(box.name)
        world.next_run()
        second = _kept_run(world, box, timeline, "resumes")
    if f"of run {first.job.run_id} on /home" not in "\n".join(second.job.log):
        raise DemoFailed("The second run did not find what the first one had left on /home.")
    if second.started.outputs["machine-id"] == first.started.outputs["machine-id"]:
        raise DemoFailed("The machine has the id that it had: it was not resumed.")
    _print_summary([first, second], timeline)


def _kept_run(world: World, box: Box, timeline: Timeline, does: str) -> Loop:
    timeline.note(f"Run {world.run_id}, job start: action-start {does} {box.name}.")
    machine = {"machine": "A100", "gpus": str(gpus_here())}
    started = _succeeded(world.act("start", **box.inputs(), **machine))
    label, machine_id = started.outputs["label"], started.outputs["machine-id"]
    timeline.note(f"The runner is online on machine {machine_id}, with label {label}.")
    job = _run_job(world, timeline, label, KEPT_SCRIPT)
    timeline.note("Job stop: action-stop pauses the machine.")
    stopped = _succeeded(world.act("stop", **box.inputs(), handle=started.outputs["handle"]))
    status, left = box.jarvislabs.machine(box.name).status, world.runner_names()
    if status != "Paused" or left:
        raise DemoFailed(f"{box.name} is {status}, with registrations {left}.")
    timeline.note(f"{box.name}: {status}, {len(left)} registrations.")
    return Loop(started=started, job=job, stopped=stopped)


LOOPS: Final = {"local": _loop, "jarvislabs": _kept_loop}


def _run_job(world: World, timeline: Timeline, label: str, script: str) -> Job:
    github = world.served.github
    env = {"GITHUB_RUN_ID": str(world.run_id)}
    queued = github.queue_job(world.run_id, "test", [label], script, env=env)
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


def _succeeded(result: Result) -> Result:
    if result.exit_code:
        raise DemoFailed(f"The step ended with exit code {result.exit_code}; it says why above.")
    return result


def _print_summary(loops: Sequence[Loop], timeline: Timeline) -> None:
    print("\nThe job summary, as GitHub would show it:")
    for loop in loops:
        print(f"\n{loop.started.summary.strip()}\n\n{loop.stopped.summary.strip()}")
        print(f"\n{loop.job.name}: {loop.job.conclusion} on {loop.job.runner_name}")
    print(f"The whole loop took {timeline.entries[-1][0]:.1f} s.")
