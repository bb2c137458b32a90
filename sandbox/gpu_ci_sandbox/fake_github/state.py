"""The state of the stand-in for GitHub, safe between threads and driven by a clock."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Unpack

from gpu_ci_sandbox.fake_github.limits import Limits, Secondary
from gpu_ci_sandbox.fake_github.records import (
    JobState,
    Quirks,
    QuirkState,
    Repository,
    RunnerGroup,
    RunnerState,
    RunState,
)
from gpu_ci_sandbox.fake_github.repository_files import Contents
from gpu_ci_sandbox.fake_github.runners import Lifetimes, Runners
from gpu_ci_sandbox.fake_github.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from gpu_ci_sandbox.fake_github.alarms import Due
    from gpu_ci_sandbox.fake_github.annotations import Annotation
    from gpu_ci_sandbox.fake_github.credentials import App, Credential
    from gpu_ci_sandbox.fake_github.limits import Status
    from gpu_ci_sandbox.fake_github.records import (
        Conclusion,
        Job,
        JobStatus,
        Run,
        Runner,
        Visibility,
    )

REGISTRATION_TOKEN_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class RunnerToken:
    """A registration or remove token, good for one scope for an hour."""

    token: str = field(repr=False)
    scope: str
    expires_at: float


class GitHub:
    """One GitHub: what it holds, and the turns in which that changes.

    Each public method takes its own turn; `turn` groups several. At the beginning and at the end
    of a turn everything is done that the clock or a change made due: registrations expire, silent
    runners go offline, jobs are handed out, queued again or given up.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.time, lifetimes: Lifetimes | None = None
    ) -> None:
        self.clock = clock
        self.lifetimes = lifetimes or Lifetimes()
        self._quirks = Quirks()
        self.changed = threading.Condition(threading.RLock())
        self.repositories: dict[str, Repository] = {}
        self.groups: list[RunnerGroup] = []
        self.credentials: dict[str, Credential] = {}
        self.apps: list[App] = []
        self.runner_tokens: dict[str, RunnerToken] = {}
        self.contents = Contents()
        self._ids = itertools.count(1001)
        self.reset()

    def reset(self) -> None:
        """Forget runners, runs, jobs, annotations, labels of issues and limits.

        Repositories, their files, groups and tokens stay.
        """
        with self.changed:
            self.runners = Runners(self.clock)
            self.runs = Runs(self.clock, self._quirks)
            self._offered: object = None
            self.limits = Limits(self.clock)
            self.issue_labels: dict[tuple[str, int], list[str]] = {}
            self.annotations: dict[int, list[Annotation]] = {}
            self.changed.notify_all()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Everything inside happens at once, as others see it."""
        with self.changed:
            self._settle()
            yield
            self._settle()
            self.changed.notify_all()

    def wait(self, until: Callable[[], bool], seconds: float) -> bool:
        """Wait in real time, between others' turns, until something holds; False if it did not."""
        with self.turn():
            return self.changed.wait_for(until, seconds)

    # -- what there is

    def add_repository(self, full_name: str, *, private: bool = True) -> Repository:
        """A repository; its owner is an organisation with a `Default` runner group."""
        with self.turn():
            repository = Repository(
                id=next(self._ids), full_name=full_name, private=private, created_at=self.clock()
            )
            self.repositories[full_name] = repository
            if not self.groups_of(repository.owner):
                self.groups.append(RunnerGroup(id=1, organization=repository.owner, name="Default"))
            return repository

    def add_group(
        self,
        organization: str,
        name: str,
        *,
        visibility: Visibility = "all",
        repositories: Iterable[str] = (),
        allows_public_repositories: bool = False,
    ) -> RunnerGroup:
        """A runner group of an organisation; `repositories` (owner/name) for `selected`."""
        with self.turn():
            group = RunnerGroup(
                id=next(self._ids),
                organization=organization,
                name=name,
                visibility=visibility,
                repositories=frozenset(repositories),
                allows_public_repositories=allows_public_repositories,
            )
            self.groups.append(group)
            return group

    def label_issue(self, repository: str, number: int, *names: str) -> None:
        """Put labels on an issue or a pull request, which there is from then on."""
        with self.turn():
            self.issue_labels.setdefault((repository, number), []).extend(names)

    def annotate(self, job_id: int, annotation: Annotation) -> None:
        """Leave an annotation on a job's check run."""
        with self.turn():
            self.annotations.setdefault(job_id, []).append(annotation)

    def groups_of(self, organization: str) -> list[RunnerGroup]:
        """The organisation's runner groups; empty if there is no such organisation."""
        return [group for group in self.groups if group.organization == organization]

    def group_of(self, runner: Runner) -> RunnerGroup:
        """The group that a runner is in; a repository's own runners are in a `Default` one."""
        known = (group for group in self.groups_of(runner.scope) if group.id == runner.group_id)
        return next(known, RunnerGroup(id=1, organization=runner.scope, name="Default"))

    # -- who may

    def issue(self, credential: Credential) -> str:
        """Make a token known; gives back the token itself."""
        with self.turn():
            self.credentials[credential.token] = credential
            return credential.token

    def revoke(self, token: str) -> None:
        """From now on the token is answered 401."""
        with self.turn():
            self.credentials.pop(token, None)

    def credential(self, token: str) -> Credential | None:
        """The rights of a token; None if it is unknown or has expired."""
        known = self.credentials.get(token)
        expired = known and known.expires_at is not None and known.expires_at <= self.clock()
        return None if expired else known

    def install(self, app: App) -> App:
        """Make an App and its one installation known."""
        with self.turn():
            self.apps.append(app)
            return app

    def runner_token(self, scope: str) -> RunnerToken:
        """A new registration or remove token for a repository or an organisation."""
        made = RunnerToken(
            token=f"A{secrets.token_hex(14).upper()}",
            scope=scope,
            expires_at=self.clock() + REGISTRATION_TOKEN_SECONDS,
        )
        self.runner_tokens[made.token] = made
        return made

    def token_opens(self, token: str, scope: str) -> bool:
        """Whether a registration token is good for the scope now."""
        known = self.runner_tokens.get(token)
        return known is not None and known.scope == scope and known.expires_at > self.clock()

    # -- limits

    @property
    def counted_calls(self) -> int:
        """API requests so far that counted against a rate limit (a 304 does not)."""
        return self.limits.counted_calls

    def set_remaining(
        self,
        remaining: int,
        *,
        reset_in: float = 3600,
        token: str | None = None,
        status: Status = 403,
    ) -> None:
        """Leave a token (None: every token) so many requests until `reset_in` seconds from now.

        `status` is the form of the refusal that follows: GitHub uses both.
        """
        with self.turn():
            self.limits.status = status
            for each in [token] if token else list(self.credentials):
                limit = self.credentials[each].hourly_limit
                self.limits.set_remaining(each, limit, remaining, reset_in)

    def set_secondary(
        self, *, times: int = 1, retry_after: int | None = 60, status: Status = 403
    ) -> None:
        """Refuse the next `times` requests with the secondary limit; None = no such header."""
        with self.turn():
            self.limits.secondary = Secondary(times=times, retry_after=retry_after, status=status)

    # -- runs and jobs

    def start_run(
        self, repository: str, run_id: int | None = None, **details: Unpack[RunState]
    ) -> Run:
        """A run without jobs yet; `details` are fields of `records.Run`."""
        with self.turn():
            return self.runs.start(repository, run_id, **details)

    def start_runs(
        self,
        repository: str,
        count: int,
        jobs: Mapping[str, Sequence[str]],
        state: JobState | None = None,
        **details: Unpack[RunState],
    ) -> list[Run]:
        """So many runs in one turn, each with the same jobs (labels by name) in the same state."""
        with self.turn():
            more = self._implied(state or {}, "queued")
            runs = [self.runs.start(repository, **details) for _ in range(count)]
            for run in runs:
                for name, labels in jobs.items():
                    self.runs.queue(run, name, labels, "true", **more)
            return runs

    def queue_job(
        self,
        run: Run | int,
        name: str,
        labels: Sequence[str],
        script: str = "true",
        *,
        env: Mapping[str, str] | None = None,
        always: bool = False,
        status: JobStatus = "queued",
    ) -> Job:
        """Queue a job of the run's latest attempt; `script` runs under bash on the runner.

        With another `status` it waits for approval (waiting) or for its concurrency group (pending).
        """
        with self.turn():
            known = self._run(run if isinstance(run, int) else run.id)
            more = JobState(env=env or {}, always=always, status=status)
            return self.runs.queue(known, name, labels, script, **more)

    def set_job(self, job_id: int, **changes: Unpack[JobState]) -> Job:
        """Change fields of a job by hand, e.g. a hosted one that no runner here takes.

        A conclusion completes it; a status of in_progress begins it; one of queued ends its wait
        for an approval or its concurrency group, and its time in the queue begins.
        """
        with self.turn():
            known = self.job(job_id)
            return self.runs.change(job_id, **self._implied(changes, known.status))

    def _implied(self, changes: JobState, before: JobStatus) -> JobState:
        """The changes and what follows from them."""
        now = self.clock()
        status = changes.get("status")
        if changes.get("conclusion"):
            return {"status": "completed", "completed_at": now, **changes}
        if status == "in_progress" or (status == "queued" and before in {"waiting", "pending"}):
            return {"started_at": now, **changes}
        return changes

    def set_run(self, run_id: int, **changes: Unpack[RunState]) -> Run:
        """Change fields of a run by hand; `status` and `conclusion` then outrank the jobs'."""
        with self.turn():
            return self.runs.change_run(run_id, **changes)

    def run(self, run_id: int) -> Run:
        """The run as it is now. Raises KeyError."""
        with self.turn():
            return self._run(run_id)

    def job(self, job_id: int) -> Job:
        """The job as it is now. Raises KeyError."""
        with self.turn():
            found = self.runs.job(job_id)
        if found is None:
            raise KeyError(job_id)
        return found

    def set_quirks(self, **quirks: Unpack[QuirkState]) -> None:
        """Behave in another of the ways that were reported; `quirks` are fields of `Quirks`."""
        with self.turn():
            self._quirks = replace(self._quirks, **quirks)
            self.runs.adopt(self._quirks)

    def _run(self, run_id: int) -> Run:
        found = self.runs.get(run_id)
        if found is None:
            raise KeyError(run_id)
        return found

    def run_status(self, run_id: int) -> tuple[str, str | None]:
        """What the run shows as status and conclusion. Raises KeyError."""
        with self.turn():
            run = self._run(run_id)
            return self.runs.status(run), self.runs.conclusion(run)

    # -- runners

    def register(
        self,
        scope: str,
        name: str,
        labels: Sequence[str],
        *,
        jit: bool = True,
        **state: Unpack[RunnerState],
    ) -> Runner:
        """A registration made by hand; `state` are fields of `records.Runner` (online, …)."""
        with self.turn():
            runner = self.runners.register(scope, name, labels, jit=jit, ephemeral=jit)
            if state.get("online"):
                self.runners.change(runner.id, heard_at=self.clock(), idle_since=self.clock())
            return self.runners.change(runner.id, **state)

    def set_runner(self, runner_id: int, **changes: Unpack[RunnerState]) -> Runner:
        """Change fields of a registration by hand. Raises KeyError."""
        with self.turn():
            return self.runners.change(runner_id, **changes)

    def all_runners(self) -> list[Runner]:
        """Every registration there is now, oldest first."""
        with self.turn():
            return self.runners.all()

    def all_jobs(self) -> list[Job]:
        """Every job of every attempt, oldest first."""
        with self.turn():
            return self.runs.jobs()

    def cancel(self, run: Run, *, force: bool) -> None:
        """Cancel a run; jobs that end at once let go of their runners."""
        with self.turn():
            held = [job for job in self.runs.jobs(run.id, run.attempt) if not job.completed]
            self.runs.cancel(run, force=force)
            for job in held:
                if self.job(job.id).completed and job.runner_id is not None:
                    self._release(job.runner_id)

    def finish(self, job: Job, conclusion: Conclusion) -> None:
        """Complete a job; its runner is free again, or gone if it was for one job only."""
        self.runs.finish(job, conclusion)
        if job.runner_id is not None:
            self._release(job.runner_id)

    def _release(self, runner_id: int) -> None:
        runner = self.runners.get(runner_id)
        if runner and runner.ephemeral:
            self.runners.remove(runner.id)
        elif runner:
            self.runners.change(runner.id, job_id=None, idle_since=self.clock())

    # -- what the clock and the queue make due

    def _settle(self) -> None:
        for job, due in self.runs.due(self.lifetimes):
            self._settle_job(job, due)
        for job in self.runs.held():
            if self._lost(job):
                self.finish(job, "failure")
        self.runners.expire(self.lifetimes)
        self._hand_out()

    def _settle_job(self, job: Job, due: Due) -> None:
        if due == "cancelling":
            self.finish(job, "cancelled")
        elif due == "pickup":
            self._take_back(job)
        else:
            self.finish(job, "failure")

    def _lost(self, job: Job) -> bool:
        runner = self.runners.get(job.runner_id) if job.runner_id is not None else None
        heard_at = runner.heard_at if runner and job.status == "in_progress" else None
        return heard_at is not None and self.clock() - heard_at >= self.lifetimes.lost

    def _take_back(self, job: Job) -> None:
        if job.runner_id is not None and self.runners.get(job.runner_id):
            self.runners.change(job.runner_id, job_id=None, online=False)
        self.runs.take_back(job)

    def _hand_out(self) -> None:
        """Give queued jobs to idle runners, unless both are those that did not fit before."""
        idle = [
            each for each in self.runners.all() if each.online and not each.busy and each.session
        ]
        offer = (self.runs, self.runs.changes, [(each.id, each.labels) for each in idle])
        if not idle or offer == self._offered:
            return
        self._offered = offer
        for job in self.runs.wanting():
            runner = self._fitting(job, idle)
            if runner:
                idle.remove(runner)
                self.runners.change(runner.id, job_id=job.id, idle_since=None)
                self.runs.hand_to(job, runner, self.group_of(runner))

    def _fitting(self, job: Job, idle: Sequence[Runner]) -> Runner | None:
        run = self.runs.get(job.run_id)
        repository = self.repositories[run.repository] if run else None
        fitting = (runner for runner in idle if runner.accepts(job.labels))
        return next(
            (each for each in fitting if repository and self._serves(each, repository)), None
        )

    def _serves(self, runner: Runner, repository: Repository) -> bool:
        if runner.scope == repository.full_name:
            return True
        return runner.scope == repository.owner and self.group_of(runner).serves(repository)
