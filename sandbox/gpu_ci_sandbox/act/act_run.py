"""Runs a user's workflow file under act, with the sandbox in GitHub's place and this machine rented.

act executes every step itself, on this machine and as its user, and it skips a job whose `runs-on`
it does not know. So a copy of the workflow runs (`workflow_copy.py` lists its changes), in which a
job for a rented machine first queues a job with its real label in the sandbox and goes on only when
the runner that start brought up has begun that one; it lets the runner go at the end. What start
and stop meet is therefore real: registration, queue, runner process, busy and idle, and the run's
jobs. What is not: the steps of that job run next to the runner, not in it; and act goes in stages, so
a job begins when everything that comes before its stage is over, not only what it needs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from gpu_ci.errors import BadInputs, EnvironmentBroken
from gpu_ci.runtime.signals import Cancellation
from gpu_ci_sandbox.act import job_steps
from gpu_ci_sandbox.act.job_records import Records
from gpu_ci_sandbox.act.stage import Stage, Trigger
from gpu_ci_sandbox.act.workflow_copy import copy_workflow
from gpu_ci_sandbox.timeline import DemoFailed, Timeline
from gpu_ci_sandbox.world import REPOSITORY, World, new_run_id, open_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from gpu_ci_sandbox.act.workflow_copy import Copy
    from gpu_ci_sandbox.fake_github.records import Conclusion

# After a signal act runs the steps with `if: always()` and ends within this time.
END_SECONDS: Final = 20.0
LOOK_SECONDS: Final = 0.05
# By this variable, whose value is the run's own folder, every process of a step is known.
MARKER: Final = "XDG_CACHE_HOME"
UNFINISHED: Final = "unfinished"
# A signal waits for what is made of one line, which takes no time at all.
HELD_SECONDS: Final = 2.0
# Commands that a step gives its runner and whose text is for people.
SHOWN_COMMANDS: Final = {"error", "warning", "notice"}


def demo_workflow(file: Path) -> None:
    """Run a workflow file and report what happened.

    Raises BadInputs when act cannot run it, EnvironmentBroken without act, DemoFailed when a job
    failed or anything was left behind.
    """
    timeline = Timeline()
    folder = Path(tempfile.mkdtemp(prefix="gpu-ci-demo-"))
    try:
        with Cancellation() as cancellation, open_world(folder) as world:
            held = partial(cancellation.held, HELD_SECONDS)
            outcome = run_workflow(file, world, timeline, held=held)
            timeline.note(f"act ended with exit code {outcome.exit_code}.")
            judge(outcome, world, timeline)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(kw_only=True)
class Outcome:
    """What act told: each job's conclusion, every line that a step printed, and its exit code.

    Jobs go by their names on GitHub, those that did not begin by their ids. `said` are the lines of
    act itself that belong to no job; `outputs` and `summaries` those of each job.
    """

    exit_code: int = 0
    summaries: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    conclusions: dict[str, str] = field(default_factory=dict)
    lines: list[tuple[str, str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def log(self, job: str) -> str:
        """Return what the steps of one job printed."""
        return "\n".join(line for name, line in self.lines if name == job)


def judge(outcome: Outcome, world: World, timeline: Timeline) -> None:
    """Print the conclusions and what is left. Raises DemoFailed if that is not as it should be."""
    machines = {machine.name for machine in world.machines()}
    registrations = set(world.runner_names())
    timeline.note(f"Left: {len(machines)} machines, {len(registrations)} registrations.")
    print("\nThe jobs:\n")
    for job, conclusion in outcome.conclusions.items():
        print(f"  {conclusion:<11} {job}")
    problems = [*_left(machines | registrations), *_failures(outcome)]
    if problems:
        raise DemoFailed(" ".join(problems))


def _left(names: set[str]) -> list[str]:
    if not names:
        return []
    return [f"The workflow left {', '.join(sorted(names))} behind, which the demo has now ended."]


def _failures(outcome: Outcome) -> list[str]:
    failed = [job for job, end in outcome.conclusions.items() if end not in {"success", "skipped"}]
    if failed:
        return [f"Jobs that did not succeed: {', '.join(failed)}."]
    if outcome.exit_code:
        last = outcome.said[-1] if outcome.said else "nothing"
        return [f"act ended with exit code {outcome.exit_code}; its last words: {last}"]
    return []


def run_workflow(
    file: Path,
    world: World,
    timeline: Timeline,
    trigger: Trigger | None = None,
    held: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Outcome:
    """Run a workflow file in a new run of the world's repository, or in another attempt of its run.

    A signal's exception waits for the end of `held`: one in the middle of a change of the sandbox
    could leave it locked. Raises BadInputs when act cannot run it, EnvironmentBroken without act.
    """
    program = find_act()
    trigger = trigger or Trigger()
    if not file.is_file():
        raise BadInputs([f"There is no workflow file {file}."])
    _begin_run(world, file.name, trigger)
    stage = Stage.build(world, file, trigger)
    copy = copy_workflow(file.read_text(), stage.place(), trigger.event, trigger.kept)
    stage.lay_out(copy)
    _tell(copy, file, world, timeline)
    watch = Watch(timeline=timeline, records=Records(world=world))
    with _running([program, *stage.arguments(copy)], stage.env()) as process:
        for line in process.stdout or ():
            with held():
                watch.follow(line.rstrip("\n"))
        watch.outcome.exit_code = process.wait()
    _conclude(copy.jobs, watch)
    watch.outcome.outputs |= _outputs(world, stage.folder / "ended")
    return watch.outcome


def _begin_run(world: World, name: str, trigger: Trigger) -> None:
    """Begin a run, or a further attempt of the world's run with the jobs that it keeps."""
    github = world.served.github
    if trigger.attempt == 1:
        event = trigger.event or "push"
        world.run_id = github.start_run(REPOSITORY, new_run_id(), name=name, event=event).id
        return
    github.set_run(world.run_id, attempt=trigger.attempt)
    for job, kept in trigger.kept.items():
        made = github.queue_job(world.run_id, job, [job_steps.NO_LABEL])
        github.set_job(made.id, status="completed", conclusion=cast("Conclusion", kept.conclusion))


def _conclude(paths: Sequence[tuple[str, ...]], watch: Watch) -> None:
    """Say of what did not begin whether it was skipped, or act ended before it.

    act ends a run once a called workflow has failed, when GitHub would go on outside of that call.
    """
    calls = {path[:-1] for path in watch.failed} - {()}
    for path in (path for path in paths if path not in watch.begun):
        cut_short = calls and not any(path[: len(call)] == call for call in calls)
        shown = job_steps.SEPARATOR.join(path if cut_short else _unbegun(path, watch.begun))
        watch.outcome.conclusions[shown] = UNFINISHED if cut_short else "skipped"
        if cut_short:
            watch.timeline.note(f"Job {shown} was not run: act ends with a call that has failed.")


def _unbegun(path: tuple[str, ...], begun: set[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the outermost call above a job in which nothing began, which is all that GitHub shows."""
    parts = {each[:end] for each in begun for end in range(len(each) + 1)}
    return next(path[:end] for end in range(1, len(path) + 1) if path[:end] not in parts)


def _outputs(world: World, folder: Path) -> dict[str, dict[str, str]]:
    """Return the outputs that each job had at its end."""
    names = {str(job.id): job.name for job in world.served.github.all_jobs()}
    return {names[file.name]: json.loads(file.read_text()) for file in folder.iterdir()}


def find_act() -> str:
    """Return act's path. Raises EnvironmentBroken."""
    program = Path(sys.executable).parent / "act"
    if not program.exists():
        raise EnvironmentBroken(
            f"act is not at {program}.",
            "Run `sh shared/run demo --workflow FILE`, or install gpu-ci[sandbox].",
        )
    return str(program)


def _tell(copy: Copy, file: Path, world: World, timeline: Timeline) -> None:
    timeline.note(f"A stand-in for GitHub is at {world.served.url}, with {REPOSITORY}.")
    jobs = ", ".join(job_steps.SEPARATOR.join(path) for path in copy.jobs)
    timeline.note(f"act runs a copy of {file.name}, event {copy.event}: {jobs}.")
    timeline.note(
        "Every step runs on this machine as you. A job for a rented machine begins when the runner "
        "that start brought up has taken a job with its label, and holds that runner to its end."
    )
    for note in copy.notes:
        timeline.note(f"For this machine: {note}")


@dataclass(kw_only=True)
class Watch:
    """Reads what act tells, one JSON object a line, and prints what people want to see of it.

    Steps, and what their commands leave on a job's page, go to the record of that job.
    """

    timeline: Timeline
    records: Records
    outcome: Outcome = field(default_factory=Outcome)
    begun: set[tuple[str, ...]] = field(default_factory=set)
    failed: set[tuple[str, ...]] = field(default_factory=set)

    def follow(self, line: str) -> None:
        told = _read(line)
        path = _path(told)
        if not path:
            self.outcome.said.append(told.get("msg", line))
            return
        job = job_steps.shown_name(path)
        self._note_begin(job_steps.ids(path), job)
        shown = _shown(told)
        if shown:
            self.outcome.lines.append((job, shown))
            self.timeline.quote(job, shown)
        self.records.step(job, told)
        if told.get("command") in SHOWN_COMMANDS:
            self.records.annotate(job, told)
        # What a step inside an action writes is repeated for the action's own step.
        if told.get("command") == "summary" and len(told.get("stepID", [])) == 1:
            before = self.outcome.summaries.get(job, "")
            self.outcome.summaries[job] = before + told["content"]
        if "jobResult" in told:
            self.outcome.conclusions[job] = told["jobResult"]
            self._note_end(job_steps.ids(path), told["jobResult"])
            self.timeline.note(f"Job {job}: {told['jobResult']}.")

    def _note_begin(self, ids: tuple[str, ...], job: str) -> None:
        self.begun.add(ids)
        if job not in self.outcome.conclusions:
            self.outcome.conclusions[job] = UNFINISHED
            self.timeline.note(f"Job {job}: begins.")

    def _note_end(self, ids: tuple[str, ...], result: str) -> None:
        if result == "failure":
            self.failed.add(ids)


def _read(line: str) -> dict[str, Any]:
    """Return what a line says as data; nothing if it is for people."""
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _path(told: Mapping[str, Any]) -> str:
    """Return the path of the job's names; act puts callers before it and numbers legs behind it."""
    marked = str(told.get("job", "")).partition(job_steps.MARK)[2]
    return marked[: marked.rfind("}") + 1]


def _shown(told: dict[str, Any]) -> str:
    """Return what a line shows of a step: its output, its messages, and what act says of it."""
    text = str(told.get("msg", "")).rstrip("\n")
    if told.get("raw_output"):
        return text
    if told.get("command") in SHOWN_COMMANDS:
        return f"{told['command']}: {told.get('arg', '')}"
    return text if told.get("level") == "error" else ""


@contextmanager
def _running(command: Sequence[str], env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run act; it and all that its steps began are gone when the block ends, however it ends."""
    process = subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        with process:
            try:
                yield process
            finally:
                _end(process)
    finally:
        _kill_marked(f"{MARKER}={env[MARKER]}")


def _end(process: subprocess.Popen[str]) -> None:
    """Let act end its steps; kill it if it does not."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _kill_marked(mark: str) -> None:
    """Kill what a step left behind: each has a session of its own, but the same environment."""
    while found := [entry for entry in Path("/proc").glob("[0-9]*") if _bears(entry, mark)]:
        for entry in found:
            with suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)
        time.sleep(LOOK_SECONDS)


def _bears(entry: Path, mark: str) -> bool:
    try:
        return mark.encode() in (entry / "environ").read_bytes().split(b"\0")
    except OSError:  # it has just ended, or is another user's
        return False
