"""The sandbox's records of jobs under act: the steps that they began, and what these left there."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, cast

from gpu_ci_sandbox.act.workflow_copy import ENTER, LEAVE
from gpu_ci_sandbox.fake_github.annotations import Annotator
from gpu_ci_sandbox.fake_github.records import Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_ci_sandbox.fake_github.records import Conclusion, Job
    from gpu_ci_sandbox.world import World

# What act calls a step that has no name of its own and uses an action.
USED: Final = re.compile(r"[\w./$-]+@\S+")


@dataclass(frozen=True, kw_only=True)
class Records:
    """The records of one run's jobs, by their names."""

    world: World
    annotators: dict[str, Annotator] = field(default_factory=dict)

    def find(self, name: str) -> Job | None:
        """Return a job's record, the last one; None before its first step has made it."""
        jobs = reversed(self.world.served.github.all_jobs())
        run = self.world.run_id
        return next((job for job in jobs if job.run_id == run and job.name == name), None)

    def annotate(self, name: str, told: Mapping[str, Any]) -> None:
        """Leave what a command of a step asks for on the job's page."""
        record = self.find(name)
        annotator = self.annotators.setdefault(name, Annotator())
        for annotation in annotator.hear(told.get("raw", "").rstrip("\n")):
            if record:
                self.world.served.github.annotate(record.id, annotation)

    def step(self, name: str, told: Mapping[str, Any]) -> None:
        """Note that a step has begun or ended. A rented runner tells of its own job's steps itself."""
        if told.get("stage") != "Main" or len(told.get("stepID", [])) != 1:
            return
        record = self.find(name)
        if not record or record.runner_id or told["stepID"][0] in {ENTER, LEAVE}:
            return
        steps, shown = record.steps, _shown(told["step"])
        if not steps or steps[-1].name != shown:
            steps = (*steps, self._begun(len(steps), shown))
        if "stepResult" in told:
            steps = (*steps[:-1], self._ended(steps[-1], told["stepResult"]))
        if steps != record.steps:
            self.world.served.github.set_job(record.id, steps=steps)

    def _begun(self, before: int, name: str) -> Step:
        began = self.world.served.github.clock()
        return Step(number=before + 1, name=name, started_at=began)

    def _ended(self, step: Step, result: str) -> Step:
        now = self.world.served.github.clock()
        return replace(step, completed_at=now, conclusion=cast("Conclusion", result))


def _shown(step: str) -> str:
    """Return a step's name as GitHub shows it."""
    return f"Run {step}" if USED.fullmatch(step) else step
