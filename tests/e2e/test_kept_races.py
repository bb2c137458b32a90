"""Two and three runs on one kept machine at once, as real processes, of which some are killed."""

from __future__ import annotations

import base64
import json
import random
import re
import signal
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from tests.boot.boot_world import running, with_id
from tests.e2e.conftest import BOX, Box
from tests.pace import PATIENCE

from gpu_ci_sandbox.action_step import read_commands

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from gpu_ci_sandbox.fake_github.records import Job
    from gpu_ci_sandbox.fake_jarvislabs import MachineRecord
    from gpu_ci_sandbox.faults import Phase, Request

STEP_SECONDS = 0.02
JOB_SECONDS = 0.3


@dataclass(frozen=True, kw_only=True)
class Fate:
    """How a run goes; what dies is killed so many calls, of anybody's, after it began (0: never)."""

    begins: float
    start_dies: int
    stop_dies: int
    by: signal.Signals
    by_handle: bool


def fates(seed: int) -> list[Fate]:
    """Draw how two or three runs go. The first one's start is left alone."""
    draw = random.Random(seed)

    def fate(number: int) -> Fate:
        return Fate(
            begins=draw.uniform(0, 0.6),
            start_dies=draw.choice([0, draw.randint(2, 16)]) if number else 0,
            stop_dies=draw.choice([0, draw.randint(2, 12)]),
            by=draw.choice([signal.SIGKILL, signal.SIGINT]),
            by_handle=draw.choice([True, False]),
        )

    return [fate(number) for number in range(2 + seed % 2)]


@dataclass(kw_only=True)
class Race:
    """What all runs of a test share, and what the machine was asked for under a job."""

    box: Box
    began: float = field(default_factory=time.monotonic)
    done: list[Job] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    at_rest: bool = False

    def __post_init__(self) -> None:
        self.box.jarvislabs.settings.on_running = self._come_online
        self.box.jarvislabs.faults.on_request(self._look)

    def clock(self) -> float:
        return time.monotonic() - self.began

    def calls(self) -> int:
        return sum(len(faults.requests) for faults in self.box.all_faults())

    def _come_online(self, record: MachineRecord) -> None:
        """Do what the boot script does, which knows one registration: that goes online."""
        scripts = [*self.box.jarvislabs.scripts().values()] if record.scripts else []
        for runner in self.box.world.served.github.all_runners():
            if runner.id in {agent_of(script) for script in scripts}:
                self.box.world.served.github.set_runner(runner.id, online=True)

    def _look(self, _number: int, _phase: Phase, request: Request) -> None:
        if re.search(r"/(pause|destroy|resume)\b", request.path):
            self.broken += [f"{request.path} in the job of run {j.run_id}" for j in self.at_work()]

    def at_work(self) -> list[Job]:
        """Return the jobs that run on the machine."""
        jobs = self.box.world.served.github.all_jobs()
        return [job for job in jobs if job.name == "test" and job.status == "in_progress"]

    def goes(self, lives: Sequence[Generator[None]], stops: Generator[None]) -> None:
        """Let the runs live side by side until all are over, and another one stop beside them."""
        left = [*lives]
        while left:
            assert self.clock() < PATIENCE, f"the race hangs\n{self.told()}"
            left = [life for life in left if next(life, life) is None]
            next(stops)
            time.sleep(STEP_SECONDS)
        self.at_rest = True
        for _ in stops:
            time.sleep(STEP_SECONDS)

    def told(self) -> str:
        """Return what every story printed."""
        logs = sorted(self.box.log.parent.glob("race-*.log"))
        return "\n".join(f"--- {path.stem}\n{path.read_text()}" for path in logs)


def agent_of(script: str) -> int:
    """Return the registration that a boot script goes online with."""
    (config,) = re.findall(r"^JIT_CONFIG='?([^'\s]+)", script, re.MULTILINE)
    files = json.loads(base64.b64decode(config))
    return int(json.loads(base64.b64decode(files[".runner"]))["agentId"])


@dataclass(kw_only=True)
class Run:
    """One workflow run, with logs and outputs of its own."""

    race: Race
    box: Box

    @classmethod
    def new(cls, race: Race) -> Run:
        race.box.world.next_run()
        return cls(race=race, box=replace(race.box, world=replace(race.box.world)))

    def life(self, fate: Fate) -> Generator[None]:
        """Start, do the job, stop; a stop that was killed is repeated."""
        yield from until(lambda: self.race.clock() >= fate.begins)
        outputs = yield from self._starts(fate)
        if outputs:
            yield from self._does_its_job(outputs["label"])
        handle = outputs.get("handle", "") if fate.by_handle else ""
        if fate.stop_dies:
            yield from self._tells("stop", fate.stop_dies, fate.by, handle=handle)
        yield from self._stops(handle)
        self._ends(self.box.world.stop_job)

    def stops_in_jobs(self) -> Generator[None]:
        """Be a run that was cancelled before its start, and stops during each of the others' jobs."""
        self._ends(self.box.world.start_job)
        while not self.race.at_rest:
            if self.race.at_work():
                yield from self._stops()
            yield

    def _starts(self, fate: Fate) -> Generator[None, None, dict[str, str]]:
        """Return the outputs of a start that succeeded, none of one that was killed."""
        code = yield from self._tells("start", fate.start_dies, fate.by)
        self._ends(self.box.world.start_job)
        assert code == 0 or fate.start_dies, self.race.told()
        return read_commands(self.box.log.with_suffix(".output").read_text()) if not code else {}

    def _stops(self, handle: str = "") -> Generator[None]:
        code = yield from self._tells("stop", handle=handle)
        assert code == 0, self.race.told()

    def _tells(
        self, story: str, dies: int = 0, by: signal.Signals = signal.SIGKILL, **inputs: str
    ) -> Generator[None, None, int]:
        """Run a story; return its exit code."""
        name = f"race-{self.box.world.run_id}-{self.race.calls():04}-{story}.log"
        self.box.log = self.race.box.log.with_name(name)
        env = self.box.env(story, **{name: value for name, value in inputs.items() if value})
        pid = self.box.zygote.fork(story, env, self.box.log)
        last = self.race.calls() + dies
        while running(str(pid)):
            if dies and self.race.calls() >= last:
                with_id(pid, by)
                dies = 0
            yield
        return self.box.zygote.wait(pid)

    def _does_its_job(self, label: str) -> Generator[None]:
        """Take the job as the label's runner does, and end it as GitHub does."""
        github = self.box.world.served.github
        job = github.queue_job(self.box.world.run_id, "test", [label])
        yield from until(lambda: self._picks_up(job))
        before = self.box.jarvislabs.machine(BOX)
        over = self.race.clock() + JOB_SECONDS
        yield from until(lambda: self.race.clock() >= over)
        after = self.box.jarvislabs.machine(BOX)
        assert (after.status, after.starts) == ("Running", before.starts), self.race.told()
        with github.turn():
            github.finish(github.job(job.id), "success")
        self.race.done.append(github.job(job.id))

    def _picks_up(self, job: Job) -> bool:
        """Give the job to its runner, if that is online and its machine runs."""
        github = self.box.world.served.github
        with github.turn():
            for runner in github.all_runners():
                if runner.online and runner.accepts(job.labels) and self.box.status() == "Running":
                    github.set_runner(runner.id, job_id=job.id)
                    github.set_job(
                        job.id, status="in_progress", runner_id=runner.id, runner_name=BOX
                    )
                    return True
        return False

    def _ends(self, job_id: int) -> None:
        self.box.world.served.github.set_job(job_id, conclusion="success")


def until(holds: Callable[[], bool]) -> Generator[None]:
    while not holds():
        yield


@pytest.mark.parametrize("seed", range(5))
def test_runs_at_once(box: Box, seed: int) -> None:
    """A working runner is killed by who takes it for idle (pain 9): here no job's machine is touched,
    each job of a start that succeeded ends, and when all have stopped nothing is left (row 1.14)."""
    race, drawn = Race(box=box), fates(seed)
    lives = [Run.new(race).life(fate) for fate in drawn]
    race.goes(lives, Run.new(race).stops_in_jobs())
    assert race.broken == [], race.told()
    assert race.done
    assert {job.conclusion for job in race.done} == {"success"}
    assert box.left() == [], race.told()
