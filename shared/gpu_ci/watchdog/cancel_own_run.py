"""Ends the run that the watch is part of. It says why first: the cancel ends the watch too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import GitHubError, NeverPickedUp
from gpu_ci.runtime import workflow_commands
from gpu_ci.runtime.clock import Deadline
from gpu_ci.watchdog.cancel_run import insist
from gpu_ci.watchdog.report import Finding
from gpu_ci.watchdog.waits import advice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpu_ci.github.client import GitHub, Runner
    from gpu_ci.runtime.clock import Clock
    from gpu_ci.watchdog.in_run import Watch
    from gpu_ci.watchdog.report import Report
    from gpu_ci.watchdog.waits import Wait

CANCEL_SECONDS: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class OwnRun:
    """The run to end; `publish` writes the report to where people and programs read it."""

    run_id: str
    github: GitHub
    clock: Clock
    report: Report
    watch: Watch
    publish: Callable[[], None]

    def end(self, late: Sequence[Wait]) -> None:
        """Cancel the run, so that its `always()` jobs go on.

        Raises NeverPickedUp, unless a runner comes before GitHub has accepted the cancel.
        """
        runners, dry_run = self.watch.seen, self.report.dry_run
        done = "would be cancelled" if dry_run else "the run is cancelled"
        found = self._found(late, runners, done, acted=not dry_run)
        self.report.findings = [found]
        failure = NeverPickedUp(f"{found.why[0].upper()}{found.why[1:]}: {done}.", found.advice)
        workflow_commands.say(str(failure))
        self.publish()
        if dry_run or self._cancel(found, failure):
            raise failure
        workflow_commands.say("A runner has come after all: the run goes on.")

    def _found(
        self, late: Sequence[Wait], runners: Sequence[Runner] | None, done: str, *, acted: bool
    ) -> Finding:
        now = self.clock.now()
        return Finding(
            kind="run",
            what=f"run {self.run_id}",
            why="; ".join(dict.fromkeys(wait.describe(now) for wait in late)),
            since=min(wait.since for wait in late),
            done=done,
            acted=acted,
            advice=advice(late[0], runners),
        )

    def _cancel(self, found: Finding, failure: NeverPickedUp) -> bool:
        """Cancel it; return False if a runner came meanwhile. An error that prevents it is noted."""
        patience = Deadline.after(CANCEL_SECONDS, self.clock)
        self.github.until(patience)
        try:
            if insist(lambda: self.github.cancel(self.run_id), self._is_due, patience):
                return True
            over = self.watch.was_cancelled()
        except GitHubError as error:
            failure.add_note(f"The run could not be cancelled, and keeps waiting. {error}")
            self.report.findings = [replace(found, done="not cancelled", acted=False)]
            return True
        self.report.findings = self.report.findings if over else []
        return over

    def _is_due(self) -> bool:
        return bool(self.watch.look_again())
