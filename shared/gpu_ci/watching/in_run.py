"""The watch beside a GPU job: it ends when the job has a runner, or ends the run when none comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gpu_ci import actions
from gpu_ci.errors import GitHubError, Limited, NeverPickedUp, Unreachable
from gpu_ci.waiting import Deadline
from gpu_ci.watching.cancelling import insist
from gpu_ci.watching.findings import Finding
from gpu_ci.watching.waits import BEGUN, HELD, cure, is_queued, is_taken, seen_of_runners

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpu_ci.cancellation import Cancellation
    from gpu_ci.github import GitHub, Job, Run, Runner
    from gpu_ci.needs import Asker
    from gpu_ci.waiting import Clock
    from gpu_ci.watching.findings import Report
    from gpu_ci.watching.waits import Rule, Wait

# An unchanged answer costs nothing; the job begins within seconds where a runner is there.
LOOK_SECONDS: Final = 5.0
# GitHub queues the jobs that need the same one at once; a run in which nothing else goes on, and
# that has no watched job after so long, has none.
ALONE_SECONDS: Final = 60.0
# A watch that GitHub does not answer goes on for so long, or as long as a job may wait.
OUTAGE_SECONDS: Final = 600.0
# All tries of one question, and of the cancel, end after so many seconds.
ANSWER_SECONDS: Final = 60.0


@dataclass(kw_only=True)
class Watch:
    """One watch of one run's attempt. `runners` lists the runners, None where it may not."""

    github: GitHub
    run: Run
    rule: Rule
    asker: Asker
    clock: Clock
    report: Report
    cancellation: Cancellation
    runners: Callable[[], Sequence[Runner] | None]
    quiet_since: float = 0.0
    heard_at: float = 0.0
    held_until: dict[int, float] = field(default_factory=dict)

    def until_picked_up(self) -> None:
        """Return when each watched job has a runner.

        Raises NeverPickedUp after it has cancelled the run for one that waited too long, GitHubError
        when GitHub cannot be asked.
        """
        self.quiet_since = self.heard_at = self.clock.now()
        while not self._is_done():
            self.clock.sleep(LOOK_SECONDS)

    def _is_done(self) -> bool:
        jobs = self._look()
        if jobs is None:
            return False
        watched = [job for job in jobs if self.rule.watches(job) and not self.asker.is_job(job)]
        if any(is_queued(job) for job in watched):
            self.quiet_since = self.clock.now()
            if self._overdue(jobs):
                self._look_again_and_end()
            return False
        if watched and all(job.status in BEGUN for job in watched):
            actions.say(_picked_up(watched))
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
        """Say whether to end without having seen a runner: nobody waits for one."""
        others = [job for job in jobs if not job.over and not self.asker.is_job(job)]
        patience = self.rule.limit if others else min(ALONE_SECONDS, self.rule.limit)
        if self.clock.now() - self.quiet_since < patience:
            return False
        if watched:
            held = ", ".join(f"{j.name} is {j.status}" for j in watched if j.status not in BEGUN)
            actions.warning(f"Not watched any longer: {held}. A scheduled watchdog sees it later.")
        else:
            labels = ", ".join(self.rule.labels)
            actions.warning(
                f"No job of this run asks for a label like {labels}, so none was watched. If one "
                "should have, give `labels` what its `runs-on` says; if it comes later in the run, "
                "let this job need the same jobs as that one."
            )
        return True

    def _look_again_and_end(self) -> None:
        """Cancel the run if a job still waits: a runner may have taken it at the last moment."""
        jobs = self._look()
        runners = self.runners()
        late = [w for w in self._overdue(jobs or []) if not is_taken(w, runners or ())]
        if late:
            self._end(late, runners)

    def _end(self, late: Sequence[Wait], runners: Sequence[Runner] | None) -> None:
        """Tell first, cancel then: the cancel ends this process too."""
        self.cancellation.finish()
        failure = self._failure(late, runners)
        actions.say(str(failure))
        if not self.report.dry_run:
            self._cancel(failure)
        raise failure

    def _cancel(self, failure: NeverPickedUp) -> None:
        patience = Deadline.after(ANSWER_SECONDS, self.clock)
        self.github.until(patience)
        try:
            insist(lambda: self.github.cancel(str(self.run.id)), patience)
        except GitHubError as error:
            failure.add_note(f"The run could not be cancelled, and waits on. {error}")

    def _failure(self, late: Sequence[Wait], runners: Sequence[Runner] | None) -> NeverPickedUp:
        now, first = self.clock.now(), min(late, key=lambda wait: wait.since)
        done = "would be cancelled (dry run)" if self.report.dry_run else "cancelled"
        self.report.findings += [
            Finding(
                kind="run",
                what=f"run {self.run.id}",
                why=wait.told(now),
                since=wait.since,
                done=done,
                acted=wait is first and not self.report.dry_run,
            )
            for wait in late
        ]
        told = "; ".join(wait.told(now) for wait in late)
        what = f"{told[0].upper()}{told[1:]}. {seen_of_runners(first, runners)} This run is {done}."
        return NeverPickedUp(what, cure(first, runners))


def _picked_up(watched: Sequence[Job]) -> str:
    taken = [f"{job.name} on {job.runner_name or 'a runner'}" for job in watched]
    return f"Picked up: {', '.join(taken)}."
