"""What a stop asks GitHub once the machines are given back: when the jobs of its run ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import GitHubError
from gpu_ci.github.history import History
from gpu_ci.ledger.read_ledger import STOP
from gpu_ci.ledger.split import Split, hosted_minutes, is_step_of, spans_of, split
from gpu_ci.runtime.clock import Deadline

if TYPE_CHECKING:
    from gpu_ci.github.client import GitHub, Job
    from gpu_ci.model.identity import Identity
    from gpu_ci.model.machine import Machine
    from gpu_ci.release.still_needed import Asker
    from gpu_ci.runtime.clock import Clock

# The machines are given back by now; nobody waits much longer just for the bill.
PATIENCE: Final = 4.0
RENAMED: Final = (
    f"Budgets and `gpu-ci cost` do not count this stop: they recognize it by a step with {STOP} in "
    "its name, as GitHub names it unless the workflow gives it another."
)


@dataclass(frozen=True, kw_only=True)
class Times:
    """When the jobs of this run's attempt ran; `jobs` is None where that is not known, and `why`
    says why."""

    identity: Identity
    now: float
    jobs: tuple[Job, ...] | None = None
    why: str = ""

    @property
    def hosted(self) -> int | None:
        """The minutes of GitHub's own runners that the library's jobs used so far."""
        return None if self.jobs is None else hosted_minutes(self.jobs, self.now)

    def end_of(self, machine: str) -> float:
        """Return when a machine that ended itself was over: at the end of its last job if that is
        known, otherwise now."""
        spans = spans_of(machine, self.jobs or (), self.now)
        return max((ended for _, ended in spans), default=self.now)

    def split(self, machine: Machine, seconds: float | None, ended: float) -> Split | None:
        """Return how the machine's time up to its end splits; None where its jobs are not known."""
        tags, own = machine.tags, self.identity
        known = tags.run_id in {"", own.run_id} and tags.attempt in {"", own.attempt}
        if self.jobs is None or seconds is None or not known:
            return None
        spans = spans_of(machine.name, self.jobs, self.now)
        return split(ended - seconds, ended, spans)

    def renamed(self, asker: Asker) -> str:
        """Return a warning if this stop will not be recognized as one, "" otherwise."""
        own = (job.current for job in self.jobs or () if str(job.id) == asker.check_run_id)
        step = next(own, "")  # it may not have reached GitHub yet
        return RENAMED if step and not is_step_of(step, STOP) else ""


def read_times(github: GitHub, identity: Identity, clock: Clock) -> Times:
    """List the jobs of this attempt once; never raises, and never takes more than a few seconds.

    The time this takes is no longer billed: `now` is when it began.
    """
    now = clock.now()
    patience = Deadline.after(PATIENCE, clock)
    history = History.beside(github, patience)
    history.hurry(patience)
    try:
        jobs = tuple(history.jobs_of_attempt(identity.run_id, identity.attempt))
    except GitHubError as error:
        return Times(identity=identity, now=now, why=str(error))
    return Times(identity=identity, now=now, jobs=jobs)
