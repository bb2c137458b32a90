"""What the stand-in for GitHub remembers: repositories, groups, runners, runs, jobs and steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

JobStatus = Literal["queued", "in_progress", "completed", "waiting", "requested", "pending"]
Conclusion = Literal[
    "success", "failure", "neutral", "cancelled", "skipped", "timed_out", "action_required"
]
Visibility = Literal["all", "private", "selected"]

READ_ONLY_LABELS = {"self-hosted", "linux", "x64"}


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository, `full_name` as owner/name."""

    id: int
    full_name: str
    private: bool
    created_at: float

    @property
    def owner(self) -> str:
        return self.full_name.partition("/")[0]

    @property
    def name(self) -> str:
        return self.full_name.partition("/")[2]


@dataclass(frozen=True, kw_only=True)
class RunnerGroup:
    """A runner group of an organisation; group 1 is its `Default`."""

    id: int
    organization: str
    name: str
    visibility: Visibility = "all"
    repositories: frozenset[str] = frozenset()
    allows_public_repositories: bool = False

    def serves(self, repository: Repository) -> bool:
        """Whether jobs of the repository may run here: its organisation, visibility, publicity."""
        named = self.visibility != "selected" or repository.full_name in self.repositories
        open_enough = repository.private or (
            self.allows_public_repositories and self.visibility != "private"
        )
        return repository.owner == self.organization and named and open_enough


@dataclass(frozen=True, kw_only=True)
class Label:
    """A label of a runner; GitHub's own ones are read-only."""

    id: int
    name: str

    @property
    def type(self) -> Literal["read-only", "custom"]:
        return "read-only" if self.name.lower() in READ_ONLY_LABELS else "custom"


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A registration; `scope` is owner/name of a repository or the name of an organisation.

    `secret` is what the runner program shows, `job_id` the job that it was handed, `heard_at` when
    it last called (None: never), `idle_since` since when it has been listening without a job.
    """

    id: int
    name: str
    scope: str
    labels: tuple[Label, ...]
    secret: str = field(repr=False)
    registered_at: float
    group_id: int = 1
    jit: bool = False
    ephemeral: bool = False
    online: bool = False
    os: str = "unknown"
    version: str | None = None
    job_id: int | None = None
    session: str | None = None
    heard_at: float | None = None
    idle_since: float | None = None

    @property
    def busy(self) -> bool:
        return self.job_id is not None

    def accepts(self, labels: tuple[str, ...]) -> bool:
        """Whether these `runs-on` labels, whatever their case, are all labels of the runner."""
        return {name.lower() for name in labels} <= {label.name.lower() for label in self.labels}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of a job, numbered from 1."""

    number: int
    name: str
    started_at: float
    completed_at: float | None = None
    conclusion: Conclusion | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job of one attempt of a run.

    `started_at` is when it was queued until a runner begins it. `runner_id` is filled from the
    moment it is handed out, `assigned_at` only until the runner has begun. `always` jobs go on
    after a plain cancel, as those with `if: always()` do. `shown_attempt` outranks `attempt` in
    what is shown, not in which attempt's list the job is.
    """

    id: int
    run_id: int
    attempt: int
    name: str
    labels: tuple[str, ...]
    script: str
    created_at: float
    started_at: float
    env: Mapping[str, str] = field(default_factory=dict)
    always: bool = False
    status: JobStatus = "queued"
    conclusion: Conclusion | None = None
    completed_at: float | None = None
    runner_id: int | None = None
    runner_name: str | None = None
    group_id: int | None = None
    group_name: str | None = None
    assigned_at: float | None = None
    cancelled_at: float | None = None
    steps: tuple[Step, ...] = ()
    log: tuple[str, ...] = ()
    shown_attempt: int | None = None

    @property
    def completed(self) -> bool:
        return self.status == "completed"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A workflow run; `attempt` is the latest one.

    `status` and `conclusion` are set only to contradict what follows from the jobs (a run that is
    `waiting` for approval, a `startup_failure`). `fork` is owner/name of where its commit is from, if
    that is a fork.
    """

    id: int
    repository: str
    name: str
    number: int
    created_at: float
    started_at: float
    updated_at: float
    event: str = "push"
    branch: str = "main"
    sha: str = "0" * 40
    path: str = ".github/workflows/ci.yml"
    actor: str = "octocat"
    fork: str = ""
    attempt: int = 1
    status: str | None = None
    conclusion: str | None = None


@dataclass(frozen=True, kw_only=True)
class Quirks:
    """What GitHub is said to do in more than one way; the default is the better founded.

    `run_status` of a run in which a job is queued: as its `least-advanced` job, or in progress as
    soon as any job has `begun` (reports of 2026 say both). `carried_attempt` of a job that a re-run
    of failed jobs did not run again: `new`, the run's (recorded answers of dbt-core's runs in July
    2026: a new id, the new attempt, the old times), or its `own`.
    """

    run_status: Literal["least-advanced", "begun"] = "least-advanced"
    carried_attempt: Literal["new", "own"] = "new"


class QuirkState(TypedDict, total=False):
    """Fields of `Quirks`."""

    run_status: Literal["least-advanced", "begun"]
    carried_attempt: Literal["new", "own"]


class RunnerState(TypedDict, total=False):
    """Fields of `Runner` that change."""

    registered_at: float
    ephemeral: bool
    online: bool
    os: str
    version: str | None
    job_id: int | None
    session: str | None
    heard_at: float | None
    idle_since: float | None


class JobState(TypedDict, total=False):
    """Fields of `Job` that change."""

    attempt: int
    created_at: float
    started_at: float
    completed_at: float | None
    env: Mapping[str, str]
    always: bool
    status: JobStatus
    conclusion: Conclusion | None
    runner_id: int | None
    runner_name: str | None
    group_id: int | None
    group_name: str | None
    assigned_at: float | None
    cancelled_at: float | None
    steps: tuple[Step, ...]
    log: tuple[str, ...]


class RunState(TypedDict, total=False):
    """Fields of `Run` that change or that a new run may be given."""

    name: str
    created_at: float
    started_at: float
    updated_at: float
    event: str
    branch: str
    sha: str
    path: str
    actor: str
    fork: str
    attempt: int
    status: str | None
    conclusion: str | None
