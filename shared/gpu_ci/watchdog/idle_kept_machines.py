"""Kept machines that are up although no run holds them. They are paused, under their lock."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from gpu_ci.errors import CloudError, GitHubError
from gpu_ci.kept.lock import Claim, Lock, label_to_put_away
from gpu_ci.kept.put_away import PutAway
from gpu_ci.model.machine import State
from gpu_ci.watchdog.leftovers import HandsOff, Leftover

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_ci.github.client import GitHub
    from gpu_ci.model.identity import Identity
    from gpu_ci.providers import Keeper
    from gpu_ci.release.still_needed import Asker
    from gpu_ci.runtime.clock import Deadline
    from gpu_ci.watchdog.report import Report


@dataclass(frozen=True, kw_only=True)
class KeptMachines:
    """The machines of these names, at one provider that keeps them; `resting` are the names of those
    that were not up at the last look."""

    github: GitHub
    identity: Identity
    keeper: Keeper
    names: Sequence[str]
    asker: Asker
    deadline: Deadline
    report: Report
    resting: set[str] = field(default_factory=set)

    def look(self) -> Sequence[Leftover]:
        self.resting.clear()
        return [left for name in self.names if (left := self._leftover(name))]

    def _leftover(self, name: str) -> Leftover | None:
        try:
            why = self._why(name)
        except (CloudError, GitHubError) as error:
            self.report.note_unseen(f"Machine {name}: {error}")
            return None
        if not why:
            return None
        return Leftover(
            kind="machine",
            key=f"{self.keeper.name} {name}",
            what=f"machine {name}",
            why=why,
            end=partial(self._end, name),
        )

    def _why(self, name: str) -> str:
        """Say why it should be paused, "" if it should not. Raises CloudError, GitHubError."""
        _, state = self.keeper.kept(name) or (None, State.GONE)
        if state in {State.GONE, State.FAILED}:
            self.report.note_unseen(f"Machine {name} is {state.value} at {self.keeper.name}.")
        if state in {State.PAUSED, State.GONE}:
            self.resting.add(name)
        if state is not State.RUNNING:
            return ""
        holder = self.github.runner_named(name)
        if held := self._claim().held(holder):
            if held.unread:
                self.report.note_unseen(f"Machine {name} is left: {held.why}.")
            return ""
        return "it runs, and the run that held it is over" if holder else "it runs for no run"

    def _claim(self) -> Claim:
        return Claim(github=self.github, identity=self.identity, asker=self.asker, any_key=True)

    def _end(self, name: str) -> str:
        self.github.spare(0.0)  # what was found is ended, whatever is left of the limit
        labels = (label_to_put_away(self.identity),)
        lock = Lock(github=self.github, name=name, labels=labels, claim=self._claim())
        away = PutAway(lock=lock, keeper=self.keeper, trouble=self.report.troubles.append)
        done = away.machine(self.deadline)
        if isinstance(done, str):
            raise HandsOff(done)
        return "paused"
