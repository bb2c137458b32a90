"""Leftover machines of single runs: overdue, or of a run that is over or does not exist."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from gpu_ci.errors import Busy, CloudError, GitHubError
from gpu_ci.watchdog.leftovers import HandsOff, Leftover
from gpu_ci.watchdog.report import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gpu_ci.github.client import GitHub
    from gpu_ci.model.identity import Identity
    from gpu_ci.model.machine import Machine
    from gpu_ci.providers import Provider
    from gpu_ci.runtime.clock import Clock
    from gpu_ci.watchdog.owners import Sight
    from gpu_ci.watchdog.report import Report


@dataclass(kw_only=True)
class Machines:
    """The machines that this repository has at some providers.

    `sight` makes a new reading of GitHub. `named` are the names of all machines of the last
    reading, None if a provider could not list its own.
    """

    github: GitHub
    identity: Identity
    providers: Mapping[str, Provider]
    regions: Sequence[str]
    sight: Callable[[], Sight]
    clock: Clock
    report: Report
    named: set[str] | None = field(default_factory=set)

    def look(self) -> Sequence[Leftover]:
        self.named, sight = set(), self.sight()
        return [
            left
            for provider in self.providers.values()
            for machine in self._listed(provider)
            if (left := self._leftover(provider, machine, sight))
        ]

    def _listed(self, provider: Provider) -> Iterator[Machine]:
        regions = [provider.split_region(region)[0] for region in self.regions]
        try:
            machines = provider.find({"repository": self.identity.repository}, regions)
        except CloudError as error:
            self.named = None
            if error.what not in {each.what for each in self.report.failures}:
                self.report.failures.append(error)
            return
        for machine in machines:
            if self.named is not None:
                self.named.add(machine.name)
            yield machine

    def _leftover(self, provider: Provider, machine: Machine, sight: Sight) -> Leftover | None:
        """Return it if nobody owns it. If that only seems so and it may have a job, note why it stays."""
        try:
            why = self._why(machine, sight)
            busy = why and self._why_busy(machine, sight)
        except GitHubError as error:
            self.report.note_unseen(
                f"{machine.describe()}: whether it is needed is not known: {error}"
            )
            return None
        if busy:
            self.report.note_unseen(f"{machine.describe()} is left, though {why}: {busy}.")
        if busy or not why:
            return None
        return Leftover(
            kind="machine",
            key=f"{provider.name} {machine.id}",
            what=f"machine {machine.describe()}",
            why=why,
            since=machine.launched_at,
            end=partial(self._end, provider, machine),
        )

    def _why(self, machine: Machine, sight: Sight) -> str:
        expires = machine.tags.expires_at
        if expires and self.clock.now() > expires:
            return f"its lifetime ended at {moment(expires)}"
        return sight.why_over(machine.tags.run_id, machine.tags.attempt)

    def _why_busy(self, machine: Machine, sight: Sight) -> str:
        scope = machine.tags.scope
        if scope not in {"", self.identity.scope}:
            return (
                f"its runner is registered in {scope}; give `organization` the value that start had"
            )
        return sight.why_busy(machine.name, machine.tags.run_id)

    def _end(self, provider: Provider, machine: Machine) -> str:
        """Remove its registration, which GitHub refuses while a job runs, and then the machine.

        Once the registration is gone, no job can come. Raises HandsOff, GitHubError, CloudError.
        """
        self.github.spare(0.0)  # what was found is ended, whatever is left of the limit
        runner = self.github.runner_named(machine.name)
        try:
            if runner:
                self.github.delete(runner.id)
        except Busy:
            raise HandsOff("its runner is running a job") from None
        provider.release(machine)
        return "released"
