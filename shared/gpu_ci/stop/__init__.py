"""The order of events of a stop."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil
from typing import TYPE_CHECKING, Final, Literal

from gpu_ci.errors import CloudError, GitHubError, StillThere
from gpu_ci.github.client import GitHub
from gpu_ci.inputs.reader import CARRY_SECRETS
from gpu_ci.inputs.stop_inputs import StopInputs
from gpu_ci.kept.lock import Claim, Lock, label_to_put_away
from gpu_ci.kept.put_away import PutAway
from gpu_ci.ledger.entry import TITLE, notices
from gpu_ci.model.identity import Identity
from gpu_ci.model.machine import State
from gpu_ci.model.tags import IN_A_TERMINAL, our_label, read_label, run_prefix
from gpu_ci.profiles import applied_to_stop
from gpu_ci.providers import keeper, provider_class
from gpu_ci.release.give_back import Debt, Giver
from gpu_ci.release.still_needed import Asker, why_needed
from gpu_ci.runtime import workflow_commands
from gpu_ci.runtime.clock import SYSTEM_CLOCK, Deadline
from gpu_ci.runtime.signals import Cancellation
from gpu_ci.stop.bill import Bill, bill_lines, stop_summary, total_cost, total_part, total_seconds
from gpu_ci.stop.run_times import read_times

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpu_ci.github.client import Runner
    from gpu_ci.model.machine import Machine
    from gpu_ci.providers import Provider
    from gpu_ci.runtime.clock import Clock
    from gpu_ci.stop.run_times import Times

HOW: Final[Mapping[str, Literal["pause", "terminate", "keep"]]] = {
    "auto": "pause",
    "pause": "pause",
    "terminate": "terminate",
    "keep": "keep",
}
TAKEN_CURE: Final = "If its job was not over by then, it did not fail by itself: run it again, or use market: on-demand."
SETTLED: Final = {State.ENDING, State.GONE, State.PAUSED}
# The id of no job: it is known that none is starting the machine.
NO_JOB: Final = "0"
# All waiting of a stop ends after so many seconds; GitHub's and the clouds' outages are longer.
PATIENCE: Final = 120.0
# A kept machine may still have to wake before it can be paused.
PAUSE_PATIENCE: Final = 900.0


def stop(env: Mapping[str, str], clock: Clock = SYSTEM_CLOCK) -> None:
    """Give back one start's machines and registrations, or all that a run no longer needs.

    Raises StillThere when something could not be given back, after trying everything else.
    """
    workflow_commands.mask_secrets(env, CARRY_SECRETS)
    with Cancellation() as cancellation:
        cancellation.finish()  # a cancelled stop goes on until the runner kills it
        env = applied_to_stop(env, workflow_commands.say, workflow_commands.warning)
        inputs = StopInputs.read(env)
        patience = PAUSE_PATIENCE if inputs.machine_name or _kept(inputs) else PATIENCE
        stopping = _prepare(inputs, env, Deadline.after(patience, clock))
        debts = stopping.debts()
        try:
            stopping.give_back(debts)
        finally:
            stopping.tell(debts)
        if stopping.troubles:
            raise StillThere("\n\n".join(stopping.troubles))


def _kept(inputs: StopInputs) -> list[Machine]:
    return [machine for machine in inputs.machine if machine.kept]


def _prepare(inputs: StopInputs, env: Mapping[str, str], deadline: Deadline) -> Stopping:
    organization = inputs.github.organization
    identity = Identity.from_environment(env, key=inputs.key, organization=organization)
    if inputs.machine:  # the handle knows where its runner is registered
        identity = replace(identity, scope=inputs.machine[0].tags.scope)
    return Stopping(
        inputs=inputs,
        identity=identity,
        provider=provider_class(inputs.provider)(inputs.provider_options, env, deadline.clock),
        github=GitHub.connect(
            inputs.github,
            scope=identity.scope,
            repository=identity.repository,
            deadline=deadline,
            say=workflow_commands.say,
            mask=workflow_commands.mask,
        ),
        deadline=deadline,
        asker=Asker(check_run_id=identity.starter, runner_name=env.get("RUNNER_NAME", "")),
    )


@dataclass(kw_only=True)
class Stopping:
    """One stop: what it was told, and what it found to give back.

    `settled` are machines, by their names, that an earlier attempt has given back, and which.
    """

    inputs: StopInputs
    identity: Identity
    provider: Provider
    github: GitHub
    deadline: Deadline
    asker: Asker
    troubles: list[str] = field(default_factory=list)
    settled: dict[str, str] = field(default_factory=dict)

    def debts(self) -> list[Debt]:
        """Return what is to be given back: the handle's machines, the kept one, a key's, the run's."""
        if self.inputs.machine:
            return [self._of_handle(machine) for machine in self.inputs.machine]
        if self.inputs.machine_name:
            return [self._kept(self.inputs.machine_name)]
        wanted = {"repository": self.identity.repository, "run_id": self.identity.run_id}
        if self.inputs.key:
            wanted["key"] = self.identity.key
        machines = self._machines(wanted)
        runners = self._runners()
        self._compare_scopes(machines)
        by_name = {runner.name: runner for runner in runners}
        debts = [self._debt(_with_mark(machine, by_name)) for machine in machines]
        names = {debt.name for debt in debts}
        debts += [_lone(runner) for runner in runners if runner.name not in names]
        return debts if self.inputs.key else self._not_needed(debts, runners)

    def give_back(self, debts: Sequence[Debt]) -> None:
        if self.inputs.release == "keep":
            for debt in debts:
                debt.machine = None
        giver = Giver(github=self.github, provider=self.provider, deadline=self.deadline)
        try:
            giver.give_back(debts)
        except StillThere as left:
            self.troubles.append(str(left))

    def _of_handle(self, machine: Machine) -> Debt:
        """Return the debt of what start gave out; in a later attempt it is settled as a rule, and
        would be billed a second time, with all the time since then."""
        if self._is_settled(machine):
            self.settled[machine.name] = machine.tags.attempt
        elif machine.kept and machine.tags.attempt not in {"", self.identity.attempt}:
            machine = replace(machine, launched_at=0.0)  # since when it runs now, nobody knows
        return self._debt(machine)

    def _is_settled(self, machine: Machine) -> bool:
        if machine.tags.attempt in {"", self.identity.attempt}:
            return False
        try:
            return self.provider.state(machine) in SETTLED
        except CloudError:  # unknown is not gone
            return False

    def _debt(self, machine: Machine) -> Debt:
        as_found = not machine.started and self.inputs.release == "auto"
        if machine.kept and not as_found:
            return self._kept(machine.name, machine)
        tags = machine.tags
        return Debt(
            name=tags.name,
            label=tags.label,
            starter=tags.starter,
            runner_id=tags.runner_id,
            machine=None if as_found else machine,
            search_name=not tags.runner_id,
        )

    def _kept(self, name: str, machine: Machine | None = None) -> Debt:
        """Return the debt of a kept machine: it is put away if nobody else has its lock.

        Without a handle its start may have been killed, and what that asked for may be landing.
        """
        debt = Debt(name=name, machine=machine)
        debt.put_away = PutAway(
            lock=self._lock(name, machine),
            keeper=keeper(self.provider),
            trouble=debt.troubles.append,
            how=HOW[self.inputs.release],
            mine=machine.tags.runner_id if machine else 0,
            landing=machine is None,
        ).machine
        return debt

    def _lock(self, name: str, machine: Machine | None) -> Lock:
        """Return the lock for a stop of one start, by its handle or key, or of all of the run.

        With a handle what that start has left may be taken, from wherever it is used. The lock
        itself says which run has it now, and for which start, so that a later stop may take it.
        """
        start, told = self.identity, bool(machine or self.inputs.key)
        if machine:
            tags = machine.tags
            start = replace(start, run_id=tags.run_id, attempt=tags.attempt, key=tags.key)
        claim = Claim(github=self.github, identity=start, asker=self.asker, any_key=not told)
        labels = (label_to_put_away(replace(self.identity, key=start.key)),)
        return Lock(github=self.github, name=name, labels=labels, claim=claim)

    def tell(self, debts: Sequence[Debt]) -> None:
        """Say what was given back, how long it was billed and what that cost."""
        for name, attempt in self.settled.items():
            workflow_commands.say(
                f"{name} ended with attempt {attempt}, whose stop has told what it cost."
            )
        released = [m for debt in debts for m in debt.released if m.name not in self.settled]
        times = self._times() if released else None
        ended = {name for debt in debts for name in debt.ended}
        bills = [self._bill(each, times, ended=each.name in ended) for each in released]
        removed = sum(debt.removed for debt in debts)
        for debt in debts:
            if debt.left:
                workflow_commands.say(f"{debt.name}: {debt.left}.")
            for taken in debt.taken:
                workflow_commands.warning(f"{taken} {TAKEN_CURE}")
        for line in bill_lines(bills, removed):
            workflow_commands.say(line)
        if times and times.why:
            workflow_commands.say(f"What the time was for is not known. {times.why}")
        hosted = times.hosted if times else None
        why = times.why if times else ""
        workflow_commands.summary(stop_summary(bills, removed, hosted=hosted, why=why))
        self._post(bills, times)
        workflow_commands.output("stopped", str(len(bills)))
        workflow_commands.output("billed-seconds", total_seconds(bills))
        workflow_commands.output("boot-seconds", total_part(bills, "boot"))
        workflow_commands.output("work-seconds", total_part(bills, "work"))
        workflow_commands.output("idle-seconds", total_part(bills, "idle"))
        workflow_commands.output("hosted-minutes", "" if hosted is None else str(hosted))
        workflow_commands.output("cost", total_cost(bills))

    def _times(self) -> Times | None:
        """Return when the run's jobs ran; None in a terminal, where there is no run."""
        if self.identity.run_id == IN_A_TERMINAL:
            return None
        token, clock = self.inputs.github.run_token, self.deadline.clock
        return read_times(self.github, self.identity, token, clock)

    def _post(self, bills: Sequence[Bill], times: Times | None) -> None:
        """Leave what each machine cost where `gpu-ci cost` and budgets read it."""
        if not workflow_commands.on_runner():
            return
        for text in notices([bill.entry for bill in bills]):
            workflow_commands.notice(text, title=TITLE)
        if times and (renamed := times.renamed(self.asker)):
            workflow_commands.warning(renamed)

    def _bill(self, machine: Machine, times: Times | None, *, ended: bool) -> Bill:
        began, now = machine.launched_at, times.now if times else self.deadline.clock.now()
        if times and ended:
            now = times.end_of(machine.name)
        paused = machine.kept and HOW[self.inputs.release] == "pause"
        # Whole seconds, begun ones too, as they are shown: what the ledger adds up is the same sum.
        seconds = float(max(0, ceil(now - began))) if began else None
        return Bill(
            machine=machine,
            seconds=seconds,
            split=times.split(self._as_given(machine), seconds, now) if times else None,
            price=machine.price or self.provider.price(machine),
            paused=paused,
            upkeep=keeper(self.provider).upkeep(machine) if paused else None,
        )

    def _as_given(self, machine: Machine) -> Machine:
        """Return it as its handle tells of it: a kept machine knows no more than its name."""
        given = (each for each in self.inputs.machine if each.name == machine.name)
        return next(given, machine)

    def _machines(self, wanted: Mapping[str, str]) -> Sequence[Machine]:
        """Return this run's machines (this key's, if there is one)."""
        regions = [self.provider.split_region(region)[0] for region in self.inputs.region]
        try:
            return self.provider.find(wanted, regions)
        except CloudError as error:
            self.troubles.append(f"The run's machines could not be listed. {error}")
            return []

    def _compare_scopes(self, machines: Sequence[Machine]) -> None:
        """Say which registrations are elsewhere: there "absent" would mean nothing."""
        for machine in machines:
            if machine.tags.scope not in {"", self.identity.scope}:
                self.troubles.append(
                    f"{machine.name} is registered in {machine.tags.scope}, and stop was told to "
                    f"look in {self.identity.scope}. Give stop the organization that start had."
                )

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
                    f"{runner.name} is a kept machine: a stop with machine-name is its own."
                )
        return [r for r in runners if r.name.startswith(prefix) and mark in r.name]

    def _not_needed(self, debts: list[Debt], runners: Sequence[Runner]) -> list[Debt]:
        """Return the debts that nothing in the run needs; say why the others are left."""
        if not debts:
            return []
        try:
            jobs = self.github.jobs(self.identity.run_id)
        except GitHubError as error:
            self.troubles.append(
                f"{len(debts)} machine(s) or registration(s) of this run were left, because its "
                f"jobs could not be read. {error} Or give stop the machine or the key that start had."
            )
            return []
        by_name = {runner.name: runner for runner in runners}
        free = []
        for debt in debts:
            runner = by_name.get(debt.name)
            why = why_needed(debt.label, debt.starter, jobs, runner, self.asker)
            if why:
                workflow_commands.say(f"{debt.name} is left: {why}.")
            else:
                free.append(debt)
        return free


def _with_mark(machine: Machine, runners: Mapping[str, Runner]) -> Machine:
    """Return a machine of a cloud without tags with what its registration tells of its start.

    It is registered before it is launched: without a registration its job is over, and only a job
    that asks for a label which begins with its name can need it.
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


def _lone(runner: Runner) -> Debt:
    """Return the debt of a registration whose start died before it had a machine."""
    return Debt(name=runner.name, label=our_label(runner.labels), runner_id=runner.id)
