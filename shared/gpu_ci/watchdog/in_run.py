"""The watch beside a GPU job: it ends when the job has a runner, or has waited too long for one.

It can also stay until the job is over, or look just once whether the job waits at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import Limited, Unreachable
from gpu_ci.runtime import workflow_commands
from gpu_ci.runtime.clock import Deadline, growing
from gpu_ci.watchdog.waits import BEGUN, HELD, is_queued, is_taken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpu_ci.github.client import GitHub, Job, Run, Runner
    from gpu_ci.release.still_needed import Asker
    from gpu_ci.runtime.clock import Clock
    from gpu_ci.watchdog.waits import Rule, Wait

# An unchanged answer costs nothing; the job begins within seconds where a runner is there.
LOOK_SECONDS: Final = 5.0
# GitHub queues all jobs that need the same one at the same time. So a run in which nothing else goes
# on, and that has no watched job after this long, has none.
ALONE_SECONDS: Final = 60.0
# GitHub creates all jobs of a re-run together; one that is not queued by then does not wait.
ONCE_SECONDS: Final = 30.0
# Each step of a running job changes the answer, which then counts: all share 1,000 an hour.
FIRST_LOOK: Final = 5.0
LAST_LOOK: Final = 120.0
# Without an answer from GitHub a watch goes on for this long, or for as long as a job may wait.
OUTAGE_SECONDS: Final = 600.0
# All tries of one question end after this many seconds.
ANSWER_SECONDS: Final = 60.0


@dataclass(kw_only=True)
class Watch:
    """One watch of one run's attempt. `runners` lists the runners, None where it may not; `seen` are
    those of the last look."""

    github: GitHub
    run: Run
    rule: Rule
    asker: Asker
    clock: Clock
    runners: Callable[[], Sequence[Runner] | None]
    quiet_since: float = 0.0
    heard_at: float = 0.0
    held_until: dict[int, float] = field(default_factory=dict)
    seen: Sequence[Runner] | None = None

    def until_picked_up(self) -> list[Wait]:
        """Return nothing once each watched job has a runner, else the jobs that waited too long.

        Raises GitHubError when GitHub cannot be asked for long.
        """
        self.quiet_since = self.heard_at = self.clock.now()
        while True:
            jobs = self._look()
            if jobs is not None and self._overdue(jobs) and (late := self.look_again()):
                return late
            if jobs is not None and self._is_done(jobs):
                return []
            self.clock.sleep(LOOK_SECONDS)

    def until_over(self) -> list[Job]:
        """Return the watched jobs once all of them are over, or nothing if there are none.

        It waits for an outage or a limit to end: waiting costs nothing, and the watch must not fail
        while its job goes on. Raises GitHubError where waiting cannot help.
        """
        self.quiet_since = self.clock.now()
        for pause in growing(FIRST_LOOK, 1.5, LAST_LOOK):
            watched = self._watched(self._look_at_length(pause))
            if watched:
                self.quiet_since = self.clock.now()
            # One empty answer is no proof that there are no jobs.
            alone = self.clock.now() - self.quiet_since >= ALONE_SECONDS
            if all(job.over for job in watched) and (watched or alone):
                return watched
            self.clock.sleep(pause)
        raise AssertionError  # the pauses never end

    def _look_at_length(self, pause: float) -> list[Job]:
        """Return the attempt's jobs, however long GitHub takes to answer."""
        while True:
            self.heard_at = self.clock.now()
            try:
                if (jobs := self._look()) is not None:
                    return jobs
            except (Limited, Unreachable) as error:
                workflow_commands.say(f"{error} The watch goes on asking.")
                until = error.until if isinstance(error, Limited) else 0.0
                self.clock.sleep(max(0.0, until - self.clock.now()))
            self.clock.sleep(pause)

    def waiting(self) -> int:
        """Return how many watched jobs wait for a runner, as soon as one does, or 0 when none will.

        Raises GitHubError when GitHub cannot be asked for long: no answer is not "none".
        """
        self.heard_at = self.clock.now()
        heard = 0.0
        while not heard or self.clock.now() - heard < ONCE_SECONDS:
            if (jobs := self._look()) is not None:
                heard = heard or self.clock.now()
                watched = self._watched(jobs)
                if queued := [job for job in watched if is_queued(job)]:
                    return len(queued)
                if watched and all(job.status in BEGUN for job in watched):
                    return 0
            self.clock.sleep(LOOK_SECONDS)
        return 0

    def _watched(self, jobs: Sequence[Job]) -> list[Job]:
        return [job for job in jobs if self.rule.watches(job) and not self.asker.is_job(job)]

    def _is_done(self, jobs: Sequence[Job]) -> bool:
        watched = self._watched(jobs)
        if any(is_queued(job) for job in watched):
            self.quiet_since = self.clock.now()
            return False
        if watched and all(job.status in BEGUN for job in watched):
            workflow_commands.say(_picked_up(watched))
            return True
        return self._is_pointless(jobs, watched)

    def _look(self) -> list[Job] | None:
        """Return the attempt's jobs, None where GitHub gave no answer for now."""
        self.github.until(Deadline.after(ANSWER_SECONDS, self.clock))
        try:
            jobs = self.github.jobs_of_attempt(str(self.run.id), str(self.run.attempt))
        except (Unreachable, Limited) as error:
            self._bear(error)
            return None
        self.heard_at = self.clock.now()
        self.held_until |= {job.id: self.heard_at for job in jobs if job.status in HELD}
        return jobs

    def _bear(self, error: Unreachable | Limited) -> None:
        """Wait until a limit ends, or raise what has lasted too long."""
        until = error.until if isinstance(error, Limited) else self.clock.now()
        if until - self.heard_at > max(OUTAGE_SECONDS, self.rule.limit):
            raise error
        self.clock.sleep(max(0.0, until - self.clock.now()))

    def _overdue(self, jobs: Sequence[Job]) -> list[Wait]:
        now = self.clock.now()
        others = [job for job in jobs if not self.asker.is_job(job)]
        waits = self.rule.waits(self.run, others, self.held_until)
        return [wait for wait in waits if wait.is_over(now)]

    def _is_pointless(self, jobs: Sequence[Job], watched: Sequence[Job]) -> bool:
        """Say whether to end without having seen a runner, since no job waits for one."""
        others = [job for job in jobs if not job.over and not self.asker.is_job(job)]
        patience = self.rule.limit if others else min(ALONE_SECONDS, self.rule.limit)
        if self.clock.now() - self.quiet_since < patience:
            return False
        if watched:
            held = ", ".join(f"{j.name} is {j.status}" for j in watched if j.status not in BEGUN)
            workflow_commands.warning(
                f"No longer watched: {held}. A scheduled watchdog sees it later."
            )
        else:
            labels = ", ".join(self.rule.labels)
            workflow_commands.warning(
                f"No job of this run asks for a label like {labels}, so none was watched. If one "
                "should have, give `labels` what its `runs-on` says; if it comes later in the run, "
                "let this job need the same jobs as that one."
            )
        return True

    def look_again(self) -> list[Wait]:
        """Return what still waits too long: a runner may have taken it at the last moment.

        The jobs are read last, so that nothing delays the cancel after that.
        """
        self.seen = self.runners()
        jobs = self._look() or []
        return [wait for wait in self._overdue(jobs) if not is_taken(wait, jobs, self.seen or ())]

    def was_cancelled(self) -> bool:
        """Say whether GitHub shows a watched job as cancelled by now. Raises GitHubError."""
        jobs = self.github.jobs_of_attempt(str(self.run.id), str(self.run.attempt))
        return any(self.rule.watches(job) and job.conclusion == "cancelled" for job in jobs)


def _picked_up(watched: Sequence[Job]) -> str:
    taken = [f"{job.name} on {job.runner_name or 'a runner'}" for job in watched]
    return f"Picked up: {', '.join(taken)}."
