"""The order of events of a start."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gpu_ci.github.client import GitHub
from gpu_ci.github.history import History
from gpu_ci.inputs.reader import CARRY_SECRETS
from gpu_ci.inputs.start_inputs import StartInputs
from gpu_ci.model.identity import Identity
from gpu_ci.model.machine import to_handle
from gpu_ci.profiles import applied
from gpu_ci.providers import provider_class
from gpu_ci.runtime import workflow_commands
from gpu_ci.runtime.clock import SYSTEM_CLOCK, Deadline
from gpu_ci.runtime.signals import Cancellation, Cancelled
from gpu_ci.start.budget_check import SPARED, BudgetCheck
from gpu_ci.start.plan import plan_start
from gpu_ci.start.preflight import examine
from gpu_ci.start.rental import Lease, Rental
from gpu_ci.start.summary import start_summary
from gpu_ci.start.until_online import wait_online

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_ci.runtime.clock import Clock

# How long reading the month's ledger may take.
LEDGER_SECONDS: Final = 180.0


def start(env: Mapping[str, str], clock: Clock = SYSTEM_CLOCK) -> None:
    """Rent the machines and return when their runners are online.

    On any failure or signal it gives everything back first. Raises GpuCiError or Cancelled.
    """
    workflow_commands.mask_secrets(env, CARRY_SECRETS)
    env = applied(env, workflow_commands.say)
    inputs = StartInputs.read(env)
    with Cancellation() as cancellation:
        deadline = Deadline.after(inputs.online_timeout, clock)
        rental = prepare(inputs, env, deadline, cancellation)
        if inputs.budget.limits:
            _hold_to_budget(rental)
        if inputs.dry_run:
            examine(rental)
            return
        try:
            with rental:
                _rent(rental, deadline)
        except Cancelled as cancelled:
            rental.settle(cancelled)
            raise
        finally:
            workflow_commands.summary(start_summary(rental))


def prepare(
    inputs: StartInputs, env: Mapping[str, str], deadline: Deadline, cancellation: Cancellation
) -> Rental:
    """Plan, print the plan, and ask GitHub whether we may, before any money is spent."""
    organization = inputs.github.organization
    identity = Identity.from_environment(env, key=inputs.key, organization=organization)
    provider = provider_class(inputs.provider)(inputs.provider_options, env, deadline.clock)
    plan = plan_start(inputs, identity, provider, nonce=secrets.token_hex(4))
    with workflow_commands.group("Plan"):
        for line in plan.lines():
            workflow_commands.say(line)
    github = GitHub.connect(
        inputs.github,
        scope=identity.scope,
        repository=identity.repository,
        deadline=deadline,
        say=workflow_commands.say,
        mask=workflow_commands.mask,
    )
    return Rental(
        inputs=inputs,
        plan=plan,
        provider=provider,
        github=github,
        builds=github.runner_builds(),
        cancellation=cancellation,
        deadline=deadline,
        say=workflow_commands.say,
        group_id=github.group_id(inputs.runner_group) if inputs.runner_group else 1,
    )


def _hold_to_budget(rental: Rental) -> None:
    """Check the start against its budget. Raises OverBudget, BudgetUnknown."""
    history = History.beside(rental.github, Deadline.after(LEDGER_SECONDS, rental.clock))
    history.spare(SPARED)
    budget_check = BudgetCheck(
        inputs=rental.inputs,
        plan=rental.plan,
        provider=rental.provider,
        history=history,
        now=rental.clock.now(),
    )
    with workflow_commands.group("Budget"):
        rental.plan = budget_check.check(workflow_commands.say)


def _rent(rental: Rental, deadline: Deadline) -> None:
    """Launch every machine and wait until its runner is online. Write each output once it is known."""
    for index in range(rental.plan.count):
        rental.launch(Lease(index=index))
        _write_outputs(rental)

    def name_machines() -> None:
        """Name the machines at once, before the cloud is asked what they cost."""
        _write_outputs(rental)
        for lease in rental.leases:
            if lease.machine and lease.machine.price is None:
                lease.machine = replace(lease.machine, price=rental.provider.price(lease.machine))
        _write_outputs(rental)

    name_machines()
    wait_online(rental, deadline, name_machines)

    first = rental.leases[0]
    if first.machine:
        began, price = first.machine.launched_at, first.machine.price
        boot_seconds = f"{first.online_at - began:.1f}" if began else ""
        workflow_commands.output("boot-seconds", boot_seconds)
        workflow_commands.output("price-per-hour", f"{price.per_hour:.6g}" if price else "")
        calls = rental.github.counted
        workflow_commands.say(f"Online. {calls} GitHub requests counted against the rate limit.")


def _write_outputs(rental: Rental) -> None:
    """Write what is known so far; a later call replaces it. Singular outputs name the first machine."""
    first = rental.machines[0]
    workflow_commands.output("label", first.tags.label)
    workflow_commands.output(
        "labels", workflow_commands.as_json([m.tags.label for m in rental.machines])
    )
    workflow_commands.output("handle", to_handle(rental.machines))
    workflow_commands.output("machine-id", first.id)
    workflow_commands.output("runner-name", first.name)
    workflow_commands.output("region", first.region)
    workflow_commands.output("machine-type", first.type)
    workflow_commands.output("market", first.market)
    workflow_commands.output("started", str(first.started).lower())
