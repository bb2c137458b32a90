"""The order of events of a start."""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from gpu_ci import actions
from gpu_ci.cancellation import Cancellation, Cancelled
from gpu_ci.cost.books import Books
from gpu_ci.cost.prospect import SPARED, Prospect
from gpu_ci.doctor import examine
from gpu_ci.github import GitHub
from gpu_ci.identity import Identity
from gpu_ci.inputs import CARRY_SECRETS, StartInputs
from gpu_ci.machine import to_handle
from gpu_ci.online import wait_online
from gpu_ci.plan import plan_start
from gpu_ci.profiles import applied
from gpu_ci.providers import provider_class
from gpu_ci.rental import Lease, Rental
from gpu_ci.report import start_summary
from gpu_ci.waiting import SYSTEM_CLOCK, Deadline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_ci.waiting import Clock

# How long the month's ledger may take to be read.
LEDGER_SECONDS: Final = 180.0


def start(env: Mapping[str, str], clock: Clock = SYSTEM_CLOCK) -> None:
    """Rent the machines and return when their runners are online.

    On any failure or signal everything is given back first. Raises GpuCiError or Cancelled.
    """
    actions.mask_secrets(env, CARRY_SECRETS)
    env = applied(env, actions.say)
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
            actions.summary(start_summary(rental))


def prepare(
    inputs: StartInputs, env: Mapping[str, str], deadline: Deadline, cancellation: Cancellation
) -> Rental:
    """Plan, print the plan, and ask GitHub whether we may, before any money is spent."""
    organization = inputs.github.organization
    identity = Identity.from_environment(env, key=inputs.key, organization=organization)
    provider = provider_class(inputs.provider)(inputs.provider_options, env, deadline.clock)
    plan = plan_start(inputs, identity, provider, nonce=secrets.token_hex(4))
    with actions.group("Plan"):
        for line in plan.lines():
            actions.say(line)
    github = GitHub.connect(
        inputs.github,
        scope=identity.scope,
        repository=identity.repository,
        deadline=deadline,
        say=actions.say,
        mask=actions.mask,
    )
    return Rental(
        inputs=inputs,
        plan=plan,
        provider=provider,
        github=github,
        builds=github.runner_builds(),
        cancellation=cancellation,
        deadline=deadline,
        say=actions.say,
        group_id=github.group_id(inputs.runner_group) if inputs.runner_group else 1,
    )


def _hold_to_budget(rental: Rental) -> None:
    """Look what the start and all beside it may cost. Raises OverBudget, BudgetUnknown."""
    line, token = rental.github.line, rental.inputs.github.run_token
    patience = Deadline.after(LEDGER_SECONDS, rental.clock)
    books = Books.beside(line, rental.plan.identity.repository, token, patience)
    books.spare(SPARED)
    prospect = Prospect(
        inputs=rental.inputs,
        plan=rental.plan,
        provider=rental.provider,
        books=books,
        now=rental.clock.now(),
    )
    with actions.group("Budget"):
        rental.plan = prospect.check(actions.say)


def _rent(rental: Rental, deadline: Deadline) -> None:
    for index in range(rental.plan.count):
        rental.launch(Lease(index=index))
        _write_outputs(rental)
    _add_prices(rental)
    wait_online(rental, deadline, partial(_note_replacement, rental))
    _write_times(rental)


def _note_replacement(rental: Rental) -> None:
    """Name the new machine at once; what it costs can wait for the answer."""
    _write_outputs(rental)
    _add_prices(rental)


def _add_prices(rental: Rental) -> None:
    for lease in rental.leases:
        if lease.machine and lease.machine.price is None:
            lease.machine = replace(lease.machine, price=rental.provider.price(lease.machine))
    _write_outputs(rental)


def _write_outputs(rental: Rental) -> None:
    """Tell what is known by now; a later call replaces it. The first machine is the singular one."""
    first = rental.machines[0]
    actions.output("label", first.tags.label)
    actions.output("labels", actions.as_json([m.tags.label for m in rental.machines]))
    actions.output("machine", to_handle(rental.machines))
    actions.output("machine-id", first.id)
    actions.output("runner-name", first.name)
    actions.output("region", first.region)
    actions.output("machine-type", first.type)
    actions.output("market", first.market)
    actions.output("started", str(first.started).lower())


def _write_times(rental: Rental) -> None:
    first = rental.leases[0]
    if first.machine is None:
        return
    began = first.machine.launched_at
    actions.output("boot-seconds", f"{first.online_at - began:.1f}" if began else "")
    price = first.machine.price
    actions.output("price-per-hour", f"{price.per_hour:.6g}" if price else "")
    calls = rental.github.counted
    actions.say(f"Online. {calls} GitHub requests counted against the rate limit.")
