"""What is true in the model world: the machine, the registrations, the runs and their jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from gpu_ci.github.client import Job, Runner

if TYPE_CHECKING:
    from gpu_ci.model.machine import Machine

NAME: Final = "shared-gpu"
CRASHES: Final = ("kill", "cancel", "lost", "failed", "unread", "overslept", "late")


class Phase(Enum):
    """What the machine is really doing; its provider calls the two in between PENDING."""

    PAUSED = "paused"
    RESUMING = "resuming"
    RUNNING = "running"
    PAUSING = "pausing"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What happens in a world: how many runs, which crashes and how many of them, which machine.

    `handle` gives stops what their start put out, if it did. `way_in` lets a running machine be
    taken over; `by_hand` has a person start it before anything else. `exact` tells states apart
    also by how often a process has seen the same. `switches` limits how often a process is stopped
    between two of its sleeps while something else moves; None for no limit. `long_busy` lets GitHub
    show a runner as busy for longer after its job than any stop waits.
    """

    runs: int = 2
    crashes: int = 0
    kinds: tuple[str, ...] = CRASHES
    handle: bool = False
    way_in: bool = False
    by_hand: bool = False
    exact: bool = False
    switches: int | None = None
    long_busy: bool = False


@dataclass(kw_only=True)
class Box:
    """The machine. `boot` is the registration of its boot script, `job` the run whose job it runs;
    `ours` says that this library started it."""

    phase: Phase = Phase.PAUSED
    boot: int = 0
    job: int = 0
    ours: bool = False
    resumes: int = 0


@dataclass(kw_only=True)
class Registered:
    """A registration; `over` says that its job has ended and GitHub is about to drop it."""

    id: int
    run: int
    role: str
    labels: frozenset[str]
    online: bool = False
    busy: bool = False
    over: bool = False

    def runner(self) -> Runner:
        return Runner(id=self.id, name=NAME, online=self.online, busy=self.busy, labels=self.labels)


@dataclass(kw_only=True)
class WorkflowRun:
    """One run: its start, then its job, then its stops."""

    number: int
    attempt: int = 1
    status: str = "in_progress"
    started: str = ""
    label: str = ""
    job: str = ""
    handle: Machine | None = None
    stops: list[str] = field(default_factory=list)
    again: bool = False

    def jobs(self) -> list[Job]:
        begun = [("start", self.started and "completed", ""), *self._test(), *self._stops()]
        return [
            _job(self.number * 10 + place, name, status or "in_progress", label)
            for place, (name, status, label) in enumerate(begun)
        ]

    def _test(self) -> list[tuple[str, str, str]]:
        return [("test", self.job, self.label)] if self.job else [("skipped", "completed", "")]

    def _stops(self) -> list[tuple[str, str, str]]:
        return [(f"stop {n}", how and "completed", "") for n, how in enumerate(self.stops)]

    def key(self) -> tuple[Any, ...]:
        handle = self.handle and (self.handle.tags.runner_id, self.handle.started)
        return (self.attempt, self.status, self.started, self.job, handle, *self.stops, self.again)


def _job(number: int, name: str, status: str, label: str) -> Job:
    return Job(
        id=number,
        name=name,
        status=status,
        conclusion="",
        labels=frozenset({label} if label else ()),
        runner_name=NAME if label and status != "queued" else "",
    )
