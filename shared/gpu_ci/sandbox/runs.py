"""Workflow runs and their jobs: attempts, statuses, cancelling and running again."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

from gpu_ci.sandbox.records import Job, JobState, Run, RunState, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpu_ci.sandbox.records import Conclusion, Runner, RunnerGroup

FIRST_RUN_ID = 12_000_000_001
FIRST_JOB_ID = 34_000_000_001

# A run shows the status of its least advanced job; of the conclusions the first one here wins.
STATUS_ORDER = ("queued", "requested", "pending", "waiting", "in_progress")
CONCLUSION_ORDER = (
    "failure",
    "timed_out",
    "action_required",
    "cancelled",
    "success",
    "neutral",
    "skipped",
)
FAILED = {"failure", "timed_out", "cancelled"}


class Runs:
    """All runs and jobs. Not safe between threads: `GitHub` calls it in its own turn."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._runs: dict[int, Run] = {}
        self._jobs: dict[int, Job] = {}
        self._run_ids = itertools.count(FIRST_RUN_ID)
        self._job_ids = itertools.count(FIRST_JOB_ID)

    def all(self) -> list[Run]:
        """Every run, newest first."""
        return sorted(self._runs.values(), key=lambda run: -run.id)

    def get(self, run_id: int) -> Run | None:
        return self._runs.get(run_id)

    def job(self, job_id: int) -> Job | None:
        return self._jobs.get(job_id)

    def jobs(self, run_id: int | None = None, attempt: int | None = None) -> list[Job]:
        """Jobs of a run (None: of all) and of an attempt (None: of all), oldest first."""
        return [
            job
            for job in self._jobs.values()
            if run_id in {None, job.run_id} and attempt in {None, job.attempt}
        ]

    def start(self, repository: str, run_id: int | None = None, **details: Unpack[RunState]) -> Run:
        """A new run without jobs; `details` are fields of `Run`."""
        now = self._clock()
        number = 1 + sum(run.repository == repository for run in self._runs.values())
        run = Run(
            id=run_id or next(self._run_ids),
            repository=repository,
            number=number,
            name="ci",
            created_at=now,
            started_at=now,
            updated_at=now,
        )
        run = replace(run, **details)
        self._runs[run.id] = run
        return run

    def queue(
        self, run: Run, name: str, labels: Sequence[str], script: str, **more: Unpack[JobState]
    ) -> Job:
        """A job of the run's latest attempt; `more` are fields of `Job`."""
        now = self._clock()
        job = Job(
            id=next(self._job_ids),
            run_id=run.id,
            name=name,
            labels=tuple(labels),
            script=script,
            attempt=run.attempt,
            created_at=now,
            started_at=now,
        )
        job = replace(job, **more)
        self._jobs[job.id] = job
        return job

    def change(self, job_id: int, **changes: Unpack[JobState]) -> Job:
        """Store the job with these fields changed."""
        self._jobs[job_id] = replace(self._jobs[job_id], **changes)
        self.change_run(self._jobs[job_id].run_id, updated_at=self._clock())
        return self._jobs[job_id]

    def change_run(self, run_id: int, **changes: Unpack[RunState]) -> Run:
        """Store the run with these fields changed."""
        self._runs[run_id] = replace(self._runs[run_id], **changes)
        return self._runs[run_id]

    def hand_to(self, job: Job, runner: Runner, group: RunnerGroup) -> Job:
        """Give the job to a runner, which has yet to begin."""
        return self.change(
            job.id,
            assigned_at=self._clock(),
            runner_id=runner.id,
            runner_name=runner.name,
            group_id=group.id,
            group_name=group.name,
        )

    def take_back(self, job: Job) -> Job:
        """Queue a job again that its runner did not begin."""
        return self.change(
            job.id,
            assigned_at=None,
            runner_id=None,
            runner_name=None,
            group_id=None,
            group_name=None,
        )

    def begin(self, job: Job) -> Job:
        """The runner has begun."""
        now = self._clock()
        first = Step(number=1, name="Set up job", started_at=now)
        return self.change(
            job.id, status="in_progress", started_at=now, assigned_at=None, steps=(first,)
        )

    def step(self, job: Job, name: str, ended: Conclusion) -> Job:
        """End the current step with this conclusion and begin the next."""
        step = Step(number=len(job.steps) + 1, name=name, started_at=self._clock())
        return self.change(job.id, steps=(*self._ended(job, ended), step))

    def finish(self, job: Job, conclusion: Conclusion) -> Job:
        """Complete the job and the step that it is in."""
        return self.change(
            job.id,
            status="completed",
            conclusion=conclusion,
            completed_at=self._clock(),
            assigned_at=None,
            steps=self._ended(job, conclusion),
        )

    def _ended(self, job: Job, conclusion: Conclusion) -> tuple[Step, ...]:
        return tuple(
            step
            if step.completed_at is not None
            else replace(step, completed_at=self._clock(), conclusion=conclusion)
            for step in job.steps
        )

    def status(self, run: Run, attempt: int | None = None) -> str:
        """What the run shows: as it was set, else its least advanced job's; queued without any."""
        if run.status and attempt in {None, run.attempt}:
            return run.status
        jobs = self.jobs(run.id, attempt or run.attempt)
        found = {job.status for job in jobs}
        unfinished = next((status for status in STATUS_ORDER if status in found), None)
        return unfinished or ("completed" if jobs else "queued")

    def conclusion(self, run: Run, attempt: int | None = None) -> str | None:
        """The worst of the jobs' conclusions once the run is completed."""
        if run.conclusion and attempt in {None, run.attempt}:
            return run.conclusion
        if self.status(run, attempt) != "completed":
            return None
        found = {job.conclusion for job in self.jobs(run.id, attempt or run.attempt)}
        return next((each for each in CONCLUSION_ORDER if each in found), None)

    def cancel(self, run: Run, *, force: bool) -> None:
        """Cancel what is not completed; a plain cancel spares `always` jobs."""
        for job in self.jobs(run.id, run.attempt):
            if not job.completed and (force or not job.always):
                self._cancel_job(job, force=force)

    def _cancel_job(self, job: Job, *, force: bool) -> None:
        marked = self.change(job.id, cancelled_at=self._clock())
        if force or job.status != "in_progress" or job.runner_id is None:
            self.finish(marked, "cancelled")

    def rerun(self, run: Run, again: Callable[[Job], bool]) -> Run:
        """Begin attempt n + 1: new job ids; jobs that are not run again keep their result."""
        before = self.jobs(run.id, run.attempt)
        now = self._clock()
        run = self.change_run(
            run.id, attempt=run.attempt + 1, started_at=now, status=None, conclusion=None
        )
        for job in before:
            if again(job):
                self.queue(run, job.name, job.labels, job.script, env=job.env, always=job.always)
            else:
                self._carry_over(job, run)
        return run

    def _carry_over(self, job: Job, run: Run) -> None:
        carried = replace(job, id=next(self._job_ids), attempt=run.attempt)
        self._jobs[carried.id] = carried

    def delete(self, run: Run) -> None:
        """Forget the run and its jobs."""
        for job in self.jobs(run.id):
            del self._jobs[job.id]
        del self._runs[run.id]


def failed(job: Job) -> bool:
    """Whether `rerun-failed-jobs` runs this job again."""
    return job.conclusion in FAILED
