"""How a machine's billed time splits into boot, work and idle time, by the jobs that it ran. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final

from gpu_ci.model.tags import our_label, read_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gpu_ci.github.client import Job

# https://docs.github.com/en/billing/concepts/product-billing/github-actions
HOSTED_GROUP: Final = "GitHub Actions"
# The library's actions, and what its own workflows call the steps that use them.
OUR_STEPS: Final[Mapping[str, Sequence[str]]] = {
    "action-start": ("Start the machine", "Start a machine that has the old label too"),
    "action-stop": ("Give the machine back", "Give back what the watch has started"),
    "action-watchdog": (
        "Watch",
        "See whether the GPU job is run again",
        "End the wait for a machine that did not come",
    ),
    "action-gate": ("See who asks", "Look who asks"),
}


@dataclass(frozen=True, kw_only=True)
class Split:
    """Whole seconds: `boot` until the first job began, `work` while jobs ran, `idle` the rest."""

    boot: int
    work: int
    idle: int

    @property
    def seconds(self) -> int:
        return self.boot + self.work + self.idle

    def __str__(self) -> str:
        return f"boot {self.boot} s, work {self.work} s, idle {self.idle} s"


def split(began: float, ended: float, jobs: Iterable[tuple[float, float]]) -> Split:
    """Split the time of a machine by when its jobs began and ended, all in seconds since the epoch.

    The parts are whole seconds and add up to the whole time. A job that was over before the machine
    began does not count: it is of an earlier time of a kept machine. Nor does a job that began after
    its end. Any other time outside is moved to the edge, since two clocks are at work. Without a job
    all time is idle.
    """
    total = max(0, round(ended - began))
    spans = sorted(
        (_within(first, began, ended), _within(last, began, ended))
        for first, last in jobs
        if last > began and first <= ended
    )
    if not spans:
        return Split(boot=0, work=0, idle=total)
    boot = min(total, round(spans[0][0] - began))
    work = min(total - boot, round(_covered(spans)))
    return Split(boot=boot, work=work, idle=total - boot - work)


def _within(moment: float, began: float, ended: float) -> float:
    return min(max(moment, began), max(began, ended))


def _covered(spans: Sequence[tuple[float, float]]) -> float:
    """Return for how long at least one span lasts. They are sorted by their start."""
    covered, until = 0.0, spans[0][0]
    for first, last in spans:
        covered += max(0.0, last - max(first, until))
        until = max(until, last)
    return covered


def spans_of(machine: str, jobs: Iterable[Job], now: float) -> list[tuple[float, float]]:
    """Return when jobs ran on the machine's runner, which has its name; running ones until now."""
    return [
        (job.started_at, job.completed_at or now)
        for job in jobs
        if job.runner_name == machine and job.began
    ]


def hosted_minutes(jobs: Iterable[Job], now: float) -> int:
    """Return the minutes that GitHub's own runners worked for this library's jobs.

    A job is the library's if one of its steps is one of the library's actions; each is rounded up
    to whole minutes, as GitHub bills it. GitHub's times are whole seconds, so a short job may end
    in the second in which it began; it still counts as a minute.
    """
    return sum(
        max(1, ceil(((job.completed_at or now) - job.started_at) / 60))
        for job in jobs
        if job.began and job.runner_group == HOSTED_GROUP and uses(job, *OUR_STEPS)
    )


def uses(job: Job, *actions: str) -> bool:
    """Say whether a step of the job that was not skipped is one of these actions, by its name."""
    return any(is_step_of(step, action) for step in job.steps for action in actions)


def is_step_of(step: str, action: str) -> bool:
    """Say whether a step of this name uses the action.

    GitHub names a step by what it uses, unless the workflow gives it a name of its own.
    """
    return action in step or step in OUR_STEPS[action]


def on_our_machine(job: Job) -> bool:
    """Say whether a rented machine ran the job, by its label or its runner's name."""
    return bool(our_label(job.labels) or read_name(job.runner_name))
