"""Registrations of runs that are over, whose runner will never come back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gpu_ci.errors import Busy, GitHubError
from gpu_ci.model.tags import our_label, read_label, read_name, repository_mark
from gpu_ci.watchdog.leftovers import HandsOff, Leftover

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from gpu_ci.github.client import GitHub, Runner
    from gpu_ci.model.identity import Identity
    from gpu_ci.model.tags import Mark
    from gpu_ci.watchdog.owners import Sight
    from gpu_ci.watchdog.report import Report


@dataclass(frozen=True, kw_only=True)
class Registrations:
    """The registrations of this repository's runs.

    `machines` returns the names of all machines that exist, None if that is not known; `resting`
    returns those of kept machines that are not up, and so need no lock.
    """

    github: GitHub
    identity: Identity
    sight: Callable[[], Sight]
    machines: Callable[[], Collection[str] | None]
    resting: Callable[[], Collection[str]]
    report: Report

    def look(self) -> Sequence[Leftover]:
        machines, sight = self.machines(), self.sight()
        if machines is None:
            self.report.note_unseen("Registrations: not all machines could be listed.")
            return []
        dead = [each for each in sight.runners if not each.online and not each.busy]
        alone = [each for each in dead if each.name not in machines]
        return [left for each in alone if (left := self._leftover(each, sight))]

    def _leftover(self, runner: Runner, sight: Sight) -> Leftover | None:
        mark = self._ours(runner)
        if mark is None:
            return None
        try:
            why = sight.why_over(mark.run_id, mark.attempt)
        except GitHubError as error:
            self.report.note_unseen(f"{runner.name}: whether it is needed is not known: {error}")
            return None
        if not why:
            return None
        return Leftover(
            kind="registration",
            key=str(runner.id),
            what=f"registration {runner.name}",
            why=f"offline, without a machine, and {why}",
            end=partial(self._end, runner),
            costs=False,
        )

    def _ours(self, runner: Runner) -> Mark | None:
        """Return whose it is if it has the name of one of this repository's machines.

        In an organisation other repositories have such names too, and their runs cannot be looked at
        here. A kept machine's registration is its lock: while the machine is up, only the pass that
        puts it away may touch it.
        """
        mark = read_label(our_label(runner.labels))
        named = read_name(runner.name) or runner.name in self.resting()
        ours = repository_mark(self.identity.repository)
        return mark if mark and named and mark.repository_mark == ours else None

    def _end(self, runner: Runner) -> str:
        try:
            self.github.delete(runner.id)
        except Busy:
            raise HandsOff("it is running a job") from None
        return "removed"
