"""One run with any jobs, and the watch beside them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tests.fakes import REPOSITORY
from tests.github.desk import RUN
from tests.watchdog.any_world import EARLIER, ROUNDING, label_of, straight_to

from gpu_ci.errors import GpuCiError
from gpu_ci.inputs.reader import variable
from gpu_ci.model.identity import Identity
from gpu_ci.watchdog import watchdog
from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.fake_github.records import JobState
from gpu_ci_sandbox.fake_github.runners import Lifetimes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.github.desk import Desk

    from gpu_ci_sandbox.fake_github.records import Job, JobStatus
    from gpu_ci_sandbox.faults import Phase, Request, Rule

ATTEMPT = 2
# So short that a watch to its end is some dozens of looks.
LIMIT = 120.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What becomes of a job, in seconds: when it `appears`, how long it is then `held` by an approval,
    and how long it `waits` for a runner, None for ever. `label` is one of this attempt, of the
    first, or of somebody else."""

    label: Literal["ours", "first", "foreign"] = "ours"
    appears: float = 0.0
    held: float = 0.0
    waits: float | None = None
    then: Literal["begins", "cancelled"] = "begins"

    @classmethod
    def waiting(cls, part: float | None, **plan: Any) -> Plan:
        """A job that waits for this part of the time that it may, None for ever."""
        made = cls(**plan)
        return replace(made, waits=None if part is None else part * min(made.limit, LIMIT))

    @property
    def limit(self) -> float:
        return {"ours": LIMIT, "first": EARLIER, "foreign": float("inf")}[self.label]

    @property
    def queued_at(self) -> float:
        return self.appears + self.held

    @property
    def taken_at(self) -> float:
        return float("inf") if self.waits is None else self.queued_at + self.waits

    @property
    def is_late(self) -> bool:
        return self.taken_at - self.queued_at > self.limit

    @property
    def labels(self) -> list[str]:
        if self.label == "foreign":
            return ["self-hosted"]
        attempt = str(ATTEMPT if self.label == "ours" else 1)
        scope = f"repos/{REPOSITORY}"
        start = Identity(
            repository=REPOSITORY, run_id=str(RUN), attempt=attempt, key="k", scope=scope
        )
        return [label_of(start)]


@dataclass(kw_only=True)
class AnyRun:
    """A run, its jobs with what is planned for them, and the cancels that were asked for.

    `early` are those in which no watched job was late; a cancel that GitHub does not take is asked
    for again without a new look, and that is not among them.
    """

    desk: Desk
    jobs: dict[int, Plan] = field(default_factory=dict)
    cancels: list[float] = field(default_factory=list)
    early: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, desk: Desk, plans: Sequence[Plan]) -> AnyRun:
        run = cls(desk=desk)
        desk.state.lifetimes = Lifetimes(queued=1e12)
        desk.state.set_run(RUN, attempt=ATTEMPT)
        for plan in plans:
            if plan.appears:
                desk.clock.at(plan.appears, partial(run._appear, plan), must=False)
            else:
                run._appear(plan)
        return run

    def _appear(self, plan: Plan) -> None:
        status: JobStatus = "waiting" if plan.held else "queued"
        job = self.desk.state.queue_job(RUN, "test", plan.labels, status=status)
        self.jobs[job.id] = plan
        if plan.held:
            self.desk.clock.at(
                plan.queued_at, partial(self._change, job, JobState(status="queued")), must=False
            )
        if plan.waits is not None:
            begun = JobState(status="in_progress", runner_name="runner")
            end = begun if plan.then == "begins" else JobState(conclusion="cancelled")
            self.desk.clock.at(plan.taken_at, partial(self._change, job, end), must=False)

    def _change(self, job: Job, state: JobState) -> None:
        if not self.desk.state.job(job.id).completed:
            self.desk.state.set_job(job.id, **state)

    def watch(self, faults: Sequence[Rule] = (), *, dry_run: bool = False) -> GpuCiError | None:
        """Watch the run to its end; return how the step fails, if it does."""
        self.desk.add(*faults)
        self.desk.hub.faults.on_request(self._on_request)
        with straight_to(self.desk.hub):
            try:
                watchdog(self._env(dry_run=dry_run), self.desk.clock)
            except GpuCiError as error:
                return error
        return None

    def _env(self, *, dry_run: bool) -> dict[str, str]:
        state = self.desk.state
        watch = state.queue_job(RUN, "watch", ["ubuntu-latest"])
        state.set_job(watch.id, status="in_progress")
        token = state.issue(credentials.job_token(REPOSITORY, actions="write"))
        return {
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": str(RUN),
            "GITHUB_RUN_ATTEMPT": str(ATTEMPT),
            "GITHUB_JOB": "watch",
            "GPU_CI_CHECK_RUN_ID": str(watch.id),
            "GPU_CI_RUN_TOKEN": token,
            variable("github_api_url"): self.desk.hub.url,
            variable("queue_minutes"): str(LIMIT / 60),
            variable("dry_run"): str(dry_run).lower(),
        }

    def _on_request(self, number: int, phase: Phase, request: Request) -> None:
        if phase == "before" and request.method != "GET":
            self.cancels.append(self.desk.clock.elapsed())
            if not self.late():
                self.early.append(self.desk.clock.elapsed())

    def queued(self) -> list[Plan]:
        """The watched jobs that wait for a runner now."""
        state = self.desk.state
        queued = [plan for job, plan in self.jobs.items() if state.job(job).status == "queued"]
        return [plan for plan in queued if plan.label != "foreign"]

    def late(self) -> list[Plan]:
        """Those of them that have waited for too long, by GitHub's times in whole seconds."""
        now = self.desk.clock.elapsed() + ROUNDING
        return [plan for plan in self.queued() if now - plan.queued_at >= plan.limit]
