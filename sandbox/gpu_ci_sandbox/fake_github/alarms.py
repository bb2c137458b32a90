"""When the clock makes something due for a job that is not completed."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_ci_sandbox.fake_github.records import Job
    from gpu_ci_sandbox.fake_github.runners import Lifetimes

# A cancelled job whose runner does not end it, a job handed out but not begun, one nobody took.
Due = Literal["cancelling", "pickup", "queued"]


class Alarms:
    """Which jobs are due, without a look at those that are not."""

    def __init__(self) -> None:
        self._queue: list[tuple[float, int]] = []
        self._changed: set[int] = set()
        self._lifetimes: Lifetimes | None = None

    def changed(self, job_id: int) -> None:
        """The job is new, or other than it was."""
        self._changed.add(job_id)

    def due(
        self, jobs: Mapping[int, Job], lifetimes: Lifetimes, now: float
    ) -> list[tuple[Job, Due]]:
        """Return the jobs that are due, oldest first; each once, until it changes."""
        self._set(jobs, lifetimes)
        rung = set()
        while self._queue and self._queue[0][0] <= now:
            rung.add(heapq.heappop(self._queue)[1])
        alarms = ((jobs[each], alarm(jobs[each], lifetimes)) for each in sorted(rung & jobs.keys()))
        return [(job, found[1]) for job, found in alarms if found and found[0] <= now]

    def _set(self, jobs: Mapping[int, Job], lifetimes: Lifetimes) -> None:
        if lifetimes is not self._lifetimes:
            self._lifetimes, self._queue, self._changed = lifetimes, [], set(jobs)
        for each in self._changed & jobs.keys():
            found = alarm(jobs[each], lifetimes)
            if found:
                heapq.heappush(self._queue, (found[0], each))
        self._changed.clear()


def alarm(job: Job, lifetimes: Lifetimes) -> tuple[float, Due] | None:
    """Return when the job is due next, in seconds of the stand-in's clock, and for what."""
    if job.completed:
        return None
    alarms: list[tuple[float, Due]] = []
    if job.cancelled_at is not None:
        alarms.append((job.cancelled_at + lifetimes.cancelling, "cancelling"))
    if job.assigned_at is not None:
        alarms.append((job.assigned_at + lifetimes.pickup, "pickup"))
    if job.status == "queued":
        alarms.append((job.started_at + lifetimes.queued, "queued"))
    return min(alarms, default=None)
