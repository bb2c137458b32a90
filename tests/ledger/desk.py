"""Runs with stops on the stand-in for GitHub, as `gpu-ci cost` and budgets read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.fakes import REPOSITORY

from gpu_ci.github.history import History
from gpu_ci.ledger.entry import TITLE, Entry
from gpu_ci.ledger.split import Split
from gpu_ci.model.machine import Price
from gpu_ci.runtime.clock import Deadline
from gpu_ci_sandbox.fake_github.annotations import Annotation
from gpu_ci_sandbox.fake_github.records import Step
from gpu_ci_sandbox.faults import answer

if TYPE_CHECKING:
    from tests.github.desk import Desk

    from gpu_ci_sandbox.fake_github.records import Job, Run

STOP = "Run org/gpu-ci/action-stop@v1"
# Sunday, 22 November 2026, noon UTC; the month began on a Sunday.
NOON = 1_795_348_800.0
DAY = 86400.0


def entry(cost: float = 0.5, **changed: Any) -> Entry:
    """Return an entry of an hour at this price, most of it work."""
    known: dict[str, Any] = {
        "machine": "gpu-ci-7-1-test-0123456789-0",
        "type": "g4dn.xlarge",
        "market": "on-demand",
        "seconds": 3600,
        "price": Price(per_hour=cost, source="AWS price list of 2026-11-20"),
        "split": Split(boot=100, work=3000, idle=500),
    }
    return Entry(**(known | changed))


def stopped(
    desk: Desk,
    *messages: object,
    ago: float = 0.0,
    steps: tuple[str, ...] = (STOP,),
    title: str = TITLE,
    job: dict[str, Any] | None = None,
    **run: Any,
) -> tuple[Run, Job]:
    """Let there be a run of so many seconds ago whose one job has left these notices."""
    began = desk.clock.now() - ago
    made = desk.state.start_run(REPOSITORY, created_at=began, started_at=began, **run)
    known = add_job(desk, made, steps=steps, **(job or {}))
    for message in messages:
        note = Annotation(level="notice", title=title, message=str(message))
        desk.state.annotate(known.id, note)
    return made, known


def add_job(desk: Desk, run: Run, *, steps: tuple[str, ...] = (STOP,), **changes: Any) -> Job:
    """Let a job of the run be over after a minute, on a runner of GitHub's if nothing else is said."""
    labels = changes.pop("labels", ["ubuntu-latest"])
    job = desk.state.queue_job(run, changes.pop("name", "stop"), labels)
    made = [
        Step(
            number=n,
            name=name,
            started_at=run.created_at,
            completed_at=run.created_at + 60,
            conclusion="success",
        )
        for n, name in enumerate(steps, 1)
    ]
    known: dict[str, Any] = {
        "conclusion": "success",
        "started_at": run.created_at,
        "completed_at": run.created_at + 60,
        "runner_name": "GitHub Actions 7",
        "group_name": "GitHub Actions",
        "steps": tuple(made),
    }
    return desk.state.set_job(job.id, **(known | changes))


def history(
    desk: Desk, token: str | None = None, *, run_token: str = "", patience: float = 300.0
) -> History:
    """Read with a token, an administrator's by default, and beside it with a job's own."""
    client = desk.client(token, run_token=run_token)
    return History.beside(client, Deadline.after(patience, desk.clock))


def limit_from(desk: Desk, run_id: int) -> None:
    """Let the hour's limit be used up when the jobs of this run are asked for."""
    reset = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(desk.clock.now()) + 2400)}
    body = {"message": "API rate limit exceeded"}
    desk.add(answer(403, body, path=f"runs/{run_id}/jobs", headers=reset, times=None))
