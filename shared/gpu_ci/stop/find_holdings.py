"""Finds what a stop has to give back: by the handle, by the kept machine's name, or by tags."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

from gpu_ci.errors import CloudError, GitHubError
from gpu_ci.kept.lock import Claim, Lock, label_to_put_away
from gpu_ci.kept.put_away import PutAway
from gpu_ci.model.machine import State
from gpu_ci.model.tags import our_label, read_label, run_prefix
from gpu_ci.providers import keeper
from gpu_ci.release.give_back import Holding
from gpu_ci.release.still_needed import why_needed
from gpu_ci.runtime import workflow_commands

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpu_ci.github.client import GitHub, Runner
    from gpu_ci.inputs.stop_inputs import StopInputs
    from gpu_ci.model.identity import Identity
    from gpu_ci.model.machine import Machine
    from gpu_ci.providers import Provider
    from gpu_ci.release.still_needed import Asker
    from gpu_ci.runtime.clock import Deadline

HOW: Final[Mapping[str, Literal["pause", "terminate", "keep"]]] = {
    "auto": "pause",
    "pause": "pause",
    "terminate": "terminate",
    "keep": "keep",
}
NO_LONGER_RUNNING: Final = {State.ENDING, State.GONE, State.PAUSED}
# No job has this id: it is known that none is starting the machine.
NO_JOB: Final = "0"


@dataclass(kw_only=True)
class Search:
    """One stop's search for what it has to give back, and what went wrong on the way.

    `given_back_before` maps the name of a machine to the earlier attempt that gave it back.
    """

    inputs: StopInputs
    identity: Identity
    provider: Provider
    github: GitHub
    deadline: Deadline
    asker: Asker
    troubles: list[str] = field(default_factory=list)
    given_back_before: dict[str, str] = field(default_factory=dict)

    def holdings(self) -> list[Holding]:
        """Return the handle's machines, the kept one, a key's, or all that the run no longer needs."""
        if self.inputs.handle:
            return [self._of_handle(machine) for machine in self.inputs.handle]
        if self.inputs.machine_name:
            return [self._kept(self.inputs.machine_name)]
        machines, runners = self._machines(), self._runners()
        by_name = {runner.name: runner for runner in runners}
        holdings = [self._holding(_with_mark(machine, by_name)) for machine in machines]
        names = {holding.name for holding in holdings}
        # A registration whose start died before it had a machine.
        holdings += [
            Holding(name=runner.name, label=our_label(runner.labels), runner_id=runner.id)
            for runner in runners
            if runner.name not in names
        ]
        return holdings if self.inputs.key else self._not_needed(holdings, by_name)

    def _of_handle(self, machine: Machine) -> Holding:
        """Return the holding for a machine of the handle.

        In a later attempt it has usually been given back already. Billing it a second
        time would count all the time since then.
        """
        if machine.tags.attempt not in {"", self.identity.attempt}:
            if self._is_given_back(machine):
                self.given_back_before[machine.name] = machine.tags.attempt
            elif machine.kept:
                machine = replace(machine, launched_at=0.0)  # nobody knows when it came up again
        return self._holding(machine)

    def _is_given_back(self, machine: Machine) -> bool:
        try:
            return self.provider.state(machine) in NO_LONGER_RUNNING
        except CloudError:  # unknown is not gone
            return False

    def _holding(self, machine: Machine) -> Holding:
        as_found = not machine.started and self.inputs.release == "auto"
        if machine.kept and not as_found:
            return self._kept(machine.name, machine)
        tags = machine.tags
        return Holding(
            name=tags.name,
            label=tags.label,
            starter=tags.starter,
            runner_id=tags.runner_id,
            machine=None if as_found or self.inputs.release == "keep" else machine,
            search_name=not tags.runner_id,
        )

    def _kept(self, name: str, machine: Machine | None = None) -> Holding:
        """Return a kept machine: it is put away if nobody else has its lock.

        Without a handle, its start may have been killed, and what it asked for may still arrive.
        """
        holding = Holding(name=name, machine=None if self.inputs.release == "keep" else machine)
        holding.put_away = PutAway(
            lock=self._lock(name, machine),
            keeper=keeper(self.provider),
            trouble=holding.troubles.append,
            how=HOW[self.inputs.release],
            mine=machine.tags.runner_id if machine else 0,
            landing=machine is None,
        ).machine
        return holding

    def _lock(self, name: str, machine: Machine | None) -> Lock:
        """Return the lock for a stop of one start, by its handle or key, or of the whole run.

        A stop with the handle may take what that start has left, wherever it runs. The lock itself
        says which run has it now, and for which start, so that a later stop may take it.
        """
        start, one_start = self.identity, bool(machine or self.inputs.key)
        if machine:
            tags = machine.tags
            start = replace(start, run_id=tags.run_id, attempt=tags.attempt, key=tags.key)
        claim = Claim(github=self.github, identity=start, asker=self.asker, any_key=not one_start)
        labels = (label_to_put_away(replace(self.identity, key=start.key)),)
        return Lock(github=self.github, name=name, labels=labels, claim=claim)

    def _machines(self) -> Sequence[Machine]:
        """Return this run's machines (this key's, if there is one)."""
        wanted = {"repository": self.identity.repository, "run_id": self.identity.run_id}
        if self.inputs.key:
            wanted["key"] = self.identity.key
        regions = [self.provider.split_region(region)[0] for region in self.inputs.region]
        try:
            machines = self.provider.find(wanted, regions)
        except CloudError as error:
            self.troubles.append(f"The run's machines could not be listed. {error}")
            return []
        for machine in machines:  # in another scope "absent" would mean nothing
            if machine.tags.scope not in {"", self.identity.scope}:
                self.troubles.append(
                    f"{machine.name} is registered in {machine.tags.scope}, but stop looked in "
                    f"{self.identity.scope}. Give stop the organization that start had."
                )
        return machines

    def _runners(self) -> list[Runner]:
        """Return this run's registrations (this key's, if there is one)."""
        mark = self.identity.key_mark() if self.inputs.key else ""
        prefix = run_prefix(self.identity.run_id)
        try:
            runners = self.github.runners()
        except GitHubError as error:
            self.troubles.append(f"The run's registrations could not be listed. {error}")
            return []
        for runner in runners:
            if our_label(runner.labels).startswith(prefix) and not runner.name.startswith(prefix):
                workflow_commands.say(
                    f"{runner.name} is a kept machine: it needs a stop of its own, with machine-name."
                )
        return [r for r in runners if r.name.startswith(prefix) and mark in r.name]

    def _not_needed(self, holdings: list[Holding], runners: Mapping[str, Runner]) -> list[Holding]:
        """Return the holdings that nothing in the run needs; say why the others are left."""
        if not holdings:
            return []
        try:
            jobs = self.github.jobs(self.identity.run_id)
        except GitHubError as error:
            self.troubles.append(
                f"{len(holdings)} machine(s) or registration(s) of this run were left, because its "
                f"jobs could not be read. {error} Or give stop the handle or the key that start had."
            )
            return []
        free = []
        for holding in holdings:
            runner = runners.get(holding.name)
            why = why_needed(holding.label, holding.starter, jobs, runner, self.asker)
            if why:
                workflow_commands.say(f"{holding.name} is left: {why}.")
            else:
                free.append(holding)
        return free


def _with_mark(machine: Machine, runners: Mapping[str, Runner]) -> Machine:
    """Complete the machine of a cloud without tags by what its registration says about its start.

    A machine is registered before it is launched. So without a registration its job is over, and
    only a job that asks for a label beginning with its name can need it.
    """
    tags = machine.tags
    if tags.label:
        return machine
    runner = runners.get(machine.name)
    label = our_label(runner.labels) if runner else ""
    mark = read_label(label)
    known = replace(
        tags,
        label=label or machine.name,
        starter=mark.starter if mark else NO_JOB,
        runner_id=runner.id if runner else 0,
    )
    return replace(machine, tags=known)
