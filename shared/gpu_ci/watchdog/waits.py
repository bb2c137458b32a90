"""Which jobs wait for a runner, since when, and what to say about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from gpu_ci.model.tags import read_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gpu_ci.github.client import Job, Run, Runner

# Every label of this library begins like this.
OURS: Final = ("gpu-ci-*",)
# A runner takes a job within seconds: one with the label of an earlier attempt gets this long.
EARLIER_SECONDS: Final = 30.0
BEGUN: Final = {"in_progress", "completed"}
# GitHub's statuses of a job that waits for something other than a runner: an approval, its turn in a
# concurrency group, or to be queued at all (docs.github.com, workflow run statuses).
HELD: Final = {"waiting", "pending", "requested"}


@dataclass(frozen=True, kw_only=True)
class Wait:
    """A job that waits for a runner, `since` then (seconds since the epoch) and for at most `limit`
    seconds. `earlier` is the attempt that its label names, "" unless that attempt is over."""

    job: Job
    since: float
    limit: float
    earlier: str = ""

    def is_over(self, now: float) -> bool:
        """Say whether it has waited for as long as it may."""
        return now - self.since >= self.limit

    def describe(self, now: float) -> str:
        """Return what waits, for what and for how long."""
        waited, labels = _duration(now - self.since), ", ".join(sorted(self.job.labels))
        end = f", which was attempt {self.earlier}'s" if self.earlier else ""
        return (
            f"job {self.job.name!r} has waited {waited} for a runner with the label {labels}{end}"
        )


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Which jobs are watched, by globs of their labels, and for how many seconds they may wait.

    `brought` is when (seconds since the epoch) a machine with the label of an earlier attempt came
    back, 0 if nobody has brought one. `patient` gives another job of the run, if one goes on, time
    to bring it.
    """

    labels: tuple[str, ...]
    limit: float
    brought: float = 0.0
    patient: bool = False

    def watches(self, job: Job) -> bool:
        """Say whether one of the job's labels fits; case does not count, as with GitHub."""
        globs = [glob.lower() for glob in self.labels]
        return any(fnmatchcase(label.lower(), glob) for label in job.labels for glob in globs)

    def waits(
        self, run: Run, jobs: Iterable[Job], held_until: Mapping[int, float] | None = None
    ) -> list[Wait]:
        """Return the watched jobs that wait for a runner, of the run's latest attempt.

        `held_until` says until when a job, by its id, was last seen to wait for something else.
        """
        held_until = held_until or {}
        jobs = list(jobs)
        comes = self.patient and any(job.status == "in_progress" for job in jobs)
        return [
            self._wait(run, job, held_until.get(job.id, 0.0), comes=comes)
            for job in jobs
            if self.watches(job) and is_queued(job) and job.attempt == run.attempt
        ]

    def _wait(self, run: Run, job: Job, held_until: float, *, comes: bool) -> Wait:
        earlier = "" if self.brought else earlier_attempt(run, job)
        # A re-run keeps the time of the first attempt in some places, and never begins before its own.
        since = max(job.created_at, job.started_at, run.started_at, held_until, self.brought)
        return Wait(job=job, since=since, limit=self._limit(earlier, comes=comes), earlier=earlier)

    def _limit(self, earlier: str, *, comes: bool) -> float:
        """Return how long a job may wait: twice as long where its machine may have to boot first."""
        if not earlier:
            return self.limit
        return 2 * self.limit if comes else min(EARLIER_SECONDS, self.limit)


def is_queued(job: Job) -> bool:
    """Say whether the job waits for a runner, and for nothing else."""
    return job.status == "queued" and not job.runner_name


def earlier_attempt(run: Run, job: Job) -> str:
    """Return the attempt whose label the job asks for if it is over, "" otherwise.

    "Re-run failed jobs" leaves the start job as it was, so its label is that of the first attempt.
    """
    marks = [mark for mark in map(read_label, job.labels) if mark and mark.run_id == str(run.id)]
    return next((mark.attempt for mark in marks if int(mark.attempt) < run.attempt), "")


def fitting(job: Job, runners: Sequence[Runner]) -> list[Runner]:
    """Return the runners that have all labels that the job asks for."""
    asked = {label.lower() for label in job.labels}
    return [each for each in runners if asked <= {label.lower() for label in each.labels}]


def is_taken(wait: Wait, jobs: Sequence[Job], runners: Sequence[Runner]) -> bool:
    """Say whether a busy runner must have this job: its label is only this run's, and no other job of
    the run is on it."""
    if not any(read_label(label) for label in wait.job.labels):
        return False
    on = {job.runner_name for job in jobs if job.status == "in_progress"}
    return any(runner.busy and runner.name not in on for runner in fitting(wait.job, runners))


def advice(wait: Wait, runners: Sequence[Runner] | None) -> str:
    """Say which runners the job could have, and what to do."""
    return f"{_seen(wait, runners)} {_cure(wait, runners)}"


def _seen(wait: Wait, runners: Sequence[Runner] | None) -> str:
    """Say which runners have the label; None means that the token may not see them."""
    if runners is None:
        return "Whether a runner has that label is not known: this token may not see runners."
    found = fitting(wait.job, runners)
    if not found:
        return "No runner has that label."
    named = ", ".join(sorted(runner.name for runner in found)[:3])
    match [runner for runner in found if runner.online]:
        case []:
            return f"{named} has it and is offline."
        case online if all(runner.busy for runner in online):
            return f"{named} has it and is busy."
        case _:
            return f"{named} has it, is online, and does not take the job."


def _cure(wait: Wait, runners: Sequence[Runner] | None) -> str:
    """Say what to do about a job that no runner took."""
    if wait.earlier:
        return (
            "'Re-run failed jobs' leaves the start job as it was, and the machine of attempt "
            f"{wait.earlier} was given back with it: use 'Re-run all jobs'."
        )
    found = fitting(wait.job, runners or ())
    if runners is None or not found:
        return (
            "Its machine has ended, or there never was one: look at the log of the job that starts "
            "it and at how `runs-on` gets its label, then use 'Re-run all jobs'."
        )
    if not any(runner.online for runner in found):
        return "Its machine has ended or lost its network: use 'Re-run all jobs'."
    if all(runner.busy for runner in found if runner.online):
        return (
            "A machine of this library takes one job: start one for each. With runners of your own, "
            "raise queue-minutes."
        )
    return (
        "Look under Settings, Actions, Runners whether its group may serve this repository; if it "
        "may, the runner hangs: use 'Re-run all jobs'."
    )


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 2:  # noqa: PLR2004 -- up to two minutes it is in seconds
        return f"{seconds:.0f} seconds"
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.0f} hours"  # noqa: PLR2004 -- the same
