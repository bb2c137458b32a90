"""Whether anybody still owns a machine or a registration: its run, a job, or its own lifetime."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpu_ci.errors import Absent
from gpu_ci.model.tags import IN_A_TERMINAL

if TYPE_CHECKING:
    from gpu_ci.github.client import GitHub, Job, Run, Runner
    from gpu_ci.model.identity import Identity


@dataclass(kw_only=True)
class Sight:
    """One reading of GitHub: its runners, and the runs that are asked for, each once.

    `runners` are those of `identity.scope`.
    """

    github: GitHub
    identity: Identity
    runners: list[Runner]
    _runs: dict[str, Run | None] = field(default_factory=dict)

    def runner(self, name: str) -> Runner | None:
        return next((each for each in self.runners if each.name == name), None)

    def why_over(self, run_id: str, attempt: str) -> str:
        """Say why a run's attempt needs nothing any more, "" if it may. Raises GitHubError."""
        if run_id == IN_A_TERMINAL or not (run_id.isdecimal() and attempt.isdecimal()):
            return ""  # of no run, or somebody edited the tags: nobody knows
        run = self._run(run_id)
        if run is None:
            return f"run {run_id} does not exist"
        if run.attempt > int(attempt):
            return f"attempt {attempt} of run {run_id} is over"
        return f"run {run_id} is over" if run.over else ""

    def why_busy(self, name: str, run_id: str) -> str:
        """Say which job the runner of this name has, "" if none. Raises GitHubError."""
        runner = self.runner(name)
        if runner and runner.busy:
            return "its runner is running a job"
        for job in self._jobs(run_id):
            if job.runner_name == name and not job.over:
                return f"job {job.name!r} is running on it"
        return ""

    def _run(self, run_id: str) -> Run | None:
        if run_id not in self._runs:
            try:
                self._runs[run_id] = self.github.run(run_id)
            except Absent:
                self._runs[run_id] = None
        return self._runs[run_id]

    def _jobs(self, run_id: str) -> list[Job]:
        named = run_id != IN_A_TERMINAL and run_id.isdecimal()
        run = self._run(run_id) if named else None
        return self.github.jobs(run_id) if run and not run.over else []
