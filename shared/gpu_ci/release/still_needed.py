"""Whether anything in a run still needs a machine: what a stop without handle or key must know.

Pure. What is not known counts as needed. A machine left alone ends itself when its idle time is
over, or the watchdog finds it; a job that is killed is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_ci.github.client import Job, Runner


@dataclass(frozen=True, kw_only=True)
class Asker:
    """The job that asks, so that it does not count itself.

    The runner may give only one of its check run id and its runner's name.
    """

    check_run_id: str = ""
    runner_name: str = ""

    def is_job(self, job: Job) -> bool:
        if self.check_run_id:
            return str(job.id) == self.check_run_id
        return bool(self.runner_name) and job.runner_name == self.runner_name


def why_needed(
    label: str, starter: str, jobs: Sequence[Job], runner: Runner | None, asker: Asker
) -> str:
    """Return why the machine is still needed, "" if nothing needs it.

    `label` and `starter` (the check run id of the job that started it, "" if unknown) are from its
    tags; or the label is just its name, with which all its labels begin. `jobs` are all jobs of the
    run's latest attempt, `runner` is its registration.
    """
    if runner is not None and runner.busy:
        return "its runner is running a job"
    going = [job for job in jobs if not job.over and not asker.is_job(job)]
    for job in going:
        if runner is not None and job.runner_name == runner.name:
            return f"job {job.name!r} is {job.status} on its runner"
        if any(f"{each}-".startswith(f"{label}-") for each in job.labels):
            return f"job {job.name!r} is {job.status} and asks for its label"
        if starter and str(job.id) == starter:
            return f"job {job.name!r}, which started it, is still {job.status}"
    if going and not starter:
        return f"it is not known which job started it, and {going[0].name!r} is {going[0].status}"
    return ""
