"""Workflow runs and their jobs: attempts, statuses, cancelling and running again."""

from __future__ import annotations

import itertools
from bisect import insort
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

from gpu_ci_sandbox.fake_github.alarms import Alarms
from gpu_ci_sandbox.fake_github.records import Job, JobState, Quirks, Run, RunState, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpu_ci_sandbox.fake_github.alarms import Due
    from gpu_ci_sandbox.fake_github.records import Conclusion, Runner, RunnerGroup
    from gpu_ci_sandbox.fake_github.runners import Lifetimes

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

# Status and conclusion of a run.
Shown = tuple[str, str | None]


class Runs:
    """All runs and jobs. Not safe between threads: `GitHub` calls it in its own turn.

    `changes` counts what was changed. Whatever is asked often is kept by run, by status or by what
    a job still needs, so that nothing costs more because many runs are over.
    """

    def __init__(self, clock: Callable[[], float], quirks: Quirks | None = None) -> None:
        self.changes = 0
        self._clock = clock
        self._quirks = quirks or Quirks()
        self._runs: dict[int, Run] = {}
        self._jobs: dict[int, Job] = {}
        self._run_ids = itertools.count(FIRST_RUN_ID)
        self._job_ids = itertools.count(FIRST_JOB_ID)
        self._numbers: Counter[str] = Counter()
        self._runs_of: defaultdict[str, list[int]] = defaultdict(list)
        self._jobs_of: defaultdict[int, list[int]] = defaultdict(list)
        self._wanting: set[int] = set()
        self._held: set[int] = set()
        self._alarms = Alarms()
        self._shown: dict[int, Shown] = {}
        self._showing: defaultdict[str | None, set[int]] = defaultdict(set)
        self._unshown: set[int] = set()

    def adopt(self, quirks: Quirks) -> None:
        """Show runs in another of the ways that were reported."""
        self._quirks = quirks
        self._unshown |= self._runs.keys()
        self.changes += 1

    def all(self) -> list[Run]:
        """Every run, newest first."""
        return sorted(self._runs.values(), key=lambda run: -run.id)

    def of(self, repository: str) -> list[Run]:
        """The runs of a repository, newest first."""
        return [self._runs[each] for each in reversed(self._runs_of[repository])]

    def showing(self, repository: str, word: str) -> list[Run]:
        """Those of them that show this status or this conclusion."""
        self._show()
        runs = (self._runs[each] for each in sorted(self._showing[word], reverse=True))
        return [run for run in runs if run.repository == repository]

    def get(self, run_id: int) -> Run | None:
        return self._runs.get(run_id)

    def job(self, job_id: int) -> Job | None:
        return self._jobs.get(job_id)

    def jobs(self, run_id: int | None = None, attempt: int | None = None) -> list[Job]:
        """Jobs of a run (None: of all) and of an attempt (None: of all), oldest first."""
        ids = self._jobs if run_id is None else self._jobs_of.get(run_id, ())
        jobs = (self._jobs[each] for each in ids)
        return [job for job in jobs if attempt in {None, job.attempt}]

    def wanting(self) -> list[Job]:
        """Queued jobs that no runner was given, oldest first."""
        return [self._jobs[each] for each in sorted(self._wanting)]

    def held(self) -> list[Job]:
        """Jobs that a runner was given and that are not completed, oldest first."""
        return [self._jobs[each] for each in sorted(self._held)]

    def due(self, lifetimes: Lifetimes) -> list[tuple[Job, Due]]:
        """Jobs for which the clock has made something due, oldest first."""
        return self._alarms.due(self._jobs, lifetimes, self._clock())

    def start(self, repository: str, run_id: int | None = None, **details: Unpack[RunState]) -> Run:
        """A new run without jobs; `details` are fields of `Run`."""
        now = self._clock()
        self._numbers[repository] += 1
        run = Run(
            id=run_id or next(self._run_ids),
            repository=repository,
            number=self._numbers[repository],
            name="ci",
            created_at=now,
            started_at=now,
            updated_at=now,
        )
        if run.id not in self._runs:
            insort(self._runs_of[repository], run.id)
        return self._store_run(replace(run, **details))

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
        return self._add(replace(job, **more))

    def change(self, job_id: int, **changes: Unpack[JobState]) -> Job:
        """Store the job with these fields changed."""
        job = self._store(replace(self._jobs[job_id], **changes))
        self.change_run(job.run_id, updated_at=self._clock())
        return job

    def change_run(self, run_id: int, **changes: Unpack[RunState]) -> Run:
        """Store the run with these fields changed."""
        return self._store_run(replace(self._runs[run_id], **changes))

    def _add(self, job: Job) -> Job:
        self._jobs_of[job.run_id].append(job.id)
        return self._store(job)

    def _store(self, job: Job) -> Job:
        self.changes += 1
        self._jobs[job.id] = job
        _keep(self._wanting, job.id, belongs=job.status == "queued" and job.runner_id is None)
        _keep(self._held, job.id, belongs=not job.completed and job.runner_id is not None)
        self._alarms.changed(job.id)
        self._unshown.add(job.run_id)
        return job

    def _store_run(self, run: Run) -> Run:
        self.changes += 1
        self._runs[run.id] = run
        self._unshown.add(run.id)
        return run

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
        return self._shows(run, attempt)[0]

    def conclusion(self, run: Run, attempt: int | None = None) -> str | None:
        """The worst of the jobs' conclusions once the run is completed."""
        return self._shows(run, attempt)[1]

    def _shows(self, run: Run, attempt: int | None) -> Shown:
        if attempt not in {None, run.attempt}:
            return self._of_attempt(run, attempt)
        self._show()
        return self._shown[run.id]

    def _show(self) -> None:
        """Find out anew what the runs show that have changed since."""
        for run_id in self._unshown:
            for word in self._shown.pop(run_id, ()):
                self._showing[word].discard(run_id)
            if run_id in self._runs:
                self._shown[run_id] = self._latest(self._runs[run_id])
                for word in self._shown[run_id]:
                    self._showing[word].add(run_id)
        self._unshown.clear()

    def _latest(self, run: Run) -> Shown:
        status = run.status or self._least_advanced(self.jobs(run.id, run.attempt))
        worst = _worst(self.jobs(run.id, run.attempt)) if status == "completed" else None
        return status, run.conclusion or worst

    def _of_attempt(self, run: Run, attempt: int | None) -> Shown:
        jobs = self.jobs(run.id, attempt)
        status = self._least_advanced(jobs)
        return status, _worst(jobs) if status == "completed" else None

    def _least_advanced(self, jobs: Sequence[Job]) -> str:
        found = {job.status for job in jobs}
        status = next((each for each in STATUS_ORDER if each in found), None)
        if status == "queued" and self._quirks.run_status == "begun":
            return "in_progress" if found & {"in_progress", "completed"} else status
        return status or ("completed" if jobs else "queued")

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
        kept = self._quirks.carried_attempt == "own"
        own = job.shown_attempt or job.attempt
        carried = replace(job, id=next(self._job_ids), attempt=run.attempt)
        self._add(replace(carried, shown_attempt=own if kept else None))

    def delete(self, run: Run) -> None:
        """Forget the run and its jobs."""
        for job_id in self._jobs_of.pop(run.id, ()):
            del self._jobs[job_id]
            self._wanting.discard(job_id)
            self._held.discard(job_id)
        del self._runs[run.id]
        self._runs_of[run.repository].remove(run.id)
        self._unshown.add(run.id)
        self.changes += 1


def _worst(jobs: Sequence[Job]) -> str | None:
    found = {job.conclusion for job in jobs}
    return next((each for each in CONCLUSION_ORDER if each in found), None)


def _keep(ids: set[int], job_id: int, *, belongs: bool) -> None:
    if belongs:
        ids.add(job_id)
    else:
        ids.discard(job_id)


def failed(job: Job) -> bool:
    """Whether `rerun-failed-jobs` runs this job again."""
    return job.conclusion in FAILED
