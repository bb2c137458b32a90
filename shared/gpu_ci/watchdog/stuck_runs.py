"""Sweeps a repository's runs, and ends those in which a job waits for a runner that never comes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import Absent, GitHubError, Limited
from gpu_ci.runtime.clock import Deadline, growing
from gpu_ci.watchdog.cancel_run import insist
from gpu_ci.watchdog.leftovers import PACE_SECONDS
from gpu_ci.watchdog.report import Finding
from gpu_ci.watchdog.waits import HELD, advice, is_taken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpu_ci.github.client import GitHub, Job, Run, Runner
    from gpu_ci.watchdog.cache import Cache
    from gpu_ci.watchdog.report import Report
    from gpu_ci.watchdog.waits import Rule, Wait

# A run's status follows one of its jobs, but reports differ on which. Any of these may hold a queued
# job.
ACTIVE: Final = ("queued", "in_progress", "waiting", "pending", "requested")
# Runs that GitHub itself starts, such as Dependabot's updates, wait for GitHub's own runners.
GITHUBS_OWN: Final = "dynamic"
# A cancel takes seconds. If the job is still queued after this long, the run is cancelled by force.
GRACE_SECONDS: Final = 60.0
FORCE_SECONDS: Final = 60.0


@dataclass(kw_only=True)
class Stuck:
    """A run with jobs that waited too long, the longest first; `how` it was cancelled, and when
    (seconds since the epoch). `unread` says that its jobs could not be read since."""

    run: Run
    waits: list[Wait]
    runners: Sequence[Runner] | None = None
    how: str = "cancelled"
    cancelled_at: float = 0.0
    unread: bool = False

    @property
    def since(self) -> float:
        return self.waits[0].since


@dataclass(kw_only=True)
class RunSweep:
    """One pass over the runs. `runners` lists the runners, None where it may not."""

    github: GitHub
    rule: Rule
    report: Report
    cache: Cache
    deadline: Deadline
    runners: Callable[[], Sequence[Runner] | None]
    _held: dict[int, float] = field(default_factory=dict)

    def sweep(self) -> None:
        """Cancel the runs that are stuck, the longest wait first, and report what came of it."""
        stuck = self._stuck()
        self.cache.held_until |= self._held
        self.github.spare(0.0)  # what was found is ended, whatever is left of the limit
        asked = [each for each in sorted(stuck, key=lambda each: each.since) if self._end(each)]
        slow = self._still_queued(asked, GRACE_SECONDS)
        forced = [each for each in slow if self._had_its_grace(each)]
        for each in forced:
            self._force(each)
        left = self._still_queued(forced, FORCE_SECONDS)
        for each in asked:
            self._report(each, left, unsure=each in slow and each not in forced)

    def _stuck(self) -> list[Stuck]:
        """Read the jobs of every run that may hold a queued one, oldest first.

        What was read before a limit or an outage counts.
        """
        found = []
        for run in self._active():
            try:
                waits = self._late(run)
            except Absent:  # deleted meanwhile
                continue
            except GitHubError as error:
                over = isinstance(error, Limited) or self.deadline.passed()
                newer = " and of newer runs" if over else ""
                self.report.note_unseen(f"Jobs of run {run.id}{newer}: {error}")
                if over:
                    break
                continue
            if waits:
                found.append(Stuck(run=run, waits=waits))
        return found

    def _active(self) -> list[Run]:
        """Return the runs to look into, oldest first."""
        found: dict[int, Run] = {}
        for status in ACTIVE:
            try:
                for run in self.github.runs_that_are(status):
                    found[run.id] = run
            except GitHubError as error:
                self._note_unlisted(status, error, seen=bool(found))
        return sorted(filter(self._is_worth_it, found.values()), key=lambda run: run.created_at)

    def _note_unlisted(self, status: str, error: GitHubError, *, seen: bool) -> None:
        if seen or self.report.failures:
            self.report.unseen.append(f"Some of the runs that are {status}: {error}")
        else:
            self.report.failures.append(error)

    def _is_worth_it(self, run: Run) -> bool:
        """Say whether a job of it can have waited for long enough."""
        young = self.deadline.clock.now() - run.started_at < self.rule.limit
        return not run.over and run.event != GITHUBS_OWN and (run.attempt > 1 or not young)

    def _late(self, run: Run, runners: Sequence[Runner] = ()) -> list[Wait]:
        """Return a run's waits that are too long, the longest first, without those a runner has taken."""
        now, jobs = self.deadline.clock.now(), self.github.jobs(str(run.id))
        self._note_held(jobs, now)
        late = [wait for wait in self.rule.waits(run, jobs, self._held) if wait.is_over(now)]
        free = [wait for wait in late if not is_taken(wait, jobs, runners)]
        return sorted(free, key=lambda wait: wait.since)

    def _note_held(self, jobs: Sequence[Job], now: float) -> None:
        """Remember until when a job waited for something else: only since then is it queued."""
        for job in jobs:
            until = now if job.status in HELD else self.cache.held_until.get(job.id, 0.0)
            if until and not job.over:
                self._held[job.id] = until

    def _end(self, stuck: Stuck) -> bool:
        """Look once more, and ask for the cancel; False if it is not asked for, or refused."""
        try:
            if not self._is_still_stuck(stuck):
                return False
            if self.report.dry_run or not self.report.may_act():
                self._left(stuck, "would be cancelled" if self.report.dry_run else LATER)
                return False
            asked = self._insist(stuck, self.github.cancel) or self._was_cancelled(stuck)
            stuck.cancelled_at = self.deadline.clock.now()
            self.deadline.clock.sleep(PACE_SECONDS)
        except GitHubError as error:
            self._left(stuck, "not cancelled")
            self.report.troubles.append(f"Run {stuck.run.id} could not be cancelled. {error}")
            return False
        return asked

    def _insist(self, stuck: Stuck, cancel: Callable[[str], None]) -> bool:
        """Ask for a cancel while it is stuck; False if a runner came, or it ended, before GitHub took it."""
        run_id = str(stuck.run.id)
        return insist(lambda: cancel(run_id), lambda: self._is_still_stuck(stuck), self.deadline)

    def _was_cancelled(self, stuck: Stuck) -> bool:
        """Say whether a cancel took effect although its answer was lost."""
        waited = {wait.job.id for wait in stuck.waits}
        jobs = [job for job in self.github.jobs(str(stuck.run.id)) if job.id in waited]
        return any(job.conclusion == "cancelled" for job in jobs)

    def _is_still_stuck(self, stuck: Stuck) -> bool:
        """Read the run and its jobs again: seconds or minutes have passed."""
        run = self.github.run(str(stuck.run.id))
        if run.over or run.attempt != stuck.run.attempt:
            return False
        stuck.runners = self.runners()
        late = self._late(run, stuck.runners or ())
        stuck.waits = late or stuck.waits
        return bool(late)

    def _still_queued(self, asked: Sequence[Stuck], seconds: float) -> list[Stuck]:
        """Return those in which a job still waits after so long; `always()` jobs may go on."""
        open_, pauses = list(asked), growing(1.0, most=15.0)
        patience = Deadline.after(min(seconds, self.deadline.left()), self.deadline.clock)
        while open_ := [each for each in open_ if self._is_queued(each)]:
            if patience.passed():
                break
            patience.clock.sleep(min(next(pauses), patience.left()))
        return open_

    def _is_queued(self, stuck: Stuck) -> bool:
        """Say whether a job of it still waits; a run that cannot be read counts as waiting."""
        waiting = {wait.job.id for wait in stuck.waits}
        try:
            jobs = self.github.jobs(str(stuck.run.id))
            queued = any(wait.job.id in waiting for wait in self.rule.waits(stuck.run, jobs))
            # A job that is queued for ever in a run that is over waits for nothing.
            queued = queued and not self.github.run(str(stuck.run.id)).over
        except Absent:
            return False
        except GitHubError:
            stuck.unread = True
            return True
        stuck.unread = False
        return queued

    def _had_its_grace(self, stuck: Stuck) -> bool:
        """Say whether it may be forced yet: that also kills the jobs that give machines back."""
        waited = self.deadline.clock.now() - stuck.cancelled_at
        return waited >= GRACE_SECONDS and not stuck.unread

    def _force(self, stuck: Stuck) -> None:
        """Cancel it by force if it is still stuck: neither has the run ended nor has a runner come."""
        try:
            if self._is_still_stuck(stuck):
                stuck.how = "cancelled by force"
                self._insist(stuck, self.github.force_cancel)
        except GitHubError as error:
            stuck.how = "not cancelled by force either"
            self.report.troubles.append(f"Run {stuck.run.id}: {stuck.how}. {error}")

    def _report(self, stuck: Stuck, left: Sequence[Stuck], *, unsure: bool) -> None:
        if unsure:
            stuck.how = f"{stuck.how}, and not seen to end: the next pass looks again"
            self.report.troubles.append(f"Run {stuck.run.id} was {stuck.how}.")
        elif stuck in left:
            stuck.how = f"{stuck.how}, and a job is still queued"
            self.report.troubles.append(
                f"Run {stuck.run.id} was {stuck.how}. Delete the run, or tell GitHub's support: "
                "nothing else is left to ask for."
            )
        self._left(stuck, stuck.how, acted=not unsure and stuck not in left)

    def _left(self, stuck: Stuck, done: str, *, acted: bool = False) -> None:
        """Note what became of it."""
        first, now = stuck.waits[0], self.deadline.clock.now()
        self.report.findings.append(
            Finding(
                kind="run",
                what=f"run {stuck.run.id} ({stuck.run.name})",
                why="; ".join(dict.fromkeys(wait.describe(now) for wait in stuck.waits)),
                since=first.since,
                done=done,
                acted=acted,
                advice=advice(first, stuck.runners),
            )
        )


LATER: Final = "left for the next pass: max-actions is reached"
