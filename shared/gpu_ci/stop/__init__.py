"""The order of events of a stop."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import StillThere
from gpu_ci.github.client import GitHub
from gpu_ci.inputs.reader import CARRY_SECRETS
from gpu_ci.inputs.stop_inputs import StopInputs
from gpu_ci.ledger.entry import TITLE, notices
from gpu_ci.model.identity import Identity
from gpu_ci.model.tags import IN_A_TERMINAL
from gpu_ci.profiles import applied_to_stop
from gpu_ci.providers import provider_class
from gpu_ci.release.give_back import Releaser
from gpu_ci.release.still_needed import Asker
from gpu_ci.runtime import workflow_commands
from gpu_ci.runtime.clock import SYSTEM_CLOCK, Deadline
from gpu_ci.runtime.signals import Cancellation
from gpu_ci.stop.bill import (
    bill_lines,
    make_bill,
    stop_summary,
    total_cost,
    total_part,
    total_seconds,
)
from gpu_ci.stop.find_holdings import Search
from gpu_ci.stop.run_times import read_times

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpu_ci.release.give_back import Holding
    from gpu_ci.runtime.clock import Clock
    from gpu_ci.stop.bill import Bill
    from gpu_ci.stop.run_times import Times

TAKEN_CURE: Final = "If its job was not over by then, it did not fail by itself: run it again, or use market: on-demand."
# A stop waits no longer than this in all; outages of GitHub and the clouds last longer.
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
        search = _prepare(inputs, env, clock)
        holdings = search.holdings()
        try:
            give_back(search, holdings)
        finally:
            _report(search, holdings)
        if search.troubles:
            raise StillThere("\n\n".join(search.troubles))


def _prepare(inputs: StopInputs, env: Mapping[str, str], clock: Clock) -> Search:
    kept = inputs.machine_name or any(machine.kept for machine in inputs.handle)
    deadline = Deadline.after(PAUSE_PATIENCE if kept else PATIENCE, clock)
    organization = inputs.github.organization
    identity = Identity.from_environment(env, key=inputs.key, organization=organization)
    if inputs.handle:  # the handle knows where its runner is registered
        identity = replace(identity, scope=inputs.handle[0].tags.scope)
    return Search(
        inputs=inputs,
        identity=identity,
        provider=provider_class(inputs.provider)(inputs.provider_options, env, clock),
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


def give_back(search: Search, holdings: Sequence[Holding]) -> None:
    """Give back what was found; add what could not be given back to the search's troubles."""
    releaser = Releaser(github=search.github, provider=search.provider, deadline=search.deadline)
    try:
        releaser.give_back(holdings)
    except StillThere as left:
        search.troubles.append(str(left))


def _report(search: Search, holdings: Sequence[Holding]) -> None:
    """Say what was given back, how long it was billed and what that cost."""
    say = workflow_commands.say
    for name, attempt in search.given_back_before.items():
        say(f"{name} ended with attempt {attempt}, whose stop reported what it cost.")
    released = [
        m for each in holdings for m in each.released if m.name not in search.given_back_before
    ]
    ended = {name for each in holdings for name in each.ended}
    removed = sum(each.removed for each in holdings)

    times = None  # in a terminal there is no run, and nothing to ask
    if released and search.identity.run_id != IN_A_TERMINAL:
        times = read_times(search.github, search.identity, search.deadline.clock)
    bills = [make_bill(search, each, times, ended=each.name in ended) for each in released]

    for holding in holdings:
        if holding.left:
            say(f"{holding.name}: {holding.left}.")
        for taken in holding.taken:
            workflow_commands.warning(f"{taken} {TAKEN_CURE}")
    for line in bill_lines(bills, removed):
        say(line)
    _write(bills, times, removed)
    if workflow_commands.on_runner():  # `gpu-ci cost` and budgets read it there
        for text in notices([bill.entry for bill in bills]):
            workflow_commands.notice(text, title=TITLE)
        if times and (renamed := times.renamed(search.asker)):
            workflow_commands.warning(renamed)


def _write(bills: Sequence[Bill], times: Times | None, removed: int) -> None:
    """Write the job summary and the outputs."""
    if times and times.why:
        workflow_commands.say(f"What the time was for is not known. {times.why}")
    hosted = times.hosted if times else None
    why = times.why if times else ""
    workflow_commands.summary(stop_summary(bills, removed, hosted=hosted, why=why))

    workflow_commands.output("stopped", str(len(bills)))
    workflow_commands.output("billed-seconds", total_seconds(bills))
    workflow_commands.output("boot-seconds", total_part(bills, "boot"))
    workflow_commands.output("work-seconds", total_part(bills, "work"))
    workflow_commands.output("idle-seconds", total_part(bills, "idle"))
    workflow_commands.output("hosted-minutes", "" if hosted is None else str(hosted))
    workflow_commands.output("cost", total_cost(bills))
